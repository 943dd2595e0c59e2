"""Make ONNX Runtime sessions, here and nowhere else.

Weights are loaded from bytes and never from a path, so a file cannot pull in others beside it, and the
device asked for is the device that runs: ONNX Runtime itself would fall back to the CPU with a warning.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Never

import numpy as np
import onnxruntime as ort

from frpipe.core.config import Device
from frpipe.core.errors import ModelError, ModelMissing, ProviderMissing
from frpipe.models import cuda
from frpipe.models.onnx_file import OnnxFile
from frpipe.models.rewrite import speed_up

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": cuda.PROVIDER}
# Ray numbers the devices that an actor holds from 0. EXHAUSTIVE, the default, times every algorithm again
# for each input shape, and detection has one shape per bucket; HEURISTIC asks cuDNN's cost model instead.
# TensorFloat-32 would keep ten bits of each number, and a gallery takes vectors of either device.
_CUDA_OPTIONS = {"device_id": "0", "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
_ERRORS_ONLY = 3
_X86 = {"x86_64", "AMD64"}


class Session:
    """One model on one device. Made by `open_session`; not to be pickled."""

    def __init__(self, inner: ort.InferenceSession) -> None:
        self._inner = inner
        self._input: str = inner.get_inputs()[0].name
        self.provider: str = inner.get_providers()[0]
        self.outputs: tuple[str, ...] = tuple(output.name for output in inner.get_outputs())

    def run(self, blob: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        """Run the graph on one (N, 3, H, W) float32 input; every output, in its order."""
        results: list[np.ndarray[Any, Any]] = self._inner.run(None, {self._input: blob})
        return results

    def __reduce__(self) -> Never:
        raise TypeError("a pickled Session would lose its device: open it in each worker")


def open_session(path: Path, device: Device, threads: int = 1, *, rewrite: bool = True) -> Session:
    """Load an ONNX file and put it on `device`.

    `rewrite` lets `frpipe.models.rewrite` make the graph faster on a CPU; the file stays as it is.

    Raises ModelMissing: no such file. ModelError: not a model that can run, or one that keeps weights in
    other files. ProviderMissing: this machine does not offer the device.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelMissing(f"no model file {path}", "see `frpipe models list`") from None
    return open_bytes(data, device, threads, name=path.name, rewrite=rewrite)


def open_bytes(
    data: bytes, device: Device, threads: int = 1, name: str = "model", *, rewrite: bool = True
) -> Session:
    """Load an ONNX file already in memory, as `open_session` does; `name` appears in errors alone."""
    if device not in _PROVIDERS:
        raise ProviderMissing(f"there is no device {device}", f"take one of {', '.join(_PROVIDERS)}")
    if device == "cuda":
        cuda.preload()
    file = OnnxFile.parse(data, name)
    try:
        if rewrite and device == "cpu":
            data = _faster(file)
        inner = ort.InferenceSession(
            data, sess_options=_options(threads), providers=_providers(device), enable_fallback=0
        )
    except Exception as error:
        if "CUDA" in str(error):
            raise cuda.missing(error) from error
        raise ModelError(
            f"ONNX Runtime {ort.__version__} cannot load {name}: {type(error).__name__}",
            "the graph may need a newer onnxruntime; check it with `frpipe models verify`",
        ) from error
    if len(inner.get_inputs()) != 1:
        raise ModelError(f"{name} takes {len(inner.get_inputs())} inputs", "export it with one image input")
    if inner.get_providers()[0] != _PROVIDERS[device]:
        raise cuda.missing()
    return Session(inner)


def _faster(file: OnnxFile) -> bytes:
    return file.data if platform.machine() not in _X86 else speed_up(file)


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin between calls take the CPU of the actors beside them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ERRORS_ONLY
    return options


def _providers(device: Device) -> list[tuple[str, Mapping[str, str]]]:
    return [(_PROVIDERS[device], _CUDA_OPTIONS if device == "cuda" else {})]

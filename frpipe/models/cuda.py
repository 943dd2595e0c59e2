"""Load CUDA's libraries before the first session on a GPU, and name one that is missing."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
from functools import cache
from pathlib import Path

import onnxruntime as ort

from frpipe.core.errors import ProviderMissing

PROVIDER = "CUDAExecutionProvider"
_OF_THE_DRIVER = "libcuda.so"
_FATAL_ONLY = 4
_STAY = "stay on the CPU (device: cpu, or the kernel fp32)"


@cache
def preload() -> None:
    """Load the libraries that the wheels of the `gpu` extra brought, once a process.

    Where CUDA is installed on the machine itself, its own are found without this.
    Raises ProviderMissing: this ONNX Runtime was built without CUDA.
    """
    if PROVIDER not in ort.get_available_providers():
        raise missing()
    # It prints what it does not find, and ONNX Runtime logs it again: `missing` says it once.
    with contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()
    ort.set_default_logger_severity(_FATAL_ONLY)


def missing(cause: Exception | None = None) -> ProviderMissing:
    """The error that says, with its remedy, why no session runs on CUDA here.

    cause: what ONNX Runtime raised, if it did.
    """
    if PROVIDER not in ort.get_available_providers():
        offered = ", ".join(ort.get_available_providers())
        return ProviderMissing(
            f"device cuda ({PROVIDER}) was asked for; this machine offers {offered}",
            f"install frpipe[gpu] in place of frpipe[cpu] on a machine with a GPU, or {_STAY}",
        )
    library = _first_missing_library()
    if library is None:
        return ProviderMissing(
            f"ONNX Runtime {ort.__version__} has CUDA's libraries and gets no GPU"
            + (f": {' '.join(str(cause).split())}" if cause else ""),
            f"see that `nvidia-smi` lists the GPU here and that its driver is new enough, or {_STAY}",
        )
    if library.startswith(_OF_THE_DRIVER):
        return ProviderMissing(
            f"there is no NVIDIA driver on this machine: {library} is missing",
            f"run where there is a GPU (in a container: with --gpus all, or a GPU limit), or {_STAY}",
        )
    return ProviderMissing(
        f"CUDA cannot start: {library} is missing, or is of another version than ONNX Runtime "
        f"{ort.__version__} needs",
        f"install frpipe[gpu] as its constraints pin it, which brings CUDA and cuDNN, or {_STAY}",
    )


def _first_missing_library() -> str | None:
    """The name of the library that keeps the provider from loading; None where it loads."""
    provider = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    try:
        ctypes.CDLL(str(provider), mode=os.RTLD_LAZY)
    except OSError as error:
        return str(error).partition(":")[0]
    return None

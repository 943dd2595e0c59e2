"""The kernel for a GPU: products and the best few of each probe, so that little comes back over the bus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from frpipe.core.errors import ConfigError, ModelError
from frpipe.matching.blas import Blas
from frpipe.matching.kernel import Floats, Hits
from frpipe.models import cuda

Provider = Literal["cuda", "cpu"]

# TensorFloat-32 would keep ten bits of each component.
_PROVIDERS = {
    "cuda": (cuda.PROVIDER, {"device_id": "0", "use_tf32": "0"}),
    "cpu": ("CPUExecutionProvider", {}),
}
_OPSET, _IR_VERSION = 17, 8
_ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True)
class _Held:
    """Vectors on the host and on the device, there with zeros for rows that are not finite.

    masked: on the device, (n,) float32: 0, or minus infinity for a row that is not finite.
    """

    vectors: Floats
    finite: NDArray[np.bool_]
    value: Any
    masked: Any


class Device:
    """Kernel of float32 products, of which the device returns the `candidates` best per probe and tile.

    Where the last of these still reaches its limit there may be more: those probes are searched again by
    `Blas`, on the CPU. The `provider` "cpu" runs the same graph without a GPU, slower than `Blas`.
    """

    def __init__(self, provider: Provider = "cuda", candidates: int = 64) -> None:
        """Open the device.

        Raises ProviderMissing: there is none. ConfigError: its products are not those of float32.
        """
        self._session = open_graph(_graph(), provider)
        self._provider, self._candidates, self._plain = provider, candidates, Blas()
        if not self._is_precise():
            raise ConfigError("this device's products are rougher than float32", "use the kernel fp32")

    def probes(self, vectors: Floats) -> _Held:
        """Copy probes to the device."""
        return self._held(vectors)

    def tile(self, vectors: Floats) -> _Held:
        """Copy gallery rows to the device."""
        return self._held(vectors)

    def error(self, probes: _Held, tile: _Held) -> Floats:
        """Bound, (m,), of the error, as for `Blas`: it holds for any order of the sum."""
        return self._plain.error(probes.vectors, tile.vectors)

    def hits(self, probes: _Held, tile: _Held, limits: Floats) -> Hits:
        """Find all pairs whose score reaches the limit, on the device or, for some probes, by `Blas`."""
        if not len(probes.vectors) or not len(tile.vectors):
            return Hits.joined([])
        limits = np.where(probes.finite, limits, np.float32(np.inf))
        scores, rows = self._best(probes, tile)
        last = scores[:, -1]
        more = np.isfinite(last) & (last >= limits) & (scores.shape[1] < len(tile.vectors))
        again = np.flatnonzero(more)
        found = Hits.above(scores, np.where(more, np.float32(np.inf), limits))
        found = Hits(found.probe, rows[found.probe, found.row], found.score)
        if not len(again):
            return found
        rest = self._plain.hits(probes.vectors[again], tile.vectors, limits[again])
        return Hits.joined([found, Hits(again[rest.probe], rest.row, rest.score)])

    def _best(self, probes: _Held, tile: _Held) -> tuple[Floats, NDArray[np.int64]]:
        """Find the best scores of each probe, best first, and their rows in the tile: (m, c) each."""
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("probes", probes.value)
        binding.bind_ortvalue_input("rows", tile.value)
        binding.bind_ortvalue_input("mask", tile.masked)
        binding.bind_cpu_input("count", np.array([min(self._candidates, len(tile.vectors))], np.int64))
        binding.bind_output("best", "cpu")
        binding.bind_output("places", "cpu")
        self._session.run_with_iobinding(binding)
        best, places = binding.copy_outputs_to_cpu()
        return best, places

    def _held(self, vectors: Floats) -> _Held:
        vectors = np.ascontiguousarray(vectors, np.float32)
        finite = np.isfinite(vectors.min(axis=1, initial=0)) & np.isfinite(vectors.max(axis=1, initial=0))
        known = vectors if finite.all() else np.where(finite[:, None], vectors, np.float32(0))
        masked = np.where(finite, np.float32(0), np.float32(-np.inf))
        value, mask = (ort.OrtValue.ortvalue_from_numpy(part, self._provider, 0) for part in (known, masked))
        return _Held(vectors, finite, value, mask)

    def _is_precise(self) -> bool:
        vectors = np.random.default_rng(0).normal(size=(64, 512))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        held = self._held(vectors)
        scores, rows = self._best(held, held)
        exact = np.take_along_axis(vectors.astype(np.float64) @ vectors.T.astype(np.float64), rows, axis=1)
        return bool((np.abs(scores - exact) <= self.error(held, held)[:, None]).all())


def open_graph(graph: onnx.GraphProto, provider: Provider) -> ort.InferenceSession:
    """Open a session on one thread of the CPU, or on the GPU that was asked for and no other device.

    Raises ProviderMissing: this machine does not offer it. ModelError: ONNX Runtime cannot run the graph.
    """
    name, _ = wanted = _PROVIDERS[provider]
    if provider == "cuda":
        cuda.preload()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), _options(), providers=[wanted], enable_fallback=0
        )
    except Exception as error:
        if "CUDA" in str(error):
            raise cuda.missing(error) from error
        raise ModelError(
            f"ONNX Runtime {ort.__version__} cannot run {graph.name}: {type(error).__name__}",
            "install the onnxruntime that constraints.txt names, or use the kernel fp32",
        ) from error
    if session.get_providers()[0] != name:
        raise cuda.missing()
    return session


def _graph() -> onnx.GraphProto:
    """Build the graph: scores of (m, dim) probes and (n, dim) rows, plus a mask (n,).

    The best `count` of each probe.
    """
    number, whole = TensorProto.FLOAT, TensorProto.INT64
    return helper.make_graph(
        [
            helper.make_node("Gemm", ["probes", "rows", "mask"], ["scores"], transB=1),
            helper.make_node("TopK", ["scores", "count"], ["best", "places"], axis=1),
        ],
        "best of products",
        [
            helper.make_tensor_value_info("probes", number, ["m", "dim"]),
            helper.make_tensor_value_info("rows", number, ["n", "dim"]),
            helper.make_tensor_value_info("mask", number, ["n"]),
            helper.make_tensor_value_info("count", whole, [1]),
        ],
        [
            helper.make_tensor_value_info("best", number, ["m", "c"]),
            helper.make_tensor_value_info("places", whole, ["m", "c"]),
        ],
    )


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ERRORS_ONLY
    return options

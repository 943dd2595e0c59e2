"""Multiply vectors in 8-bit integers, and tell which products may reach a limit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from frpipe.core.errors import ConfigError
from frpipe.matching.device import open_graph
from frpipe.matching.kernel import Doubles, Floats, Indices, Mask
from frpipe.matching.looking import few_reached
from frpipe.matching.quantised import Bytes, Quantised
from frpipe.matching.sieve import Packed

Sums = NDArray[np.int32]
Rows = NDArray[np.uint8]
Product = Callable[[Rows, Bytes], Sums]

# Rows travel as uint8 with this on top: x86 multiplies unsigned by signed bytes.
_ZERO = 128
_TILE_LEVELS = 127
# x86 without VNNI adds two products of bytes in 16 bits and saturates: 2 * 255 * 64 fits, with 127 not.
_PROBE_LEVELS = (127, 64)
# Above dim * 255 * 127 = 2^31 the sums could wrap.
_LARGEST_DIM = 66_000
# Rows, probes and dimension of the products that a machine is tried on: whole registers, and odd ends.
_TRIALS = ((1, 1, 512), (1, 37, 515), (37, 1, 130), (70, 50, 1030), (16, 16, 1), (5, 64, 3))


@dataclass(frozen=True, slots=True)
class ByteProbes:
    """Probes as columns of bytes, (dim, m), each with its own scale; see `Quantised`."""

    columns: Bytes
    scale: Doubles
    miss: Doubles
    length: Doubles
    finite: Mask


@dataclass(frozen=True, slots=True)
class ByteRows:
    """Rows of a tile as bytes, (n, dim), with `_ZERO` on top.

    scale: one for all.  miss, length: the largest of the tile.  finite: (n,); see `Quantised`.
    """

    numbers: Rows
    scale: float
    miss: float
    length: float
    finite: Mask


class Integers:
    """Scan of 8-bit integers. A tile has one scale, so sums of integers are compared as they are.

    For quantised p' and v', |<p, v> - <p', v'>| <= |p - p'| |v| + |p'| |v - v'| (Cauchy-Schwarz): a pair
    whose sum is farther than this below its limit cannot reach it.
    """

    def __init__(self) -> None:
        """Open the scan. Raises ConfigError: this machine's integer products are wrong."""
        self._session, self._own = open_graph(_graph(), "cpu"), threading.local()
        self.levels = exact_levels(self._sums)

    @property
    def has_vnni(self) -> bool:
        """Whether sums of products of bytes are never cut, as on processors with VNNI."""
        return self.levels == max(_PROBE_LEVELS)

    def probes(self, vectors: Floats) -> ByteProbes:
        """Quantise probes, (m, dim)."""
        _check(vectors)
        own = Quantised.of(vectors, self.levels)
        return ByteProbes(np.ascontiguousarray(own.numbers.T), own.scale, own.miss, own.length, own.finite)

    def tile(self, vectors: Floats) -> ByteRows:
        """Quantise gallery rows, (n, dim)."""
        _check(vectors)
        own = Quantised.of(vectors, _TILE_LEVELS, one_scale=True)
        numbers = own.numbers.view(np.uint8)
        numbers ^= np.uint8(_ZERO)
        miss, length = (float(each.max(initial=0)) for each in (own.miss, own.length))
        return ByteRows(numbers, float(own.scale[0]), miss, length, own.finite)

    def near(self, probes: ByteProbes, tile: ByteRows, limits: Doubles, most: float) -> Indices | None:
        """Places, row by row, of an (n, m) table of all pairs whose product may reach the limit, (m,).

        None: they are more than the share `most`.
        """
        return few_reached(self._sums(tile.numbers, probes.columns), _lowest_sums(probes, tile, limits), most)

    def cut(self, tile: ByteRows, rows: slice | Indices) -> ByteRows:
        """Cut out rows; see `Scan`."""
        return replace(tile, numbers=np.ascontiguousarray(tile.numbers[rows]), finite=tile.finite[rows])

    def packed(self, tile: ByteRows) -> Packed:
        """Pack the form for storage; see `Scan`."""
        return Packed(tile.numbers, {"scale": tile.scale, "miss": tile.miss, "length": tile.length})

    def unpacked(self, packed: Packed, width: int) -> ByteRows:
        """Unpack a stored form; see `Scan`."""
        array, facts = packed.array, packed.facts
        if array.dtype != np.uint8 or array.shape[1:] != (width,):
            raise ValueError("these are no bytes of a tile")
        scale, miss, length = (_positive(facts, name) for name in ("scale", "miss", "length"))
        return ByteRows(array, scale, miss, length, np.ones(len(array), bool))

    def _sums(self, rows: Rows, columns: Bytes) -> Sums:
        """(n, m) int32: the products of (n, dim) rows, `_ZERO` taken off, and (dim, m) probes."""
        sums = self._room((len(rows), columns.shape[1]))
        binding = self._session.io_binding()
        binding.bind_cpu_input("rows", rows)
        binding.bind_cpu_input("columns", columns)
        binding.bind_output("sums", "cpu", 0, np.int32, sums.shape, sums.ctypes.data)
        self._session.run_with_iobinding(binding)
        return sums

    def _room(self, shape: tuple[int, int]) -> Sums:
        """A buffer of this thread, reused as in `Blas`."""
        kept: NDArray[Any] | None = getattr(self._own, "sums", None)
        if kept is None or kept.size < shape[0] * shape[1]:
            kept = self._own.sums = np.empty(shape[0] * shape[1], np.int32)
        return kept[: shape[0] * shape[1]].reshape(shape)


def exact_levels(product: Product) -> int:
    """The largest probe numbers for which a product of bytes is right even in the worst case.

    Raises ConfigError: it is wrong even for those of seven bits.
    """
    for levels in _PROBE_LEVELS:
        if all(_is_exact(product, levels, *trial) for trial in _TRIALS):
            return levels
    raise ConfigError("this machine's products of 8-bit integers are wrong", "use the kernel fp32")


def _is_exact(product: Product, levels: int, rows: int, probes: int, dim: int) -> bool:
    """Whether products of extreme numbers, all alike in the first rows and columns, are exact."""
    rng = np.random.default_rng(rows)
    left = rng.choice(np.array([-_TILE_LEVELS, _TILE_LEVELS], np.int8), (rows, dim))
    right = rng.choice(np.array([-levels, levels], np.int8), (dim, probes))
    left[0], right[:, 0] = _TILE_LEVELS, levels
    left[1:2], right[:, 1:2] = -_TILE_LEVELS, -levels
    found = product(left.view(np.uint8) ^ np.uint8(_ZERO), right)
    return np.array_equal(found, left.astype(np.int64) @ right.astype(np.int64))


def _lowest_sums(probes: ByteProbes, tile: ByteRows, limits: Doubles) -> Sums:
    """(m,) sums below which a pair certainly misses the limit; no pair reaches that of a bad probe."""
    farthest = probes.miss * tile.length + (probes.length + probes.miss) * tile.miss
    sums = np.floor((limits - farthest) / (probes.scale * tile.scale))
    lowest, highest = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    return np.where(probes.finite, np.clip(sums, lowest, highest), highest).astype(np.int32)


def _positive(facts: Mapping[str, float], name: str) -> float:
    value = facts.get(name, 0.0)
    if not value > 0:
        raise ValueError(f"{name} is missing or not above 0")
    return value


def _check(vectors: Floats) -> None:
    if vectors.shape[1] > _LARGEST_DIM:
        raise ConfigError(f"vectors of dimension {vectors.shape[1]} are too long", "use the kernel fp32")


def _graph() -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node("MatMulInteger", ["rows", "columns", "zero"], ["sums"])],
        "product of bytes",
        [
            helper.make_tensor_value_info("rows", TensorProto.UINT8, ["n", "dim"]),
            helper.make_tensor_value_info("columns", TensorProto.INT8, ["dim", "m"]),
        ],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, ["n", "m"])],
        [helper.make_tensor("zero", TensorProto.UINT8, [], [_ZERO])],
    )

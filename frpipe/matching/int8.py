"""The int8 kernel: scans a tile in 8-bit integers and scores only what these cannot rule out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from frpipe.core.errors import ConfigError
from frpipe.matching.blas import Blas
from frpipe.matching.device import open_graph
from frpipe.matching.kernel import Doubles, Floats, Hits, Indices

Bytes = NDArray[np.int8]

# Rows at a time: at dimension 512 they and a copy stay in a core's own cache.
_CHUNK = 256
_UNIT_ROUNDOFF = 2.0**-24
# A largest component below this is taken for zero: its inverse would leave float32.
_TINIEST = 1e-30
# Covers squares too small for float32.
_UNDERFLOW = 1e-18


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
# Above about this part of all pairs, scoring them one by one takes longer than a float32 product of all: 0.4
# microseconds against 0.012 a pair, measured at dimension 512.
_MOST_FINDS = 1 / 32
# Pairs whose vectors are laid side by side at once: at dimension 512 a megabyte, within a core's own cache.
_PAIRS = 256
# Rows, probes and dimension of the products that a machine is tried on: whole registers, and odd ends.
_TRIALS = ((1, 1, 512), (1, 37, 515), (37, 1, 130), (70, 50, 1030), (16, 16, 1), (5, 64, 3))


@dataclass(frozen=True, slots=True)
class Quantised:
    """Quantised vectors: row i is nearly `scale[i] * numbers[i]`.

    vectors: (n, dim) float32, as given.  numbers: (n, dim) int8, from -levels to levels.
    scale: (n,) float64, above 0; (1,) where all rows share it.
    miss: (n,) float64, at least the length of `vectors[i] - scale[i] * numbers[i]`.
    length: (n,) float64, at least the length of `vectors[i]`.
    finite: (n,) bool; a row that is not finite has numbers, miss and length 0.
    """

    vectors: Floats
    numbers: Bytes
    scale: Doubles
    miss: Doubles
    length: Doubles
    finite: NDArray[np.bool_]

    @classmethod
    def of(cls, vectors: Floats, levels: int, *, one_scale: bool = False) -> Quantised:
        """Quantise vectors.

        Nothing is clipped: the largest component, of a row or of all, becomes `levels`.
        """
        with np.errstate(invalid="ignore"):
            # A NaN or an infinity among the components shows in one of the two.
            largest = np.maximum(vectors.max(axis=1, initial=0), -vectors.min(axis=1, initial=0))
        finite = np.isfinite(largest)
        if not finite.all():
            zeroed = cls.of(np.where(finite[:, None], vectors, np.float32(0)), levels, one_scale=one_scale)
            return replace(zeroed, vectors=vectors, finite=finite)
        if one_scale:
            largest = largest.max(initial=0, keepdims=True)
        inverse = (levels / np.where(largest > _TINIEST, largest, levels)).astype(np.float32)
        numbers, squared_miss, squared_length = _rounded(vectors, inverse)
        scale = 1 / inverse.astype(np.float64)
        # A float32 sum of dim squares is off by at most dim roundings, relatively.
        slack = 1 + vectors.shape[1] * _UNIT_ROUNDOFF
        length = np.sqrt(squared_length) * slack + _UNDERFLOW
        # Each component was rounded once before it was rounded to a whole number: that too is missed.
        miss = scale * np.sqrt(squared_miss) * slack + _UNIT_ROUNDOFF * length * slack + _UNDERFLOW
        return cls(vectors, numbers, scale, miss, length, finite)


def _rounded(vectors: Floats, inverse: Floats) -> tuple[Bytes, Doubles, Doubles]:
    """Round `vectors * inverse` to whole numbers.

    With the squared lengths of the remainder and of the vectors.
    """
    numbers = np.empty(vectors.shape, np.int8)
    miss, length = np.empty(len(vectors)), np.empty(len(vectors))
    scaled, whole = (np.empty((_CHUNK, vectors.shape[1]), np.float32) for _ in range(2))
    factors = np.broadcast_to(inverse, len(vectors))[:, None]
    for start in range(0, len(vectors), _CHUNK):
        some = slice(start, start + _CHUNK)
        now, near = scaled[: len(miss[some])], whole[: len(miss[some])]
        np.multiply(vectors[some], factors[some], out=now)
        np.rint(now, out=near)
        np.copyto(numbers[some], near, casting="unsafe")
        # Exact: both are float32 numbers less than a half apart.
        np.subtract(now, near, out=now)
        miss[some] = np.vecdot(now, now)
        length[some] = np.vecdot(vectors[some], vectors[some])
    return numbers, miss, length


class Int8:
    """Kernel of 8-bit integers. A gallery tile has one scale, so sums of integers are compared as they are.

    For quantised p' and v', |<p, v> - <p', v'>| <= |p - p'| |v| + |p'| |v - v'| (Cauchy-Schwarz): a pair
    whose sum is farther than this below its limit cannot reach it. The others are scored in float32, one by
    one, or by `Blas` where they are too many.
    """

    def __init__(self, most_finds: float = _MOST_FINDS) -> None:
        """Prepare the kernel. most_finds: the share of a tile's pairs above which `Blas` answers instead.

        Raises ConfigError: this machine's integer products are wrong.
        """
        self._session = open_graph(_graph(), "cpu")
        self._most_finds, self._plain, self._own = most_finds, Blas(), threading.local()
        self._levels = exact_levels(self._sums)

    def probes(self, vectors: Floats) -> tuple[Quantised, Bytes]:
        """Quantise probes, each with its own scale; their numbers as columns."""
        _check(vectors)
        probes = Quantised.of(np.ascontiguousarray(vectors, np.float32), self._levels)
        return probes, np.ascontiguousarray(probes.numbers.T)

    def tile(self, vectors: Floats) -> tuple[Quantised, Rows]:
        """Quantise gallery rows, all with one scale; their numbers above 0."""
        _check(vectors)
        tile = Quantised.of(np.ascontiguousarray(vectors, np.float32), _TILE_LEVELS, one_scale=True)
        return tile, tile.numbers.view(np.uint8) ^ np.uint8(_ZERO)

    def error(self, probes: tuple[Quantised, Bytes], tile: tuple[Quantised, Rows]) -> Floats:
        """(m,) bound of the error, as for `Blas`: the integers only rule out."""
        return self._plain.error(probes[0].vectors, tile[0].vectors)

    def hits(self, probes: tuple[Quantised, Bytes], tile: tuple[Quantised, Rows], limits: Floats) -> Hits:
        """All pairs whose score reaches the limit."""
        (some, columns), (rows, numbers) = probes, tile
        if not columns.size or not numbers.size:
            return Hits.joined([])
        sums = self._sums(numbers, columns)
        near = self._room("near", sums.shape, np.bool_)
        np.greater_equal(sums, _lowest_sums(some, rows, limits), out=near)
        if np.count_nonzero(near) > self._most_finds * near.size:
            return self._plain.hits(some.vectors, rows.vectors, limits)
        row, probe = np.divmod(np.flatnonzero(near), len(some.vectors))
        score = _products(some.vectors, probe, rows.vectors, row)
        return Hits(probe, row, score).where(rows.finite[row] & (score >= limits[probe]))

    def _sums(self, rows: Rows, columns: Bytes) -> Sums:
        """(n, m) int32: the products of (n, dim) rows, `_ZERO` taken off, and (dim, m) probes."""
        sums = self._room("sums", (len(rows), columns.shape[1]), np.int32)
        binding = self._session.io_binding()
        binding.bind_cpu_input("rows", rows)
        binding.bind_cpu_input("columns", columns)
        binding.bind_output("sums", "cpu", 0, np.int32, sums.shape, sums.ctypes.data)
        self._session.run_with_iobinding(binding)
        return sums

    def _room(self, name: str, shape: tuple[int, int], kind: Any) -> NDArray[Any]:
        """Buffer of this thread, reused as in `Blas`."""
        kept: NDArray[Any] | None = getattr(self._own, name, None)
        if kept is None or kept.size < shape[0] * shape[1]:
            kept = np.empty(shape[0] * shape[1], kind)
            setattr(self._own, name, kept)
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


def _lowest_sums(probes: Quantised, tile: Quantised, limits: Floats) -> Sums:
    """(m,) sums below which a pair certainly misses the limit; no pair reaches that of a bad probe."""
    farthest = probes.miss * tile.length.max() + (probes.length + probes.miss) * tile.miss.max()
    sums = np.floor((limits - farthest) / (probes.scale * tile.scale))
    lowest, highest = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    return np.where(probes.finite, np.clip(sums, lowest, highest), highest).astype(np.int32)


def _products(probes: Floats, probe: Indices, rows: Floats, row: Indices) -> Floats:
    """(c,) float32: `probes[probe[i]] . rows[row[i]]`."""
    result = np.empty(len(probe), np.float32)
    left, right = (np.empty((_PAIRS, probes.shape[1]), np.float32) for _ in range(2))
    for start in range(0, len(probe), _PAIRS):
        some = slice(start, start + _PAIRS)
        count = len(probe[some])
        np.take(probes, probe[some], axis=0, out=left[:count], mode="clip")
        np.take(rows, row[some], axis=0, out=right[:count], mode="clip")
        with np.errstate(invalid="ignore", over="ignore"):
            np.vecdot(left[:count], right[:count], out=result[some])
    return result


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

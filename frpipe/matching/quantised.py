"""Vectors as 8-bit whole numbers, and how far these are from the vectors themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from frpipe.matching.kernel import Doubles, Floats

Bytes = NDArray[np.int8]

# Rows at a time: at dimension 512 they and a copy stay in a core's own cache.
_CHUNK = 256
_UNIT_ROUNDOFF = 2.0**-24
# A largest component below this is taken for zero: its inverse would leave float32.
_TINIEST = 1e-30
# Covers squares too small for float32.
_UNDERFLOW = 1e-18


@dataclass(frozen=True, slots=True)
class Quantised:
    """Quantised vectors: row i is nearly `scale[i] * numbers[i]`.

    numbers: (n, dim) int8, from -levels to levels.
    scale: (n,) float64, above 0; (1,) where all rows share it.
    miss: (n,) float64, at least the length of row i less `scale[i] * numbers[i]`.
    length: (n,) float64, at least the length of row i.
    finite: (n,) bool; a row that is not finite has numbers, miss and length 0.
    """

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
            return replace(zeroed, finite=finite)
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
        return cls(numbers, scale, miss, length, finite)


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

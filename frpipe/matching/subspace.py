"""The kernels of few dimensions: they rule out pairs by a vector's low form in a subspace, and its rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frpipe.matching.basis import Basis, Lowered
from frpipe.matching.blas import Blas
from frpipe.matching.integers import Integers
from frpipe.matching.kernel import Doubles, Floats, Indices
from frpipe.matching.looking import few_reached
from frpipe.matching.sieve import MOST_FINDS, Packed, Scan, Sieve, Sifted

_UNIT_ROUNDOFF, _MORE = 2.0**-24, 1.01
_UNDERFLOW = 1e-18
# More than sums in float64 of numbers up to 1 are off by.
_FLOAT64 = 1e-9
# The offset of the bytes of rows, see `Integers`.
_ZERO = 128
# Rows of a tile, and how much larger the numbers of one may be than those of most.
_TILE_ROWS, _MOST_UNEVEN = 2048, 1.5


@dataclass(frozen=True, slots=True)
class _Low:
    """Lowered vectors as they are scanned. low, miss: of each probe; of a tile its largest. See `Lowered`."""

    scanned: Any
    low: Any
    miss: Any


class Subspace(Sieve):
    """Kernel of the dimensions of a basis B. A vector v is its low form w, nearly B'v, and e = v - Bw.

    <p, v> <= <w_p, w_v> + |e_p| |e_v| + 3 d |w_p| |w_v| + |w_p| x_v + |w_v| x_p

    where d is the defect of B and x how far w is from B'v (the proof: docs/adr/0040-fewer-dimensions.md). The
    first two are one product of the low forms with the rests as one more component, which is scanned.
    """

    def __init__(self, basis: Basis, *, integers: bool = False, most_finds: float = MOST_FINDS) -> None:
        """Open the kernel.

        integers: scan in 8-bit integers. Raises ConfigError: this machine's integer products are wrong.
        """
        super().__init__(most_finds)
        self._basis = basis
        self._scan: Scan = Integers() if integers else Floating()

    def probes(self, vectors: Floats) -> Sifted:
        """Lower probes, precisely: there are few, and what they miss counts for all rows."""
        return self._sifted(vectors, probes=True)

    def tile(self, vectors: Floats) -> Sifted:
        """Lower gallery rows."""
        return self._sifted(vectors, probes=False)

    def packed(self, vectors: Floats) -> Packed | None:
        """Pack the form of all rows of a block for storage: one scale and one bound for all of them.

        None where a row is not finite, or one row would make the bounds of the others much worse.
        """
        tile = self.tile(vectors)
        packed = self._scan.packed(tile.form.scanned)
        if not tile.finite.all() or not len(vectors) or _is_uneven(packed.array):
            return None
        return Packed(packed.array, {**packed.facts, "low": tile.form.low, "low_miss": tile.form.miss})

    def ready(self, packed: Packed) -> ReadyRows:
        """Make stored rows ready to be scanned. Raises ValueError where they are not of this kernel."""
        scanned = self._scan.unpacked(packed, self._basis.dims + 1)
        low, miss = (packed.facts.get(name, 0.0) for name in ("low", "low_miss"))
        if not low > 0 or not miss > 0:
            raise ValueError("the bounds of the low forms are missing")
        return ReadyRows(self._scan, _Low(scanned, low, miss), len(packed.array))

    def fits(self, packed: Packed, vectors: Floats, rows: slice | Indices) -> bool:
        """Whether stored rows are of these (n, dim) vectors, as far as float64 tells.

        rows: which of the stored ones these are. Each may be off by what its bounds allow.
        """
        form, facts = packed.array[rows].astype(np.float64), packed.facts
        miss = facts["low_miss"]
        if packed.array.dtype == np.uint8:
            form, miss = (form - _ZERO) * facts["scale"], miss + facts["miss"]
        wide, matrix = vectors.astype(np.float64), self._basis.matrix.astype(np.float64)
        low = wide @ matrix
        off = np.linalg.norm(form[:, :-1] - low, axis=1)
        rest = np.linalg.norm(wide - low @ matrix.T, axis=1)
        room = miss * (1 + self._basis.norm) + self._basis.defect + _FLOAT64
        return bool(np.all(off <= miss + _FLOAT64) and np.all(rest <= form[:, -1] + room))

    def _sifted(self, vectors: Floats, *, probes: bool) -> Sifted:
        vectors = np.ascontiguousarray(vectors, np.float32)
        lowered = Lowered.of(vectors, self._basis, precise=probes)
        if probes:
            form = _Low(self._scan.probes(lowered.form), lowered.low, lowered.miss)
        else:
            low, miss = (float(each.max(initial=0)) for each in (lowered.low, lowered.miss))
            form = _Low(self._scan.tile(lowered.form), low, miss)
        return Sifted(vectors, form, lowered.finite)

    def row_bytes(self, dim: int) -> int:
        """The memory of a low form with its rest, and whether it is finite."""
        return (self._basis.dims + 1) * (1 if isinstance(self._scan, Integers) else 4) + 1

    def near(self, probes: Sifted, tile: Sifted, limits: Doubles) -> Indices | None:
        own, its = probes.form, tile.form
        slack = 3 * self._basis.defect * own.low * its.low + own.low * its.miss + its.low * own.miss
        limits = np.where(probes.finite, limits - slack * (1 + 1e-9), np.inf)
        return self._scan.near(own.scanned, its.scanned, limits, self._most_finds)


@dataclass(frozen=True, slots=True)
class ReadyRows:
    """Rows of a block in the form of the kernel, made beforehand; see `Ready`. All of them are finite."""

    scan: Scan
    form: _Low
    count: int

    def part(self, vectors: Floats, rows: slice) -> Sifted:
        """Select some of the rows. vectors: theirs."""
        return Sifted(vectors, self._cut(rows), np.ones(len(vectors), bool))

    def taken(self, rows: Indices) -> ReadyRows:
        """Select some rows of the block, by number."""
        return ReadyRows(self.scan, self._cut(rows), len(rows))

    def _cut(self, rows: slice | Indices) -> _Low:
        return replace(self.form, scanned=self.scan.cut(self.form.scanned, rows))


class Floating:
    """Scan in float32: off by at most `dim * 2^-24` of the product of the lengths, as `Blas`."""

    def __init__(self) -> None:
        self._plain = Blas()

    def probes(self, vectors: Floats) -> tuple[Floats, Doubles]:
        """Take the probes and their lengths."""
        return vectors, _lengths(vectors)

    def tile(self, vectors: Floats) -> tuple[Floats, float]:
        """Take the rows and the largest length."""
        return vectors, float(_lengths(vectors).max(initial=0))

    def cut(self, tile: tuple[Floats, float], rows: slice | Indices) -> tuple[Floats, float]:
        """Cut out rows; see `Scan`."""
        return tile[0][rows], tile[1]

    def packed(self, tile: tuple[Floats, float]) -> Packed:
        """Pack the form for storage; see `Scan`."""
        return Packed(tile[0], {"length": tile[1]})

    def unpacked(self, packed: Packed, width: int) -> tuple[Floats, float]:
        """Unpack a stored form; see `Scan`."""
        array, length = packed.array, packed.facts.get("length", 0.0)
        if array.dtype != np.float32 or array.shape[1:] != (width,) or not length > 0:
            raise ValueError("these are no low forms")
        return array, length

    def near(
        self, probes: tuple[Floats, Doubles], tile: tuple[Floats, float], limits: Doubles, most: float
    ) -> Indices | None:
        """Find pairs that may reach the limit; see `Scan`."""
        error = (probes[0].shape[1] * _UNIT_ROUNDOFF * _MORE) * probes[1] * tile[1] + _UNDERFLOW
        lowest = np.nextafter((limits - error).astype(np.float32), np.float32(-np.inf))
        return few_reached(self._plain.scores(probes[0], tile[0]), lowest, most)


def _is_uneven(array: NDArray[Any]) -> bool:
    """Whether integers of one scale for all rows waste bits that those of a tile would not."""
    if array.dtype != np.uint8:
        return False
    edges = np.arange(0, len(array), _TILE_ROWS)
    largest = np.maximum.reduceat(np.abs(array.view(np.int8) ^ np.int8(-_ZERO)).max(axis=1), edges)
    return bool(np.median(largest) * _MOST_UNEVEN < largest.max())


def _lengths(vectors: Floats) -> Doubles:
    """Upper bounds of the lengths, (n,) float64."""
    slack = 1 + vectors.shape[1] * _UNIT_ROUNDOFF
    lengths: Doubles = np.sqrt(np.vecdot(vectors, vectors).astype(np.float64)) * slack + _UNDERFLOW
    return lengths

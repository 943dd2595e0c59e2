"""The kernels of few dimensions: what a vector is in a subspace, and what is left, rule out pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from frpipe.matching.basis import Basis, Lowered
from frpipe.matching.blas import Blas
from frpipe.matching.integers import Integers
from frpipe.matching.kernel import Doubles, Floats, Indices
from frpipe.matching.looking import few_reached
from frpipe.matching.sieve import MOST_FINDS, Scan, Sieve, Sifted

_UNIT_ROUNDOFF, _MORE = 2.0**-24, 1.01
_UNDERFLOW = 1e-18


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
        """integers: scan in 8-bit integers. Raises ConfigError: this machine's integer products are wrong."""
        super().__init__(most_finds)
        self._basis = basis
        self._scan: Scan = Integers() if integers else Floating()

    def probes(self, vectors: Floats) -> Sifted:
        """Lower probes, precisely: there are few, and what they miss counts for all rows."""
        return self._sifted(vectors, probes=True)

    def tile(self, vectors: Floats) -> Sifted:
        """Lower gallery rows."""
        return self._sifted(vectors, probes=False)

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
        """Memory of a low form with its rest, and whether it is finite."""
        return (self._basis.dims + 1) * (1 if isinstance(self._scan, Integers) else 4) + 1

    def near(self, probes: Sifted, tile: Sifted, limits: Doubles) -> Indices | None:
        own, its = probes.form, tile.form
        slack = 3 * self._basis.defect * own.low * its.low + own.low * its.miss + its.low * own.miss
        limits = np.where(probes.finite, limits - slack * (1 + 1e-9), np.inf)
        return self._scan.near(own.scanned, its.scanned, limits, self._most_finds)


class Floating:
    """Scan in float32: off by at most `dim * 2^-24` of the product of the lengths, as `Blas`."""

    def __init__(self) -> None:
        self._plain = Blas()

    def probes(self, vectors: Floats) -> tuple[Floats, Doubles]:
        """Probes and their lengths."""
        return vectors, _lengths(vectors)

    def tile(self, vectors: Floats) -> tuple[Floats, float]:
        """Rows and the largest length."""
        return vectors, float(_lengths(vectors).max(initial=0))

    def near(
        self, probes: tuple[Floats, Doubles], tile: tuple[Floats, float], limits: Doubles, most: float
    ) -> Indices | None:
        """See `Scan`."""
        error = (probes[0].shape[1] * _UNIT_ROUNDOFF * _MORE) * probes[1] * tile[1] + _UNDERFLOW
        lowest = np.nextafter((limits - error).astype(np.float32), np.float32(-np.inf))
        return few_reached(self._plain.scores(probes[0], tile[0]), lowest, most)


def _lengths(vectors: Floats) -> Doubles:
    """(n,) float64, at least the lengths."""
    slack = 1 + vectors.shape[1] * _UNIT_ROUNDOFF
    lengths: Doubles = np.sqrt(np.vecdot(vectors, vectors).astype(np.float64)) * slack + _UNDERFLOW
    return lengths

"""The plain kernel: float32 matrix products on the CPU."""

from __future__ import annotations

import threading

import numpy as np

from frpipe.matching.kernel import Floats, Hits
from frpipe.matching.looking import reached

# Of float32: half the distance of 1 to the next number.
_UNIT_ROUNDOFF = 2.0**-24
# Lengths may be 1 + 1e-3 each; and whoever takes the error from a limit rounds once more.
_SLACK, _ROUNDING = 1.01, 2.0**-23


class Blas:
    """The product is off by at most `dim * 2^-24` (Higham, Accuracy and Stability, 2nd ed., section 3.1)."""

    def __init__(self) -> None:
        self._own = threading.local()

    def probes(self, vectors: Floats) -> Floats:
        """Take probes as they are: this kernel needs no preparation."""
        return np.ascontiguousarray(vectors, np.float32)

    def tile(self, vectors: Floats) -> Floats:
        """Take gallery rows as they are: this kernel needs no preparation."""
        return vectors

    def error(self, probes: Floats, tile: Floats) -> Floats:
        """Bound, (m,), of the error of a score: the same for all probes."""
        return np.full(len(probes), tile.shape[1] * _UNIT_ROUNDOFF * _SLACK + _ROUNDING, np.float32)

    def hits(self, probes: Floats, tile: Floats, limits: Floats) -> Hits:
        """Find all pairs whose float32 product reaches the limit."""
        return reaching(self.scores(probes, tile), limits)

    def scores(self, probes: Floats, tile: Floats) -> Floats:
        """Compute all products, (n, m) float32, in memory that the next call of this thread uses again."""
        scores = self._room(len(tile), len(probes))
        with np.errstate(invalid="ignore", over="ignore"):
            np.matmul(tile, probes.T, out=scores)
        return scores

    def _room(self, rows: int, probes: int) -> Floats:
        """Buffer for the scores, reused: fresh pages from the system would cost a tenth of the product."""
        kept: Floats | None = getattr(self._own, "scores", None)
        if kept is None or kept.size < probes * rows:
            kept = self._own.scores = np.empty(probes * rows, np.float32)
        return kept[: probes * rows].reshape(rows, probes)


def reaching(scores: Floats, limits: Floats) -> Hits:
    """Pairs of n rows and m probes whose score, (n, m), is finite and reaches the probe's limit, (m,)."""
    places = reached(scores, limits)
    row, probe = np.divmod(places, max(1, len(limits)))
    return Hits(probe, row, scores.reshape(-1)[places]).finite()

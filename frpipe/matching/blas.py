"""The plain kernel: float32 matrix products."""

from __future__ import annotations

import threading

import numpy as np

from frpipe.matching.kernel import Floats, Hits
from frpipe.matching.tile_filter import reaching

# Of float32: half the distance of 1 to the next number.
_UNIT_ROUNDOFF = 2.0**-24
# Lengths may be 1 + 1e-3 each; and whoever takes the error from a limit rounds once more.
_SLACK, _ROUNDING = 1.01, 2.0**-23


class Blas:
    """The product is off by at most `dim * 2^-24` (Higham, Accuracy and Stability, 2nd ed., section 3.1)."""

    def __init__(self) -> None:
        self._own = threading.local()

    def probes(self, vectors: Floats) -> Floats:
        """As they are."""
        return np.ascontiguousarray(vectors, np.float32)

    def tile(self, vectors: Floats) -> Floats:
        """As they are."""
        return vectors

    def error(self, probes: Floats, tile: Floats) -> Floats:
        """The same for all."""
        return np.full(len(probes), tile.shape[1] * _UNIT_ROUNDOFF * _SLACK + _ROUNDING, np.float32)

    def hits(self, probes: Floats, tile: Floats, limits: Floats) -> Hits:
        """All pairs whose float32 product reaches the limit."""
        return reaching(self.scores(probes, tile), limits)

    def scores(self, probes: Floats, tile: Floats) -> Floats:
        """All products, (n, m) float32, in memory that the next call of this thread uses again."""
        scores = self._room(len(tile), len(probes))
        with np.errstate(invalid="ignore", over="ignore"):
            np.matmul(tile, probes.T, out=scores)
        return scores

    def _room(self, rows: int, probes: int) -> Floats:
        """Memory for the scores, kept: fresh pages from the system would cost a tenth of the product."""
        kept: Floats | None = getattr(self._own, "scores", None)
        if kept is None or kept.size < probes * rows:
            kept = self._own.scores = np.empty(probes * rows, np.float32)
        return kept[: probes * rows].reshape(rows, probes)

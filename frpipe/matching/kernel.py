"""The interface of kernels, which find likely pairs.

Approximate scores of probes against a tile, and their error.

A kernel may be as rough as it likes, as long as it says how rough: a search keeps whatever could still belong
to its answer and computes that again in float64. So every kernel leads to the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Hits:
    """Pairs of a probe and a row of a tile: (c,) int64 each, and their approximate score, (c,) float32."""

    probe: Indices
    row: Indices
    score: Floats

    @classmethod
    def above(cls, scores: Floats, limits: Floats) -> Hits:
        """Find the pairs of finite (m, n) scores that reach the limit of their probe, (m,)."""
        found = np.flatnonzero(scores >= limits[:, None])
        probe, row = np.divmod(found, max(1, scores.shape[1]))
        return cls(probe, row, scores.reshape(-1)[found]).finite()

    @classmethod
    def joined(cls, parts: Sequence[Hits]) -> Hits:
        """Concatenate hits."""
        if len(parts) == 1:
            return parts[0]
        none = np.zeros(0, np.int64)
        return cls(
            np.concatenate([none, *(part.probe for part in parts)]),
            np.concatenate([none, *(part.row for part in parts)]),
            np.concatenate([none.astype(np.float32), *(part.score for part in parts)]),
        )

    def shifted(self, probe: int, row: int) -> Hits:
        """Add offsets to the numbers of probes and rows."""
        return Hits(self.probe + probe, self.row + row, self.score)

    def finite(self) -> Hits:
        """The hits whose score is finite."""
        finite = np.isfinite(self.score)
        return self if finite.all() else self.where(finite)

    def where(self, mask: Mask | Indices) -> Hits:
        """Select the hits of a mask, or put them in an order."""
        return Hits(self.probe[mask], self.row[mask], self.score[mask])


class Kernel(Protocol):
    """A kernel. Vectors are (n, dim) float32 of length 1, within 1e-3. A row that is not finite is never hit.

    What `probes` and `tile` give is the kernel's own form of them.
    """

    def probes(self, vectors: Floats) -> Any:
        """Prepare probes once for many tiles."""

    def tile(self, vectors: Floats) -> Any:
        """Prepare gallery rows once for all probes."""

    def error(self, probes: Any, tile: Any) -> Floats:
        """Bound, (m,), of the error: no score of a probe is farther than this from the true inner product."""

    def hits(self, probes: Any, tile: Any, limits: Floats) -> Hits:
        """Find all pairs whose score reaches the limit of their probe, (m,)."""


def floor_of(scores: Floats | Doubles, error: Floats | float) -> Floats:
    """Floors, (m,): similarities that are certainly reached by (m,) scores that may be off by (m,) errors.

    Similarities end at 1 and -1. Beyond 1 all are level, and ids decide; so a floor there is one at 1. And
    whoever is beyond -1 is level with -1, so that a floor there rules out nobody: it is minus infinity.
    """
    floor = np.minimum(scores, 1) - error
    return np.where(floor > -1, floor, -np.inf).astype(np.float32)

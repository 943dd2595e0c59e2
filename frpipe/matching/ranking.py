"""Rankings: scored persons of many probes, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.distinct import merged
from frpipe.matching.kernel import Doubles, Indices


@dataclass(frozen=True, slots=True)
class Ranking:
    """Scored persons. Row i: probe `probe[i]` has `similarity[i]` with person `subject_id[i]`.

    probe: (c,) int64.  subject_id: (c,) strings.  similarity: (c,) float64, all finite.
    After `top`: sorted by probe, then the best first, then by id; each person once.
    """

    probe: Indices
    subject_id: pa.StringArray
    similarity: Doubles

    @classmethod
    def empty(cls) -> Ranking:
        """An empty ranking."""
        return cls(np.zeros(0, np.int64), pa.array([], pa.string()), np.zeros(0))

    @classmethod
    def joined(cls, parts: Sequence[Ranking]) -> Ranking:
        """Concatenate rankings of the same probes."""
        return cls(
            np.concatenate([part.probe for part in parts]),
            pa.concat_arrays([part.subject_id.cast(pa.string()) for part in parts]),
            np.concatenate([part.similarity for part in parts]),
        )

    def top(self, k: int) -> Ranking:
        """Keep the k best persons of each probe, by the best similarity of each."""
        once = self._persons_once()
        order = once._best_first()
        return once._take(order[_places(once.probe[order]) < k])

    def floors(self, probes: int, k: int) -> Doubles:
        """The k-th best similarities, (probes,), once sorted; minus infinity where there are fewer."""
        edges = np.searchsorted(self.probe, np.arange(probes + 1))
        full = np.flatnonzero(np.diff(edges) >= k)
        floors = np.full(probes, -np.inf)
        floors[full] = self.similarity[edges[full] + k - 1]
        return floors

    def _persons_once(self) -> Ranking:
        names = pc.dictionary_encode(self.subject_id)
        pairs = self.probe * max(1, len(names.dictionary)) + names.indices.to_numpy()
        if np.all(np.diff(np.sort(pairs))):
            return self
        order = np.lexsort((-self.similarity, pairs))
        return self._take(order[np.diff(pairs[order], prepend=-1) != 0])

    def _best_first(self) -> NDArray[np.intp]:
        """Sort by probe, best first, then by id: only ids of equal scores are compared, and these are few."""
        order = np.argsort(-self.similarity)
        order = order[grouped(self.probe[order])]
        probe, similarity = self.probe[order], self.similarity[order]
        level = np.flatnonzero((np.diff(probe) == 0) & (np.diff(similarity) == 0))
        tied = merged(level, level + 1)
        names = self.subject_id.take(pa.array(order[tied]))
        ranks = pc.rank(names, sort_keys="ascending", tiebreaker="dense").to_numpy()
        order[tied] = order[tied][np.lexsort((ranks, -similarity[tied], probe[tied]))]
        return order

    def _take(self, rows: NDArray[np.integer]) -> Ranking:
        return Ranking(self.probe[rows], self.subject_id.take(pa.array(rows)), self.similarity[rows])


def grouped(probe: Indices) -> NDArray[np.intp]:
    """Find an order that brings equal values together, ascending; otherwise the order stays as it is."""
    # Of 16-bit numbers numpy finds it in linear time.
    few = probe.max(initial=0) < 1 << 16
    return np.argsort(probe.astype(np.uint16) if few else probe, kind="stable")


def _places(probe: Indices) -> Indices:
    """0, 1, 2 ... within each run of equal values of a sorted array."""
    starts = np.flatnonzero(np.diff(probe, prepend=-1))
    return np.arange(len(probe)) - np.repeat(starts, np.diff(starts, append=len(probe)))

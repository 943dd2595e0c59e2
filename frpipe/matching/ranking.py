"""Scored persons of many probes, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.matching.kernel import Doubles, Indices


@dataclass(frozen=True, slots=True)
class Ranking:
    """Row i says: probe `probe[i]` has `similarity[i]` with person `subject_id[i]`.

    probe: (c,) int64.  subject_id: (c,) strings.  similarity: (c,) float64, all finite.
    After `top`: sorted by probe, then the best first, then by id; each person once.
    """

    probe: Indices
    subject_id: pa.StringArray
    similarity: Doubles

    @classmethod
    def empty(cls) -> Ranking:
        """Nobody."""
        return cls(np.zeros(0, np.int64), pa.array([], pa.string()), np.zeros(0))

    @classmethod
    def joined(cls, parts: Sequence[Ranking]) -> Ranking:
        """All rows of some rankings of the same probes."""
        return cls(
            np.concatenate([part.probe for part in parts]),
            pa.concat_arrays([part.subject_id.cast(pa.string()) for part in parts]),
            np.concatenate([part.similarity for part in parts]),
        )

    def top(self, k: int) -> Ranking:
        """The k best persons of each probe, by the best similarity of each."""
        once = self._persons_once()
        order = np.lexsort((once._order_of_ties(), -once.similarity, once.probe))
        return once._take(order[_places(once.probe[order]) < k])

    def rough(self, k: int) -> Ranking:
        """As `top`, but whoever is level with the k-th best stays too, and ids are not compared: cheaper."""
        once = self._persons_once()
        order = np.lexsort((-once.similarity, once.probe))
        ordered = once._take(order)
        floors = ordered.floors(int(ordered.probe[-1]) + 1 if len(order) else 0, k)
        return ordered._take(np.flatnonzero(ordered.similarity >= floors[ordered.probe]))

    def floors(self, probes: int, k: int) -> Doubles:
        """(probes,): the k-th best similarity of each, once sorted; minus infinity where there is none."""
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

    def _order_of_ties(self) -> NDArray[np.int64]:
        """A number for each row that puts rows of equal similarity in the order of their ids."""
        order = np.argsort(self.similarity, kind="stable")
        level = np.flatnonzero(np.diff(self.similarity[order]) == 0)
        tied = np.unique(np.concatenate([order[level], order[level + 1]]))
        places = np.zeros(len(self.probe), np.int64)
        names = self.subject_id.take(pa.array(tied))
        places[tied] = pc.rank(names, sort_keys="ascending", tiebreaker="dense").to_numpy()
        return places

    def _take(self, rows: NDArray[np.integer]) -> Ranking:
        return Ranking(self.probe[rows], self.subject_id.take(pa.array(rows)), self.similarity[rows])


def _places(probe: Indices) -> Indices:
    """0, 1, 2 ... within each run of a sorted array."""
    return np.arange(len(probe)) - np.searchsorted(probe, probe)

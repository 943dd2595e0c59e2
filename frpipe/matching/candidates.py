"""A buffer of candidates found in one block of a gallery and not yet scored exactly."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.matching.kernel import Floats, Hits, Indices, floor_of
from frpipe.matching.ranking import grouped

# CandidateBuffer for each candidate asked for, and at least so many, before they are looked through.
_PER_CANDIDATE, _AT_LEAST = 2, 1 << 12
# Probes whose finds are laid side by side at once.
_GROUP = 64
_NEVER = np.float32(-np.inf)


class CandidateBuffer:
    """Candidate hits of `probes` probes in a block whose rows have `subject_ids`."""

    def __init__(self, probes: int, k: int, subject_ids: pa.StringArray) -> None:
        self.subject_ids = subject_ids
        self._probes, self._k = probes, k
        self._parts: list[Hits] = []
        self._count, self._most = 0, max(_PER_CANDIDATE * probes * k, _AT_LEAST)
        self._error = np.zeros(probes, np.float32)
        # See `_persons`.
        self.persons = _persons(subject_ids)

    def add(self, hits: Hits, error: Floats) -> None:
        """Add hits. error: (probes,), the most that a score may be off."""
        if len(hits.probe):
            self._parts.append(hits)
            self._count += len(hits.probe)
        self._error = np.maximum(self._error, error)

    @property
    def many(self) -> bool:
        """Whether there are enough hits to `prune`."""
        return self._count > self._most

    def prune(self, floor: Floats) -> Floats:
        """Drop hits that cannot matter.

        Returns the floor (probes,), raised to what k persons reach for certain.
        """
        hits = self.hits
        best, group = self._persons_best(hits)
        raised: Floats = np.maximum(floor, floor_of(self._kth(best), self._error))
        near = hits.score >= raised[hits.probe] - self._error[hits.probe]
        if group is not None:
            near &= hits.score >= best.score[group] - 2 * self._error[hits.probe]
        self._parts, self._count = [hits.where(near)], int(near.sum())
        # What is left may be more than was meant to be: look again when it has grown by half.
        self._most = max(self._most, self._count * 3 // 2)
        return raised

    @property
    def hits(self) -> Hits:
        """The hits that are left."""
        return Hits.joined(self._parts)

    def _persons_best(self, hits: Hits) -> tuple[Hits, NDArray[np.intp] | None]:
        """The best hit of each (probe, person), and its index for each hit; None: each hit is its own."""
        if self.persons is None or not len(hits.probe):
            return hits, None
        pairs = hits.probe * len(self.subject_ids) + self.persons[hits.row]
        _, first, group = np.unique(pairs, return_index=True, return_inverse=True)
        best = np.full(len(first), _NEVER, np.float32)
        np.maximum.at(best, group, hits.score)
        return Hits(hits.probe[first], hits.row[first], best), group

    def _kth(self, hits: Hits) -> Floats:
        """The k-th best score, (probes,), of each probe; minus infinity where there are not k."""
        counts = np.bincount(hits.probe, minlength=self._probes)
        kth = np.full(self._probes, _NEVER, np.float32)
        full = np.flatnonzero(counts >= self._k)
        edges = np.concatenate([[0], np.cumsum(counts)])
        scores = hits.score[grouped(hits.probe)]
        for some in np.array_split(full, max(1, len(full) // _GROUP)):
            table = _table(scores, edges[some], counts[some])
            kth[some] = np.partition(table, -self._k, axis=1)[:, -self._k] if len(some) else _NEVER
        return kth


def _persons(subject_ids: pa.StringArray) -> Indices | None:
    """Number the person of each row; None where nobody has several rows."""
    if pc.all(pc.less(subject_ids[:-1], subject_ids[1:]), min_count=0).as_py():
        return None
    names = pc.dictionary_encode(subject_ids)
    if len(names.dictionary) == len(subject_ids):
        return None
    numbers: Indices = names.indices.to_numpy().astype(np.int64)
    return numbers


def _table(scores: Floats, starts: Indices, counts: Indices) -> Floats:
    """Pack variable-length runs of an array into a 2-D array, padded with -inf."""
    table = np.full((len(starts), counts.max(initial=0)), _NEVER, np.float32)
    columns = np.arange(table.shape[1])
    inside = columns < counts[:, None]
    table[inside] = scores[(starts[:, None] + columns)[inside]]
    return table

"""The mean vector of each person, from blocks of templates."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.gallery.packed import hashes

Block = tuple[pa.StringArray, NDArray[np.float32]]


class Means:
    """Means of people who lie within one block come at once, those of others at the end.

    The inner product with a mean is the mean of the inner products: a mean is not made a unit vector.
    spanning: hashes of the ids that may come in several blocks, ascending. Their sums are held to the end:
    8 bytes a number, so 4 KB a person of 512.
    """

    def __init__(self, spanning: NDArray[np.uint64]) -> None:
        self._spanning = spanning
        self._sums: dict[str, tuple[NDArray[np.float64], int]] = {}
        self._dim = 0

    def add(self, subject_ids: pa.StringArray, vectors: NDArray[np.float32]) -> Block:
        """A block of templates: (n,) ids and (n, dim). Back comes (people,) ids and (people, dim)."""
        self._dim = vectors.shape[1]
        if not len(subject_ids):
            return subject_ids, vectors
        names = pc.dictionary_encode(subject_ids)
        order = np.argsort(names.indices.to_numpy(), kind="stable")
        counts = np.bincount(names.indices.to_numpy())
        starts = np.cumsum(counts) - counts
        sums = np.add.reduceat(vectors[order], starts, axis=0, dtype=np.float64)
        later = np.isin(hashes(names.dictionary), self._spanning)
        for person in np.flatnonzero(later):
            self._keep(names.dictionary[int(person)].as_py(), sums[person], int(counts[person]))
        now = np.flatnonzero(~later)
        means = (sums[now] / counts[now, None]).astype(np.float32)
        return names.dictionary.take(pa.array(now)), means

    @property
    def waiting(self) -> bool:
        """Whether somebody was left for the end."""
        return bool(self._sums)

    def rest(self) -> Block:
        """The people who were left for the end."""
        means = [total / count for total, count in self._sums.values()]
        ids = pa.array(list(self._sums), pa.string())
        return ids, np.array(means, np.float32).reshape(len(ids), self._dim)

    def _keep(self, subject_id: str, total: NDArray[np.float64], count: int) -> None:
        kept, known = self._sums.get(subject_id, (np.zeros_like(total), 0))
        self._sums[subject_id] = kept + total, known + count

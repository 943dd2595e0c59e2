"""Find labels that look wrong: photos unlike the others of their person, persons more like somebody else.

Everything is exact, by centroids (the direction of the mean of a person's unit vectors):

- own: cosine of a photo with the centroid of the OTHER photos of its person; none where there is one photo.
- dispersion of a person: 1 - the mean of `own`.
- a photo is suspect where the centroid of another person is nearer than `own`, or `own` is below the
  threshold.
- a person is suspect where their photos are on average nearer to the centroid of another person than to their
  own, or so near (the threshold) that the two pass for one: one person under two ids, or a copied photo.

The cost is 2 dim N (N + P) operations for N persons and P templates. Memory: a shard, some 50 MB, and about
100 bytes a person; the sums of their vectors are 4 dim N bytes in a temporary file (TMPDIR) without a name.
"""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.errors import ConfigError
from frpipe.gallery.schema import FACE_ID, SUBJECT_ID, URI, vectors_of
from frpipe.io.storage.failure import storage_error

Floats = NDArray[np.float32]
Tables = Callable[[], Iterable[pa.Table]]
# Two or three minutes on two cores; at 512 numbers, some 70,000 persons of one photo.
MAX_OPERATIONS = 10**13
# Photos, and people, that are compared at once: 16 MB of similarities.
_ROWS, _PEOPLE = 2048, 2048
# Least length to divide a sum by.
_TINY = np.float32(1e-6)


@dataclass(frozen=True, slots=True)
class SuspectPhoto:
    """A suspect photo: `own` is its likeness to the others of its person, `nearest` that to somebody else."""

    subject_id: str
    face_id: str
    image_uri: str | None
    own: float
    nearest_id: str | None
    nearest: float | None


@dataclass(frozen=True, slots=True)
class Pair:
    """A suspect pair of persons: mean likeness of the first's photos to the second, and to the first."""

    subject_id: str
    other_id: str
    similarity: float
    own: float | None


@dataclass(frozen=True, slots=True)
class Spread:
    """Spread of the photos of a person: 0 if all are alike."""

    subject_id: str
    templates: int
    dispersion: float


@dataclass(frozen=True, slots=True)
class Labels:
    """Report on labels: at most `limit` of each kind, worst first, and how many there are in all."""

    subjects: int
    templates: int
    suspect_photos: int
    suspect_pairs: int
    photos: list[SuspectPhoto]
    pairs: list[Pair]
    spreads: list[Spread]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(
    tables: Tables, dim: int, threshold: float | None = None, limit: int = 20, force: bool = False
) -> Labels:
    """Examine every template of a gallery.

    tables: gives a fresh pass over subject_id, face_id, image_uri and embedding at each of three calls.
    threshold: similarity at which two photos pass for one person; None looks at the order alone.
    Raises ConfigError above MAX_OPERATIONS unless `force`.
    """
    people = _People.of(tables, dim)
    _check_cost(people, dim, force)
    own, suspect_photos, photos = _photos(tables, people, threshold, limit)
    suspect_pairs, pairs = _pairs(people, own, threshold, limit)
    known = np.flatnonzero(people.counts > 1)
    widest = known[np.argsort(own[known], kind="stable")][:limit]
    spreads = [Spread(people.name(i), int(people.counts[i]), 1 - float(own[i])) for i in widest]
    return Labels(
        subjects=len(people.ids),
        templates=int(people.counts.sum()),
        suspect_photos=suspect_photos,
        suspect_pairs=suspect_pairs,
        photos=photos,
        pairs=pairs,
        spreads=spreads,
    )


@dataclass(frozen=True, slots=True)
class _People:
    """Arrays over people.

    ids: sorted.  counts: templates of each.  sums: (N, dim), of their vectors, in a file.  lengths: of sums.
    """

    ids: pa.Array
    counts: NDArray[np.int64]
    sums: Floats
    lengths: Floats

    @classmethod
    def of(cls, tables: Tables, dim: int) -> _People:
        parts = [pc.unique(table[SUBJECT_ID]) for table in tables()]
        found = pa.chunked_array(parts, pa.string()).unique()
        ids = found.take(pc.sort_indices(found))
        counts, sums = np.zeros(len(ids), np.int64), _zeros(len(ids), dim)
        for codes, table in _pieces(tables, ids):
            np.add.at(counts, codes, 1)
            order = np.argsort(codes, kind="stable")
            starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
            sums[codes[order][starts]] += np.add.reduceat(vectors_of(table)[order], starts, axis=0)
        lengths = np.zeros(len(ids), np.float32)
        for some in _slices(len(ids), _PEOPLE):
            lengths[some] = np.linalg.norm(sums[some], axis=1)
        return cls(ids, counts, sums, lengths)

    def name(self, index: int | np.integer[Any]) -> str:
        return str(self.ids[int(index)].as_py())

    def centroids(self, some: slice) -> Floats:
        """Directions of the means of some people's vectors: (n, dim), unit vectors."""
        unit: Floats = self.sums[some] / self.lengths[some, None].clip(_TINY)
        return unit

    def nearest(self, vectors: Floats, codes: NDArray[np.intp]) -> tuple[NDArray[np.intp], Floats]:
        """Nearest centroid of another person and its similarity; -2 where there is nobody else.

        codes: (n,) the people whom the (n, dim) vectors are of.
        """
        at, best = np.zeros(len(codes), np.intp), np.full(len(codes), -2, np.float32)
        for some in _slices(len(self.ids), _PEOPLE):
            scores = vectors @ self.centroids(some).T
            own = np.flatnonzero((codes >= some.start) & (codes < some.stop))
            scores[own, codes[own] - some.start] = -2
            nearest = scores.argmax(axis=1)
            value = scores[np.arange(len(codes)), nearest]
            nearer = value > best
            at[nearer], best[nearer] = nearest[nearer] + some.start, value[nearer]
        return at, best


def _photos(
    tables: Tables, people: _People, threshold: float | None, limit: int
) -> tuple[Floats, int, list[SuspectPhoto]]:
    """Mean `own` of each person (NaN for one photo), how many photos are suspect, and the worst of them."""
    totals = np.zeros(len(people.ids), np.float64)
    count, worst = 0, list[SuspectPhoto]()
    for codes, table in _pieces(tables, people.ids):
        vectors = vectors_of(table)
        rows = np.flatnonzero(people.counts[codes] > 1)
        own = _own(vectors[rows], people.sums[codes[rows]])
        np.add.at(totals, codes[rows], own)
        nearest, value = people.nearest(vectors[rows], codes[rows])
        odd = np.flatnonzero((own < value) | (own < (-2 if threshold is None else threshold)))
        count += len(odd)
        # As in `_margin`: of a piece no more are made than can be among the worst.
        margins = own[odd].astype(np.float64) - np.where(value[odd] > -2, value[odd], -1)
        if len(odd) > limit > 0:
            odd = odd[margins <= np.partition(margins, limit - 1)[limit - 1]]
        for at in odd:
            row = table.select([SUBJECT_ID, FACE_ID, URI]).slice(rows[at], 1).to_pylist()[0]
            other = people.name(nearest[at]) if value[at] > -2 else None
            score = None if other is None else float(value[at])
            worst.append(SuspectPhoto(**row, own=float(own[at]), nearest_id=other, nearest=score))
        worst = heapq.nsmallest(limit, worst, key=_margin)
    mean = np.where(people.counts > 1, totals / np.maximum(people.counts, 1), np.nan)
    return mean.astype(np.float32), count, worst


def _pairs(people: _People, own: Floats, threshold: float | None, limit: int) -> tuple[int, list[Pair]]:
    """How many pairs are suspect, each once, and the worst, from the side that is nearer to the other."""
    others = np.zeros(len(people.ids), np.intp)
    likeness = np.full(len(people.ids), -2, np.float64)
    for some in _slices(len(people.ids), _ROWS):
        every = np.arange(some.start, some.stop)
        others[some], value = people.nearest(people.centroids(some), every)
        score = people.lengths[some] / people.counts[some] * value
        odd = (score > own[some]) | (score >= (2 if threshold is None else threshold))
        likeness[some] = np.where(odd & (value > -2), score, -2)
    ones = np.flatnonzero(likeness > -2)
    low, high = np.minimum(ones, others[ones]), np.maximum(ones, others[ones])
    order = np.lexsort((ones, -likeness[ones], high, low))
    is_first = np.diff(low[order], prepend=-1).astype(bool) | np.diff(high[order], prepend=-1).astype(bool)
    kept = ones[order[is_first]]
    # People are numbered in the order of their ids.
    shown = kept[np.lexsort((kept, -likeness[kept]))][:limit]
    return len(kept), [
        Pair(
            people.name(one),
            people.name(others[one]),
            float(likeness[one]),
            None if np.isnan(own[one]) else float(own[one]),
        )
        for one in shown
    ]


def _own(vectors: Floats, sums: Floats) -> Floats:
    others = sums - vectors
    own: Floats = (vectors * others).sum(axis=1) / np.maximum(np.linalg.norm(others, axis=1), _TINY)
    return own


def _zeros(rows: int, dim: int) -> Floats:
    """An array in a temporary file without a name, which vanishes with the array. Raises StorageError."""
    if not rows:
        return np.zeros((0, dim), np.float32)
    try:
        with tempfile.TemporaryFile(prefix="frpipe-") as file:
            # Now: a disk that is full later would kill the process.
            os.posix_fallocate(file.fileno(), 0, 4 * rows * dim)
            return np.asarray(np.memmap(file, np.float32, "r+", shape=(rows, dim)))
    except OSError as error:
        raise storage_error(error, tempfile.gettempdir()) from error


def _pieces(tables: Tables, ids: pa.Array) -> Iterator[tuple[NDArray[np.intp], pa.Table]]:
    """Rows of a pass, some at a time, and the number of the person of each."""
    for table in tables():
        codes = pc.index_in(table[SUBJECT_ID], value_set=ids).to_numpy().astype(np.intp)
        for some in _slices(table.num_rows, _ROWS):
            yield codes[some], table.slice(some.start, _ROWS)


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _margin(photo: SuspectPhoto) -> tuple[float, str, str]:
    return photo.own - (-1 if photo.nearest is None else photo.nearest), photo.subject_id, photo.face_id


def _check_cost(people: _People, dim: int, force: bool) -> None:
    persons, templates = len(people.ids), int(people.counts.sum())
    operations = 2 * dim * persons * (persons + templates)
    if operations > MAX_OPERATIONS and not force:
        raise ConfigError(
            f"{persons:,} persons and {templates:,} templates would take {operations:.1e} operations",
            f"up to {MAX_OPERATIONS:.0e} are done unasked; --force does it all the same",
        )

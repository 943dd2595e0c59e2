"""Find labels that look wrong: photos unlike the others of their person, persons more like somebody else.

Everything is exact, by centroids (the direction of the mean of a person's unit vectors):

- own: cosine of a photo with the centroid of the OTHER photos of its person; none where there is one photo.
- dispersion of a person: 1 - the mean of `own`.
- a photo is suspect where the centroid of another person is nearer than `own`, or `own` is below the
  threshold.
- a person is suspect where their photos are on average nearer to the centroid of another person than to their
  own, or so near (the threshold) that the two pass for one: one person under two ids, or a copied photo.

The cost is 2 dim N (N + P) operations for N persons and P templates, and 4 dim N bytes of memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.errors import ConfigError
from frpipe.gallery.schema import FACE_ID, SUBJECT_ID, URI, vectors_of

Floats = NDArray[np.float32]
Tables = Callable[[], Iterable[pa.Table]]
# Two or three minutes on two cores; at 512 numbers, some 70,000 persons of one photo.
MAX_OPERATIONS = 10**13
_BLOCK_NUMBERS = 1 << 24


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
    own, photos = _photos(tables, people, threshold)
    pairs = list(_pairs(people, own, threshold))
    known = np.flatnonzero(people.counts > 1)
    widest = known[np.argsort(own[known], kind="stable")][:limit]
    spreads = [Spread(people.name(i), int(people.counts[i]), 1 - float(own[i])) for i in widest]
    return Labels(
        subjects=len(people.ids),
        templates=int(people.counts.sum()),
        suspect_photos=len(photos),
        suspect_pairs=len(pairs),
        photos=heapq.nsmallest(limit, photos, key=_margin),
        pairs=heapq.nsmallest(limit, pairs, key=lambda pair: (-pair.similarity, pair.subject_id)),
        spreads=spreads,
    )


@dataclass(frozen=True, slots=True)
class _People:
    """Arrays over people.

    ids: sorted.  counts: templates of each.  sums: (N, dim), of their vectors.  centroids: unit.
    """

    ids: pa.Array
    counts: NDArray[np.int64]
    sums: Floats
    centroids: Floats

    @classmethod
    def of(cls, tables: Tables, dim: int) -> _People:
        found: set[str] = set()
        for table in tables():
            found.update(pc.unique(table[SUBJECT_ID]).to_pylist())
        ids = pa.array(sorted(found), pa.string())
        counts, sums = np.zeros(len(ids), np.int64), np.zeros((len(ids), dim), np.float32)
        for table in tables():
            codes = _codes(table, ids)
            counts += np.bincount(codes, minlength=len(ids))
            order = np.argsort(codes, kind="stable")
            starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
            if len(starts):
                sums[codes[order][starts]] += np.add.reduceat(vectors_of(table)[order], starts, axis=0)
        return cls(ids, counts, sums, _unit(sums))

    def name(self, index: int | np.integer[Any]) -> str:
        return str(self.ids[int(index)].as_py())


def _photos(tables: Tables, people: _People, threshold: float | None) -> tuple[Floats, list[SuspectPhoto]]:
    """Mean `own` of each person (NaN for one photo), and the suspect photos."""
    totals = np.zeros(len(people.ids), np.float64)
    suspects: list[SuspectPhoto] = []
    for table in tables():
        codes, vectors = _codes(table, people.ids), vectors_of(table)
        rows = np.flatnonzero(people.counts[codes] > 1)
        for some in _blocks(rows, len(people.ids)):
            own = _own(vectors[some], people.sums[codes[some]])
            np.add.at(totals, codes[some], own)
            nearest, value = _nearest(vectors[some], codes[some], people.centroids)
            odd = (own < value) | (own < (-2 if threshold is None else threshold))
            for at in np.flatnonzero(odd):
                row = table.select([SUBJECT_ID, FACE_ID, URI]).slice(some[at], 1).to_pylist()[0]
                other = people.name(nearest[at]) if value[at] > -2 else None
                score = None if other is None else float(value[at])
                suspects.append(SuspectPhoto(**row, own=float(own[at]), nearest_id=other, nearest=score))
    mean = np.where(people.counts > 1, totals / np.maximum(people.counts, 1), np.nan)
    return mean.astype(np.float32), suspects


def _pairs(people: _People, own: Floats, threshold: float | None) -> Iterator[Pair]:
    """Each suspect pair once, from the side that is nearer to the other."""
    lengths = np.linalg.norm(people.sums, axis=1) / np.maximum(people.counts, 1)
    found: dict[tuple[int, int], Pair] = {}
    for some in _blocks(np.arange(len(people.ids)), len(people.ids)):
        nearest, value = _nearest(people.centroids[some], some, people.centroids)
        likeness = lengths[some] * value
        odd = (likeness > own[some]) | (likeness >= (2 if threshold is None else threshold))
        for at in np.flatnonzero(odd & (value > -2)):
            one, other = int(some[at]), int(nearest[at])
            self_likeness = None if np.isnan(own[one]) else float(own[one])
            pair = Pair(people.name(one), people.name(other), float(likeness[at]), self_likeness)
            key = (min(one, other), max(one, other))
            if key not in found or found[key].similarity < pair.similarity:
                found[key] = pair
    yield from found.values()


def _own(vectors: Floats, sums: Floats) -> Floats:
    others = sums - vectors
    own: Floats = (vectors * _unit(others)).sum(axis=1)
    return own


def _nearest(vectors: Floats, codes: NDArray[np.intp], centroids: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Nearest centroid of another person and its similarity; -2 where there is nobody else."""
    scores = vectors @ centroids.T
    scores[np.arange(len(codes)), codes] = -2
    nearest = scores.argmax(axis=1)
    return nearest, scores[np.arange(len(codes)), nearest]


def _blocks(rows: NDArray[np.intp], people: int) -> Iterator[NDArray[np.intp]]:
    size = max(1, _BLOCK_NUMBERS // max(1, people))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _codes(table: pa.Table, ids: pa.Array) -> NDArray[np.intp]:
    codes: NDArray[np.intp] = pc.index_in(table[SUBJECT_ID], value_set=ids).to_numpy().astype(np.intp)
    return codes


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-6))
    return unit


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

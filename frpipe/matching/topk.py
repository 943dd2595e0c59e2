"""The k persons most like a probe: exact, in one pass over the vectors, the same however these are cut.

Vectors are compared in float32. What is near enough to the k-th best that rounding could change its place is
computed again in float64, so that neither the size of a block nor the order of blocks changes an answer. A
person scores the best of their templates; persons of one score are in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_BLOCK_ROWS = 16_384
_PROBES = 256
# Twice the error that a float32 dot product of two unit vectors of 512 numbers can have: 512 * 2^-24.
_MARGIN = 6e-5
# Below every cosine: the similarity of what cannot be compared.
_NOTHING = -2.0


@dataclass(frozen=True, slots=True)
class Match:
    """A person and the cosine of the probe with the nearest of their templates, in [-1, 1]."""

    subject_id: str
    similarity: float


def top_k(
    probes: Floats, blocks: Iterable[tuple[pa.StringArray, Floats]], k: int, block_rows: int = _BLOCK_ROWS
) -> list[list[Match]]:
    """The k best persons for each probe, best first; fewer where the gallery holds fewer.

    probes: (m, dim) float32 unit vectors.  blocks: (subject ids, (n, dim) float32 unit vectors), of any n and
    in any order; one person may stand in several, and a vector that is not finite is like nothing.  Holds
    256 x block_rows similarities at a time. Raises ValueError for k < 1 and a probe that is not finite.
    """
    if k < 1:
        raise ValueError("k must be at least 1")
    if not np.isfinite(probes).all():
        raise ValueError("a probe is not finite")
    best: list[dict[str, float]] = [{} for _ in probes]
    for subject_ids, vectors in blocks:
        for start in range(0, len(vectors), block_rows):
            rows = slice(start, start + block_rows)
            persons = _Persons.of(subject_ids[rows])
            for at in range(0, len(probes), _PROBES):
                some = slice(at, at + _PROBES)
                _merge(best[some], probes[some], persons, vectors[rows], k)
    return [_ranked(found, k) for found in best]


@dataclass(frozen=True, slots=True)
class _Persons:
    """The persons of a block. order: rows grouped by person, or None where they are so; starts: of groups."""

    ids: pa.Array
    codes: NDArray[np.int64]
    order: NDArray[np.intp] | None
    starts: NDArray[np.intp]

    @classmethod
    def of(cls, subject_ids: pa.Array) -> _Persons:
        encoded = pc.dictionary_encode(subject_ids)
        codes = encoded.indices.to_numpy().astype(np.int64)
        order = None if (np.diff(codes) >= 0).all() else np.argsort(codes, kind="stable")
        grouped = codes if order is None else codes[order]
        starts = np.flatnonzero(np.diff(grouped, prepend=-1))
        return cls(encoded.dictionary, codes, order, starts)

    def best(self, similarities: Floats) -> Floats:
        """(m, persons) from (m, rows): the best template of each person."""
        grouped = similarities if self.order is None else similarities[:, self.order]
        best: Floats = np.maximum.reduceat(grouped, self.starts, axis=1)
        return best


def _merge(best: list[dict[str, float]], probes: Floats, persons: _Persons, vectors: Floats, k: int) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        similarities: Floats = probes @ vectors.T
    # A NaN compares with nothing: as a k-th best it would drop everybody.
    similarities[~np.isfinite(similarities)] = _NOTHING
    limits = _limits(persons.best(similarities), k) - _MARGIN
    for found, probe, row, limit in zip(best, probes, similarities, limits, strict=True):
        near = np.flatnonzero((row >= limit) & (row > _NOTHING))
        if len(found) == k:
            near = near[row[near] >= min(found.values()) - _MARGIN]
        for person, exact in _exact(probe, vectors[near], persons, near):
            found[person] = max(exact, found.get(person, _NOTHING))
        if len(found) > k:
            kept = _ranked(found, k)
            found.clear()
            found.update((match.subject_id, match.similarity) for match in kept)


def _limits(best: Floats, k: int) -> Floats:
    """The k-th best of each row of (m, persons), or -2 where there are not so many."""
    if best.shape[1] <= k:
        return np.full(len(best), _NOTHING, np.float32)
    limits: Floats = np.partition(best, -k, axis=1)[:, -k]
    return limits


def _exact(
    probe: Floats, vectors: Floats, persons: _Persons, rows: NDArray[np.intp]
) -> Iterator[tuple[str, float]]:
    exact = (vectors.astype(np.float64) * probe.astype(np.float64)).sum(axis=1)
    for person, value in zip(persons.ids.take(pa.array(persons.codes[rows])).to_pylist(), exact, strict=True):
        yield person, float(np.clip(value, -1, 1))


def _ranked(found: dict[str, float], k: int) -> list[Match]:
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [Match(person, value) for person, value in ranked[:k]]

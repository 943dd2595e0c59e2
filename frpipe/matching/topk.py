"""Find the k persons most similar to each probe.

Exact, in one pass, and independent of how the gallery is cut.

A kernel finds what may matter: whatever scores within its error of the k-th best person so far. That is
computed again in float64, and only that counts, so neither the kernel nor the size or order of blocks changes
an answer. A person scores the best of their templates; persons of one score are in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from frpipe.core.distinct import distinct
from frpipe.matching.blas import Blas, reaching
from frpipe.matching.candidates import CandidateBuffer
from frpipe.matching.exact import inner_products
from frpipe.matching.kernel import Floats, Hits, Indices, Kernel, floor_of
from frpipe.matching.ranking import Ranking
from frpipe.matching.sieve import Ready
from frpipe.matching.tiles import Tiles
from frpipe.matching.workers import Workers

_SEED_ROWS, _ROWS_PER_K = 4096, 4
# The k-th best of so many groups of rows stands for that of the rows: a tenth more rows reach it, and it is
# found sooner.
_GROUPS_PER_K = 4
_NEVER = np.float32(-np.inf)


# A tile of scores, 8 MB: large enough for the product to run at full speed, small enough to be looked through
# before it leaves the processor's cache.
_PROBES, _ROWS = 1024, 2048
# More than a float64 similarity loses when it is rounded to float32, and than two sums of it differ by.
_ROUNDING = 2.0**-23
# Scores that are kept at once where there is no floor yet.
_FIRST_PAIRS = 1 << 18
# Candidates that are kept for each one asked for, before they are sorted out.
_KEPT = 2
# The sample that tells whether a least similarity is rare.
_SAMPLE_PROBES, _SAMPLE_ROWS = 64, 256


def opening_rows(k: int) -> int:
    """Number of rows of the initial sample."""
    return max(_SEED_ROWS, _ROWS_PER_K * k)


def opened(
    probes: Floats, vectors: Floats, persons: Indices | None, k: int, kernel: Blas
) -> tuple[Hits, Floats, Floats]:
    """Score an initial sample to bound the k-th best similarity from below.

    The hits, the bound, and the error.

    probes: (m, dim).  vectors: (n, dim).  persons: (n,) a number for each row's; None: no two are of one.
    There are at least k persons. The floor is minus infinity where fewer of them are finite.
    """
    scores = kernel.scores(probes, vectors)
    # A row that is not finite has no finite product with any probe.
    scores[~np.isfinite(scores[:, 0])] = _NEVER
    best = _best_of_groups(scores, persons, k)
    error = kernel.error(probes, vectors)
    floor = floor_of(np.partition(best.T, -k, axis=1)[:, -k], error)
    return reaching(scores, floor - error), floor, error


def _best_of_groups(scores: Floats, persons: Indices | None, k: int) -> Floats:
    """(groups, m): the best score of each group of rows; no person is in two groups."""
    starts = np.arange(len(scores))
    if persons is not None:
        if np.any(np.diff(persons) < 0):
            order = np.argsort(persons, kind="stable")
            scores, persons = scores[order], persons[order]
        starts = np.flatnonzero(np.diff(persons, prepend=-1))
    edges = [*starts[:: max(1, len(starts) // (_GROUPS_PER_K * k))].tolist(), len(scores)]
    best = np.empty((len(edges) - 1, scores.shape[1]), np.float32)
    for group, (start, stop) in enumerate(pairwise(edges)):
        np.maximum.reduce(scores[start:stop], axis=0, out=best[group])
    return best


@dataclass(frozen=True, slots=True)
class Match:
    """A person and the cosine of the probe with the nearest of their templates, in [-1, 1]."""

    subject_id: str
    similarity: float


def top_k(
    probes: Floats,
    blocks: Iterable[tuple[pa.StringArray, Floats]],
    k: int,
    kernel: Kernel | None = None,
    *,
    at_least: float = -1,
    threads: int = 1,
    tile: tuple[int, int] = (_PROBES, _ROWS),
) -> list[list[Match]]:
    """Find the k best persons for each probe, best first; fewer where the gallery holds fewer. See `TopK`."""
    search = TopK(probes, k, kernel, at_least=at_least, threads=threads, tile=tile)
    for subject_ids, vectors in blocks:
        search.add(subject_ids, vectors)
    ranking = search.result()
    edges = np.searchsorted(ranking.probe, np.arange(len(probes) + 1))
    names, scores = ranking.subject_id.to_pylist(), ranking.similarity.tolist()
    return [[Match(*pair) for pair in zip(names[a:b], scores[a:b], strict=True)] for a, b in pairwise(edges)]


class TopK:
    """A search under way: `add` the gallery in blocks of any size and order, then take the `result`.

    Holds the probes in float32 and float64, the k candidates of each, and for each thread the scores of a
    tile, 8 MB, or of the opening, 16 MB and more where k is above 1024.
    """

    def __init__(
        self,
        probes: Floats,
        k: int,
        kernel: Kernel | None = None,
        *,
        at_least: float = -1,
        tiles: Tiles | None = None,
        threads: int = 1,
        tile: tuple[int, int] = (_PROBES, _ROWS),
    ) -> None:
        """Begin a search.

        probes: (m, dim) float32 unit vectors.  at_least: only persons of this similarity are candidates.
        tiles: of the kernel, with what is kept of earlier searches.  threads: tiles at once; BLAS's own
        come on top.  tile: probes and rows of one.

        Raises ValueError for k < 1 and a probe that is not finite.
        """
        if k < 1:
            raise ValueError("k must be at least 1")
        if not np.isfinite(probes).all():
            raise ValueError("a probe is not finite")
        self._probes = np.ascontiguousarray(probes, np.float32)
        self._doubles = self._probes.astype(np.float64)
        self._plain = Blas()
        self._k, self._kernel, (self._group, self._rows) = k, kernel or self._plain, tile
        self._groups = [
            (some, self._kernel.probes(self._probes[some])) for some in _cut(len(probes), self._group)
        ]
        # The k-th best person so far is at least so similar: what is certainly less does not matter.
        self._floor = np.full(len(probes), -np.inf, np.float32)
        self._at_least, self._begun = at_least, False
        self._lowest = np.nextafter(np.float32(at_least), np.float32(-np.inf)) if at_least > -1 else _NEVER
        self._form = tiles or Tiles(self._kernel)
        self._kept = [Ranking.empty()]
        self._threads = threads
        self._workers = Workers(threads)

    def add(
        self,
        subject_ids: pa.StringArray,
        vectors: Floats,
        name: Hashable = None,
        ready: Ready | None = None,
    ) -> None:
        """Search some templates: (n,) ids without nulls and (n, dim) float32 unit vectors.

        A vector that is not finite is like nobody. name: under which tiles are kept of the block; None: none
        are.  ready: the rows in the form of the kernel, made beforehand; None: they are not.
        """
        finds = CandidateBuffer(len(self._probes), self._k, subject_ids)
        start = self._open(finds, vectors)
        tiles = self._tiles(start, len(vectors))
        for hits, error in self._workers.over(lambda rows: self._scan(name, vectors, rows, ready), tiles):
            finds.add(hits, error)
            if finds.many:
                self._floor = finds.prune(self._floor)
        self._settle(finds, vectors)

    def result(self) -> Ranking:
        """The k best persons of each probe so far, best first; similarities exact to float64."""
        return Ranking.joined(self._kept).top(self._k)

    def _open(self, finds: CandidateBuffer, vectors: Floats) -> int:
        """Find an initial floor, if there is none; returns the rows that this took."""
        if not self._begun and self._is_rare(vectors):
            self._floor = np.maximum(self._floor, self._lowest)
        self._begun = True
        rows = min(opening_rows(self._k), len(vectors))
        persons = None if finds.persons is None else finds.persons[:rows]
        people = rows if persons is None else len(distinct(persons))
        if people < self._k or not np.isneginf(self._floor).any():
            return 0
        errors = np.zeros(len(self._probes), np.float32)

        def look(some: slice) -> Hits:
            hits, floor, errors[some] = opened(
                self._probes[some], vectors[:rows], persons, self._k, self._plain
            )
            self._floor[some] = np.maximum(self._floor[some], floor)
            return hits.shifted(some.start, 0)

        for hits in self._workers.over(look, self._shares()):
            finds.add(hits, errors)
        return rows

    def _is_rare(self, vectors: Floats) -> bool:
        """Whether so few of a sample reach `at_least` that it is as good a floor as the first k best are."""
        some = self._plain.scores(self._probes[:_SAMPLE_PROBES], vectors[:_SAMPLE_ROWS])
        return bool(np.count_nonzero(some >= self._lowest) <= self._k / opening_rows(self._k) * some.size)

    def _shares(self) -> list[slice]:
        """Slices of the probes: one for each thread, or more where a tile's are fewer."""
        return _cut(len(self._probes), min(self._group, -(-len(self._probes) // self._threads)))

    def _tiles(self, start: int, stop: int) -> Iterator[slice]:
        """Slices of the rows: small ones while all scores have to be kept for want of a floor."""
        small = max(_FIRST_PAIRS // max(1, len(self._probes)), 2 * self._k)
        while start < stop:
            rows = min(self._rows, small) if np.isneginf(self._floor).any() else self._rows
            yield slice(start, min(stop, start + rows))
            start += rows

    def _scan(self, name: Hashable, vectors: Floats, rows: slice, ready: Ready | None) -> tuple[Hits, Floats]:
        """Hits of a tile that may matter, rows counted from the block's first, and the kernel's error."""
        tile = self._form.of(name, vectors, rows, ready)
        errors = [self._kernel.error(probes, tile) for _, probes in self._groups]
        found = [
            self._kernel.hits(probes, tile, self._floor[some] - error).shifted(some.start, rows.start)
            for (some, probes), error in zip(self._groups, errors, strict=True)
        ]
        return Hits.joined(found), np.concatenate([*errors, np.zeros(0, np.float32)])

    def _settle(self, finds: CandidateBuffer, vectors: Floats) -> None:
        """Score the hits of a block in float64, and keep the best."""
        self._floor = np.maximum(finds.prune(self._floor), self._lowest)
        hits = finds.hits
        exact = np.clip(inner_products(self._doubles, hits.probe, vectors, hits.row), -1, 1)
        if self._at_least > -1:
            listed = np.flatnonzero(exact >= self._at_least)
            hits, exact = hits.where(listed), exact[listed]
        names = finds.subject_ids.take(pa.array(hits.row)).cast(pa.string())
        self._kept.append(Ranking(hits.probe, names, exact))
        if sum(len(part.probe) for part in self._kept) > _KEPT * self._k * len(self._probes):
            self._sort_out()

    def _sort_out(self) -> None:
        """Keep the best of several blocks' hits; the floor rises to the k-th."""
        best = Ranking.joined(self._kept).top(self._k)
        self._kept = [best]
        floors = best.floors(len(self._probes), self._k)
        self._floor = np.maximum(self._floor, floor_of(floors, _ROUNDING))


def _cut(length: int, step: int) -> list[slice]:
    return [slice(start, start + step) for start in range(0, length, max(1, step))]

"""Count all scores of two blocks of templates without keeping them: arrays in, histograms out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from frpipe.matching.kernel import Floats, Indices
from frpipe.matching.pairs import Tile, tiles_between
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.streaming import BINS, PLACE, PLACES, Places, ScoreHistogram

# Large enough for products at full speed, and 16 MB of scores. On the diagonal a tile is a square, of which
# half the products are of no use.
TILE = (1024, 4096)

# Cells that are no cohort's: sides of two cohorts, and a side whose cohort is not known.
CROSS, REST = -1, -2


# Below so many NumPy is faster: OpenCV takes 0.4 ms for its 65,536 counters.
_FEW = 1 << 18


@dataclass(frozen=True, slots=True)
class LabelledTemplates:
    """Templates of known people.

    subject: (n,) strings.  cohort: (n,) strings or null.  vectors: (n, dim) float32, unit length.
    """

    subject: pa.StringArray
    cohort: pa.StringArray
    vectors: Floats


@dataclass(frozen=True, slots=True)
class Counting:
    """Settings of counting.

    thresholds: similarities at which errors are counted by template.  labels: of cohorts, by number.
    """

    thresholds: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    bins: int = BINS


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors at one threshold, by row.

    misses: (n,) mated scores below it, by the row of the first side. first, second: (n,) and (m,) non-mated
    scores that reach it, by the row of either side.
    """

    misses: Indices
    first: Indices
    second: Indices

    @classmethod
    def none(cls, first: int, second: int) -> Errors:
        """Make errors of blocks of so many rows, all zero."""
        return cls(*(np.zeros(rows, np.int64) for rows in (first, first, second)))


@dataclass(slots=True)
class Cell:
    """Scores of one cohort, or of CROSS or REST."""

    mated: ScoreHistogram
    nonmated: ScoreHistogram
    errors: list[Errors]


def scored(a: LabelledTemplates, b: LabelledTemplates | None, counting: Counting) -> dict[int, Cell]:
    """Score every template of one block with every one of another; without another, each pair once.

    Cells by the number of their cohort. Raises ScoresError: a vector is not finite.
    """
    return _Counter(a, b, counting).run()


def measured_ns(dim: int, counting: Counting) -> float:
    """Measure the nanoseconds of a CPU that a score takes here, on random vectors of two people."""
    rng = np.random.default_rng(0)
    sides = [rng.standard_normal((rows, dim), np.float32) for rows in TILE]
    people = [
        LabelledTemplates(
            pa.array([f"{number}"] * len(side)), pa.nulls(len(side), pa.string()), side / np.float32(dim)
        )
        for number, side in enumerate(sides)
    ]
    with threadpool_limits(1):
        start = time.thread_time()
        scored(people[0], people[1], counting)
        taken = time.thread_time() - start
    return 1e9 * taken / (TILE[0] * TILE[1])


class _Counter:
    """A count of two blocks, ordered by cohort, so that all scores of a tile belong to one cell."""

    def __init__(self, a: LabelledTemplates, b: LabelledTemplates | None, counting: Counting) -> None:
        self._counting, self._within = counting, b is None
        other = a if b is None else b
        sides = (a, other)
        if not all(np.isfinite(side.vectors).all() for side in sides):
            raise ScoresError("a template is not finite", "enroll its photo again")
        cohorts = [_numbers(side.cohort, counting.labels) for side in sides]
        self._order = [np.argsort(cohort, kind="stable") for cohort in cohorts]
        self._cohort = [cohort[order] for cohort, order in zip(cohorts, self._order, strict=True)]
        persons = _persons(a.subject, other.subject)
        self._person = [person[order] for person, order in zip(persons, self._order, strict=True)]
        self._vectors = [
            _ordered(side.vectors, order) for side, order in zip(sides, self._order, strict=True)
        ]
        self._limits = [_reached(threshold) for threshold in counting.thresholds]
        self._cells: dict[int, Cell] = {}
        high, wide = TILE
        self._room = np.empty(high * wide, np.float32)

    def run(self) -> dict[int, Cell]:
        for tile in self._tiles():
            self._count(tile, self._cell(tile))
        return self._cells

    def _tiles(self) -> Iterator[Tile]:
        """Iterate over tiles, each within one run of equal cohorts on either side."""
        first, second = (_runs(cohort) for cohort in self._cohort)
        for number, left in enumerate(first):
            if self._within:
                yield from _triangle(left)
            for right in second[number + 1 :] if self._within else second:
                yield from _rectangle(left, right)

    def _cell(self, tile: Tile) -> Cell:
        one, other = self._cohort[0][tile.probes.start], self._cohort[1][tile.rows.start]
        key = REST if min(one, other) < 0 else (int(one) if one == other else CROSS)
        if key not in self._cells:
            bins, (first, second) = self._counting.bins, map(len, self._cohort)
            errors = [Errors.none(first, second) for _ in self._limits]
            self._cells[key] = Cell(ScoreHistogram(bins, counted), ScoreHistogram(bins, counted), errors)
        return self._cells[key]

    def _count(self, tile: Tile, cell: Cell) -> None:
        scores = self._products(tile)
        probe, row = _alike(self._person[0][tile.probes], self._person[1][tile.rows])
        if tile.diagonal:
            once = row > probe
            probe, row = probe[once], row[once]
            scores[np.tril_indices(len(scores))] = -np.inf
        mated = scores[probe, row]
        cell.mated.add(mated)
        scores[probe, row] = -np.inf
        self._errors(tile, cell, scores, mated, probe)
        _add_rest(cell.nonmated, scores, len(mated) + _lower(tile, len(scores)))

    def _products(self, tile: Tile) -> Floats:
        """Compute products, (m, n), in memory used again: fresh pages would cost a tenth of the product."""
        one, other = self._vectors[0][tile.probes], self._vectors[1][tile.rows]
        room = self._room[: len(one) * len(other)].reshape(len(one), len(other))
        np.matmul(one, other.T, out=room)
        return room

    def _errors(self, tile: Tile, cell: Cell, scores: Floats, mated: Floats, probe: Indices) -> None:
        """Count errors. scores: of the tile; minus infinity where they are mated, or none."""
        if not self._limits:
            return
        best = scores.max(axis=1, initial=-np.inf)
        first, second = (
            order[rows] for order, rows in zip(self._order, (tile.probes, tile.rows), strict=True)
        )
        for limit, errors in zip(self._limits, cell.errors, strict=True):
            errors.misses[first] += np.bincount(probe[mated < limit], minlength=len(first))
            some = np.flatnonzero(best >= limit)
            reached = (scores[some] if len(some) < len(scores) else scores) >= limit
            errors.first[first[some]] += np.count_nonzero(reached, axis=1)
            errors.second[second] += np.count_nonzero(reached, axis=0)


def _add_rest(histogram: ScoreHistogram, scores: Floats, gaps: int) -> None:
    """Count all scores that are not minus infinity, of which `gaps` are."""
    if gaps == scores.size:
        return
    if gaps:
        flat = scores.reshape(-1)
        # One score that is there fills the gaps, and is taken back as often.
        known = flat[int(np.argmax(flat > -np.inf))]
        np.copyto(flat, known, where=flat == -np.inf)
        histogram.add(flat)
        histogram.remove(float(known), gaps)
        return
    histogram.add(scores)


def _lower(tile: Tile, rows: int) -> int:
    """The number of scores of a square on the diagonal that are not of two rows, or are there twice."""
    return rows * (rows + 1) // 2 if tile.diagonal else 0


def _alike(one: Indices, other: Indices) -> tuple[Indices, Indices]:
    """Find all places (i, j) at which one[i] == other[j]."""
    order = np.argsort(other, kind="stable")
    start = np.searchsorted(other[order], one, "left")
    count = np.searchsorted(other[order], one, "right") - start
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(np.arange(len(one)), count), order[np.repeat(start, count) + within]


def _triangle(run: slice) -> Iterator[Tile]:
    """Iterate over each pair of some rows once: squares on the diagonal, and tiles to the right of them."""
    high, wide = TILE
    for top in range(run.start, run.stop, high):
        end = min(top + high, run.stop)
        yield Tile(slice(top, end), slice(top, end), diagonal=True)
        for left in range(end, run.stop, wide):
            yield Tile(slice(top, end), slice(left, min(left + wide, run.stop)))


def _rectangle(left: slice, right: slice) -> Iterator[Tile]:
    for tile in tiles_between(left.stop - left.start, right.stop - right.start, TILE):
        yield Tile(_moved(tile.probes, left.start), _moved(tile.rows, right.start))


def _moved(rows: slice, by: int) -> slice:
    return slice(rows.start + by, rows.stop + by)


def _runs(ordered: Indices) -> list[slice]:
    """Runs of equal numbers."""
    edges = [*np.flatnonzero(np.diff(ordered, prepend=-3)).tolist(), len(ordered)]
    return [slice(start, end) for start, end in pairwise(edges)]


def _ordered(vectors: Floats, order: Indices) -> Floats:
    return vectors if np.array_equal(order, np.arange(len(order))) else vectors[order]


def _persons(a: pa.StringArray, b: pa.StringArray) -> tuple[Indices, Indices]:
    """Number ids: the numbers are equal where the ids are."""
    codes = pc.dictionary_encode(pa.concat_arrays([a, b])).indices.to_numpy().astype(np.int64)
    return codes[: len(a)], codes[len(a) :]


def _numbers(cohort: pa.StringArray, labels: Sequence[str]) -> Indices:
    """Numbers of labels by their place; -1: not known."""
    places: Any = pc.index_in(cohort, value_set=pa.array(labels, pa.string()), skip_nulls=True)
    numbers: Indices = pc.fill_null(places, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers


def _reached(threshold: float) -> np.float32:
    """The least float32 that is no smaller than the threshold."""
    near = np.float32(threshold)
    return near if near >= threshold else np.nextafter(near, np.float32(np.inf))


def counted(places: Places, bins: int) -> Indices:
    """Count as `np.bincount`: (bins,) of (n,) numbers below `bins`.

    n is at most 2^24: OpenCV counts in float32. Half a nanosecond for a 16-bit number, against three by NumPy
    and seven by OpenCV's own kernel.
    """
    if places.dtype != PLACE or len(places) < _FEW or not cv2.ipp.useIPP():
        return np.bincount(places, minlength=bins)
    row = places.reshape(1, -1)
    found = cv2.calcHist([row], [0], None, [PLACES], [0, PLACES])
    counts: Indices = np.asarray(found).reshape(-1)[:bins].astype(np.int64)
    return counts

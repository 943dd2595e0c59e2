"""A matrix of scores, probes by gallery: its comparisons, its searches, and their intervals by people.

Each id is one row, one column, or both, so sums by person are sums of rows and columns, and intervals are
those of `clustered` and `bootstrap` without a list of the comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frpipe.core.distinct import merged
from frpipe.metrics.bootstrap import replicates_of
from frpipe.metrics.clustered import certain_interval, clustered_rate, effective_interval
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.intervals import Interval
from frpipe.metrics.mated_slots import MatedSlots, Metric, slot_replicates
from frpipe.metrics.scores import Doubles, Indices, Kind, Scores, oriented, oriented_threshold
from frpipe.metrics.searches import Searches

Mask = NDArray[np.bool_]
# Cells that are worked on at once.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class ScoreMatrix:
    """probe: (p,), gallery: (g,) distinct ids.  score: (p, g) of that kind; NaN: the comparison failed.

    Mated is who has the same id.
    """

    probe: Sequence[str]
    gallery: Sequence[str]
    score: Doubles
    kind: Kind = "similarity"

    def __post_init__(self) -> None:
        if self.score.shape != (len(self.probe), len(self.gallery)):
            raise ScoresError(f"scores of shape {self.score.shape}", "give a row a probe, a column an id")
        if not self.score.size:
            raise ScoresError("a matrix without a score", "give at least one probe and one id of a gallery")
        if any(len({*ids}) < len(ids) for ids in (self.probe, self.gallery)):
            raise ScoresError("an id stands twice", "give each probe, and each of the gallery, once")

    @cached_property
    def mate(self) -> Indices:
        """(p,) the column of each probe's mate; -1: it has none."""
        column = {name: place for place, name in enumerate(self.gallery)}
        return np.array([column.get(name, -1) for name in self.probe], np.int64)

    @cached_property
    def probe_failed(self) -> Mask:
        """(p,): no comparison of the probe has a score, a failure to acquire."""
        failed: Mask = np.array([bool(np.isnan(row).all()) for row in self.score])
        return failed

    @cached_property
    def gallery_failed(self) -> Mask:
        """(g,): no comparison has a score, though some probe was acquired: a failure to enrol."""
        scored = np.zeros(len(self.gallery), bool)
        for _, rows in self._blocks():
            scored |= (~np.isnan(rows)).any(axis=0)
        return ~scored & bool(not self.probe_failed.all())

    @cached_property
    def scores(self) -> Scores:
        """All comparisons, with the failed ones counted."""
        rows = np.flatnonzero(self.mate >= 0)
        mates = self.score[rows, self.mate[rows]]
        parts = [oriented(block[self._others(start, block)], self.kind) for start, block in self._blocks()]
        nonmated, completed = np.concatenate(parts), ~np.isnan(mates)
        lost = self.score.size - len(rows) - len(nonmated)
        return Scores(
            oriented(mates[completed], self.kind), nonmated, int((~completed).sum()), int(lost), self.kind
        )

    @cached_property
    def searches(self) -> Searches:
        """Each probe against the whole gallery. Of equal scores the id that sorts first ranks first.

        A mate whose comparison failed is not listed; one that failed to enrol makes the search a failed one.
        """
        order = np.argsort(np.argsort(np.array(self.gallery, dtype=object), kind="stable"))
        rank, mate = np.zeros(len(self.probe), np.int64), np.full(len(self.probe), -np.inf)
        other = np.full(len(self.probe), -np.inf)
        for start, block in self._blocks():
            scores = np.where(np.isnan(block), -np.inf, oriented(block, self.kind))
            part = slice(start, start + len(block))
            columns = self.mate[part]
            rows = np.flatnonzero(columns >= 0)
            own, places = scores[rows, columns[rows]], columns[rows]
            scores[rows, places] = -np.inf
            other[part] = scores.max(axis=1)
            ahead = (scores[rows] > own[:, None]) | (
                (scores[rows] == own[:, None]) & (order[None, :] < order[places][:, None])
            )
            listed = np.isfinite(own)
            rank[start + rows] = np.where(listed, 1 + ahead.sum(axis=1), 0)
            mate[start + rows] = own
        mated, strangers = self.searched_mated, self.searched_strangers
        return Searches(
            rank[mated],
            mate[mated],
            other[mated],
            other[strangers][:, None],
            len(self.gallery),
            int(((self.mate >= 0) & ~mated).sum()),
            int(((self.mate < 0) & ~strangers).sum()),
            self.kind,
        )

    @cached_property
    def searched_mated(self) -> Mask:
        """(p,): mated searches that were completed, in the order of `searches`."""
        enrolled = np.append(~self.gallery_failed, False)[self.mate]
        return enrolled & ~self.probe_failed

    @cached_property
    def searched_strangers(self) -> Mask:
        """(p,): non-mated searches that were completed, in the order of `searches`."""
        return (self.mate < 0) & ~self.probe_failed

    def mated_interval(self, threshold: float) -> Interval:
        """Of FNMR at a threshold of the scores' kind."""
        misses = self.scores.mated < oriented_threshold(threshold, self.kind)
        return clustered_rate(misses, np.arange(len(misses)))

    def nonmated_interval(self, threshold: float) -> Interval:
        """Of FMR at a threshold of the scores' kind: that of `clustered_rate` for the same comparisons."""
        limit = oriented_threshold(threshold, self.kind)
        wrong, among = np.zeros(self.score.shape, bool), np.zeros(self.score.shape, bool)
        for start, block in self._blocks():
            part = slice(start, start + len(block))
            among[part] = self._others(start, block)
            with np.errstate(invalid="ignore"):
                wrong[part] = among[part] & (oriented(block, self.kind) >= limit)
        errors, trials = int(wrong.sum()), int(among.sum())
        rows, columns = among.any(axis=1), among.any(axis=0)
        persons, people = self._persons
        here = merged(persons[0][rows], persons[1][columns])
        if errors in (0, trials):
            independent = max(1, min(int(rows.sum()), int(columns.sum()), len(here) // 2))
            return certain_interval(errors > 0, independent)
        rate = errors / trials
        rest = [wrong.sum(axis=axis) - rate * among.sum(axis=axis) for axis in (1, 0)]
        sums = sum(np.bincount(who, part, people) for who, part in zip(persons, rest, strict=True))
        couples = trials * rate * (1 - rate) + self._both_ways(wrong, among, rate)
        return effective_interval(rate, trials, float(np.square(sums).sum()) - couples, len(here))

    def replicates(self, metrics: Sequence[Metric], seed: int = 0) -> Doubles:
        """(r, metrics) of AUC, EER or FNMR at an FMR of the comparisons, with people drawn again."""
        slots = MatedSlots.of(self.kind, self.scores.mated)
        rows = np.flatnonzero(self.mate >= 0)
        rows = rows[~np.isnan(self.score[rows, self.mate[rows]])]
        up = slots.of_scores(oriented(self.score[rows, self.mate[rows]], self.kind))
        # Mates and failed comparisons lie beyond all slots, and are cut off.
        over = np.full(self.score.shape, slots.count, np.int32)
        for start, block in self._blocks():
            others = self._others(start, block)
            over[start : start + len(block)][others] = slots.of_scores(oriented(block[others], self.kind))
        persons, people = self._persons

        def sums(drawn: Doubles) -> tuple[Doubles, Doubles]:
            probes, gallery = drawn[persons[0]], drawn[persons[1]]
            mated = np.bincount(up, probes[rows], slots.count).astype(np.float64)
            total = np.zeros(slots.count + 1)
            used = np.flatnonzero(probes)
            step = self._step
            for start in range(0, len(used), step):
                some = used[start : start + step]
                weights = np.multiply.outer(probes[some], gallery)
                total += np.bincount(over[some].ravel(), weights.ravel(), len(total))
            return mated, total[:-1]

        count = replicates_of(len(self.scores.mated) + len(self.scores.nonmated))
        return slot_replicates(slots, people, sums, metrics, replicates=count, seed=seed)

    @cached_property
    def _persons(self) -> tuple[tuple[Indices, Indices], int]:
        """Numbers of the persons of rows and of columns, in the order of ids, and how many there are."""
        ids = np.array([*self.probe, *self.gallery], dtype=object)
        numbers, names = pd.factorize(ids, sort=True)
        whole = numbers.astype(np.int64)
        return (whole[: len(self.probe)], whole[len(self.probe) :]), len(names)

    def _both_ways(self, wrong: Mask, among: Mask, rate: float) -> float:
        """Sum of products of the residuals of i with j and of j with i, over ordered pairs."""
        rows = np.flatnonzero(self.mate >= 0)
        some = np.ix_(rows, self.mate[rows])
        rest = np.where(among[some], wrong[some] - rate, 0.0)
        return float(np.einsum("ij,ji->", rest, rest))

    @property
    def _step(self) -> int:
        return max(1, _BLOCK // len(self.gallery))

    def _blocks(self) -> Iterator[tuple[int, Doubles]]:
        """Some rows at a time, with the number of the first."""
        for start in range(0, len(self.probe), self._step):
            yield start, self.score[start : start + self._step]

    def _others(self, start: int, block: Doubles) -> Mask:
        """Completed non-mated comparisons among some rows."""
        among = ~np.isnan(block)
        columns = self.mate[start : start + len(block)]
        rows = np.flatnonzero(columns >= 0)
        among[rows, columns[rows]] = False
        return among

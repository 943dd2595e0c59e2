"""Totals of what all units counted: integers, so that no order of them matters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from frpipe.core.errors import InvariantError
from frpipe.jobs.evaluate.all_pairs.comparison_counts import ComparisonCounts
from frpipe.jobs.evaluate.all_pairs.tables import histograms_of
from frpipe.matching.kernel import Indices
from frpipe.metrics.streaming import ScoreHistogram


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals. scores: by cell, and whether mated.

    errors: (people,) by cell, place of the threshold, and whether mated: misses of each person, or false
    matches, each of which counts for both.
    """

    counts: ComparisonCounts
    scores: dict[tuple[int, bool], ScoreHistogram]
    errors: dict[tuple[int, int, bool], Indices]

    def add(self, histograms: pa.Table, errors: pa.Table, blocks: tuple[int, int]) -> None:
        """Add what a unit counted. blocks: of the unit."""
        for cell, mated, histogram in histograms_of(histograms):
            known = self.scores.get((cell, mated))
            self.scores[cell, mated] = known.merge(histogram) if known else histogram
        self._add_errors(errors, blocks)

    def histogram(self, cell: int | None, *, mated: bool) -> ScoreHistogram:
        """The histogram of a cell; None: of all."""
        whole = ScoreHistogram()
        for (own, kind), histogram in self.scores.items():
            if kind == mated and cell in {None, own}:
                whole = whole.merge(histogram)
        return whole

    def errors_at(self, threshold: int, cell: int | None, *, mated: bool) -> Indices:
        """The errors of each person, (people,), at a threshold, by its place; cell as in `histogram`."""
        whole = np.zeros(self.counts.people, np.int64)
        for (own, place, kind), counts in self.errors.items():
            if (place, kind) == (threshold, mated) and cell in {None, own}:
                whole += counts
        return whole

    def check(self, comparisons: int) -> None:
        """Check that every pair was counted once, and as mated where it is. Raises InvariantError."""
        mated = self.histogram(None, mated=True).total
        counted = mated + self.histogram(None, mated=False).total
        expected = int(self.counts.trials(None, mated=True).sum())
        if (counted, mated) != (comparisons, expected):
            raise InvariantError(
                f"{counted:,} scores, {mated:,} of them mated; {comparisons:,} and {expected:,} should be",
                "keep the output and report this",
            )

    def _add_errors(self, table: pa.Table, blocks: tuple[int, int]) -> None:
        names = ("cell", "threshold", "mated", "second", "row", "count")
        cell, threshold, mated, second, row, count = (table[name].to_numpy() for name in names)
        first_rows = self.counts.edges[np.array(blocks)]
        person = self.counts.subject[row + first_rows[second.astype(np.int64)]]
        for key in set(zip(cell.tolist(), threshold.tolist(), mated.tolist(), strict=True)):
            own = (cell == key[0]) & (threshold == key[1]) & (mated == key[2])
            known = self.errors.setdefault(key, np.zeros(self.counts.people, np.int64))
            np.add.at(known, person[own], count[own])

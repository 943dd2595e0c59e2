"""Confidence intervals of a rate from the errors of each person, where comparisons are too many to keep.

As `clustered`, but for one step. What the comparisons of two persons have in common is in the sums of both,
and has to be taken off once; without the comparisons it is not known, and what is known to be the least is
taken off. So these intervals are no narrower, and as wide where each two persons are compared once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.intervals import LEVEL, Interval, clopper_pearson
from frpipe.metrics.scores import Indices


@dataclass(frozen=True, slots=True)
class Tallied:
    """Counts by person.

    errors, trials: (people,) of the comparisons that a person is in. Non-mated ones are in two.

    couple: most comparisons of any one person with any other; None: the comparisons are mated.
    """

    errors: Indices
    trials: Indices
    couple: int | None = None

    def __post_init__(self) -> None:
        if self.errors.shape != self.trials.shape or (self.errors > self.trials).any():
            raise ScoresError("errors and trials of different people", "count both for each person")
        if not self.trials.any():
            raise ScoresError("no comparisons", "there is no rate without trials")

    @property
    def count(self) -> int:
        """Number of errors."""
        return int(self.errors.sum()) // self._sides

    @property
    def total(self) -> int:
        """Number of comparisons."""
        return int(self.trials.sum()) // self._sides

    def interval(self, least: int, most: int, level: float = LEVEL) -> Interval:
        """Interval of the share of errors, if there may be from `least` to `most` of them.

        It holds that of either.
        """
        trials, what = self._trials(level)
        (low, _), (_, high) = (
            clopper_pearson(trials * (errors / self.total), trials, level) for errors in (least, most)
        )
        return Interval(float(low), float(high), level, f"clopper-pearson of {trials:.0f} {what}")

    @property
    def _sides(self) -> int:
        return 1 if self.couple is None else 2

    def _trials(self, level: float) -> tuple[float, str]:
        people = int(np.count_nonzero(self.trials))
        if self.count in {0, self.total}:
            return max(1, people // self._sides), "independent comparisons"
        rate = self.count / self.total
        trials = min(self.total, rate * (1 - rate) / self._variance(rate))
        if people > 1:
            tail = (1 - level) / 2
            trials *= float(ndtri(tail) / stdtrit(people - 1, tail)) ** 2
        return trials, "effective trials"

    def _variance(self, rate: float) -> float:
        rest = self.errors - rate * self.trials
        alone, shared = self.total * rate * (1 - rate), float((rest**2).sum())
        if self.couple is not None:
            # Of a couple with h >= 1 errors in n comparisons: (h - rate n)^2 >= h (1 - 2 rate n).
            shared -= self.count * max(0.0, 1 - 2 * rate * self.couple)
        return max(shared, alone) / self.total**2

"""Differences of error rates between groups of people: one number for all, and a matrix for each two.

The names are those of the field: the worst rate over the geometric mean (Grother 2022, NIST IR 8429), the
worst over the best, and the Gini coefficient, of which GARBE is made (Howard et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.metrics.bootstrap import draws, percentiles, replicates_of
from frpipe.metrics.clustered import Pairing
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.intervals import LEVEL, Interval
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Doubles, Indices

# With fewer errors a rate says less of its group than of chance, and so does what is divided by it.
LEAST_ERRORS = 5


def worst_over_mean(rates: ArrayLike) -> float:
    """The largest of (g,) rates over their geometric mean; 1: all are equal. NaN where a rate is 0."""
    values = np.asarray(rates, np.float64)
    if not (values > 0).all():
        return np.nan
    return float(values.max() / np.exp(np.log(values).mean()))


def worst_over_best(rates: ArrayLike) -> float:
    """The largest of (g,) rates over the smallest; 1: all are equal. NaN where a rate is 0."""
    values = np.asarray(rates, np.float64)
    return float(values.max() / values.min()) if (values > 0).all() else np.nan


def gini(rates: ArrayLike) -> float:
    """Gini coefficient of (g,) rates, times g / (g - 1) so that 1 is possible; 0: all are equal.

    sum over i, j of |x_i - x_j| / (2 g^2 mean), of which g / (g - 1). NaN where all rates are 0.
    """
    values = np.asarray(rates, np.float64)
    count, mean = len(values), float(values.mean())
    if count < 2 or not mean > 0:
        return np.nan
    apart = np.abs(values[:, None] - values[None, :]).sum()
    return float(apart / (2 * count**2 * mean) * count / (count - 1))


def garbe(fmr: ArrayLike, fnmr: ArrayLike, share: float = 0.5) -> float:
    """Gini aggregation rate for biometric equitability: share x Gini of FMR + (1 - share) x that of FNMR."""
    return share * gini(fmr) + (1 - share) * gini(fnmr)


MEASURES = {"worst_over_mean": worst_over_mean, "worst_over_best": worst_over_best, "gini": gini}


@dataclass(frozen=True, slots=True)
class GroupedRates:
    """Rates of cells, drawn again by people. rates: of each.  drawn: (r, cells) of replicates."""

    rates: Sequence[Rate]
    drawn: Doubles

    def interval(self, cell: int, level: float = LEVEL) -> Interval | None:
        """The interval of one cell's rate; None where no replicate differs, as without any error."""
        found = percentiles(self.drawn[:, cell], level)
        return found if found.high > found.low else None

    def some(self, cells: Sequence[int]) -> GroupedRates:
        """The rates of some cells."""
        return GroupedRates([self.rates[cell] for cell in cells], self.drawn[:, list(cells)])

    def differential(self, name: str, level: float = LEVEL) -> tuple[float, Interval] | Insufficient:
        """A measure of MEASURES over all cells, with its interval.

        Insufficient: fewer than two cells, or a cell with fewer than five errors.
        """
        if lacking := self._lacking():
            return lacking
        measure = MEASURES[name]
        values = [measure(row) for row in self.drawn]
        return measure([rate.value or 0.0 for rate in self.rates]), percentiles(np.array(values), level)

    def _lacking(self) -> Insufficient | None:
        if len(self.rates) < 2:
            return Insufficient(f"{len(self.rates)} group, and differences are between two", 1, 2)
        fewest = min(rate.count for rate in self.rates)
        if fewest < LEAST_ERRORS:
            return Insufficient(f"{fewest} errors in a group, {LEAST_ERRORS} needed", fewest, LEAST_ERRORS)
        return None


def garbe_of(
    fmr: GroupedRates, fnmr: GroupedRates, level: float = LEVEL
) -> tuple[float, Interval] | Insufficient:
    """Compute GARBE from both rates of the same groups, people drawn once for both.

    Insufficient as for either.
    """
    found = [rates.differential("gini", level) for rates in (fmr, fnmr)]
    for one in found:
        if isinstance(one, Insufficient):
            return one
    values = [garbe(*rows) for rows in zip(fmr.drawn, fnmr.drawn, strict=True)]
    sides = [[rate.value or 0.0 for rate in of.rates] for of in (fmr, fnmr)]
    return garbe(sides[0], sides[1]), percentiles(np.array(values), level)


def grouped_rates(
    errors: ArrayLike, cell: Indices, cells: int, persons: tuple[ArrayLike, ArrayLike], seed: int = 0
) -> GroupedRates:
    """Rates of (n,) comparisons by cell, numbers below `cells`.  persons: (n,) on both sides.

    Cells whose rates are taken together, as FMR and FNMR, go in one call: people are drawn once for all.
    Raises ScoresError: lengths differ.
    """
    wrong = np.asarray(errors, bool)
    (pairing,) = Pairing.of(persons)
    if not len(wrong) == len(cell) == len(pairing.a):
        raise ScoresError("errors, cells and persons differ in length", "give one of each for a comparison")
    trials, counts = np.bincount(cell, minlength=cells), np.bincount(cell[wrong], minlength=cells)
    found = [
        _drawn_rates(row, pairing, cell, wrong, cells)
        for block in draws(pairing.people, replicates_of(len(wrong)), seed)
        for row in block
    ]
    return GroupedRates(
        [Rate(int(count), int(trial)) for count, trial in zip(counts, trials, strict=True)], np.array(found)
    )


def _drawn_rates(
    drawn: Doubles, pairing: Pairing, cell: Indices, wrong: NDArray[np.bool_], cells: int
) -> Doubles:
    weight = pairing.weights(drawn)
    total = np.bincount(cell, weight, minlength=cells)
    found = np.full(cells, np.nan)
    np.divide(np.bincount(cell[wrong], weight[wrong], minlength=cells), total, out=found, where=total > 0)
    return found

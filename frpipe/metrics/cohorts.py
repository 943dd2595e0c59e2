"""Compare the rates of groups of comparisons or searches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.intervals import LEVEL, Interval
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.rate import Rate

T = TypeVar("T")
# Below so many errors on a side the logarithm of a ratio is far from normal.
_LEAST_ERRORS = 5


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ratio of a rate to the reference's."""

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Cohort:
    """Rate of one group.

    label: of the group.  ratio: its rate over the reference group's; 1 for that one itself.
    """

    label: str
    rate: Rate
    ratio: Ratio | Insufficient


def by_label(labels: ArrayLike, metric: Callable[[NDArray[np.bool_]], T]) -> dict[str, T]:
    """Compute any metric of each group, in the order of the labels.

    `metric` is given the (n,) mask of the group's rows.
    """
    column = np.asarray(labels)
    return {str(label): metric(column == label) for label in np.unique(column)}


def cohort_rates(
    errors: ArrayLike, labels: ArrayLike, reference: Any = None, level: float = LEVEL
) -> list[Cohort]:
    """The error rate of each label, and its ratio to the reference label's; None: the largest group's.

    errors, labels: (n,).  Raises ScoresError: lengths differ, there are none, or nobody has the reference.
    """
    wrong, column = np.asarray(errors, bool), np.asarray(labels)
    if wrong.shape != column.shape or not len(wrong):
        raise ScoresError("errors and labels differ in length, or are none", "give a label for each trial")
    rates = by_label(column, lambda mask: Rate(int(wrong[mask].sum()), int(mask.sum())))
    chosen = str(reference) if reference is not None else max(rates, key=lambda label: rates[label].trials)
    if chosen not in rates:
        raise ScoresError("no trial has the reference label", "name one that occurs")
    return [Cohort(label, rate, ratio(rate, rates[chosen], level)) for label, rate in rates.items()]


def ratio(rate: Rate, reference: Rate, level: float = LEVEL) -> Ratio | Insufficient:
    """Ratio of two rates, with an interval by its logarithm (Katz et al. 1978), for independent trials.

    Insufficient: fewer than five errors on a side.
    """
    fewest = min(rate.count, reference.count)
    if rate is reference and rate.count:
        return Ratio(1.0, Interval(1.0, 1.0, level, "itself"))
    if fewest < _LEAST_ERRORS:
        return Insufficient(
            f"{fewest} errors on a side, a ratio needs {_LEAST_ERRORS}", fewest, _LEAST_ERRORS
        )
    value = (rate.count / rate.trials) / (reference.count / reference.trials)
    variance = 1 / rate.count - 1 / rate.trials + 1 / reference.count - 1 / reference.trials
    factor = float(np.exp(ndtri((1 + level) / 2) * np.sqrt(variance)))
    return Ratio(value, Interval(value / factor, value * factor, level, "log ratio"))

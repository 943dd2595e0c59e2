"""Confidence intervals of rates from independent trials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.scores import Doubles

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """Confidence interval from `low` to `high`.

    level: of confidence.  method: how it was found, in words.
    """

    low: float
    high: float
    level: float
    method: str


def clopper_pearson(counts: ArrayLike, trials: ArrayLike, level: float = LEVEL) -> tuple[Doubles, Doubles]:
    """Two-sided bounds, low and high, of counts among independent trials (Clopper and Pearson 1934).

    They hold the true rate with at least this level whatever it is. No trials: 0 and 1.
    Raises ScoresError: a count is negative or above its trials, or the level is not between 0 and 1.
    """
    tail = (1 - _checked(level)) / 2
    return _bound(counts, trials, tail, upper=False), _bound(counts, trials, tail, upper=True)


def upper_bound(counts: ArrayLike, trials: ArrayLike, level: float = LEVEL) -> Doubles:
    """One-sided upper bound. At 0 errors in n trials and 95 %: 1 - 0.05^(1/n), the rule of three, 3/n.

    The two-sided interval keeps half of its risk for the other side: 3.7/n.
    """
    return _bound(counts, trials, 1 - _checked(level), upper=True)


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise ScoresError("a level of confidence is between 0 and 1", "0.95 is usual")
    return level


def _bound(counts: ArrayLike, trials: ArrayLike, tail: float, *, upper: bool) -> Doubles:
    x, n = np.broadcast_arrays(np.asarray(counts, np.float64), np.asarray(trials, np.float64))
    if ((x < 0) | (x > n)).any():
        raise ScoresError("more errors than trials, or fewer than none", "count errors among trials")
    inside = x < n if upper else x > 0
    a, b = (x + 1, n - x) if upper else (x, n - x + 1)
    found = betaincinv(np.where(inside, a, 1), np.where(inside, b, 1), 1 - tail if upper else tail)
    return np.where(inside, found, 1.0 if upper else 0.0)

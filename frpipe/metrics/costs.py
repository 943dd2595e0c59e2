"""Costs of decisions by log-likelihood ratios: Cllr over all priors, and DCF for one prior and its costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from frpipe.metrics.curve import ROUNDING
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.operating import RULE_OF_3, Insufficient
from frpipe.metrics.scores import Doubles, Indices


@dataclass(frozen=True, slots=True)
class Application:
    """An application, to decide for. prior: how often a comparison is mated.

    miss, alarm: costs of a false non-match, and of a false match.

    Detection cost as in the speaker recognition evaluations of NIST (2016 and later).
    """

    prior: float
    miss: float = 1.0
    alarm: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.prior < 1:
            raise ScoresError(f"a prior of {self.prior:g}", "it is above 0 and below 1, for example 0.01")
        if not 0 < self.miss < math.inf or not 0 < self.alarm < math.inf:
            raise ScoresError("a cost of errors is not positive", "for example 10 for a miss, 1 for an alarm")

    @property
    def odds(self) -> float:
        """The weight of a false match in false non-matches: alarm (1 - P) / (miss P)."""
        return self.alarm * (1 - self.prior) / (self.miss * self.prior)

    @property
    def threshold(self) -> float:
        """The log-likelihood ratio, in nats, from which on acceptance is the cheaper decision (Bayes)."""
        return math.log(self.odds)

    def costs(self, fnmr: Doubles, fmr: Doubles) -> Doubles:
        """(p,) normalised costs at some error rates.

        (miss P FNMR + alarm (1 - P) FMR) / min(miss P, alarm (1 - P)): 1 is what deciding unseen costs.
        """
        miss, alarm = self.miss * self.prior, self.alarm * (1 - self.prior)
        return np.asarray((miss * fnmr + alarm * fmr) / min(miss, alarm), np.float64)

    def insufficient(self, mated: int, nonmated: int) -> Insufficient | None:
        """Whether trials are too few: without any error the dearer one would not be shown to cost below 1.

        By the rule of 3 of the error rate that costs 1: 3 odds non-mated, or 3 / odds mated trials.
        """
        have, what, odds = (
            (nonmated, "non-mated", self.odds) if self.odds >= 1 else (mated, "mated", 1 / self.odds)
        )
        need = math.ceil(RULE_OF_3 * odds - ROUNDING)
        if have >= need:
            return None
        return Insufficient(f"{have:,} {what} trials, the costs at {self} need {need:,}", have, need)

    def __str__(self) -> str:
        costs = "" if self.miss == self.alarm == 1 else f", costs {self.miss:g} and {self.alarm:g}"
        return f"prior {self.prior:g}{costs}"


def cllr(mated: ArrayLike, nonmated: ArrayLike) -> float:
    """Cost of log-likelihood ratios in bits: 0 is perfect, 1 is that of ratios that say nothing.

    mated, nonmated: (m,) and (n,) in nats; infinite where that is meant, and then on the wrong side the cost
    is infinite.  (mean log2(1 + exp(-llr)) of mated + mean log2(1 + exp(llr)) of non-mated) / 2
    (Brümmer and du Preez 2006, Application-independent evaluation of speaker detection).
    Raises ScoresError: a kind has no comparison, or a ratio is NaN.
    """
    sides = _ratios(mated, "mated"), _ratios(nonmated, "non-mated")
    up, over = ((side, np.ones(len(side), np.int64)) for side in sides)
    return bits(up, over)


def act_dcf(mated: ArrayLike, nonmated: ArrayLike, application: Application) -> float:
    """Normalised cost of decisions at the threshold that Bayes' rule sets for (m,) and (n,) ratios in nats.

    Raises ScoresError as `cllr`.
    """
    up, over = _ratios(mated, "mated"), _ratios(nonmated, "non-mated")
    fnmr = np.array([np.mean(up < application.threshold)])
    fmr = np.array([np.mean(over >= application.threshold)])
    return float(application.costs(fnmr, fmr)[0])


def bits(mated: tuple[Doubles, Indices], nonmated: tuple[Doubles, Indices]) -> float:
    """Cllr of ratios, each with how many comparisons have it; what none has costs nothing."""
    up, over = (
        float(np.dot(np.logaddexp(0, sign * llr[count > 0]), count[count > 0]) / count.sum())
        for sign, (llr, count) in ((-1, mated), (1, nonmated))
    )
    return (up + over) / (2 * math.log(2))


def _ratios(values: ArrayLike, what: str) -> Doubles:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array) or np.isnan(array).any():
        raise ScoresError(
            f"{what} log-likelihood ratios are not a list of numbers",
            "give one for each completed comparison",
        )
    return array

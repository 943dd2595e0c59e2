"""Maps from scores to log-likelihood ratios, fitted on comparisons whose truth is known.

A ratio, in nats, says how much more probable a score is of mated comparisons than of others. With the prior
odds of an application it gives the odds that a comparison is mated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.hull import Hull, pooled
from frpipe.metrics.newton import newton
from frpipe.metrics.scores import Doubles, Kind, Scores, oriented

_LARGE = 1e300
_LARGEST = float(np.finfo(np.float64).max)


class Calibration(Protocol):
    """A fitted map."""

    def llr(self, score: ArrayLike) -> Doubles:
        """(n,) ratios in nats of (n,) scores of the kind that it was fitted on."""
        ...


@dataclass(frozen=True, slots=True)
class Logistic:
    """llr = slope score + offset, kept as weight (score - centre) / scale + bias for scores of any size.

    separated: the scores it was fitted on do not overlap.
    """

    weight: float
    bias: float
    centre: float
    scale: float
    separated: bool = False

    @property
    def slope(self) -> float:
        """The slope, in nats for a unit of score, at most the largest finite number."""
        return _bounded(self.weight / self.scale)

    @property
    def offset(self) -> float:
        """The offset, in nats: the ratio of a score of 0."""
        return _bounded(float(self.llr([0.0])[0]))

    def llr(self, score: ArrayLike) -> Doubles:
        """(n,) ratios in nats."""
        asked = np.asarray(score, np.float64)
        return np.asarray(self.weight * _standard(asked, self.centre, self.scale) + self.bias, np.float64)


@dataclass(frozen=True, slots=True)
class Isotonic:
    """A monotone map. score, ratio: (k,) knots, ascending, larger is more alike; straight lines between."""

    kind: Kind
    score: Doubles
    ratio: Doubles

    def llr(self, score: ArrayLike) -> Doubles:
        """Log-likelihood ratios, (n,), in nats; beyond the first and last knot those of the knot."""
        asked = oriented(np.asarray(score, np.float64), self.kind)
        asked = np.clip(asked, self.score[0], self.score[-1])
        # Within [-1, 1] the distance of two scores is a number, and so is the slope between them.
        size = -int(np.frexp(np.abs(self.score).max())[1])
        return np.asarray(
            np.interp(np.ldexp(asked, size), np.ldexp(self.score, size), self.ratio), np.float64
        )


def fit_logistic(scores: Scores, prior: float = 0.5) -> Logistic:
    """Fit a straight line by logistic regression, each kind weighted to the share that the prior gives it.

    Least is P mean log(1 + exp(-z)) of mated + (1 - P) mean log(1 + exp(z)) of others, z = llr + logit P
    (Brümmer and du Preez 2006); at P = 0.5 that is Cllr. Found by Newton's steps, halved
    while they do not lead down.  Where all mated scores reach all others, or none does, no line is the best:
    then the truths are softened to (m + 1) / (m + 2) and 1 / (n + 2) (Platt 1999), and `separated` is set.
    Where all scores are equal they say nothing: the ratio is 0.
    Raises ScoresError: there is no mated, or no non-mated comparison; the prior is not between 0 and 1.
    """
    _check(scores)
    if not 0 < prior < 1:
        raise ScoresError(f"a prior of {prior:g}", "it is above 0 and below 1")
    m, n = len(scores.mated), len(scores.nonmated)
    x = oriented(np.concatenate([scores.mated, scores.nonmated]), scores.kind)
    centre = float(np.partition(x, (m + n) // 2)[(m + n) // 2])
    if x.min() == x.max():
        return Logistic(0.0, 0.0, centre, 1.0)
    scale = _bounded(float(np.abs(_standard(x, centre, 1.0)).max()))
    separated = bool(
        scores.mated.min() >= scores.nonmated.max() or scores.mated.max() <= scores.nonmated.min()
    )
    soft = ((m + 1) / (m + 2), 1 / (n + 2)) if separated else (1.0, 0.0)
    truth, weight = (
        np.repeat(pair, (m, n)) for pair in (np.array(soft), np.array([prior / m, (1 - prior) / n]))
    )
    weight_of_x, bias = newton(_standard(x, centre, scale), truth, weight, float(logit(prior)))
    return Logistic(float(weight_of_x), float(bias), centre, scale, separated)


def fit_isotonic(scores: Scores) -> Isotonic:
    """Fit the best monotone map by pooling adjacent violators; equal scores are one.

    A mated and a non-mated comparison are added at the lowest and at the highest score, so that no ratio is
    infinite on finite data (the smoothing of the BOSARIS Toolkit, Brümmer and de Villiers 2013, after
    Laplace).  Raises ScoresError: there is no mated, or no non-mated comparison.
    """
    _check(scores)
    hull = Hull.of(scores)
    # The additions may pool runs at the ends, and no others: a run beyond the ends, of one of each kind.
    mated, nonmated = (np.concatenate([[1], part, [1]]) for part in (hull.mated, hull.nonmated))
    starts = pooled(mated, nonmated)
    up, over = (np.add.reduceat(part, starts) for part in (mated, nonmated))
    ratio = np.log(up) - np.log(over) - np.log(len(scores.mated)) + np.log(len(scores.nonmated))
    own = np.searchsorted(starts, np.arange(1, len(hull.low) + 1), "right") - 1
    # A run has a knot at both ends; one of a single score has one.
    knots, first = np.unique(np.stack([hull.low, hull.high], 1).ravel(), return_index=True)
    return Isotonic(scores.kind, knots, np.repeat(ratio[own], 2)[first])


def _standard(score: Doubles, centre: float, scale: float) -> Doubles:
    """Standardise scores, (score - centre) / scale, also where the difference alone would be no number."""
    part = 0.25 if max(abs(centre), scale, float(np.abs(score).max(initial=0))) > _LARGE else 1.0
    with np.errstate(over="ignore"):
        return np.clip((part * score - part * centre) / (part * scale), -_LARGE, _LARGE)


def _bounded(value: float) -> float:
    return float(np.clip(value, -_LARGEST, _LARGEST))


def _check(scores: Scores) -> None:
    if not len(scores.mated) or not len(scores.nonmated):
        raise ScoresError("no mated, or no non-mated comparisons", "calibration needs both")

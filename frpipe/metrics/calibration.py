"""Maps from scores to log-likelihood ratios, fitted on comparisons whose truth is known.

A ratio, in nats, says how much more probable a score is of mated comparisons than of others. With the prior
odds of an application it gives the odds that a comparison is mated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.hull import Hull, pooled
from frpipe.metrics.scores import Doubles, Kind, Scores, oriented

_STEPS = 200
_HALVINGS = 60
_CONVERGED = 1e-14


class Calibration(Protocol):
    """A fitted map."""

    def llr(self, score: ArrayLike) -> Doubles:
        """(n,) ratios in nats of (n,) scores of the kind that it was fitted on."""
        ...


@dataclass(frozen=True, slots=True)
class Logistic:
    """llr = slope score + offset.  separated: the scores it was fitted on do not overlap."""

    slope: float
    offset: float
    separated: bool = False

    def llr(self, score: ArrayLike) -> Doubles:
        """(n,) ratios in nats."""
        return np.asarray(self.slope * np.asarray(score, np.float64) + self.offset, np.float64)


@dataclass(frozen=True, slots=True)
class Isotonic:
    """score, ratio: (k,) knots, ascending, oriented so that larger is more alike; straight lines between."""

    kind: Kind
    score: Doubles
    ratio: Doubles

    def llr(self, score: ArrayLike) -> Doubles:
        """(n,) ratios in nats; beyond the first and last knot theirs."""
        asked = oriented(np.asarray(score, np.float64), self.kind)
        return np.asarray(np.interp(asked, self.score, self.ratio), np.float64)


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
    x = np.concatenate([scores.mated, scores.nonmated])
    centre = float(np.median(x))
    scale = float(np.abs(x - centre).max())
    if not scale or x.min() == x.max():
        return Logistic(0.0, 0.0)
    separated = bool(
        scores.mated.min() >= scores.nonmated.max() or scores.mated.max() <= scores.nonmated.min()
    )
    soft = ((m + 1) / (m + 2), 1 / (n + 2)) if separated else (1.0, 0.0)
    truth, weight = (
        np.repeat(pair, (m, n)) for pair in (np.array(soft), np.array([prior / m, (1 - prior) / n]))
    )
    slope, offset = _newton((x - centre) / scale, truth, weight, float(logit(prior)))
    sign = 1.0 if scores.kind == "similarity" else -1.0
    return Logistic(sign * slope / scale, offset - slope * centre / scale, separated)


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


def _newton(x: Doubles, truth: Doubles, weight: Doubles, shift: float) -> tuple[float, float]:
    """Slope and offset of the least loss.  x: (n,) within [-1, 1]."""
    design = np.stack([x, np.ones_like(x)])
    found = np.zeros(2)
    loss = _loss(found @ design + shift, truth, weight)
    for _ in range(_STEPS):
        p = expit(found @ design + shift)
        gradient = design @ (weight * (p - truth))
        curvature = (design * (weight * p * (1 - p))) @ design.T
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        falls = float(gradient @ step)
        if falls < _CONVERGED:
            break
        for _ in range(_HALVINGS):
            tried = _loss((found - step) @ design + shift, truth, weight)
            if tried <= loss - 1e-4 * falls:
                break
            step, falls = step / 2, falls / 2
        else:
            break
        found, loss = found - step, tried
    return float(found[0]), float(found[1])


def _loss(z: Doubles, truth: Doubles, weight: Doubles) -> float:
    return float(np.dot(weight, np.logaddexp(0, z) - truth * z))


def _check(scores: Scores) -> None:
    if not len(scores.mated) or not len(scores.nonmated):
        raise ScoresError("no mated, or no non-mated comparisons", "calibration needs both")

"""Fuse several scores of the same comparisons: the sum rule, weighted by logistic regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit

from frpipe.metrics.cross_fit import Parts, apart, too_few
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.newton import newton
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.scores import Doubles


@dataclass(frozen=True, slots=True)
class Fusion:
    """A fusion: llr = slope . scores + offset, in nats.

    slope: (k,).  separated: some plane parts the kinds that it was fitted on.
    """

    slope: Doubles
    offset: float
    separated: bool = False

    def llr(self, scores: ArrayLike) -> Doubles:
        """(n,) ratios of (n, k) similarities."""
        return np.asarray(np.asarray(scores, np.float64) @ self.slope + self.offset, np.float64)


def fit_fusion(mated: ArrayLike, nonmated: ArrayLike, prior: float = 0.5) -> Fusion:
    """Fit the weights of several scores by logistic regression, as `fit_logistic` fits that of one.

    mated, nonmated: (m, k) and (n, k) similarities.  What two scores have in common is counted once, which a
    sum of ratios that were calibrated one by one would count twice (Brümmer et al. 2007).  Where a plane
    parts the kinds the truths are softened (Platt 1999), and `separated` is set.
    Raises ScoresError: shapes differ, a kind is missing, a score is not finite, the prior is no share.
    """
    up, over = np.asarray(mated, np.float64), np.asarray(nonmated, np.float64)
    if up.ndim != 2 or over.ndim != 2 or up.shape[1] != over.shape[1] or not len(up) or not len(over):
        raise ScoresError(
            "scores of both kinds are not tables of as many scores",
            "give (m, k) of mated and (n, k) of others",
        )
    if not 0 < prior < 1:
        raise ScoresError(f"a prior of {prior:g}", "it is above 0 and below 1")
    x = np.concatenate([up, over])
    if not np.isfinite(x).all():
        raise ScoresError("a score is not finite", "leave out comparisons that failed")
    m, n = len(up), len(over)
    centre, scale = x.mean(0), np.where(x.std(0) > 0, x.std(0), 1.0)
    unit, weight = ((x - centre) / scale).T, np.repeat([prior / m, (1 - prior) / n], (m, n))
    shift = float(logit(prior))
    found = newton(unit, np.repeat([1.0, 0.0], (m, n)), weight, shift)
    z = found[:-1] @ unit
    separated = bool(z[:m].min() >= z[m:].max())
    if separated:
        found = newton(unit, np.repeat([(m + 1) / (m + 2), 1 / (n + 2)], (m, n)), weight, shift)
    slope = found[:-1] / scale
    return Fusion(slope, float(found[-1] - slope @ centre), separated)


def cross_fitted_fusion(scores: ArrayLike, mated: NDArray[np.bool_], parts: Parts) -> Doubles | Insufficient:
    """(n,) log-likelihood ratios of (n, k) similarities, each of weights fitted on others.

    See `cross_fit.cross_fitted`.  Raises ScoresError: lengths differ, or a score is not finite.
    """
    x = np.asarray(scores, np.float64)
    if not len(x) == len(mated) == len(parts.a):
        raise ScoresError("scores, labels and parts differ in length", "give one of each for a comparison")
    ratios = np.empty(len(x))
    for held, others in apart(parts):
        up, over = x[others & mated], x[others & ~mated]
        if lacking := too_few(len(up), len(over)):
            return lacking
        ratios[held] = fit_fusion(up, over).llr(x[held])
    return ratios

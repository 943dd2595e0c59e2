"""Reliability of log-likelihood ratios: what the ratios say, bin by bin, beside what the counts say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.intervals import LEVEL, clopper_pearson
from frpipe.metrics.scores import Doubles, Indices

BINS = 10


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Comparisons with a ratio in [first, last]. said, came: ratios, in nats, by the map and by the counts.

    low, high: interval of `came`, by Clopper and Pearson of the mated share: each comparison for itself.
    `came`, `low`, `high` may be infinite.
    """

    first: float
    last: float
    mated: int
    nonmated: int
    said: float
    came: float
    low: float
    high: float


def reliability(
    mated: ArrayLike, nonmated: ArrayLike, bins: int = BINS, level: float = LEVEL
) -> list[ReliabilityBin]:
    """Bin ratios by about the same weight, where both kinds weigh the same; equal ratios are never parted.

    mated, nonmated: (m,) and (n,) finite ratios in nats.  said: logit of the mean of the posteriors at equal
    priors; came: that of the mated share, weighted so. For calibrated ratios both have the same expectation
    (DeGroot and Fienberg 1983, at equal priors).
    Raises ScoresError: a kind has no comparison, or a ratio is not finite.
    """
    up, over = np.asarray(mated, np.float64), np.asarray(nonmated, np.float64)
    llr = np.concatenate([up, over])
    if not len(up) or not len(over) or not np.isfinite(llr).all():
        raise ScoresError("ratios of a kind are missing, or infinite", "give finite ratios of both kinds")
    values, place = np.unique(llr, return_inverse=True)
    counts = [np.bincount(part, minlength=len(values)) for part in np.split(place, [len(up)])]
    weights = [count / count.sum() / 2 for count in counts]
    total = weights[0] + weights[1]
    # By the middle of each value's weight: what weighs much has a bin of its own.
    number = np.minimum(((np.cumsum(total) - total / 2) * bins).astype(np.int64), bins - 1)
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    ends = np.append(starts[1:], len(values)) - 1
    said = logit(_sums(total * expit(values), starts) / _sums(total, starts))
    shift = float(np.log(len(up)) - np.log(len(over)))
    # Equal ratios are reported exactly, whatever the mean of their posteriors is rounded to.
    said = np.where(starts == ends, values[starts], said)
    m, n = (np.add.reduceat(count, starts) for count in counts)
    came, low, high = (logit(share) - shift for share in (m / (m + n), *clopper_pearson(m, m + n, level)))
    rows = zip(values[starts], values[ends], m, n, said, came, low, high, strict=True)
    return [
        ReliabilityBin(float(first), float(last), int(up_in), int(over_in), *map(float, rest))
        for first, last, up_in, over_in, *rest in rows
    ]


def _sums(values: Doubles, starts: Indices) -> Doubles:
    return np.asarray(np.add.reduceat(values, starts), np.float64)

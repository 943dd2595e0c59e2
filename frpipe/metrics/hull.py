"""The convex hull of a ROC, and the least cost that a monotone calibration of the scores could have.

Pool adjacent violators gives both: its runs are the edges of the hull (Fawcett and Niculescu-Mizil 2007), and
the mated share of a run is the best monotone estimate there (Brümmer and du Preez 2006).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from frpipe.metrics.costs import Application, bits
from frpipe.metrics.curve import Curve
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.operating import EqualError, equal_error
from frpipe.metrics.scores import Doubles, Indices, Kind, Scores, oriented


@dataclass(frozen=True, slots=True)
class Hull:
    """k runs of scores, from low to high, of which each has a larger share of mated than the one before.

    low, high: (k,) the first and last score of a run, the larger the more alike: distances are negated.
    mated, nonmated: (k,) comparisons in it.
    """

    kind: Kind
    low: Doubles
    high: Doubles
    mated: Indices
    nonmated: Indices

    @classmethod
    def of(cls, scores: Scores) -> Hull:
        """Pool the completed comparisons. Equal scores are one from the start, whichever kind they are of.

        Raises ScoresError: there is no mated, or no non-mated comparison.
        """
        if not len(scores.mated) or not len(scores.nonmated):
            raise ScoresError("no mated, or no non-mated comparisons", "a hull needs both")
        values, place = np.unique(np.concatenate([scores.mated, scores.nonmated]), return_inverse=True)
        mated, nonmated = (
            np.bincount(part, minlength=len(values)) for part in np.split(place, [len(scores.mated)])
        )
        starts = pooled(mated, nonmated)
        ends = np.append(starts[1:], len(values)) - 1
        counts = np.add.reduceat(mated, starts), np.add.reduceat(nonmated, starts)
        return cls(scores.kind, values[starts], values[ends], *counts)

    @property
    def llr(self) -> Doubles:
        """(k,) log-likelihood ratios of the runs, in nats: log of mated / all mated over the same of others.

        -inf and inf in runs of one kind.
        """
        with np.errstate(divide="ignore"):
            ratios = np.log(self.mated) - np.log(self.nonmated)
        return np.asarray(ratios - np.log(self.mated.sum()) + np.log(self.nonmated.sum()), np.float64)

    def curve(self) -> Curve:
        """Corners of the hull, from the strictest: FMR 0 and FNMR 1, to FMR 1 and FNMR 0."""
        mated, nonmated = (
            np.concatenate([[0.0], np.cumsum(part[::-1])]) for part in (self.mated, self.nonmated)
        )
        threshold = oriented(np.concatenate([[np.inf], self.low[::-1]]), self.kind)
        return Curve(self.kind, threshold, mated, nonmated, float(mated[-1]), float(nonmated[-1]))

    def eer(self) -> float:
        """The equal error rate on the hull, at most one half.

        It is the largest error rate that the best threshold has at any prior (Brümmer and de Villiers,
        The BOSARIS Toolkit, 2013).
        """
        found = equal_error(self.curve())
        # A hull ends where everything is accepted.
        assert isinstance(found, EqualError)
        return found.value

    def min_cllr(self) -> float:
        """Cllr of the runs' own ratios, in bits: the least that a monotone map of these scores can have.

        Runs of one kind alone have an infinite ratio that is right, and cost nothing (Brümmer and du Preez
        2006; nothing is smoothed).
        """
        llr = self.llr
        return bits((llr, self.mated), (llr, self.nonmated))

    def min_dcf(self, application: Application) -> float:
        """The least normalised cost of decisions at one threshold; it lies at a corner of the hull."""
        curve = self.curve()
        return float(application.costs(curve.fnmr, curve.fmr).min())


def pooled(mated: Indices, nonmated: Indices) -> Indices:
    """Starts of runs, (k,), in (v,) counts at ascending values: pool adjacent violators, weighted.

    Runs with the same share are one.  Ayer et al. 1955.
    """
    count = mated + nonmated
    starts = np.asarray(isotonic_regression(mated / count, weights=count).blocks[:-1], np.int64)
    up, over = np.add.reduceat(mated, starts), np.add.reduceat(nonmated, starts)
    differs = up[1:] * over[:-1] != up[:-1] * over[1:]
    return np.asarray(starts[np.concatenate([[True], differs])], np.int64)

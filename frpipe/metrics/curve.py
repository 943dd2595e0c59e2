"""Exact error trade-off curve over all thresholds: one point at each score that occurs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.scores import Doubles, Indices, Kind, Scores, oriented

# A target of 0.001 among 3000 trials is 3 of them, whatever the binary fraction says.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of an error trade-off, from the strictest threshold, which accepts nothing, to the most lenient.

    threshold: (p,), in the scores' kind: infinity, then each score once.  mated, nonmated: (p,), how many, or
    what weight, is accepted there.  Between two scores nothing changes: the rates are steps.
    """

    kind: Kind
    threshold: Doubles
    mated: Doubles
    nonmated: Doubles
    mated_trials: float
    nonmated_trials: float

    @classmethod
    def of(cls, scores: Scores, *, failures: bool = False, one_kind: bool = False) -> Curve:
        """Curve of some scores. failures: whether failed comparisons count, as rejections.

        one_kind: whether one kind will do; the rates of the other are then no numbers.
        Raises ScoresError: there is no mated, or no non-mated comparison, and one kind will not do.
        """
        scores = scores if failures else scores.completed()
        if not one_kind:
            _check_both(scores)
        threshold = _thresholds(scores)
        accepted = [
            _reaching(np.sort(part), threshold).astype(np.float64) for part in (scores.mated, scores.nonmated)
        ]
        trials = len(scores.mated) + scores.mated_lost, len(scores.nonmated) + scores.nonmated_lost
        return _curve(scores.kind, threshold, accepted, trials)

    @property
    def fmr(self) -> Doubles:
        """(p,) false match rate, from 0 up. FAR where failures count; FPIR of searches."""
        return self.nonmated / self.nonmated_trials

    @property
    def fnmr(self) -> Doubles:
        """(p,) false non-match rate, from 1 down. FRR where failures count; FNIR of searches."""
        return (self.mated_trials - self.mated) / self.mated_trials

    @property
    def tar(self) -> Doubles:
        """(p,) true accept rate, 1 - FNMR."""
        return self.mated / self.mated_trials

    @property
    def trr(self) -> Doubles:
        """(p,) true reject rate, 1 - FMR."""
        return (self.nonmated_trials - self.nonmated) / self.nonmated_trials

    def at(self, thresholds: ArrayLike) -> tuple[Doubles, Doubles]:
        """FMR and FNMR at any thresholds of the scores' kind, in their order."""
        own, asked = (
            oriented(np.asarray(values, np.float64), self.kind) for values in (self.threshold, thresholds)
        )
        place = np.searchsorted(-own, -asked, "right") - 1
        return self.fmr[place], self.fnmr[place]

    def fnmr_at(self, fmr: float) -> float:
        """FNMR at the most lenient threshold whose FMR is at most this, however few trials that rests on."""
        place = int(np.searchsorted(self.nonmated, fmr * self.nonmated_trials + ROUNDING, "right")) - 1
        return float((self.mated_trials - self.mated[place]) / self.mated_trials)

    def auc(self) -> float:
        """The exact area under TAR over FMR, which is P(mated > non-mated) + P(equal) / 2.

        Trapezoids between points, so that ties count half (Mann and Whitney 1947). What no threshold accepts
        is below everything: beyond the last point the curve goes on level.
        """
        area = np.dot(np.diff(self.nonmated), self.mated[1:] + self.mated[:-1]) / 2
        area += (self.nonmated_trials - self.nonmated[-1]) * self.mated[-1]
        return float(area / (self.mated_trials * self.nonmated_trials))

    def det(self) -> tuple[Doubles, Doubles]:
        """FMR and FNMR at the corners of the steps alone.

        Points on a straight line between others are left out.
        """
        inner = (np.diff(self.mated[1:]) == 0) & (np.diff(self.mated[:-1]) == 0)
        inner |= (np.diff(self.nonmated[1:]) == 0) & (np.diff(self.nonmated[:-1]) == 0)
        keep = np.concatenate([[True], ~inner, [True]])
        return self.fmr[keep], self.fnmr[keep]


@dataclass(frozen=True, slots=True)
class Ordered:
    """Completed comparisons sorted once, for curves with many weightings.

    threshold: (u,) larger first, oriented.  mated_order, nonmated_order: of scores, larger first.  mated_end,
    nonmated_end: (u,), how many reach each threshold.
    """

    kind: Kind
    threshold: Doubles
    mated_order: Indices
    nonmated_order: Indices
    mated_end: Indices
    nonmated_end: Indices

    @classmethod
    def of(cls, scores: Scores) -> Ordered:
        """Sort the completed comparisons.

        Raises ScoresError: there is no mated, or no non-mated comparison.
        """
        scores = scores.completed()
        _check_both(scores)
        threshold = _thresholds(scores)
        orders = [np.argsort(part) for part in (scores.mated, scores.nonmated)]
        ends = [
            _reaching(part[order], threshold)
            for part, order in zip((scores.mated, scores.nonmated), orders, strict=True)
        ]
        return cls(scores.kind, threshold, orders[0][::-1], orders[1][::-1], *ends)

    def weighted(self, mated: Doubles, nonmated: Doubles) -> Curve:
        """Curve with weights of the comparisons, (m,) and (n,)."""
        sums = [
            np.concatenate([[0.0], np.cumsum(weights[order])])
            for weights, order in ((mated, self.mated_order), (nonmated, self.nonmated_order))
        ]
        accepted = [sums[0][self.mated_end], sums[1][self.nonmated_end]]
        return _curve(self.kind, self.threshold, accepted, (float(sums[0][-1]), float(sums[1][-1])))


def _check_both(scores: Scores) -> None:
    if not len(scores.mated) + scores.mated_lost or not len(scores.nonmated) + scores.nonmated_lost:
        raise ScoresError(
            "no mated, or no non-mated comparisons",
            "a curve needs both; a rate at one threshold needs only its own",
        )


def _thresholds(scores: Scores) -> Doubles:
    return np.unique(np.concatenate([scores.mated, scores.nonmated]))[::-1]


def _reaching(ascending: Doubles, threshold: Doubles) -> Indices:
    """Number of scores at or above each threshold."""
    return len(ascending) - np.searchsorted(ascending, threshold)


def _curve(kind: Kind, threshold: Doubles, accepted: list[Doubles], trials: tuple[float, float]) -> Curve:
    """Build a curve, with the point before the first score, where nothing is accepted. Mated first."""
    mated, nonmated = (np.concatenate([[0.0], part]) for part in accepted)
    return Curve(kind, oriented(np.concatenate([[np.inf], threshold]), kind), mated, nonmated, *trials)

"""Metrics of binned scores, as bounds that hold the value of the scores themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from frpipe.metrics.curve import Curve
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.operating import Insufficient, at_target
from frpipe.metrics.streaming import ScoreHistogram


@dataclass(frozen=True, slots=True)
class Bounds:
    """The exact value is from `low` to `high`."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """Halfway."""
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True)
class Binned:
    """Two histograms of the same bins: scores of one person, and of two."""

    mated: ScoreHistogram
    nonmated: ScoreHistogram

    def __post_init__(self) -> None:
        if self.mated.bins != self.nonmated.bins:
            raise ScoresError("mated and non-mated scores in different bins", "use one number of bins")

    def fmr(self, threshold: float) -> Bounds:
        """Of non-mated scores at or above a similarity."""
        least, most, total = _count_above(self.nonmated, threshold)
        return Bounds(least / total, most / total)

    def fnmr(self, threshold: float) -> Bounds:
        """Of mated scores below a similarity."""
        least, most, total = _count_above(self.mated, threshold)
        return Bounds((total - most) / total, (total - least) / total)

    def roc(self) -> Curve:
        """The points at the edges of bins, which are exact; the whole curve passes through them.

        Between two of them it is anywhere in the rectangle that they span.
        """
        mated, nonmated = (_above_edges(part) for part in (self.mated, self.nonmated))
        if not mated[-1] or not nonmated[-1]:
            raise ScoresError("no mated, or no non-mated comparisons", "a curve needs both")
        inner = self.mated.edges[-2:0:-1]
        threshold = np.concatenate([[np.inf], inner, [-np.inf]])
        return Curve("similarity", threshold, mated, nonmated, float(mated[-1]), float(nonmated[-1]))

    def auc(self) -> Bounds:
        """Pairs in one bin are won by nobody at worst, and all by the mated score at best."""
        curve = self.roc()
        mated, nonmated = np.diff(curve.mated), np.diff(curve.nonmated)
        pairs = curve.mated_trials * curve.nonmated_trials
        least = np.dot(nonmated, curve.mated[:-1])
        return Bounds(float(least / pairs), float((least + np.dot(nonmated, mated)) / pairs))

    def eer(self) -> Bounds:
        """Of the exact curve's `equal_error`: between the two edges around it."""
        curve = self.roc()
        fmr, fnmr = curve.fmr, curve.fnmr
        after = int(np.argmax(fmr >= fnmr))
        return Bounds(
            float(max(fmr[after - 1], fnmr[after])),
            float(min(fmr[after], fnmr[after - 1])),
        )

    def tar_at_fmr(self, target: float) -> Bounds | Insufficient:
        """TAR at a target FMR, if there are at least 3/target non-mated scores."""
        curve = self.roc()
        found = at_target(curve, target)
        if isinstance(found, Insufficient):
            return found
        place = int(np.flatnonzero(curve.threshold == found.threshold)[-1])
        over = min(place + 1, len(curve.threshold) - 1)
        return Bounds(float(curve.tar[place]), float(curve.tar[over]))


def _above_edges(part: ScoreHistogram) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(bins + 1,) how many scores reach each edge, from none at the top to all at the bottom."""
    return np.concatenate([[0], np.cumsum(part.counts[::-1])]).astype(np.float64)


def _count_above(part: ScoreHistogram, threshold: float) -> tuple[int, int, int]:
    """At least and at most how many scores reach a threshold, and of how many."""
    total = part.total
    if not total:
        raise ScoresError("no comparisons of this kind", "a rate needs at least one")
    if threshold <= part.low:
        return total, total, total
    if threshold > part.high:
        return 0, 0, total
    place = int(np.clip(np.floor(threshold * (part.bins // 2)) + part.bins // 2, 0, part.bins - 1))
    above = int(part.counts[place + 1 :].sum())
    within = above + int(part.counts[place])
    on_edge = place > 0 and threshold == part.edges[place]
    return (within if on_edge else above), within, total

"""Bounds of metrics from binned scores, which hold the value of the scores themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frpipe.metrics.curve import ROUNDING, Curve
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.operating import Insufficient, at_target
from frpipe.metrics.scores import Indices
from frpipe.metrics.streaming import ScoreHistogram

# Errors are rounded up to a multiple of this, so that one added to an edge and taken off again is gone.
_GRAIN = 2.0**-40


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of a value: it is from `low` to `high`."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """Midpoint of the bounds."""
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True)
class BoundsAtTarget:
    """Rates at a target FMR.

    threshold: a similarity whose FMR is at most `target`.  fmr: there.  tar: at the most lenient one.

    support: the rule that the number of non-mated scores satisfies for this target.
    """

    target: float
    threshold: float
    fmr: Bounds
    tar: Bounds
    support: str


@dataclass(frozen=True, slots=True)
class Binned:
    """Two histograms with the same bins: of mated and of non-mated scores.

    error: no score that was counted is farther than this from the true one, whose metrics are bounded.
    """

    mated: ScoreHistogram
    nonmated: ScoreHistogram
    error: float = 0.0

    def __post_init__(self) -> None:
        if self.mated.bins != self.nonmated.bins:
            raise ScoresError("mated and non-mated scores in different bins", "use one number of bins")
        if not 0 <= self.error < 1:
            raise ScoresError(
                "an error of scores below 0, or of 1 and more", "say how far a score may be off"
            )

    def fmr(self, threshold: float) -> Bounds:
        """Bounds of the FMR: non-mated scores at or above a similarity."""
        least, most, total = self._reaching(self.nonmated, threshold)
        return Bounds(least / total, most / total)

    def fnmr(self, threshold: float) -> Bounds:
        """Bounds of the FNMR: mated scores below a similarity."""
        least, most, total = self._reaching(self.mated, threshold)
        return Bounds((total - most) / total, (total - least) / total)

    def roc(self) -> Curve:
        """ROC points at the edges of bins. Without error they are exact: the whole curve passes through them.

        Between two of them it is anywhere in the rectangle that they span.
        """
        mated, nonmated = (_above_edges(part) for part in self._both())
        inner = self.mated.edges[-2:0:-1]
        threshold = np.concatenate([[np.inf], inner, [-np.inf]])
        accepted = mated[::-1].astype(np.float64), nonmated[::-1].astype(np.float64)
        return Curve("similarity", threshold, *accepted, float(mated[0]), float(nonmated[0]))

    def auc(self) -> Bounds:
        """Bounds of the AUC.

        Pairs whose order is unknown count as lost at worst, and as won by the mated score at best.
        """
        mated, nonmated = self._both()
        # As floats: a product of two counts can exceed 64 bits.
        trials, each = _above_edges(mated).astype(np.float64), nonmated.counts.astype(np.float64)
        pairs = trials[0] * each.sum()
        least, most = (np.dot(each, _shifted(trials, by)[:-1]) for by in (1 + self._reach, -self._reach))
        return Bounds(float(least / pairs), float(most / pairs))

    def eer(self) -> Bounds:
        """Bounds of the exact curve's `equal_error`: where the best and the worst possible curve have it.

        The best one accepts all mated scores first that may be above the next non-mated ones, the worst one
        last. Along a staircase of either kind the errors meet where the larger one is least.
        """
        mated, nonmated = self._both()
        accepted, wrong = _above_edges(mated), _above_edges(nonmated)
        fmr = wrong / wrong[0]
        best, worst = (_shifted(accepted, by) for by in (-1 - self._reach, 1 + self._reach))
        low = np.maximum(fmr, (accepted[0] - best) / accepted[0]).min()
        high = np.minimum(fmr, (accepted[0] - worst) / accepted[0]).max()
        return Bounds(float(low), float(high))

    def at_fmr(self, target: float) -> BoundsAtTarget | Insufficient:
        """The rates at a target FMR, if there are at least 3/target non-mated scores."""
        found = at_target(self.roc(), target)
        if isinstance(found, Insufficient):
            return found
        accepted, wrong = (_above_edges(part) for part in self._both())
        place = int(np.argmax(wrong <= wrong[0] * target + ROUNDING))
        edge = (
            np.nextafter(self.nonmated.high, np.inf) if place == self.mated.bins else self.mated.edges[place]
        )
        threshold = float(edge) + self._error
        least, most = (_shifted(accepted, by)[place] for by in (self._reach, -1 - self._reach))
        tar = Bounds(float(least / accepted[0]), float(most / accepted[0]))
        return BoundsAtTarget(target, threshold, self.fmr(threshold), tar, found.support)

    @property
    def _error(self) -> float:
        return float(np.ceil(self.error / _GRAIN) * _GRAIN)

    @property
    def _reach(self) -> int:
        """The number of bins by which two scores may be farther apart, or nearer, than they are."""
        return int(np.ceil(self._error * self.mated.bins))

    def _both(self) -> tuple[ScoreHistogram, ScoreHistogram]:
        if not self.mated.total or not self.nonmated.total:
            raise ScoresError("no mated, or no non-mated comparisons", "a curve needs both")
        return self.mated, self.nonmated

    def _reaching(self, part: ScoreHistogram, threshold: float) -> tuple[int, int, int]:
        """The least and the most true scores that reach a threshold, and the number of all."""
        least, _ = _count_above(part, threshold + self._error)
        _, most = _count_above(part, threshold - self._error)
        return least, most, part.total


def _above_edges(part: ScoreHistogram) -> Indices:
    """(bins + 1,) number of scores that reach each edge, from all at the bottom to none at the top."""
    counts: Indices = np.concatenate([np.cumsum(part.counts[::-1])[::-1], [0]])
    return counts


def _shifted(counts: NDArray[Any], by: int) -> NDArray[Any]:
    """Shift counts, (bins + 1,): at each edge what `counts` has so many edges above; ends go on level."""
    shifted: NDArray[Any] = counts[np.clip(np.arange(len(counts)) + by, 0, len(counts) - 1)]
    return shifted


def _count_above(part: ScoreHistogram, threshold: float) -> tuple[int, int]:
    """Count the least and the most of the scores that reach a threshold."""
    total = part.total
    if not total:
        raise ScoresError("no comparisons of this kind", "a rate needs at least one")
    if threshold <= part.low:
        return total, total
    if threshold > part.high:
        return 0, 0
    place = int(np.clip(np.floor(threshold * (part.bins // 2)) + part.bins // 2, 0, part.bins - 1))
    above = int(part.counts[place + 1 :].sum())
    within = above + int(part.counts[place])
    on_edge = place > 0 and threshold == part.edges[place]
    return (within if on_edge else above), within

"""Metrics of one-to-one comparisons. A comparison is accepted when similarity >= threshold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from frpipe.metrics.curve import Curve
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.operating import AtTarget, EqualError, Insufficient, at_target, equal_error
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Doubles, Indices, Kind, Scores, oriented, oriented_threshold

Rule = Literal["accuracy", "youden"]
Variance = Literal["population", "sample"]


@dataclass(frozen=True, slots=True)
class Verification:
    """Rates at one threshold.

    fmr, fnmr, accuracy: of completed comparisons.  far, frr, accuracy_all: failed comparisons count, as
    rejections.
    """

    threshold: float
    kind: Kind
    fmr: Rate
    fnmr: Rate
    accuracy: Rate
    far: Rate
    frr: Rate
    accuracy_all: Rate

    @property
    def tar(self) -> Rate:
        """True accept rate, 1 - FNMR."""
        return self.fnmr.complement()

    @property
    def trr(self) -> Rate:
        """True reject rate, 1 - FMR."""
        return self.fmr.complement()


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of scores in bins.

    edges: (b + 1,) in the scores' kind, ascending.  mated, nonmated: (b,) counts.
    """

    edges: Doubles
    mated: Indices
    nonmated: Indices


def at_threshold(scores: Scores, threshold: float) -> Verification:
    """Rates at a threshold of the scores' kind: similarity >= it, or distance <= it, is accepted."""
    limit = oriented_threshold(threshold, scores.kind)
    false_matches = int(np.count_nonzero(scores.nonmated >= limit))
    misses = int(np.count_nonzero(scores.mated < limit))
    mated, nonmated = len(scores.mated), len(scores.nonmated)
    lost = scores.mated_lost + scores.nonmated_lost
    right = mated - misses + nonmated - false_matches
    return Verification(
        threshold,
        scores.kind,
        Rate(false_matches, nonmated),
        Rate(misses, mated),
        Rate(right, mated + nonmated),
        Rate(false_matches, nonmated + scores.nonmated_lost),
        Rate(misses + scores.mated_lost, mated + scores.mated_lost),
        Rate(right + scores.nonmated_lost, mated + nonmated + lost),
    )


def roc(scores: Scores, *, failures: bool = False, one_kind: bool = False) -> Curve:
    """Exact curve, as `Curve.of`; `.fmr`, `.tar`, and `.det()` for FMR and FNMR at its corners."""
    return Curve.of(scores, failures=failures, one_kind=one_kind)


def auc_exact(scores: Scores, *, failures: bool = False) -> float:
    """Exact AUC: P(mated > non-mated) + P(equal) / 2 over all pairs of scores (Mann and Whitney 1947)."""
    return Curve.of(scores, failures=failures).auc()


def auc_grid(x: ArrayLike, y: ArrayLike) -> float:
    """AUC by trapezoids.

    Sum (x_k - x_{k-1}) (y_k + y_{k-1}) / 2 over the points of given thresholds, strictest first.

    x: FMR (1 - TRR) or FPIR (1 - TNIR).  y: TAR or TPIR.  No end points are added and nothing is rescaled.
    Raises ScoresError: x descends, as it does for thresholds in the other order.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape or x.ndim != 1 or (np.diff(x) < 0).any():
        raise ScoresError(
            "the grid's points do not ascend", "give thresholds from the strictest to the most lenient"
        )
    return float(np.trapezoid(y, x))


def eer(scores: Scores, *, failures: bool = False) -> EqualError | Insufficient:
    """The equal error rate, by straight lines between neighbouring points of the exact curve."""
    return equal_error(Curve.of(scores, failures=failures))


def tar_at_fmr(
    scores: Scores, targets: Iterable[float], *, failures: bool = False
) -> list[AtTarget | Insufficient]:
    """The rates at each target FMR, or why there are none."""
    curve = Curve.of(scores, failures=failures)
    return [at_target(curve, target) for target in targets]


def best_threshold(scores: Scores, rule: Rule = "accuracy") -> Verification:
    """Rates at the threshold that is best by a rule; the strictest of those that are equally good.

    accuracy: most comparisons right.  youden: largest TAR - FMR.  They differ where the two kinds of
    comparison are not equally many. Scores that chose a threshold must not be scored with it: `folds`.
    """
    curve = Curve.of(scores)
    if rule == "accuracy":
        gain = curve.mated - curve.nonmated
    else:
        gain = curve.mated * curve.nonmated_trials - curve.nonmated * curve.mated_trials
    return at_threshold(scores, float(curve.threshold[int(np.argmax(gain))]))


def d_prime(scores: Scores, variance: Variance = "sample") -> float | Insufficient:
    """Sensitivity index: (mean of mated - mean of non-mated) / sqrt of the mean of the two variances.

    sample: divided by n - 1.  population: by n, as in much published code.
    """
    least = 2 if variance == "sample" else 1
    fewest = min(len(scores.mated), len(scores.nonmated))
    if fewest < least:
        return Insufficient(f"{fewest} comparisons of a kind, {least} are needed", fewest, least)
    ddof = least - 1
    spread = np.sqrt((scores.mated.var(ddof=ddof) + scores.nonmated.var(ddof=ddof)) / 2)
    if not spread:
        return Insufficient("all scores of a kind are equal", fewest, fewest)
    return float((scores.mated.mean() - scores.nonmated.mean()) / spread)


def histogram(scores: Scores, edges: ArrayLike) -> Histogram:
    """Count scores in [edge, next edge); the last bin includes its end. Edges ascend, in the scores' kind."""
    edges = np.asarray(edges, np.float64)
    parts = [np.histogram(oriented(part, scores.kind), edges)[0] for part in (scores.mated, scores.nonmated)]
    return Histogram(edges, parts[0].astype(np.int64), parts[1].astype(np.int64))

"""Samples that are drawn again for intervals: scores of completed trials, and whose they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frpipe.metrics.bootstrap import curve_replicates, replicates_of
from frpipe.metrics.curve import ROUNDING, Curve
from frpipe.metrics.operating import EqualError, equal_error
from frpipe.metrics.scores import Doubles, Indices, Scores

# Below every similarity. What a sample has there is no score: see SearchTrials.sample.
NO_SCORE = -1.5


@dataclass(frozen=True, slots=True)
class CurveMeasure:
    """A measure that a curve gives.  at: target or rank."""

    measure: str
    at: float | None
    of: Callable[[Curve], float]


@dataclass(frozen=True, slots=True)
class TrialSample:
    """A sample.

    scores: without failures.  mated: (m,) persons of the mated scores.  a, b: (n,) of the others.
    """

    scores: Scores
    mated: Indices
    a: Indices
    b: Indices

    @property
    def drawable(self) -> bool:
        """Whether there is anything to draw: scores of both kinds, and two people."""
        people = np.concatenate([self.mated, self.a, self.b])
        return len(self.scores.mated) > 0 and len(self.scores.nonmated) > 0 and bool(np.ptp(people) > 0)

    def replicates(
        self, metrics: Sequence[Callable[[Curve], float]], seed: int = 0, at_least: int = 0
    ) -> Doubles:
        """Draw replicates, (r, metrics), as `curve_replicates`; fewer of many scores, but `at_least`."""
        amount = len(self.scores.mated) + len(self.scores.nonmated)
        count = max(at_least, replicates_of(amount))
        return curve_replicates(
            self.scores, self.mated, (self.a, self.b), metrics, replicates=count, seed=seed
        )


def auc() -> CurveMeasure:
    """The estimate of the exact area under the ROC."""
    return CurveMeasure("AUC_exact", None, Curve.auc)


def eer() -> CurveMeasure:
    """The estimate of the equal error rate; NaN where the curve has none."""
    return CurveMeasure("EER", None, _eer)


def at_target(measure: str, target: float) -> CurveMeasure:
    """The estimate of TAR at an FMR, or TPIR at an FPIR."""
    return CurveMeasure(measure, target, lambda curve: _accepted(curve, target))


def _accepted(curve: Curve, target: float) -> float:
    """The share of mated scores at the most lenient similarity that keeps to the target."""
    scored = len(curve.threshold) - int(np.searchsorted(curve.threshold[::-1], NO_SCORE))
    kept = int(np.searchsorted(curve.nonmated, target * curve.nonmated_trials + ROUNDING, "right"))
    return float(curve.mated[min(kept, scored) - 1] / curve.mated_trials)


def _eer(curve: Curve) -> float:
    found = equal_error(curve)
    return found.value if isinstance(found, EqualError) else np.nan


def numbered(*names: NDArray[np.object_]) -> list[Indices]:
    """Number the names of all lists alike, in the order of names."""
    # Not np.unique of texts of fixed width: each would take four bytes times the longest.
    numbers, _ = pd.factorize(np.concatenate(names), sort=True)
    return np.split(numbers.astype(np.int64), np.cumsum([len(part) for part in names])[:-1])

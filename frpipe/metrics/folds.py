"""A threshold chosen on all folds but one and scored on that one, as LFW View 2 asks (Huang et al. 2007)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.scores import Doubles, Kind, Scores
from frpipe.metrics.verification import Rule, Verification, at_threshold, best_threshold


@dataclass(frozen=True, slots=True)
class Folds:
    """folds: the rates of each, at the threshold that the others chose.  rule: how they chose."""

    rule: Rule
    folds: list[Verification]

    @property
    def accuracies(self) -> Doubles:
        """(f,), of completed comparisons."""
        return np.array([found.accuracy.count / found.accuracy.trials for found in self.folds])

    @property
    def mean(self) -> float:
        """Mean accuracy of the folds."""
        return float(self.accuracies.mean())

    @property
    def standard_error(self) -> float:
        """Sample standard deviation of the folds' accuracies / sqrt(f), as LFW defines it."""
        return float(self.accuracies.std(ddof=1) / np.sqrt(len(self.folds)))


def cross_validated(
    score: ArrayLike,
    mated: ArrayLike,
    fold: ArrayLike,
    *,
    rule: Rule = "accuracy",
    kind: Kind = "similarity",
) -> Folds:
    """score, mated, fold: (n,) of comparisons; a fold is any label, folds come in the order of their labels.

    A comparison that failed has the score NaN.
    Raises ScoresError: fewer than two folds, or a fold without completed comparisons.
    """
    scores, same, label = np.asarray(score, np.float64), np.asarray(mated, bool), np.asarray(fold)
    labels = np.unique(label)
    if len(labels) < 2:
        raise ScoresError(f"{len(labels)} folds", "a threshold is chosen on other folds than it is scored on")
    found = []
    for one in labels:
        held = label == one
        chosen = best_threshold(_some(scores, same, ~held, kind), rule).threshold
        found.append(at_threshold(_some(scores, same, held, kind), chosen))
    if any(not rates.accuracy.trials for rates in found):
        raise ScoresError("a fold has no completed comparisons", "leave it out of the list")
    return Folds(rule, found)


def _some(
    scores: Doubles,
    same: np.ndarray[tuple[int], np.dtype[np.bool_]],
    chosen: np.ndarray[tuple[int], np.dtype[np.bool_]],
    kind: Kind,
) -> Scores:
    done = ~np.isnan(scores)
    return Scores.of(
        scores[chosen & same & done],
        scores[chosen & ~same & done],
        kind=kind,
        mated_lost=int(np.count_nonzero(chosen & same & ~done)),
        nonmated_lost=int(np.count_nonzero(chosen & ~same & ~done)),
    )

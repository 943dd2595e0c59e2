"""Choose a threshold on all folds but one and score that one, as LFW View 2 asks (Huang et al. 2007)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.scores import Doubles, Kind, Scores
from frpipe.metrics.verification import Rule, Verification, at_threshold, best_threshold


@dataclass(frozen=True, slots=True)
class Folds:
    """Cross-validated rates.

    folds: of each, at the threshold that the others chose.  rule: how they chose.
    """

    rule: Rule
    folds: list[Verification]

    @property
    def accuracies(self) -> Doubles:
        """(f,) accuracies of completed comparisons."""
        return np.array([found.accuracy.count / found.accuracy.trials for found in self.folds])

    @property
    def accuracies_all(self) -> Doubles:
        """(f,) accuracies with failed comparisons as rejections."""
        return np.array([found.accuracy_all.count / found.accuracy_all.trials for found in self.folds])

    @property
    def mean(self) -> float:
        """Mean accuracy of the folds."""
        return float(self.accuracies.mean())

    @property
    def standard_error(self) -> float:
        """Sample standard deviation of the folds' accuracies / sqrt(f), as LFW defines it."""
        return standard_error(self.accuracies)


def standard_error(values: Doubles) -> float:
    """Sample standard deviation of (f,) values / sqrt(f)."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def cross_validated(
    score: ArrayLike,
    mated: ArrayLike,
    fold: ArrayLike,
    *,
    rule: Rule = "accuracy",
    kind: Kind = "similarity",
    chosen_on: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
) -> Folds:
    """Cross-validate.

    score, mated, fold: (n,) of comparisons; a fold is any label, folds come in the order of their labels.

    A comparison that failed has the score NaN.  chosen_on: the same three of other comparisons, in folds of
    the same labels, that choose the thresholds instead: FGLFW is scored at those of LFW.
    Raises ScoresError: fewer than two folds, a fold without completed comparisons, or one that the others of
    `chosen_on` do not have.
    """
    trials = _Trials.of(score, mated, fold, kind)
    chooser = trials if chosen_on is None else _Trials.of(*chosen_on, kind)
    labels = np.unique(trials.fold)
    if len(labels) < 2:
        raise ScoresError(f"{len(labels)} folds", "a threshold is chosen on other folds than it is scored on")
    if not np.isin(labels, np.unique(chooser.fold)).all():
        raise ScoresError(
            "folds are scored that the pairs which choose the thresholds do not have",
            "name the folds of both lists alike: else a threshold is scored on people who chose it",
        )
    found = []
    for one in labels:
        chosen = best_threshold(chooser.some(chooser.fold != one), rule).threshold
        found.append(at_threshold(trials.some(trials.fold == one), chosen))
    if any(not rates.accuracy.trials for rates in found):
        raise ScoresError("a fold has no completed comparisons", "leave it out of the list")
    return Folds(rule, found)


@dataclass(frozen=True, slots=True)
class _Trials:
    """(n,) arrays of comparisons; NaN: it failed."""

    score: Doubles
    mated: NDArray[np.bool_]
    fold: NDArray[Any]
    kind: Kind

    @classmethod
    def of(cls, score: ArrayLike, mated: ArrayLike, fold: ArrayLike, kind: Kind) -> _Trials:
        return cls(np.asarray(score, np.float64), np.asarray(mated, bool), np.asarray(fold), kind)

    def some(self, chosen: NDArray[np.bool_]) -> Scores:
        done = ~np.isnan(self.score)
        return Scores.of(
            self.score[chosen & self.mated & done],
            self.score[chosen & ~self.mated & done],
            kind=self.kind,
            mated_lost=int(np.count_nonzero(chosen & self.mated & ~done)),
            nonmated_lost=int(np.count_nonzero(chosen & ~self.mated & ~done)),
        )

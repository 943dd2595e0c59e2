"""Accuracy by the folds of a protocol: no threshold is scored on what chose it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import stdtrit

from frpipe.evaluation.number import Number
from frpipe.evaluation.pairs import PairTrials
from frpipe.metrics.folds import cross_validated, standard_error
from frpipe.metrics.intervals import LEVEL, Interval
from frpipe.metrics.scores import Doubles
from frpipe.metrics.verification import Rule

_RULES: tuple[tuple[Rule, str], ...] = (("accuracy", "folds_accuracy"), ("youden", "folds_youden"))


def fold_numbers(trials: PairTrials, chosen_on: PairTrials | None = None) -> Iterator[Number]:
    """Mean accuracy over the folds, by both rules; nothing where there are fewer than two folds.

    chosen_on: other comparisons, in folds of the same names, that choose the thresholds.
    """
    if trials.fold is None or len(np.unique(trials.fold)) < 2:
        return
    chooser = None
    if chosen_on is not None and chosen_on.fold is not None:
        chooser = (chosen_on.similarity, chosen_on.mated, chosen_on.fold)
    for rule, measure in _RULES:
        found = cross_validated(trials.similarity, trials.mated, trials.fold, rule=rule, chosen_on=chooser)
        yield _number(measure, found.accuracies)
        if rule == "accuracy":
            yield _number("folds_accuracy_all", found.accuracies_all)


def _number(measure: str, accuracies: Doubles) -> Number:
    """With the usual interval, by Student's t over the folds: too narrow where folds share people."""
    folds, mean, error = len(accuracies), float(accuracies.mean()), standard_error(accuracies)
    reach = float(stdtrit(folds - 1, (1 + LEVEL) / 2)) * error
    interval = Interval(
        max(0.0, mean - reach), min(1.0, mean + reach), LEVEL, f"Student's t over {folds} folds"
    )
    return Number.scalar(measure, mean, interval, note=f"standard error {error:.4f} over {folds} folds")

"""Accuracy by the folds of a protocol: no threshold is scored on what chose it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import stdtrit

from frpipe.evaluation.number import Number
from frpipe.evaluation.pairs import Labels, Mask, PairTrials
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.folds import cross_validated, standard_error
from frpipe.metrics.intervals import LEVEL, Interval
from frpipe.metrics.scores import Doubles
from frpipe.metrics.verification import Rule

_RULES: tuple[tuple[Rule, str], ...] = (("accuracy", "folds_accuracy"), ("youden", "folds_youden"))


def fold_numbers(trials: PairTrials, chosen_on: PairTrials | None = None) -> Iterator[Number]:
    """Mean accuracy over the folds, by both rules; nothing where there are fewer than two folds.

    A comparison without a label is of no fold.  Folds that carry no accuracy, as each is of one kind, give
    numbers without a value.
    chosen_on: other comparisons, in folds of the same names, that choose the thresholds.
    Raises ScoresError: they cannot, as either list has no such folds.
    """
    if chosen_on is not None:
        yield from _by_folds(trials, chosen_on)
    elif trials.fold is not None and len(np.unique(trials.fold[trials.fold != ""])) > 1:
        try:
            yield from list(_by_folds(trials, None))
        except ScoresError as error:
            yield Number.missing("folds_accuracy", error.message)


def _by_folds(trials: PairTrials, chosen_on: PairTrials | None) -> Iterator[Number]:
    scored, chooser = _columns(trials), _columns(chosen_on) if chosen_on is not None else None
    for rule, measure in _RULES:
        found = cross_validated(*scored, rule=rule, chosen_on=chooser)
        yield _number(measure, found.accuracies)
        if rule == "accuracy":
            yield _number("folds_accuracy_all", found.accuracies_all)


def _columns(trials: PairTrials) -> tuple[Doubles, Mask, Labels]:
    if trials.fold is None:
        raise ScoresError(
            "thresholds are to be chosen on the folds of other pairs, and a list has no folds",
            "give both lists a column of folds and name it with --fold",
        )
    some = trials.fold != ""
    return trials.similarity[some], trials.mated[some], trials.fold[some]


def _number(measure: str, accuracies: Doubles) -> Number:
    """With the usual interval, by Student's t over the folds: too narrow where folds share people.

    None where all folds are alike: that says nothing of the next one.
    """
    folds, mean, error = len(accuracies), float(accuracies.mean()), standard_error(accuracies)
    reach = float(stdtrit(folds - 1, (1 + LEVEL) / 2)) * error
    interval = Interval(
        max(0.0, mean - reach), min(1.0, mean + reach), LEVEL, f"Student's t over {folds} folds"
    )
    return Number.scalar(
        measure, mean, interval if error else None, note=f"standard error {error:.4f} over {folds} folds"
    )

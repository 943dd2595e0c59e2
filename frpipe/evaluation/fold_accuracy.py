"""Accuracy over the folds of a list of scores, each at the threshold that the others choose."""

from __future__ import annotations

from frpipe.evaluation.number import Number
from frpipe.evaluation.pairs import Labels, Mask
from frpipe.evaluation.verification import accuracy_number
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.folds import cross_validated
from frpipe.metrics.scores import Doubles, Kind


def fold_accuracy(kind: Kind, mated: Mask, score: Doubles, fold: Labels) -> list[Number]:
    """Of completed comparisons, and with failed ones as rejections where there are any.

    mated, score, fold: (n,); NaN: failed.  Where folds carry no accuracy, a number without a value says why.
    """
    try:
        found = cross_validated(score, mated, fold, kind=kind)
    except ScoresError as error:
        return [Number.missing("folds_accuracy", f"no threshold for a fold: {error.message}")]
    numbers = [accuracy_number("folds_accuracy", found.accuracies)]
    if (found.accuracies != found.accuracies_all).any():
        numbers.append(accuracy_number("folds_accuracy_all", found.accuracies_all))
    return numbers

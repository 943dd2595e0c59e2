"""How far down a curve is measured, and where its trials are too few to say anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from frpipe.evaluation.evaluation import Evaluation
from frpipe.metrics.operating import RULE_OF_3

Kind = Literal["mated", "nonmated"]
_RATES: dict[Kind, tuple[str, str]] = {"nonmated": ("FMR", "FPIR"), "mated": ("FNMR", "FNIR")}
_UNKNOWN = 1e-4


def trials(evaluation: Evaluation, kind: Kind) -> int | None:
    """Completed ones: of the rates, else of the counts, else of the histogram; None: nobody counted."""
    rated = [
        n.trials
        for n in evaluation.numbers
        if n.measure in _RATES[kind] and n.column is None and n.trials is not None
    ]
    if rated:
        return max(rated)
    if kind in evaluation.counts:
        return evaluation.counts[kind]
    drawn = evaluation.curves.get(kind)
    return None if drawn is None else int(drawn.y.sum())


def smallest(evaluations: Sequence[Evaluation], kind: Kind) -> float:
    """The smallest rate above zero that the trials of any system can show; 0.0001 where nobody counted."""
    most = max((trials(e, kind) or 0 for e in evaluations), default=0)
    return 1 / most if most else _UNKNOWN


def supported(evaluation: Evaluation) -> float:
    """The smallest target of FMR or FPIR that the rule of 3 allows; 0 where nobody counted."""
    count = trials(evaluation, "nonmated")
    return min(RULE_OF_3 / count, 1.0) if count else 0.0

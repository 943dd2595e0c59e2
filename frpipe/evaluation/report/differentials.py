"""A table of how far the errors of groups differ."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from frpipe.evaluation.differentials import JOINED
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.measures import BY_NAME, DIFFERENTIALS
from frpipe.evaluation.number import Number
from frpipe.evaluation.report.numbers import cell
from frpipe.evaluation.report.parts import by_system

_NOTE = (
    "Rates of pairs within one group, at each system's threshold. Intervals draw people again. Groups of few "
    "people differ by chance: a worst rate is high, and a Gini coefficient above 0, even where all are alike."
)


def differentials_section(evaluations: Sequence[Evaluation]) -> str:
    """Write the table as HTML; "" where there are no groups."""
    found = [n for e in evaluations for n in e.numbers if n.measure in DIFFERENTIALS]
    columns = sorted({str(number.column) for number in found})
    tables = "".join(_table(column, evaluations) for column in columns)
    return f'<div class="card">{tables}<p class="dim note">{_NOTE}</p></div>' if tables else ""


def _table(column: str, evaluations: Sequence[Evaluation]) -> str:
    mine = [[n for n in e.numbers if n.measure in DIFFERENTIALS and n.column == column] for e in evaluations]
    turns = max(len({n.at for n in numbers}) for numbers in mine)
    rows = [
        [_title(measure, turn), *(cell(_number(numbers, measure, turn)) for numbers in mine)]
        for turn in range(turns)
        for measure in DIFFERENTIALS
    ]
    title = f"Differences between groups by {column.partition(JOINED)[0]}"
    return by_system(title, "measure", [e.name for e in evaluations], rows)


def _title(measure: str, turn: int) -> str:
    which = f", threshold {turn + 1}" if turn else ""
    return f"{escape(measure)}{which}<small class='dim'>{escape(BY_NAME[measure].title)}</small>"


def _number(numbers: Sequence[Number], measure: str, turn: int) -> Number | None:
    same = [number for number in numbers if number.measure == measure]
    return same[turn] if turn < len(same) else None

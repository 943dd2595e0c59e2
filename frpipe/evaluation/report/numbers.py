"""Tables of numbers: a row for each measure, a column for each system."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.measures import BY_NAME, MEASURES
from frpipe.evaluation.number import Number
from frpipe.evaluation.plots.cohorts import GroupedColumn, Part, cohorts
from frpipe.evaluation.plots.text import between, score, shown, taken_at, threshold
from frpipe.evaluation.report.parts import by_system

_Key = tuple[int, int, float]


def numbers_section(evaluations: Sequence[Evaluation]) -> str:
    """Write every number of all trials as HTML."""
    rows = sorted({_key(e, n) for e in evaluations for n in _overall(e)})
    body = by_system(
        "Every number, with its interval and its counts",
        "measure",
        [e.name for e in evaluations],
        [_row(key, evaluations) for key in rows],
    )
    return f'<div class="card">{body}</div>'


def cohorts_section(evaluations: Sequence[Evaluation]) -> str:
    """Write every number of a group as HTML; "" where there are no groups."""
    names = [e.name for e in evaluations]
    return "".join(f'<div class="card">{_cohort(cohort, names)}</div>' for cohort in cohorts(evaluations))


def _cohort(cohort: GroupedColumn, names: Sequence[str]) -> str:
    """Write the measures that are drawn, and the others to be opened."""
    drawn, rest = (
        "".join(_part(cohort, part, names) for part in parts) for parts in (cohort.drawn, cohort.rest)
    )
    if not rest:
        return drawn
    return f'{drawn}<details class="more"><summary>Other measures of these groups</summary>{rest}</details>'


def _part(cohort: GroupedColumn, part: Part, names: Sequence[str]) -> str:
    """Write one measure of the groups. The caption names a threshold that all share: cells need not."""
    rows = [
        (escape(label), *(cell(number, known=part.at) for number in part.groups[label]))
        for label in cohort.labels
    ]
    return by_system(f"Groups by {cohort.column}: {part.label}", "group", names, rows)


def cell(number: Number | None, known: float | None = None) -> str:
    """Write, as HTML, the value and what it rests on, or in words why there is no value.

    known: a threshold that need not be repeated.
    """
    if number is None:
        return '<span class="dim">not measured</span>'
    if number.value is None:
        return f'<span class="none">{escape(number.note or "no value")}</span>'
    lines = "".join(f"<small>{line}</small>" for line in details(number, known))
    return f"<b>{shown(number)}</b>{lines}"


def details(number: Number, known: float | None = None) -> Iterator[str]:
    """Iterate over the HTML lines below a value: its interval, counts, threshold, method and notes."""
    if found := between(number):
        yield found
    if number.count is not None and number.trials is not None:
        yield f"{number.count:,} of {number.trials:,}"
    similarity = number.at if BY_NAME[number.measure].of == "threshold" else number.threshold
    if similarity is not None and similarity != known:
        yield (score if BY_NAME[number.measure].of == "APCER" else threshold)(similarity)
    level = None if number.level is None else f"{number.level:.4g} confidence"
    for said in (", ".join(filter(None, (level, number.method))), number.support, number.note):
        if said:
            yield escape(said)


def name_of(measure: str, at: float | None, *, with_threshold: bool = True) -> str:
    """The name of a measure as text, as in "TAR at FMR ≤ 0.001"."""
    found = BY_NAME[measure]
    where = "" if found.of == "threshold" and not with_threshold else taken_at(found, at)
    return f"{measure} at {where}" if where else measure


def _overall(evaluation: Evaluation) -> list[Number]:
    return [n for n in evaluation.numbers if n.column is None]


def _key(evaluation: Evaluation, number: Number) -> _Key:
    """The order of rows. Thresholds differ between systems: a row for the first of each, the second ..."""
    measure = BY_NAME[number.measure]
    at = number.at if number.at is not None else 0.0
    if measure.of == "threshold":
        known = sorted({n.at for n in _overall(evaluation) if n.measure == measure.name and n.at is not None})
        return MEASURES.index(measure), known.index(at) if at in known else 0, 0.0
    return MEASURES.index(measure), 0, at if measure.of == "rank" else -at


def _row(key: _Key, evaluations: Sequence[Evaluation]) -> list[str]:
    measure = MEASURES[key[0]]
    mine = [next((n for n in _overall(e) if _key(e, n) == key), None) for e in evaluations]
    at = next((n.at for n in mine if n is not None), None)
    label = escape(name_of(measure.name, at, with_threshold=False))
    title = f"<small class='dim'>{escape(measure.title)}</small>"
    return [f"{label}{title}", *(cell(number) for number in mine)]

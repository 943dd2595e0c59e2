"""What the words mean, and where the numbers are from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.measures import MEASURES, Measure
from frpipe.evaluation.report.parts import by_system

_TAKEN = {
    "threshold": "at a threshold",
    "FMR": "at a target FMR",
    "FPIR": "at a target FPIR",
    "rank": "at a rank",
}


def definitions_section(evaluations: Sequence[Evaluation]) -> str:
    """Of each measure that any of the evaluations has."""
    used = {n.measure for e in evaluations for n in e.numbers}
    items = "".join(
        f"<dt>{escape(m.name)}<small>{escape(m.title)}</small></dt><dd>{_meaning(m)}</dd>"
        for m in MEASURES
        if m.name in used
    )
    rule = (
        "Accept when similarity ≥ threshold, which is distance ≤ 1 − threshold. Rates go with their counts. "
        "Insufficient data: fewer than 3 / target non-mated trials. Even without any error so few could not "
        "show that the rate is so low."
    )
    return f'<div class="card"><p>{rule}</p><dl>{items}</dl></div>'


def provenance_section(evaluations: Sequence[Evaluation]) -> str:
    """Hashes and names, a column for each system."""
    flat = [dict(_flat(e.provenance)) for e in evaluations]
    keys = list(dict.fromkeys(key for each in flat for key in each))
    if not keys:
        return '<div class="card"><p>Nobody wrote down where the numbers are from.</p></div>'
    rows = [[escape(key), *(_code(each.get(key)) for each in flat)] for key in keys]
    names = [e.name for e in evaluations]
    return f'<div class="card">{by_system("What was compared and what was read", "of", names, rows)}</div>'


def _meaning(measure: Measure) -> str:
    notes = [
        _TAKEN[measure.of] if measure.of else "",
        f"in the lecture: {measure.lecture}" if measure.lecture else "",
        f"{measure.better} is better" if measure.better else "",
    ]
    return f"{escape(measure.means)}. <small>{escape('; '.join(note for note in notes if note))}</small>"


def _code(value: str | None) -> str:
    return '<span class="dim">not recorded</span>' if value is None else f"<code>{escape(value)}</code>"


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{above}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}, ")
        elif isinstance(value, (list, tuple)):
            yield name, ", ".join(map(str, value))
        else:
            yield name, "none" if value is None else str(value)

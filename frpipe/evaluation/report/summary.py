"""The summary of the page, in words: what was compared, on what, how well, and what to be careful about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape

from frpipe.evaluation.difference import Difference
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.measures import BY_NAME
from frpipe.evaluation.number import Number
from frpipe.evaluation.plots.text import between, shown
from frpipe.evaluation.report.differences import change, verdict
from frpipe.evaluation.report.numbers import details, name_of
from frpipe.evaluation.report.parts import system

_TASKS = {
    "verification": "verification (one to one)",
    "identification": "identification (one to many)",
    "pad": "presentation attack detection",
}
_AT_TARGET = {"verification": "TAR", "identification": "TPIR", "pad": "BPCER_fixed"}
_TILES = {
    "verification": ("EER", "AUC_exact", "FMR", "FNMR", "accuracy", "folds_accuracy"),
    "identification": ("CMC", "FPIR", "FNIR"),
    "pad": ("APCER", "BPCER", "IAPAR", "BPNRR"),
}
_WORDS = {
    "nonmated": "non-mated",
    "nonmated_lost": "non-mated lost",
    "nonmated_distinct": "non-mated, each two photos once",
}
_MOST_TILES = 4
_MOST_DIFFERENCES = 5


def summary(evaluations: Sequence[Evaluation], differences: Sequence[Difference]) -> str:
    """Write the summary as HTML, as are the parts of it."""
    points = [
        _compared(evaluations),
        _trials(evaluations),
        *_at_target(evaluations),
        *_differences(differences),
    ]
    said = "".join(f"<li>{point}</li>" for point in points)
    systems = "".join(_system(e, place) for place, e in enumerate(evaluations))
    return (
        f'<div class="card"><ul>{said}</ul></div>{_warnings(evaluations)}<div class="systems">{systems}</div>'
    )


def _compared(evaluations: Sequence[Evaluation]) -> str:
    names = [_bold(e.name) for e in evaluations]
    task = _TASKS[evaluations[0].task]
    if len(names) == 1:
        return f"One system was tested at {task}: {names[0]}."
    return f"{len(names)} systems were compared at {task}: {', '.join(names[:-1])} and {names[-1]}."


def _trials(evaluations: Sequence[Evaluation]) -> str:
    keys = list(dict.fromkeys(key for e in evaluations for key in e.counts))
    counts = [f"{escape(_WORDS.get(key, key.replace('_', ' ')))} {_each(evaluations, key)}" for key in keys]
    return f"On: {'; '.join(counts) or 'trials that nobody counted'}."


def _each(evaluations: Sequence[Evaluation], key: str) -> str:
    """Write one count where systems agree, else one for each in their order."""
    found = [f"{e.counts[key]:,}" if key in e.counts else "unknown" for e in evaluations]
    return found[0] if len(set(found)) == 1 else f"{' | '.join(found)}"


def _at_target(evaluations: Sequence[Evaluation]) -> list[str]:
    """The strictest target that any system has a number for; then those too strict for the trials."""
    measure = _AT_TARGET[evaluations[0].task]
    mine = [n for e in evaluations for n in e.numbers if n.measure == measure and n.column is None]
    done = [n.at for n in mine if n.value is not None and n.at is not None]
    points = []
    if done:
        at = min(done)
        values = [_said(e.name, e.number(measure, at)) for e in evaluations]
        points.append(
            f"{name_of(measure, at)}, the strictest target that the trials support: {'; '.join(values)}."
        )
    for at in sorted({n.at for n in mine if n.at is not None and n.at not in done}, reverse=True):
        notes = dict.fromkeys(n.note or "no value" for n in mine if n.at == at)
        points.append(f"{name_of(measure, at)}: no number. {escape(' '.join(map(_sentence, notes)))}")
    return points


def _said(name: str, number: Number | None) -> str:
    if number is None or number.value is None:
        return f"{_bold(name)} {escape((number and number.note) or 'not measured')}"
    extra = [between(number), "" if number.count is None else f"{number.count:,} of {number.trials or 0:,}"]
    return f"{_bold(name)} {shown(number)} ({'; '.join(part for part in extra if part)})"


def _bold(name: str) -> str:
    return f"<b>{escape(name)}</b>"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _differences(differences: Sequence[Difference]) -> list[str]:
    tested = [d for d in differences if d.value is not None and d.significant is not None]
    if not tested:
        return []
    sure = [d for d in tested if d.significant]
    if not sure:
        return [f"Differences on the same trials: {len(tested)} tested; each may be chance."]
    points = [
        f"{name_of(d.measure, d.at)}, {_bold(d.second)} less {_bold(d.first)}: {change(d)}; "
        f"{escape(verdict(d))}."
        for d in sure[:_MOST_DIFFERENCES]
    ]
    return [
        f"Differences on the same trials: {len(tested)} tested, {len(sure)} unlikely to be chance.",
        *points,
    ]


def _warnings(evaluations: Sequence[Evaluation]) -> str:
    found: dict[str, list[str]] = {}
    for evaluation in evaluations:
        for warning in evaluation.warnings:
            found.setdefault(warning, []).append(evaluation.name)
    if not found:
        return ""
    of_all = len(evaluations)
    items = "".join(
        f"<li>{escape(text if len(names) == of_all else ', '.join(names) + ': ' + text)}</li>"
        for text, names in found.items()
    )
    return f'<aside class="card warn"><h3>Before believing the numbers</h3><ul>{items}</ul></aside>'


def _system(evaluation: Evaluation, place: int) -> str:
    chosen = _headlines(evaluation)
    tiles = "".join(_tile(number) for number in chosen) or "<p>There are no numbers.</p>"
    heading = f"<h3>{system(evaluation.name, place)}</h3>"
    return f'<article class="system">{heading}<div class="tiles">{tiles}</div></article>'


def _headlines(evaluation: Evaluation) -> list[Number]:
    """The numbers to say first: the strictest supported target, then the task's usual ones."""
    overall = [n for n in evaluation.numbers if n.column is None]
    first = [n for n in overall if n.measure == _AT_TARGET[evaluation.task] and n.value is not None]
    chosen = [min(first, key=lambda n: n.at or 1.0)] if first else []
    for name in _TILES[evaluation.task]:
        chosen += [n for n in overall if n.measure == name][:1]
    return chosen[:_MOST_TILES]


def _brief(number: Number) -> Number:
    """Shorten a method: the table of numbers says how the interval was found."""
    return replace(number, level=None, method=None, support=None)


def _tile(number: Number) -> str:
    of = BY_NAME[number.measure]
    title = name_of(of.name, number.at, with_threshold=False) if of.of else of.title
    label = f"<span>{escape(title)}</span>"
    if number.value is None:
        return f'<div class="tile">{label}<b class="none">{escape(number.note or "no value")}</b></div>'
    lines = "".join(f"<small>{line}</small>" for line in details(_brief(number)))
    return f'<div class="tile">{label}<b>{shown(number)}</b>{lines}</div>'

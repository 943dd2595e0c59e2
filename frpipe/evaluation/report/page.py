"""The report of an evaluation as one HTML file, which loads nothing and runs nothing."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any
from xml.etree import ElementTree

from frpipe.core.errors import ConfigError
from frpipe.evaluation.difference import Difference
from frpipe.evaluation.evaluation import Evaluation, Trial
from frpipe.evaluation.measures import MEASURES, Measure
from frpipe.evaluation.plots.figures import one_task
from frpipe.evaluation.plots.plot import Plot
from frpipe.evaluation.plots.style import ROLES, SERIES
from frpipe.evaluation.plots.text import fixed
from frpipe.evaluation.report.differences import differences_section
from frpipe.evaluation.report.differentials import differentials_section
from frpipe.evaluation.report.numbers import cohorts_section, numbers_section
from frpipe.evaluation.report.parts import by_system, section, system, table
from frpipe.evaluation.report.style import style
from frpipe.evaluation.report.summary import summary

# The browser enforces it: no script, no request, styles and pictures of this file alone.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


_GROUPS = ((True, "Mated, least alike"), (False, "Non-mated, most alike"))


_TAKEN = {
    "threshold": "at a threshold",
    "FMR": "at a target FMR",
    "FPIR": "at a target FPIR",
    "rank": "at a rank",
    "score": "at a threshold of the score",
    "APCER": "at a fixed APCER",
    "discard": "after a fraction is discarded",
}


_DROPPED = ("metadata", "style")
_REFERENCE = re.compile(r"#([\w.-]+)")
_VARIABLES = {
    **{light: f"var(--{role})" for role, (light, _) in ROLES.items()},
    **{light: f"var(--s{place})" for place, (light, _) in enumerate(SERIES, 1)},
}


def page(
    evaluations: Sequence[Evaluation],
    differences: Sequence[Difference],
    plots: Sequence[Plot],
    *,
    title: str,
    created: str,
    thumbnails: Mapping[str, bytes] | None = None,
) -> str:
    """Write the page as HTML, the same for the same input. created: a time, in words.

    thumbnails: JPEGs of the worst pairs by image id. The page then shows faces: treat it as you treat the
    photos.
    Raises ConfigError: there are no evaluations, or they are of different tasks.
    """
    if not evaluations:
        raise ConfigError("there is no evaluation to report", "give at least one")
    one_task(evaluations)
    parts = [
        ("summary", "Summary", summary(evaluations, differences)),
        ("plots", "Plots", plots_section(plots)),
        ("numbers", "Numbers", numbers_section(evaluations)),
        ("groups", "Groups", cohorts_section(evaluations)),
        ("differentials", "Differences between groups", differentials_section(evaluations)),
        ("differences", "Differences", differences_section(differences)),
        ("pairs", "Worst pairs", pairs_section(evaluations, thumbnails or {})),
        ("definitions", "Definitions", definitions_section(evaluations)),
        ("provenance", "Provenance", provenance_section(evaluations)),
    ]
    return document(title, created, parts)


def document(title: str, created: str, parts: Sequence[tuple[str, str, str]]) -> str:
    """Write the HTML of a page. parts: id, heading (text) and HTML of each; what is empty is left out."""
    used = [part for part in parts if part[2]]
    body = "\n".join(section(*part) for part in used)
    return f"{_head(title)}<body>{_top(title, created, used)}<main>\n{body}\n</main></body></html>\n"


def _head(title: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="robots" content="noindex"><link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{style()}</style></head>\n"
    )


def _top(title: str, created: str, parts: Sequence[tuple[str, str, str]]) -> str:
    links = "".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading, _ in parts)
    return (
        f'<header class="top"><h1>{escape(title)}</h1><p class="dim">{escape(created)}</p>'
        f'<nav aria-label="Contents"><ul>{links}</ul></nav></header>'
    )


def plots_section(plots: Sequence[Plot]) -> str:
    """Write each plot as HTML, with its caption and the numbers behind it."""
    return f'<div class="plots">{"".join(map(_plot, plots))}</div>' if plots else ""


def _plot(plot: Plot) -> str:
    numbers = table(
        plot.title,
        plot.columns,
        [[escape(value) for value in row] for row in plot.rows],
    )
    return (
        f'<figure class="plot" id="plot-{escape(plot.name)}"><h3>{escape(plot.title)}</h3>'
        f"{inline(plot.svg(), plot.name, plot.title)}<figcaption>{escape(plot.caption)}</figcaption>"
        f"<details><summary>The numbers behind it</summary>{numbers}</details></figure>"
    )


def pairs_section(evaluations: Sequence[Evaluation], thumbnails: Mapping[str, bytes]) -> str:
    """Write the worst pairs as HTML; "" where no evaluation has any.  thumbnails: JPEGs by image id."""
    return "".join(_card(e, place, thumbnails) for place, e in enumerate(evaluations) if e.worst)


def _card(evaluation: Evaluation, place: int, thumbnails: Mapping[str, bytes]) -> str:
    parts = []
    for mated, title in _GROUPS:
        trials = [trial for trial in evaluation.worst if trial.mated == mated]
        if trials:
            items = "".join(f"<li>{_pair(trial, thumbnails)}</li>" for trial in trials)
            parts.append(f'<p>{title}</p><ul class="pairs">{items}</ul>')
    return f'<div class="card"><h3>{system(evaluation.name, place)}</h3>{"".join(parts)}</div>'


def _pair(trial: Trial, thumbnails: Mapping[str, bytes]) -> str:
    score = f"similarity {fixed(trial.similarity, 4)}, distance {fixed(1 - trial.similarity, 4)}"
    sides = "".join(_side(image, thumbnails.get(image)) for image in (trial.a, trial.b))
    return f"<b>{score}</b>{sides}"


def _side(image: str, jpeg: bytes | None) -> str:
    text = escape(image)
    if jpeg is None:
        return f"<figure><code>{text}</code></figure>"
    data = base64.b64encode(jpeg).decode()
    return (
        f'<figure><img alt="photo {text}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption><code>{text}</code></figcaption></figure>"
    )


def definitions_section(evaluations: Sequence[Evaluation]) -> str:
    """Write the definition of each measure that any of the evaluations has."""
    used = {n.measure for e in evaluations for n in e.numbers}
    items = "".join(
        f"<dt>{escape(m.name)}<small>{escape(m.title)}</small></dt><dd>{_meaning(m)}</dd>"
        for m in MEASURES
        if m.name in used
    )
    pad = (
        "A presentation is classified as bona fide when score ≥ threshold. Rates go with their counts. "
        "Insufficient data: a species has fewer than 3 / target attacks. Even without any error so few could "
        "not show that its APCER is so low."
    )
    rule = (
        "Accept when similarity ≥ threshold, which is distance ≤ 1 − threshold. Rates go with their counts. "
        "Insufficient data: fewer than 3 / target non-mated trials. Even without any error so few could not "
        "show that the rate is so low."
    )
    said = pad if evaluations[0].task == "pad" else rule
    return f'<div class="card"><p>{said}</p><dl>{items}</dl></div>'


def provenance_section(evaluations: Sequence[Evaluation]) -> str:
    """Write hashes and names, a column for each system."""
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


def inline(svg: str, name: str, label: str) -> str:
    """Write a picture as HTML. name: unique on the page, begins every id.  label: for who cannot see it."""
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in [child for child in parent if _local(child.tag) in _DROPPED]:
            parent.remove(child)
    used = {
        found for each in root.iter() for value in each.attrib.values() for found in _REFERENCE.findall(value)
    }
    for element in root.iter():
        _adapt(element, name, used)
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-label": label})
    return ElementTree.tostring(root, encoding="unicode")


def _adapt(element: ElementTree.Element, name: str, used: set[str]) -> None:
    element.tag = _local(element.tag)
    element.tail = None if element.tail is None or not element.tail.strip() else element.tail
    element.text = None if element.text is None or not element.text.strip() else element.text
    attributes = {_local(key): value for key, value in element.attrib.items()}
    element.attrib.clear()
    if attributes.get("id") not in used:
        attributes.pop("id", None)
    # Variables are for rules of style: plain attributes of colour become such.
    if "fill" in attributes:
        attributes["style"] = f"fill: {attributes.pop('fill')}; {attributes.get('style', '')}"
    for key, value in attributes.items():
        element.attrib[key] = _value(key, value, name)


def _value(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-")
    value = value.replace("url(#", f"url(#{name}-")
    if key == "style":
        value = re.sub(r"font:[^;]*?([\d.]+px)[^;]*", r"font-size: \1", value)
        return re.sub(r"#[0-9a-f]{6}\b", lambda found: _VARIABLES.get(found[0], found[0]), value)
    return value


def _local(name: str) -> str:
    return name.rsplit("}", 1)[-1]

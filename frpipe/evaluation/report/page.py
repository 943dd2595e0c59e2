"""The report of an evaluation as one HTML file, which loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from frpipe.core.errors import ConfigError
from frpipe.evaluation.difference import Difference
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.plots.figures import one_task
from frpipe.evaluation.plots.plot import Plot
from frpipe.evaluation.report.differences import differences_section
from frpipe.evaluation.report.numbers import cohorts_section, numbers_section
from frpipe.evaluation.report.pairs import pairs_section
from frpipe.evaluation.report.parts import section, table
from frpipe.evaluation.report.sources import definitions_section, provenance_section
from frpipe.evaluation.report.style import style
from frpipe.evaluation.report.summary import summary
from frpipe.evaluation.report.svg import inline

# The browser enforces it: no script, no request, styles and pictures of this file alone.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(
    evaluations: Sequence[Evaluation],
    differences: Sequence[Difference],
    plots: Sequence[Plot],
    *,
    title: str,
    created: str,
    thumbnails: Mapping[str, bytes] | None = None,
) -> str:
    """HTML, the same for the same input. created: a time, in words.

    thumbnails: JPEGs of the worst pairs by image id. The page then shows faces: treat it as you treat the
    photos.
    Raises ConfigError: there are no evaluations, or they are of different tasks.
    """
    if not evaluations:
        raise ConfigError("there is no evaluation to report", "give at least one")
    one_task(evaluations)
    parts = [
        ("summary", "Summary", summary(evaluations, differences)),
        ("plots", "Plots", _plots(plots)),
        ("numbers", "Numbers", numbers_section(evaluations)),
        ("groups", "Groups", cohorts_section(evaluations)),
        ("differences", "Differences", differences_section(differences)),
        ("pairs", "Worst pairs", pairs_section(evaluations, thumbnails or {})),
        ("definitions", "Definitions", definitions_section(evaluations)),
        ("provenance", "Provenance", provenance_section(evaluations)),
    ]
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


def _plots(plots: Sequence[Plot]) -> str:
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

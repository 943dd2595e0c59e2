"""Pieces of the page, all HTML: tables that scroll by themselves, and the signs of systems."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from frpipe.evaluation.plots.style import SERIES, look

_MARKERS = {
    "o": "M17 1.5a3.5 3.5 0 1 1 0 7a3.5 3.5 0 1 1 0 -7z",
    "s": "M13.8 1.8h6.4v6.4h-6.4z",
    "^": "M17 1l4 7.6h-8z",
    "D": "M17 .4l4.6 4.6l-4.6 4.6l-4.6 -4.6z",
    "v": "M17 9l4 -7.6h-8z",
    "P": "M15.5 1h3v2.5h2.5v3h-2.5v2.5h-3v-2.5h-2.5v-3h2.5z",
    "X": "M13.5 3l2 -2l1.5 1.5l1.5 -1.5l2 2l-2 2l2 2l-2 2l-1.5 -1.5l-1.5 1.5l-2 -2l2 -2z",
}
_STROKE = 2


def section(name: str, heading: str, body: str) -> str:
    """Write a section. heading: text."""
    title = f'<h2 id="{name}-h">{escape(heading)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-h">{title}{body}</section>'


def table(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], keys: Sequence[str] = ()
) -> str:
    """Write a table.

    caption, columns: text.  rows: HTML, the first of a row is its heading.  keys: HTML before columns. Where
    the page is narrow each cell says what column it is of.
    """
    marks = [*keys, *[""] * (len(columns) - len(keys))]
    names = [escape(column) for column in columns]
    head = "".join(f'<th scope="col">{mark}{name}</th>' for mark, name in zip(marks, names, strict=True))
    body = "".join(f"<tr>{_cells(names, row)}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def by_system(caption: str, first: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table with a column for each system, headed as in the plots."""
    return table(caption, [first, *names], rows, ["", *(key(place) for place in range(len(names)))])


def key(index: int) -> str:
    """The line and the marker, as HTML, that stand for the system at this place in the plots."""
    mine = look(index)
    colour = f"var(--s{index % len(SERIES) + 1})"
    dash = "" if mine.dash == "-" else f' stroke-dasharray="{_scaled(mine.dash[1])}"'
    return (
        f'<svg class="key" viewBox="0 0 34 10" aria-hidden="true"><path d="M0 5H34" style="stroke: {colour}" '
        f'stroke-width="{_STROKE}"{dash}/><path d="{_MARKERS[mine.marker]}" style="fill: {colour}"/></svg>'
    )


def system(name: str, index: int) -> str:
    """The name of a system as HTML, behind its key."""
    return f"{key(index)}{escape(name)}"


def _cells(names: Sequence[str], row: Sequence[str]) -> str:
    cells = (f'<td data-of="{name}">{cell}</td>' for name, cell in zip(names[1:], row[1:], strict=True))
    return f'<th scope="row">{row[0]}</th>{"".join(cells)}'


def _scaled(dash: Sequence[float]) -> str:
    return " ".join(f"{part * _STROKE:g}" for part in dash)

"""FMR between each two groups of people, as a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from frpipe.evaluation.differentials import JOINED
from frpipe.evaluation.evaluation import Doubles, Evaluation
from frpipe.evaluation.measures import BETWEEN
from frpipe.evaluation.number import Number
from frpipe.evaluation.plots.plot import Plot
from frpipe.evaluation.plots.style import CARD, INK, SERIES, SHADE, canvas
from frpipe.evaluation.plots.text import between, shown, target, threshold

_CELL, _REST, _MOST_SHOWN, _LONGEST = 34.0, 120.0, 12, 16
_WRITTEN = 8
# Of the span of the logarithms: on darker cells the ink is light.
_DARK = 0.55


def matrix_plots(evaluations: Sequence[Evaluation]) -> list[Plot]:
    """Draw a matrix for each system and column of groups, at the system's first threshold."""
    found = []
    for evaluation in evaluations:
        cells = [number for number in evaluation.numbers if number.measure == BETWEEN]
        for column in dict.fromkeys(str(cell.column) for cell in cells):
            mine = [cell for cell in cells if cell.column == column]
            found.append(
                (
                    evaluation.name,
                    column.partition(JOINED)[0],
                    [cell for cell in mine if cell.at == mine[0].at],
                )
            )
    return [_plot(place, *each) for place, each in enumerate(found, 1)]


def _plot(place: int, name: str, column: str, cells: Sequence[Number]) -> Plot:
    at = cells[0].at
    return Plot(
        name=f"matrix-{place}",
        title=f"FMR between groups by {column}: {name}",
        caption=f"False match rate of non-mated pairs whose sides are of these groups, at "
        f"{threshold(at if at is not None else 0.0)}; darker is higher, on a logarithmic scale. Empty: no "
        "pairs, or no error among them.",
        columns=("groups", "FMR", "95 % interval", "false matches", "pairs"),
        rows=[
            (str(cell.group), shown(cell), between(cell), f"{cell.count or 0:,}", f"{cell.trials or 0:,}")
            for cell in cells
        ],
        draw=partial(_draw, column, cells),
    )


def _draw(column: str, cells: Sequence[Number]) -> Figure:
    labels = _labels(cells)
    rates = np.full((len(labels), len(labels)), np.nan)
    for cell in cells:
        sides = str(cell.group).split(JOINED)
        if len(sides) == 2 and cell.value and all(side in labels for side in sides):
            one, two = map(labels.index, sides)
            rates[one, two] = rates[two, one] = cell.value
    size = _REST + _CELL * len(labels)
    figure = canvas(size, max(size, 2 * _REST))
    axes = figure.subplots()
    logarithms = np.log10(rates)
    shades = LinearSegmentedColormap.from_list("matrix", [SHADE, SERIES[0][0]])
    edges = np.arange(len(labels) + 1) - 0.5
    cells_drawn = np.ma.masked_invalid(logarithms)
    axes.pcolormesh(edges, edges, cells_drawn, cmap=shades, edgecolors=CARD, linewidth=1)
    axes.grid(visible=False)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    names = [label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…" for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=90)
    axes.set_yticks(range(len(labels)), names)
    axes.set_xlabel(column)
    axes.set_ylabel(column)
    if len(labels) <= _WRITTEN:
        _write(axes, logarithms, rates)
    return figure


def _write(axes: Axes, logarithms: Doubles, rates: Doubles) -> None:
    known = logarithms[np.isfinite(logarithms)]
    low, span = (known.min(), np.ptp(known)) if len(known) else (0.0, 0.0)
    for (row, place), value in np.ndenumerate(rates):
        if np.isfinite(value):
            dark = span > 0 and (logarithms[row, place] - low) / span > _DARK
            text = target(float(f"{value:.1g}"))
            colour = CARD if dark else INK
            axes.text(place, row, text, ha="center", va="center", fontsize=8, color=colour)


def _labels(cells: Sequence[Number]) -> list[str]:
    """The labels of the groups with most pairs within them, sorted."""
    within = {}
    for cell in cells:
        one, _, two = str(cell.group).partition(JOINED)
        if one == two:
            within[one] = cell.trials or 0
    return sorted(sorted(within, key=lambda label: (-within[label], label))[:_MOST_SHOWN])

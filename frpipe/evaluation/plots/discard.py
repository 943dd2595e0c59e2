"""Error versus discard: a plot for each system, a line for each measure of quality."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from frpipe.evaluation.evaluation import Evaluation, Series
from frpipe.evaluation.number import Number
from frpipe.evaluation.plots.axes import legend, legend_height
from frpipe.evaluation.plots.plot import Plot
from frpipe.evaluation.plots.style import DIM, canvas, look
from frpipe.evaluation.plots.text import between, shown
from frpipe.evaluation.quality import COLUMN, CURVE, IDEAL

_HEIGHT = 310.0
_ERRORS = {"verification": "FNMR", "identification": "FNIR"}


def discard_plots(evaluations: Sequence[Evaluation]) -> list[Plot]:
    """Draw each evaluation that has such curves."""
    some = [e for e in evaluations if IDEAL in e.curves]
    return [_plot(e, place, alone=len(some) == 1) for place, e in enumerate(some, 1)]


def _plot(evaluation: Evaluation, place: int, *, alone: bool) -> Plot:
    error = _ERRORS[evaluation.task]
    left = [n for n in evaluation.numbers if n.column == COLUMN and n.measure == f"{error}_discard"]
    fractions = sorted({n.at for n in left if n.at is not None})
    return Plot(
        name=f"discard-{place}",
        title=f"{error} versus discard" + ("" if alone else f", {evaluation.name}"),
        caption=f"{error} of what is left, as the mated trials of lowest quality are discarded; the "
        "threshold stays. Level dashes: a measure that knows nothing. Dots: one that discards errors alone.",
        columns=("measure", *(f"{at:.0%} discarded" for at in fractions)),
        rows=[(name, *(_cell(left, name, at) for at in fractions)) for name in _measures(evaluation)],
        draw=partial(_draw, evaluation, error),
    )


def _measures(evaluation: Evaluation) -> list[str]:
    return [name.removeprefix(CURVE) for name in evaluation.curves if name.startswith(CURVE)]


def _cell(numbers: Sequence[Number], group: str, at: float) -> str:
    found = next((n for n in numbers if (n.group, n.at) == (group, at)), None)
    return "insufficient data" if found is None else f"{shown(found)} ({between(found)})"


def _draw(evaluation: Evaluation, error: str) -> Figure:
    names = _measures(evaluation)
    figure = canvas(_HEIGHT + legend_height(names))
    axes = figure.subplots()
    axes.set_xlabel("Fraction of mated trials discarded, lowest quality first")
    axes.set_ylabel(f"{error} of the rest")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    for index, name in enumerate(names):
        mine, series = look(index), evaluation.curves[f"{CURVE}{name}"]
        axes.step(series.x, series.y, where="post", color=mine.colour, linestyle=mine.dash)
    ideal = evaluation.curves[IDEAL]
    axes.plot(ideal.x, ideal.y, color=DIM, linestyle=(0, (1, 1.5)), linewidth=1.2)
    axes.axhline(float(ideal.y[0]), color=DIM, linestyle=(0, (4, 3)), linewidth=1)
    axes.set_xlim(0, float(ideal.x[-1]))
    axes.set_ylim(0, 1.05 * _most(evaluation, names))
    legend(figure, names)
    return figure


def _most(evaluation: Evaluation, names: Sequence[str]) -> float:
    curves: list[Series] = [evaluation.curves[f"{CURVE}{name}"] for name in names]
    return float(max(np.max(series.y) for series in curves))

"""Cumulative match: the share of mates within a rank."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.plots.axes import legend, legend_height, trials
from frpipe.evaluation.plots.plot import Plot
from frpipe.evaluation.plots.style import canvas, look
from frpipe.evaluation.plots.text import share

_HEIGHT = 290.0
_MOST_LINEAR = 20
_RANKS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)


def cmc_plots(evaluations: Sequence[Evaluation]) -> list[Plot]:
    """Draw the curve, where any of the evaluations has it."""
    if not any("cmc" in e.curves for e in evaluations):
        return []
    return [
        Plot(
            name="cmc",
            title="CMC: mates within a rank",
            caption="Cumulative match characteristic: the share of mated searches whose mate is within the "
            "rank, at any score. The closed-set view: nobody is a stranger, no threshold is used.",
            columns=("rank", *(f"CMC, {e.name}" for e in evaluations)),
            rows=[(f"{rank}", *(_cell(e, rank) for e in evaluations)) for rank in _ranks(evaluations)],
            draw=partial(_draw, evaluations),
        )
    ]


def _ranks(evaluations: Sequence[Evaluation]) -> list[int]:
    last = max(float(e.curves["cmc"].x.max()) for e in evaluations if "cmc" in e.curves)
    return [rank for rank in _RANKS if rank <= last]


def _cell(evaluation: Evaluation, rank: int) -> str:
    series = evaluation.curves.get("cmc")
    if series is None or series.x[-1] < rank:
        return "not measured"
    value = float(series.y[np.searchsorted(series.x, rank, "right") - 1])
    return share(value, trials(evaluation, "mated"))


def _draw(evaluations: Sequence[Evaluation]) -> Figure:
    names = [e.name for e in evaluations]
    figure = canvas(_HEIGHT + legend_height(names))
    axes = figure.subplots()
    drawn = [(index, e.curves["cmc"]) for index, e in enumerate(evaluations) if "cmc" in e.curves]
    for index, series in drawn:
        mine = look(index)
        few = len(series.x) <= _MOST_LINEAR
        axes.plot(
            series.x, series.y, color=mine.colour, linestyle=mine.dash, marker=mine.marker if few else ""
        )
        if series.low is not None and series.high is not None:
            axes.fill_between(series.x, series.low, series.high, color=mine.colour, alpha=0.16, linewidth=0)
    last = max(float(series.x.max()) for _, series in drawn)
    if last > _MOST_LINEAR:
        axes.set_xscale("log")
        axes.set_xticks(_ranks(evaluations))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rank, _: f"{rank:,.0f}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    lows = [float(np.min(s.y if s.low is None else s.low)) for _, s in drawn]
    floor = max(0.0, np.floor((min(lows) - 0.01) * 20) / 20)
    axes.set_ylim(floor, 1 + 0.02 * (1 - floor))
    axes.set_xlabel("Rank")
    axes.set_ylabel("Cumulative match, CMC")
    legend(figure, names, markers=True)
    return figure

"""Histograms of similarities: mated beside non-mated, a panel for each system."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from frpipe.evaluation.evaluation import CurveName, Doubles, Evaluation, Series
from frpipe.evaluation.measures import BY_NAME
from frpipe.evaluation.plots.plot import Plot
from frpipe.evaluation.plots.style import DIM, INK, SERIES, canvas
from frpipe.evaluation.plots.text import fixed

_BINS = 80
_TABLE_BINS = 20
_PANEL = 125.0
_LINES = 4
_FAINT = 0.28
_WORDS = {
    "verification": ("mated", "non-mated", "Scores of mated and non-mated comparisons"),
    "identification": ("mates", "strangers", "Best scores of mates and of strangers"),
}
# Colour and hatch, for who cannot tell the colours apart.
_FILLS: tuple[tuple[CurveName, str, str], ...] = (
    ("mated", SERIES[0][0], ""),
    ("nonmated", SERIES[1][0], "///"),
)


def score_histograms(evaluations: Sequence[Evaluation]) -> list[Plot]:
    """Draw a plot with densities as they are, and one with logarithms, where tails show."""
    some = [e for e in evaluations if "mated" in e.curves or "nonmated" in e.curves]
    return [_plot(some, log) for log in (False, True)] if some else []


def thresholds(evaluation: Evaluation) -> list[float]:
    """Similarities that numbers of all trials were taken at, or that a target led to; ascending."""
    found: set[float] = set()
    for number in evaluation.numbers:
        if number.column is None and BY_NAME[number.measure].of == "threshold" and number.at is not None:
            found.add(number.at)
    return sorted(value for value in found if np.isfinite(value))


def _plot(evaluations: Sequence[Evaluation], log: bool) -> Plot:
    mated, nonmated, title = _WORDS[evaluations[0].task]
    caption = (
        "Densities: the area of each histogram is 1. Upright lines are thresholds in use: what is at one, or "
        "right of it, is accepted."
    )
    if log:
        caption += " Logarithms show the tails, where the errors are."
    return Plot(
        name="scores-log" if log else "scores",
        title=f"{title}, logarithmic" if log else title,
        caption=caption,
        columns=("system", "similarity from", "to", f"{mated} scores", f"{nonmated} scores"),
        rows=[row for e in evaluations for row in _rows(e)],
        draw=partial(_draw, evaluations, log),
    )


def _rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    edges = _edges(evaluation, _TABLE_BINS)
    counts = [_binned(evaluation.curves.get(name), edges) for name, *_ in _FILLS]
    return [
        (evaluation.name, fixed(float(low), 3), fixed(float(high), 3), f"{m:,.0f}", f"{n:,.0f}")
        for low, high, m, n in zip(edges[:-1], edges[1:], *counts, strict=True)
    ]


def _draw(evaluations: Sequence[Evaluation], log: bool) -> Figure:
    figure = canvas(70 + _PANEL * len(evaluations) + (60 if len(evaluations) == 1 else 0))
    panels = figure.subplots(len(evaluations), 1, sharex=True, squeeze=False)[:, 0]
    for axes, evaluation in zip(panels, evaluations, strict=True):
        _panel(axes, evaluation, log)
        if len(evaluations) > 1:
            axes.set_title(evaluation.name)
    panels[-1].set_xlabel("similarity  (distance = 1 − similarity)")
    words = _WORDS[evaluations[0].task]
    handles = [
        Patch(facecolor=(colour, _FAINT), edgecolor=colour, linewidth=0.8, hatch=hatch, label=word)
        for (_, colour, hatch), word in zip(_FILLS, words[:2], strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, fontsize=10)
    return figure


def _panel(axes: Axes, evaluation: Evaluation, log: bool) -> None:
    edges, least = _edges(evaluation, _BINS), 1.0
    for name, colour, hatch in _FILLS:
        counts = _binned(evaluation.curves.get(name), edges)
        if counts.sum():
            density = counts / (counts.sum() * np.diff(edges))
            axes.stairs(density, edges, fill=True, color=colour, alpha=_FAINT, linewidth=0)
            axes.stairs(density, edges, edgecolor=colour, linewidth=1.2, hatch=hatch)
            least = min(least, float(density[density > 0].min()))
    if log:
        axes.set_yscale("log")
        axes.set_ylim(bottom=least / 2)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel("density")
    _lines(axes, thresholds(evaluation)[:_LINES])


def _lines(axes: Axes, values: Sequence[float]) -> None:
    """Draw lines at thresholds.

    The first and the last are named, on their outer sides: lines may be close.
    """
    for place, value in enumerate(values):
        axes.axvline(value, color=INK, linewidth=1, linestyle=(0, (4, 2)))
        last = place == len(values) - 1
        if last or not place:
            axes.annotate(f"≥ {fixed(value, 3)}", (value, 1), xytext=(3 if last else -3, -2), va="top",
                          xycoords=("data", "axes fraction"), textcoords="offset points",
                          ha="left" if last else "right", fontsize=9, color=DIM)  # fmt: skip


def _edges(evaluation: Evaluation, bins: int) -> Doubles:
    """Edges of at most so many bins, whole ones of the histograms, from the first to the last with scores."""
    lower = np.unique(np.concatenate([evaluation.curves[n].x for n, *_ in _FILLS if n in evaluation.curves]))
    full = np.concatenate([s.x[s.y > 0] for n, *_ in _FILLS if (s := evaluation.curves.get(n)) is not None])
    if not len(full):
        return np.array([0.0, 1.0])
    inside = lower[(lower >= full.min()) & (lower <= full.max())]
    step = -(-len(inside) // bins)
    width = float(lower[1] - lower[0]) if len(lower) > 1 else 1.0
    return np.append(inside[::step], inside[-1] + width)


def _binned(series: Series | None, edges: Doubles) -> Doubles:
    if series is None:
        return np.zeros(len(edges) - 1)
    places = np.searchsorted(edges, series.x, "right") - 1
    full = series.y > 0
    return np.bincount(places[full], series.y[full], len(edges) - 1).astype(np.float64)

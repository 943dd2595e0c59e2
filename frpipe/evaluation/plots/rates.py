"""Curves of one error over the other: ROC and DET of comparisons, and of searches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from frpipe.evaluation.evaluation import CurveName, Doubles, Evaluation, Series
from frpipe.evaluation.plots.axes import (
    deviate_axis,
    deviates,
    legend,
    legend_height,
    logarithmic,
    smallest,
    supported,
    too_few,
    trials,
)
from frpipe.evaluation.plots.plot import Plot
from frpipe.evaluation.plots.style import CARD, DIM, canvas, look
from frpipe.evaluation.plots.text import places, share, target

_HEIGHT = 310.0
_BAND_POINTS = 240


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of curve.

    scale: of the axes; "rate": logarithms over, a share up.  over, up: keys of the rates.
    """

    curve: CurveName
    scale: Literal["rate", "log", "deviate"]
    title: str
    over: str
    up: str
    x_label: str
    y_label: str
    trials: str


KINDS = (
    _Kind(
        "roc",
        "rate",
        "ROC",
        "FMR",
        "TAR",
        "False match rate, FMR (1 − TRR)",
        "True accept rate, TAR (1 − FNMR)",
        "comparisons",
    ),
    _Kind(
        "det",
        "deviate",
        "DET",
        "FMR",
        "FNMR",
        "False match rate, FMR (1 − TRR)",
        "False non-match rate, FNMR (1 − TAR)",
        "comparisons",
    ),
    _Kind(
        "open_roc",
        "rate",
        "ROC, open set",
        "FPIR",
        "TPIR",
        "False positive identification rate, FPIR (1 − TNIR)",
        "True positive identification rate,\nTPIR (1 − FNIR)",
        "searches",
    ),
    _Kind(
        "open_det",
        "log",
        "DET, open set",
        "FPIR",
        "FNIR",
        "False positive identification rate, FPIR (1 − TNIR)",
        "False negative identification rate,\nFNIR (1 − TPIR)",
        "searches",
    ),
)


def rate_curves(evaluations: Sequence[Evaluation]) -> list[Plot]:
    """Draw each kind of curve that any of the evaluations has."""
    return [_plot(kind, evaluations) for kind in KINDS if any(kind.curve in e.curves for e in evaluations)]


def _plot(kind: _Kind, evaluations: Sequence[Evaluation]) -> Plot:
    low = smallest(evaluations, "nonmated")
    return Plot(
        name=kind.curve.replace("_", "-"),
        title=f"{kind.title}: {kind.up} over {kind.over}",
        caption=_caption(kind, evaluations),
        columns=(f"{kind.over} at most", *(f"{kind.up}, {e.name}" for e in evaluations)),
        rows=[(target(rate), *(_cell(kind, e, rate) for e in evaluations)) for rate in _asked(low)],
        draw=partial(_draw, kind, evaluations, low),
    )


def _asked(low: float) -> list[float]:
    """The decades down to the smallest measurable rate."""
    return [rate for rate in (10.0**-k for k in range(1, 10)) if rate >= low * (1 - 1e-9)]


def _cell(kind: _Kind, evaluation: Evaluation, rate: float) -> str:
    series = evaluation.curves.get(kind.curve)
    if series is None:
        return "no curve"
    if rate < supported(evaluation) * (1 - 1e-9):
        return f"insufficient data: too few {kind.trials}"
    place = int(np.searchsorted(series.x, rate * (1 + 1e-9), "right")) - 1
    if place < 0:
        return "beyond the curve"
    value = float(series.y[place])
    low, high = (math.nan if edge is None else float(edge[place]) for edge in (series.low, series.high))
    if not math.isfinite(low + high):
        return share(value, trials(evaluation, "mated"))
    decimals = places((high - low) / 2)
    return f"{value:.{decimals}f} ({low:.{decimals}f} to {high:.{decimals}f})"


def _caption(kind: _Kind, evaluations: Sequence[Evaluation]) -> str:
    words = [f"{kind.up} at the most lenient threshold whose {kind.over} is at most what stands below."]
    if any(supported(e) for e in evaluations):
        words.append(
            f"Shaded, and thin lines: fewer than 3 / {kind.over} non-mated {kind.trials}. Even without any "
            f"error so few could not show that the rate is so low (rule of 3)."
        )
    if any(e.curves[kind.curve].low is not None for e in evaluations if kind.curve in e.curves):
        words.append("Bands: intervals of confidence at each point.")
    if kind.scale == "deviate":
        words.append("Axes of normal deviates; the equal error rate (marker) is on the diagonal.")
    return " ".join(words)


def _draw(kind: _Kind, evaluations: Sequence[Evaluation], low: float) -> Figure:
    names = [e.name for e in evaluations]
    figure = canvas(_HEIGHT + legend_height(names))
    axes = figure.subplots()
    axes.set_xlabel(kind.x_label)
    axes.set_ylabel(kind.y_label)
    left, bottom = low * 0.999, _bottom(kind, evaluations)
    # Where systems differ in trials each has its own limit: beyond the strictest, all of them are thin.
    limit = min(supported(e) for e in evaluations)
    if kind.scale == "deviate":
        _deviate_frame(axes, evaluations, left, bottom)
    else:
        _frame(axes, kind, left, bottom, limit)
    for index, evaluation in enumerate(evaluations):
        if kind.curve in evaluation.curves:
            _curve(axes, kind, evaluation, index, (left, bottom))
    legend(figure, names)
    return figure


def _bottom(kind: _Kind, evaluations: Sequence[Evaluation]) -> float:
    """The bottom of the vertical axis: a round number below the worst share, or the smallest error."""
    if kind.scale != "rate":
        return smallest(evaluations, "mated") * 0.999
    seen = [
        float(_from(e.curves[kind.curve], supported(e)).y.min())
        for e in evaluations
        if kind.curve in e.curves and len(e.curves[kind.curve].y)
    ]
    return max(0.0, math.floor((min(seen, default=0.0) - 0.02) * 10) / 10)


def _frame(axes: Axes, kind: _Kind, left: float, bottom: float, limit: float) -> None:
    logarithmic(axes, "x", left)
    if kind.scale == "log":
        logarithmic(axes, "y", bottom)
    else:
        axes.set_ylim(bottom, 1 + 0.02 * (1 - bottom))
    too_few(axes, left, limit, kind.trials)


def _deviate_frame(axes: Axes, evaluations: Sequence[Evaluation], left: float, bottom: float) -> None:
    """Frame axes of deviates: both end at the largest error, so that all diagonals mean the same."""
    low, limit = min(left, bottom), max(left, min(supported(e) for e in evaluations))
    errors = [float(_from(e.curves["det"], left).y.max()) for e in evaluations if "det" in e.curves]
    high = min(max(1.6 * max(errors), 0.06), 0.6)
    deviate_axis(axes, "x", left, high)
    deviate_axis(axes, "y", bottom, high)
    too_few(axes, float(deviates(left, low)), float(deviates(limit, low)), "comparisons")
    ends = deviates(np.array([low, high]), low)
    axes.plot(ends, ends, color=DIM, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
    axes.annotate("EER: FMR = FNMR", (ends[1], ends[1]), xytext=(-20, -1), textcoords="offset points",
                  ha="right", va="top", fontsize=9, color=DIM)  # fmt: skip
    for index, evaluation in enumerate(evaluations):
        eer = evaluation.number("EER")
        if eer is not None and eer.value:
            at, mine = float(deviates(eer.value, low)), look(index)
            axes.plot([at], [at], marker=mine.marker, color=mine.colour, markeredgecolor=CARD, zorder=4)


def _curve(axes: Axes, kind: _Kind, evaluation: Evaluation, index: int, low: tuple[float, float]) -> None:
    """Draw a curve, thin where its trials are too few, full beyond."""
    mine, limit = look(index), supported(evaluation)
    series = _from(evaluation.curves[kind.curve], low[0])
    x, y = _on_axes(kind, series.x, low[0]), _on_axes(kind, series.y, low[1], up=True)
    axes.step(x, y, where="post", color=mine.colour, linestyle=mine.dash, linewidth=0.8, alpha=0.7)
    sure = _from(series, limit)
    x, y = _on_axes(kind, sure.x, low[0]), _on_axes(kind, sure.y, low[1], up=True)
    axes.step(x, y, where="post", color=mine.colour, linestyle=mine.dash)
    if sure.low is not None and sure.high is not None:
        some = _some(sure.x)
        below, above = (_on_axes(kind, edge[some], low[1], up=True) for edge in (sure.low, sure.high))
        axes.fill_between(x[some], below, above, step="post", color=mine.colour, alpha=0.16, linewidth=0)


def _from(series: Series, left: float) -> Series:
    """Cut a curve to x >= left, beginning with what holds at `left`."""
    first = max(int(np.searchsorted(series.x, left, "right")) - 1, 0)
    x = series.x[first:].copy()
    x[:1] = np.maximum(x[:1], left)
    rest = [None if part is None else part[first:] for part in (series.low, series.high)]
    return Series(x, series.y[first:], None, *rest)


def _on_axes(kind: _Kind, rates: Doubles, low: float, up: bool = False) -> Doubles:
    if kind.scale == "deviate":
        return deviates(rates, low)
    return np.maximum(rates, low) if kind.scale == "log" or not up else rates


def _some(x: Doubles) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Choose points for a band, even on a logarithmic axis: an SVG needs no more."""
    if len(x) <= _BAND_POINTS:
        return np.arange(len(x))
    wanted = np.geomspace(x[0], x[-1], _BAND_POINTS)
    return np.unique(np.append(np.searchsorted(x, wanted, "right") - 1, len(x) - 1).clip(0))

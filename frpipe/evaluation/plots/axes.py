"""Axes of rates: logarithms, normal deviates, the region of too few trials, and the legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy.special import ndtri

from frpipe.evaluation.evaluation import Doubles, Evaluation
from frpipe.evaluation.plots.style import DIM, SHADE, look
from frpipe.evaluation.plots.text import target
from frpipe.metrics.operating import RULE_OF_3

Side = Literal["x", "y"]
_DEVIATE_TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
_LONGEST_NAME, _HALF_NAME = 44, 22


Kind = Literal["mated", "nonmated"]
_RATES: dict[Kind, tuple[str, str]] = {"nonmated": ("FMR", "FPIR"), "mated": ("FNMR", "FNIR")}
_UNKNOWN = 1e-4


def logarithmic(axes: Axes, side: Side, low: float) -> None:
    """Make an axis logarithmic, from `low` to 1, with a tick at each decade."""
    first = math.ceil(math.log10(low) - 1e-9)
    ticks = [10.0**k for k in range(first, 1)]
    if side == "x":
        axes.set_xscale("log")
        axes.set_xlim(low, 1.0)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, 1.0)
    _ticks(axes, side, ticks, [target(tick) for tick in ticks])


def deviates(rates: Doubles | float, low: float) -> Doubles:
    """Normal deviates of rates, which are cut to `low` and 1 - `low`."""
    return np.asarray(ndtri(np.clip(rates, low, 1 - low)), np.float64)


def deviate_axis(axes: Axes, side: Side, low: float, high: float) -> None:
    """Make an axis of rates drawn as `deviates`: ticks name the rates."""
    ticks = [rate for rate in _DEVIATE_TICKS if low <= rate <= high]
    bounds = float(ndtri(low)), float(ndtri(high))
    if side == "x":
        axes.set_xlim(*bounds)
    else:
        axes.set_ylim(*bounds)
    _ticks(axes, side, [float(ndtri(rate)) for rate in ticks], [target(rate) for rate in ticks])


def too_few(axes: Axes, low: float, high: float, what: str) -> None:
    """Shade the horizontal axis from `low` to `high`, where there are fewer than 3 / rate trials."""
    if high <= low:
        return
    axes.axvspan(low, high, color=SHADE, zorder=0.5, linewidth=0)
    axes.annotate(
        f"too few\n{what}",
        (low, 1),
        xytext=(4, -4),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        fontsize=9,
        color=DIM,
    )


def legend(figure: Figure, names: Sequence[str], markers: bool = False) -> None:
    """Draw the legend below the axes, in the order of the systems; one system needs none."""
    if len(names) < 2:
        return
    looks = [look(index) for index in range(len(names))]
    handles = [
        Line2D([], [], color=each.colour, linestyle=each.dash, marker=each.marker if markers else "")
        for each in looks
    ]
    labels = [_short(name) for name in names]
    figure.legend(
        handles, labels, loc="outside lower left", ncols=_columns(names), handlelength=3.4, fontsize=10
    )


def legend_height(names: Sequence[str]) -> float:
    """The height of `legend`, in points."""
    if len(names) < 2:
        return 0.0
    return 14 + 16.0 * math.ceil(len(names) / _columns(names))


def _columns(names: Sequence[str]) -> int:
    """The number of columns: two where every name fits half of the width."""
    return 2 if max(map(len, names)) <= _HALF_NAME else 1


def _short(name: str) -> str:
    """Shorten a name; matplotlib leaves out of a legend what begins with an underscore."""
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return f" {short}" if short.startswith("_") else short


def _ticks(axes: Axes, side: Side, at: Sequence[float], labels: Sequence[str]) -> None:
    axis = axes.xaxis if side == "x" else axes.yaxis
    words = dict(zip(at, labels, strict=True))
    axis.set_major_locator(FixedLocator(list(at)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: words.get(value, "")))
    axis.set_minor_locator(NullLocator())


def trials(evaluation: Evaluation, kind: Kind) -> int | None:
    """The number of completed trials; None: nobody counted.

    It is that of the rates, else of the counts, else of the histogram.
    """
    rated = [
        n.trials
        for n in evaluation.numbers
        if n.measure in _RATES[kind] and n.column is None and n.trials is not None
    ]
    if rated:
        return max(rated)
    if kind in evaluation.counts:
        return evaluation.counts[kind]
    drawn = evaluation.curves.get(kind)
    return None if drawn is None else int(drawn.y.sum())


def smallest(evaluations: Sequence[Evaluation], kind: Kind) -> float:
    """The smallest rate above zero that the trials of any system can show; 0.0001 where nobody counted."""
    most = max((trials(e, kind) or 0 for e in evaluations), default=0)
    return 1 / most if most else _UNKNOWN


def supported(evaluation: Evaluation) -> float:
    """The smallest target of FMR or FPIR that the rule of 3 allows; 0 where nobody counted."""
    count = trials(evaluation, "nonmated")
    count = evaluation.counts.get("nonmated_distinct", count)
    return min(RULE_OF_3 / count, 1.0) if count else 0.0

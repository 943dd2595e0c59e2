"""Forest plots, dots with bars of confidence: rates at targets, and rates of groups beside that of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.measures import BY_NAME
from frpipe.evaluation.number import Number
from frpipe.evaluation.plots.axes import legend, legend_height
from frpipe.evaluation.plots.cohorts import GroupedColumn, cohorts
from frpipe.evaluation.plots.plot import Plot
from frpipe.evaluation.plots.style import DIM, canvas, look
from frpipe.evaluation.plots.text import between, shown, target

_ROW, _GAP = 17.0, 0.6
_OF_TASK = {"verification": "TAR", "identification": "TPIR", "pad": "BPCER_fixed"}
_SCALED_FROM = 30.0


@dataclass(frozen=True, slots=True)
class _Group:
    """A row. label: its name.  numbers: of each system, in their order; None: it has none."""

    label: str
    numbers: Sequence[Number | None]


@dataclass(frozen=True, slots=True)
class _Panel:
    """A panel of one measure. overall: that of all trials, of each system."""

    x_label: str
    groups: Sequence[_Group]
    overall: Sequence[float | None] = ()


def forest_plots(evaluations: Sequence[Evaluation]) -> list[Plot]:
    """Draw the rates at targets, then a plot for each column of cohorts."""
    names = [e.name for e in evaluations]
    return [*_at_targets(evaluations, names), *(_cohort(found, names) for found in cohorts(evaluations))]


def _at_targets(evaluations: Sequence[Evaluation], names: Sequence[str]) -> list[Plot]:
    measure = BY_NAME[_OF_TASK[evaluations[0].task]]
    asked = {n.at for e in evaluations for n in e.numbers if n.measure == measure.name and n.column is None}
    groups = [
        _Group(f"{measure.of} ≤ {target(at)}", [e.number(measure.name, at) for e in evaluations])
        for at in sorted((at for at in asked if at is not None), reverse=True)
    ]
    if not groups:
        return []
    panel = _Panel(f"{measure.title}, {measure.name}", groups)
    return [
        Plot(
            name="targets",
            title=f"{measure.name} at target {measure.of}",
            caption=f"{measure.name}: {measure.means}. Bars: {_bars(groups)}.",
            columns=("target", "system", measure.name, "interval", "of"),
            rows=_rows([panel], names),
            draw=partial(_draw, [panel], names),
        )
    ]


def _bars(groups: Sequence[_Group]) -> str:
    bounds = any((n.method or "").startswith("bounds") for group in groups for n in group.numbers if n)
    return "bounds that hold the exact value" if bounds else "intervals of confidence"


def _cohort(found: GroupedColumn, names: Sequence[str]) -> Plot:
    panels = [
        _Panel(part.label, [_Group(g, part.groups[g]) for g in found.shown], part.overall)
        for part in found.drawn
    ]
    everything = [
        _Panel(part.label, [_Group(g, numbers) for g, numbers in part.groups.items()]) for part in found.drawn
    ]
    left_out = len(found.labels) - len(found.shown)
    caption = (
        "Dots: the group's rate, with its interval of confidence. Upright lines: the rate of all trials."
    )
    if left_out:
        caption += f" {len(found.shown)} groups with most trials; {left_out} more are in the table."
    return Plot(
        name=f"cohort-{found.place}",
        title=f"Groups by {found.column}",
        caption=caption,
        columns=("group", "system", "rate", "interval", "of"),
        rows=_rows(everything, names),
        draw=partial(_draw, panels, names),
    )


def _rows(panels: Sequence[_Panel], names: Sequence[str]) -> list[tuple[str, ...]]:
    return [
        (
            group.label if len(panels) == 1 else f"{group.label}: {panel.x_label}",
            name,
            shown(number) or (number.note or "no value"),
            between(number),
            "" if number.trials is None or number.count is None else f"{number.count:,} of {number.trials:,}",
        )
        for panel in panels
        for group in panel.groups
        for name, number in zip(names, group.numbers, strict=True)
        if number is not None
    ]


def _draw(panels: Sequence[_Panel], names: Sequence[str]) -> Figure:
    rows = [len(panel.groups) * (len(names) + _GAP) for panel in panels]
    height = sum(64 + _ROW * max(count, 2) for count in rows) + legend_height(names)
    figure = canvas(height)
    ratios = [64 + _ROW * max(count, 2) for count in rows]
    every = figure.subplots(len(panels), 1, squeeze=False, height_ratios=ratios)[:, 0]
    for axes, panel in zip(every, panels, strict=True):
        _panel(axes, panel)
    legend(figure, names, markers=True)
    return figure


def _panel(axes: Axes, panel: _Panel) -> None:
    step = len(panel.groups[0].numbers) + _GAP
    edge = _scale(axes, panel)
    for place, group in enumerate(panel.groups):
        for index, number in enumerate(group.numbers):
            if number is not None:
                _dot(axes, number, place * step + index, index, edge)
    for index, value in enumerate(panel.overall):
        if value is not None:
            mine = look(index)
            axes.axvline(value, color=mine.colour, linestyle=mine.dash, linewidth=1.1, alpha=0.8, zorder=1)
    middle = (step - _GAP - 1) / 2
    axes.set_yticks(
        [place * step + middle for place in range(len(panel.groups))], [g.label for g in panel.groups]
    )
    axes.set_ylim(len(panel.groups) * step - _GAP, -1 + _GAP / 2)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(panel.x_label)


def _scale(axes: Axes, panel: _Panel) -> float:
    """Set the axis, and return where it begins. Logarithmic only where the rates differ by decades."""
    numbers = [n for group in panel.groups for n in group.numbers if n is not None and n.value is not None]
    values = [v for n in numbers for v in (n.value, n.low, n.high) if v is not None]
    highs = [n.value if n.high is None else n.high for n in numbers if n.value is not None]
    least, most = min(values, default=0.0), max(values, default=1.0)
    if highs and min(highs) > 0 and most / min(highs) > _SCALED_FROM:
        positive = min(v for v in values if v > 0)
        low = max(positive / 1.5, min(highs) / 100)
        axes.set_xscale("log")
        axes.set_xlim(low, most * 1.4)
        return low
    pad = max(most - least, 1e-6) * 0.05
    low = least - pad if least > pad else 0.0 - pad
    axes.set_xlim(low, most + pad)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return low


def _dot(axes: Axes, number: Number, y: float, index: int, edge: float) -> None:
    mine = look(index)
    if number.value is None:
        side = axes.get_yaxis_transform()
        axes.plot([0.03], [y], transform=side, marker=mine.marker, color=mine.colour, fillstyle="none")
        axes.text(0.06, y, "insufficient data", transform=side, va="center", fontsize=9, color=DIM)
        return
    if number.low is not None and number.high is not None:
        axes.plot([max(number.low, edge), number.high], [y, y], color=mine.colour, linewidth=1.6)
    # A rate of zero has no place on a logarithmic axis: it stands at its edge, open.
    at, fill = (edge, "none") if number.value < edge else (number.value, "full")
    axes.plot(
        [at], [y], marker=mine.marker, color=mine.colour, fillstyle=fill, clip_on=False, linestyle="none"
    )

"""Reliability of log-likelihood ratios: what the counts say in each bin over what the ratios say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.figure import Figure

from frpipe.evaluation.plots.axes import legend, legend_height
from frpipe.evaluation.plots.plot import Plot
from frpipe.evaluation.plots.style import DIM, canvas, look
from frpipe.evaluation.plots.text import fixed
from frpipe.metrics.reliability import ReliabilityBin

_HEIGHT = 350.0
_MARGIN = 0.06


def reliability_plot(methods: Mapping[str, Sequence[ReliabilityBin]]) -> Plot:
    """Draw one series for each calibration, by its name."""
    return Plot(
        name="reliability",
        title="Reliability of the log-likelihood ratio",
        caption="In each bin the ratio that came, over the ratio that calibration said, in nats; on the "
        "dashed line they are the same. Bars: 95 % intervals, each comparison taken for itself. A bin of one "
        "kind alone is an arrow, at the end of its interval.",
        columns=("calibration", "said", "came", "95 % interval", "mated", "non-mated"),
        rows=[
            (
                name,
                _ratio(one.said),
                _ratio(one.came),
                f"{_ratio(one.low)} to {_ratio(one.high)}",
                f"{one.mated:,}",
                f"{one.nonmated:,}",
            )
            for name, bins in methods.items()
            for one in bins
        ],
        draw=partial(_draw, methods),
    )


def _draw(methods: Mapping[str, Sequence[ReliabilityBin]]) -> Figure:
    figure = canvas(_HEIGHT + legend_height([*methods]))
    axes = figure.subplots()
    axes.set_xlabel("Log-likelihood ratio said, nats")
    axes.set_ylabel("Log-likelihood ratio that came, nats")
    low, high = _ends(methods)
    axes.plot([low, high], [low, high], color=DIM, linestyle=(0, (4, 3)), linewidth=1)
    for index, bins in enumerate(methods.values()):
        mine = look(index)
        whole = [one for one in bins if math.isfinite(one.came)]
        axes.plot(
            [one.said for one in whole], [one.came for one in whole], color=mine.colour, linestyle=mine.dash,
            marker=mine.marker,
        )  # fmt: skip
        for one in bins:
            ends = max(one.low, low), min(one.high, high)
            axes.plot([one.said] * 2, ends, color=mine.colour, linewidth=1)
            if not math.isfinite(one.came):
                place, marker = (one.high, "v") if one.came < 0 else (one.low, "^")
                axes.plot([one.said], [place], color=mine.colour, marker=marker)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    legend(figure, [*methods], markers=True)
    return figure


def _ends(methods: Mapping[str, Sequence[ReliabilityBin]]) -> tuple[float, float]:
    """The ends of both axes: all ratios, of maps and of counts, with the finite ends of intervals."""
    shown = [
        value
        for bins in methods.values()
        for one in bins
        for value in (one.said, one.came, one.low, one.high)
        if math.isfinite(value)
    ]
    least, most = min(shown), max(shown)
    margin = _MARGIN * (most - least) or 1.0
    return least - margin, most + margin


def _ratio(value: float) -> str:
    return fixed(value, 2) if math.isfinite(value) else ("∞" if value > 0 else "−∞")

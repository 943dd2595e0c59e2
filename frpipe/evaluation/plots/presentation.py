"""DET curves of presentation attack detection: BPCER over APCER."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from frpipe.evaluation.evaluation import Evaluation, Series
from frpipe.evaluation.pad import CURVE
from frpipe.evaluation.plots.axes import deviate_axis, deviates, legend, legend_height
from frpipe.evaluation.plots.plot import Plot
from frpipe.evaluation.plots.style import canvas, look
from frpipe.evaluation.plots.text import score, share, target

_HEIGHT = 310.0
_TARGETS = (0.2, 0.1, 0.05, 0.01)
_LEAST = 1e-4
_WORST = "worst species"


def presentation_plots(evaluations: Sequence[Evaluation]) -> list[Plot]:
    """Draw the worst species of each system; and of each system with several species, all of them."""
    some = [e for e in evaluations if CURVE in e.curves]
    if not some:
        return []
    worst = {e.name: e.curves[CURVE] for e in some}
    amount = sum(e.counts.get("bona_fide", 0) for e in some[:1])
    plots = [_plot("pad-det", "DET: BPCER over APCER of the worst species", worst, amount)]
    for place, evaluation in enumerate(some, 1):
        species = {
            name.removeprefix(f"{CURVE}:"): series
            for name, series in evaluation.curves.items()
            if name.startswith(f"{CURVE}:")
        }
        if species:
            title = f"DET of each attack species, {evaluation.name}"
            lines = {_WORST: evaluation.curves[CURVE], **species}
            plots.append(_plot(f"pad-species-{place}", title, lines, evaluation.counts.get("bona_fide", 0)))
    return plots


def _plot(name: str, title: str, lines: dict[str, Series], amount: int) -> Plot:
    rows = [(target(rate), *(_cell(series, rate, amount) for series in lines.values())) for rate in _TARGETS]
    return Plot(
        name=name,
        title=title,
        caption="BPCER at the most lenient threshold whose APCER is at most what stands below, on axes of "
        "normal deviates. Whether the attacks are enough for a fixed APCER, the numbers say.",
        columns=("APCER at most", *(f"BPCER, {label}" for label in lines)),
        rows=rows,
        draw=partial(_draw, lines),
    )


def _cell(series: Series, rate: float, amount: int) -> str:
    place = int(np.searchsorted(series.x, rate + 1e-9, "right")) - 1
    limit = "" if series.threshold is None else f" at {score(float(series.threshold[place]))}"
    return f"{share(float(series.y[place]), amount)}{limit}"


def _draw(lines: dict[str, Series]) -> Figure:
    names = [*lines]
    figure = canvas(_HEIGHT + legend_height(names))
    axes = figure.subplots()
    axes.set_xlabel("Attack presentation classification error rate, APCER")
    axes.set_ylabel("Bona fide presentation\nclassification error rate, BPCER")
    low = min(0.01, *(_least(series) for series in lines.values()))
    for side in ("x", "y"):
        deviate_axis(axes, "x" if side == "x" else "y", low, 0.99)
    for index, series in enumerate(lines.values()):
        mine = look(index)
        axes.step(
            deviates(series.x, low),
            deviates(series.y, low),
            where="post",
            color=mine.colour,
            linestyle=mine.dash,
        )
    legend(figure, names)
    return figure


def _least(series: Series) -> float:
    """The smallest error above zero that is on a curve."""
    positive = np.concatenate([series.x[series.x > 0], series.y[series.y > 0]])
    return max(_LEAST, float(positive.min(initial=0.01)) / 2)

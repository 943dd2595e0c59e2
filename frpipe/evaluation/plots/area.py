"""Curves on linear axes, as the lecture draws them: TAR over TRR, TPIR over TNIR, the area filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from frpipe.evaluation.evaluation import CurveName, Evaluation, Series
from frpipe.evaluation.plots.axes import legend, legend_height
from frpipe.evaluation.plots.plot import Plot
from frpipe.evaluation.plots.style import CARD, INK, canvas, look
from frpipe.evaluation.plots.text import fixed, threshold

_HEIGHT = 370.0
_FAINT = 0.16
_MARKS = 4
# Left of here words find no place on the left of a point.
_NARROW = 0.4
Words = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of curve. up, over: the lecture's names.  miss, alarm: the errors that these are one less."""

    curve: CurveName
    up: str
    over: str
    miss: str
    alarm: str
    y_label: str
    x_label: str


_KINDS = (
    _Kind("roc", "TAR", "TRR", "FNMR", "FMR", "True acceptance rate, TAR", "True rejection rate, TRR"),
    _Kind(
        "open_roc",
        "TPIR",
        "TNIR",
        "FNIR",
        "FPIR",
        "True positive identification rate, TPIR",
        "True negative identification rate, TNIR",
    ),
)


def area_plots(evaluations: Sequence[Evaluation], words: Words = threshold) -> list[Plot]:
    """Draw each kind of curve that any of the evaluations has. words: for `at` of a number."""
    return [
        _plot(kind, evaluations, words) for kind in _KINDS if any(kind.curve in e.curves for e in evaluations)
    ]


def _plot(kind: _Kind, evaluations: Sequence[Evaluation], words: Words) -> Plot:
    return Plot(
        name=f"{kind.up}-{kind.over}".lower(),
        title=f"{kind.up} over {kind.over}, and the area below",
        caption=f"Linear axes. The area below the curve is the AUC; points are thresholds in use. {kind.up} "
        f"is 1 − {kind.miss}, {kind.over} is 1 − {kind.alarm}.",
        columns=("system", "threshold", kind.up, kind.over),
        rows=[
            (e.name, words(mark.at), fixed(mark.up, 4), fixed(mark.over, 4))
            for e in evaluations
            for mark in _marks(kind, e)
        ],
        draw=partial(_draw, kind, evaluations, words),
    )


def _draw(kind: _Kind, evaluations: Sequence[Evaluation], words: Words) -> Figure:
    names = [e.name for e in evaluations]
    figure = canvas(_HEIGHT + legend_height(names))
    axes = figure.subplots()
    for side in ("x", "y"):
        getattr(axes, f"set_{side}lim")(-0.015, 1.015)
        getattr(axes, f"set_{side}ticks")(np.arange(11) / 10)
    axes.set_aspect("equal")
    axes.set_xlabel(kind.x_label)
    axes.set_ylabel(kind.y_label)
    for place, evaluation in enumerate(evaluations):
        if kind.curve in evaluation.curves:
            _curve(axes, evaluation.curves[kind.curve], place)
            for mark in _marks(kind, evaluation)[:_MARKS]:
                _marked(axes, mark, place, words(mark.at) if len(evaluations) == 1 else "")
    if len(evaluations) == 1:
        area = evaluations[0].number("AUC_exact")
        if area is not None and area.value is not None:
            axes.annotate(f"AUC {fixed(area.value, 3)}", (0.05, 0.05), fontsize=14, color=INK)
    legend(figure, names)
    return figure


def _curve(axes: Axes, series: Series, place: int) -> None:
    """The points of a curve, with straight lines between, as the area is counted; level beyond the last."""
    mine = look(place)
    over, up = np.append(1 - series.x, 0.0), np.append(series.y, series.y[-1])
    axes.fill_between(over, up, color=mine.colour, alpha=_FAINT, linewidth=0)
    axes.plot(over, up, color=mine.colour, linestyle=mine.dash)


@dataclass(frozen=True, slots=True)
class _Mark:
    at: float
    up: float
    over: float


def _marks(kind: _Kind, evaluation: Evaluation) -> list[_Mark]:
    """Thresholds at which both errors of all trials were taken."""
    return [*_taken(kind, evaluation)]


def _taken(kind: _Kind, evaluation: Evaluation) -> Iterator[_Mark]:
    for number in evaluation.numbers:
        if number.measure == kind.miss and number.column is None and number.at is not None:
            other = evaluation.number(kind.alarm, number.at)
            if number.value is not None and other is not None and other.value is not None:
                yield _Mark(number.at, 1 - number.value, 1 - other.value)


def _marked(axes: Axes, mark: _Mark, place: int, words: str) -> None:
    """Mark a point, with the words on its inner side."""
    mine = look(place)
    axes.plot(
        [mark.over], [mark.up], marker=mine.marker, color=mine.colour, markeredgecolor=CARD, zorder=4,
        markersize=9,
    )  # fmt: skip
    for line in ((([mark.over] * 2, [0, mark.up])), ([0, mark.over], [mark.up] * 2)):
        axes.plot(*line, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
    if words:
        left = mark.over < _NARROW
        axes.annotate(
            words.replace(", ", "\n"), (mark.over, mark.up), xytext=(9 if left else -9, -8), va="top",
            textcoords="offset points", ha="left" if left else "right", fontsize=9.5, color=INK,
        )  # fmt: skip

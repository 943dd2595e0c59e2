"""The look of plots: colours for light and dark, what tells systems apart, and matplotlib's settings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.figure import Figure

from frpipe.vision.fonts import installed_fonts

# Light and dark of each role. Plots are drawn in the light ones; a page maps them to what suits its reader.
INK, DIM, LINE, CARD, SHADE = "#1d2430", "#5c6675", "#d5dae2", "#ffffff", "#eceff3"
ROLES = {
    "ink": (INK, "#e6e9ee"),
    "dim": (DIM, "#a3acb9"),
    "line": (LINE, "#3a424f"),
    "card": (CARD, "#1d222b"),
    "shade": (SHADE, "#2a313c"),
}
# After Okabe and Ito, which the colour-blind tell apart; darker on light, lighter on dark: 3:1 and more.
SERIES = (
    ("#0069a8", "#5bb5ee"),
    ("#c94f00", "#ff9c5b"),
    ("#007a58", "#35c795"),
    ("#a4458a", "#e897cb"),
    ("#8a6200", "#e3b23c"),
    ("#555e6b", "#b9c1cc"),
)
_DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (1.6, 1.6)), (0, (7, 2, 1.6, 2)), (0, (3, 1.4)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH = 400.0
_RC: dict[Any, Any] = {
    # A name is a name, dollars in it are no formula.
    "text.parse_math": False,
    "svg.hashsalt": "frpipe",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans", "NanumGothic"],
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": DIM,
    "axes.labelcolor": INK,
    "axes.facecolor": CARD,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.unicode_minus": True,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": DIM,
    "ytick.color": DIM,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.9,
    "lines.markersize": 6.0,
}


@dataclass(frozen=True, slots=True)
class Look:
    """The look of one system: colour, dash and marker together are unique for the first thirty."""

    colour: str
    dash: Any
    marker: str


def look(index: int) -> Look:
    """The look of the system at this place of the list."""
    return Look(
        SERIES[index % len(SERIES)][0], _DASHES[index % len(_DASHES)], _MARKERS[index % len(_MARKERS)]
    )


@contextmanager
def settings() -> Iterator[None]:
    """Set matplotlib alike on every machine; the machine's own settings come back at the end."""
    with mpl.rc_context(), warnings.catch_warnings():
        # A name in a script that the font lacks: the page's font shows it.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        for path in installed_fonts():
            font_manager.fontManager.addfont(path)
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def canvas(height: float, width: float = WIDTH) -> Figure:
    """Make a figure of so many points, an object of its own: nothing is registered anywhere."""
    return Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained", facecolor=CARD)

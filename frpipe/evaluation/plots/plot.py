"""A plot: what is drawn, what it says, and the numbers behind it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from matplotlib.figure import Figure

from frpipe.evaluation.plots.style import settings

# Twice the 72 dots to the inch that plots are laid out in.
_PNG_DPI = 144


@dataclass(frozen=True)
class Plot:
    """A plot.

    name: for files and ids.  title, caption: for people.  columns, rows: the numbers drawn, as a table. draw:
    a fresh figure; called within the settings of `style`.
    """

    name: str
    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    draw: Callable[[], Figure] = field(repr=False)

    def svg(self) -> str:
        """Write an SVG document in light colours; the same input gives the same text."""
        return self._svg

    @cached_property
    def _svg(self) -> str:
        with settings():
            buffer = io.StringIO()
            self.draw().savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        return buffer.getvalue()

    def png(self) -> bytes:
        """Write a PNG in light colours; the same input and the same matplotlib give the same bytes."""
        with settings():
            buffer = io.BytesIO()
            self.draw().savefig(buffer, format="png", dpi=_PNG_DPI, metadata={"Software": None})
        return buffer.getvalue()

"""Tables for people on a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out columns under their names; None is empty. East Asian wide characters count as two columns."""
    cells = [[printable("" if cell is None else str(cell)) for cell in row] for row in [header, *rows]]
    widths = [max(_width(row[column]) for row in cells) for column in range(len(header))]
    lines = (
        "  ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)) for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def size_text(count: int) -> str:
    """Write bytes for people: in kB below a tenth of a megabyte."""
    return f"{count / 1e3:,.1f} kB" if count < 100_000 else f"{count / 1e6:,.1f} MB"


def printable(text: str) -> str:
    """Escape what in a text could steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1

"""Fonts for names in any script."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fontTools.ttLib import TTFont, TTLibError
from PIL import ImageFont

from frpipe.core.plotting import forget_missing_backend

# Latin, Greek, Cyrillic, Arabic and Hebrew; then Hangul, kana and the usual Han characters.
_INSTALLED = (
    ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf"),
    ("koreanize_matplotlib", "fonts/NanumGothic.ttf"),
)


@cache
def font_for(text: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The first font that has every letter of a text, or else the one that lacks the fewest.

    Of the two that are installed with us, then of the machine's own.
    """
    wanted = {ord(letter) for letter in text if letter.isprintable()}
    best, lacking = None, len(wanted) + 1
    for path in _paths():
        lacks = len(wanted - _letters(path))
        if lacks < lacking:
            best, lacking = path, lacks
        if not lacks:
            break
    return ImageFont.truetype(str(best), size) if best else ImageFont.load_default(size)


def installed_fonts() -> list[Path]:
    """Files of the fonts that are installed with us, the plainest first."""
    found = ((find_spec(package), name) for package, name in _INSTALLED)
    paths = [Path(spec.origin).parent / name for spec, name in found if spec and spec.origin]
    return [path for path in paths if path.is_file()]


def _paths() -> Iterator[Path]:
    yield from installed_fonts()
    forget_missing_backend()
    from matplotlib.font_manager import findSystemFonts  # noqa: PLC0415 - slow, and seldom needed

    yield from map(Path, sorted(findSystemFonts()))


@cache
def _letters(path: Path) -> frozenset[int]:
    """Code points that a font has; none for a file that is no font of one face."""
    try:
        with TTFont(path, lazy=True) as font:
            return frozenset(font.getBestCmap() or ())
    except (TTLibError, OSError):
        return frozenset()

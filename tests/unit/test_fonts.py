"""Fonts: names in the scripts that people write them in, and not boxes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from frpipe.vision.fonts import font_for, installed_fonts

NAMES = ["Zoë Żółć", "김지수", "さくら", "王小明", "Жанна", "Γιώργος", "محمد", "שרה"]


def _drawn(text: str, like: str) -> np.ndarray:
    """Pixels of a text in the font of another."""
    image = Image.new("L", (200, 40))
    ImageDraw.Draw(image).text((4, 4), text, fill=255, font=font_for(like, 24))
    return np.asarray(image)


def test_two_fonts_come_with_the_package() -> None:
    assert [path.name for path in installed_fonts()] == ["DejaVuSans.ttf", "NanumGothic.ttf"]


@pytest.mark.parametrize("name", NAMES)
def test_no_letter_of_a_name_is_a_box(name: str) -> None:
    """A letter that a font lacks looks like any other that it lacks."""
    lacking = _drawn("\uffff" * len(name), name)
    drawn = _drawn(name, name)
    assert drawn.any()
    assert not np.array_equal(drawn, lacking)
    assert len({_drawn(letter, name).tobytes() for letter in set(name)}) == len(set(name))


def test_a_script_of_no_font_is_drawn_all_the_same() -> None:
    assert font_for("\U00012000\U00012001", 24) is not None

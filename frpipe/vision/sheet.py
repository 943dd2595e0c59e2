"""Draw a contact sheet: photos with their faces marked, and the aligned faces beneath."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from frpipe.vision.fonts import font_for

_TILE = 300
_CROP = 46
_CAPTION = 36
_GAP = 12
_PAPER = (24, 26, 30)
_INK = (225, 228, 232)
_DIM = (140, 146, 155)
_STATUS_INK = {"ok": (94, 214, 140), "no_face": (240, 190, 90), "rejected": (240, 110, 100)}
_FACE_INK = (94, 214, 140)
_CROPS_PER_TILE = (_TILE + 4) // (_CROP + 4)


@dataclass(frozen=True, slots=True)
class SheetTile:
    """One photo of a contact sheet.

    pixels: (H, W, 3) uint8 RGB upright, or None where it cannot be shown.  boxes: (k, 4) xyxy and points:
    (k, 5, 2), in pixels of `pixels`.  crops: aligned faces, each (s, s, 3) uint8 RGB.
    """

    title: str
    status: str
    note: str
    pixels: np.ndarray | None = None
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 5, 2), np.float32))
    crops: Sequence[np.ndarray] = ()


def draw_sheet(tiles: Sequence[SheetTile], columns: int = 4) -> np.ndarray:
    """Draw the sheet as (H, W, 3) uint8 RGB, `columns` tiles wide."""
    columns = max(1, min(columns, len(tiles)))
    rows = max(1, -(-len(tiles) // columns))
    high = _TILE + _CAPTION + _CROP + 2 * _GAP
    sheet = Image.new("RGB", (columns * (_TILE + _GAP) + _GAP, rows * high + _GAP), _PAPER)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        _draw_tile(sheet, tile, _GAP + column * (_TILE + _GAP), _GAP + row * high)
    return np.asarray(sheet)


def _draw_tile(sheet: Image.Image, tile: SheetTile, left: int, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    if tile.pixels is None:
        draw.rectangle((left, top, left + _TILE - 1, top + _TILE - 1), outline=_DIM)
        middle = (left + _TILE / 2, top + _TILE / 2)
        draw.text(middle, "not shown", fill=_DIM, font=font_for("not shown", 15), anchor="mm")
    else:
        _draw_photo(sheet, tile, tile.pixels, left, top)
    title, note = _fit(tile.title, 40), _fit(tile.note, 46)
    draw.text((left, top + _TILE + 4), title, fill=_INK, font=font_for(title, 14))
    draw.text(
        (left, top + _TILE + 21), note, fill=_STATUS_INK.get(tile.status, _INK), font=font_for(note, 12)
    )
    for index, crop in enumerate(tile.crops[:_CROPS_PER_TILE]):
        small = Image.fromarray(crop).resize((_CROP, _CROP), Image.Resampling.LANCZOS)
        sheet.paste(small, (left + index * (_CROP + 4), top + _TILE + _CAPTION + 4))


def _draw_photo(sheet: Image.Image, tile: SheetTile, pixels: np.ndarray, left: int, top: int) -> None:
    height, width = pixels.shape[:2]
    scale = _TILE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    x0, y0 = left + (_TILE - size[0]) // 2, top + (_TILE - size[1]) // 2
    sheet.paste(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS), (x0, y0))
    draw = ImageDraw.Draw(sheet)
    offset = np.array([x0, y0])
    for box, points in zip(tile.boxes, tile.points, strict=True):
        corners = (box.reshape(2, 2) * scale + offset).reshape(4)
        draw.rectangle(tuple(float(v) for v in corners), outline=_FACE_INK, width=2)
        for x, y in points * scale + offset:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(255, 255, 255))


def _fit(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"

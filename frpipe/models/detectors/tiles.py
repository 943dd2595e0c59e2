"""A view larger than the input of a detector, in tiles that overlap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frpipe.vision.view import View

# Pixels by which tiles reach into their neighbours: a face of up to twice that is whole in the tile that
# holds its centre. Larger ones are found in the look at the whole photo from afar. Of a small fixed input it
# is a quarter, so that half of each tile is its own.
MARGIN_PX = 96
TILE_PX = 1280


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A part of a view. own: (x1, y1, x2, y2) in its pixels, where a face's centre makes it this tile's."""

    view: View
    own: tuple[float, float, float, float]


def tiles_of(view: View, most_side_px: int) -> Iterator[Tile]:
    """The view itself where it fits; else tiles, row by row, that own each of its points once."""
    height, width = view.pixels.shape[:2]
    infinite = float("inf")
    if max(height, width) <= most_side_px:
        yield Tile(view, (-infinite, -infinite, infinite, infinite))
        return
    tile = min(TILE_PX, most_side_px)
    for top, bottom, own_top, own_bottom in _spans(height, tile):
        for left, right, own_left, own_right in _spans(width, tile):
            frame = view.frame.copy()
            frame[:, 2] += view.frame[:, :2] @ np.array([left, top], np.float64)
            pixels = view.pixels[top:bottom, left:right]
            own = (own_left - left, own_top - top, own_right - left, own_bottom - top)
            yield Tile(View(pixels, frame), own)


def is_own(tile: Tile, boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which boxes (k, 4), in pixels of the tile, have their centres in the part that is the tile's own."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    low, high = np.array(tile.own[:2]), np.array(tile.own[2:])
    own: NDArray[np.bool_] = np.all((centres >= low) & (centres < high), axis=1)
    return own


def _spans(length: int, tile: int) -> Iterator[tuple[int, int, float, float]]:
    """Starts and ends of tiles along an axis, as even as can be, and of what each owns."""
    infinite = float("inf")
    if length <= tile:
        yield 0, length, -infinite, infinite
        return
    margin = min(MARGIN_PX, tile // 4)
    step = tile - 2 * margin
    count = -(-length // step)
    cuts = [round(number * length / count) for number in range(count + 1)]
    for number in range(count):
        first, last = number == 0, number == count - 1
        start = 0 if first else cuts[number] - margin
        stop = length if last else cuts[number + 1] + margin
        yield start, stop, -infinite if first else cuts[number], infinite if last else cuts[number + 1]

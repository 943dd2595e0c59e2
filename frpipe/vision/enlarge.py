"""Cut an enlarged window about a face's box out of a photo, for networks that judge a scene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.vision.align import to_photo_pixels
from frpipe.vision.crop import check_box
from frpipe.vision.decode import SHRINKS, Photo

Pixels = NDArray[np.uint8]
Border = Literal["reflect", "constant", "shift"]
Resize = Literal["area", "bilinear"]
MOST_SIDE = 1024
# A window that reaches beyond the photo has so many pixels a side for one of the crop, at most: what is made
# up at the border then takes no more memory, however large the photo.
_MOST_RATIO = 16


@dataclass(frozen=True, slots=True)
class Enlarged:
    """A crop about a face's box, not aligned: `scale` times the box, resized to `side` x `side` pixels.

    border: what is done where the window reaches beyond the photo.
    reflect: a square, `scale` times the longer side of the box; the photo is mirrored at its outermost
    pixels, which are not repeated.
    constant: the same square; black beyond the photo.
    shift: the box itself, enlarged, in its own proportions; it is made smaller until it fits into the photo
    and moved inside, as MiniFASNet's reference code does.
    resize: how the window becomes the crop.
    area: reduced by area, enlarged bilinearly (OpenCV's INTER_AREA and INTER_LINEAR).
    bilinear: bilinearly in either case, which leaves pixels out where it is reduced by more than 2; it is cut
    from the whole photo, never from a decode at a half or less.
    """

    scale: float
    side: int
    border: Border
    resize: Resize = "area"

    def __post_init__(self) -> None:
        """Check the sizes. Raises ValueError."""
        if not (math.isfinite(self.scale) and 0 < self.scale <= 16):
            raise ValueError(f"the scale {self.scale} is not in 0..16")
        if not 1 <= self.side <= MOST_SIDE:
            raise ValueError(f"the side {self.side} is not in 1..{MOST_SIDE}")
        if self.border not in get_args(Border):
            raise ValueError(f"the border {self.border!r} is none of {', '.join(get_args(Border))}")
        if self.resize not in get_args(Resize):
            raise ValueError(f"the resize {self.resize!r} is none of {', '.join(get_args(Resize))}")


def enlarged_window(box: ArrayLike, wanted: Enlarged, width: int, height: int) -> tuple[int, int, int, int]:
    """Corners of the window, x1, y1, x2, y2, x2 and y2 behind the last pixel; `shift` stays in the photo.

    box: (4,) xyxy in pixels of a photo of width x height. Rejects: BOX_OUTSIDE as `square_crop`.
    """
    low, high = np.asarray(box, np.float64).reshape(2, 2)
    check_box(low, high, (width, height))
    if wanted.border == "shift":
        return _moved_inside(low, high, wanted.scale, np.array([width, height]))
    side = max(1, round(float((high - low).max()) * wanted.scale))
    # Pixel i covers i - 0.5 .. i + 0.5.
    first = np.floor((low + high) / 2 - side / 2 + 1).astype(int)
    return int(first[0]), int(first[1]), int(first[0]) + side, int(first[1]) + side


def enlarged_crop(pixels: Pixels, box: ArrayLike, wanted: Enlarged) -> Pixels:
    """(side, side, 3) uint8 RGB. pixels: (H, W, 3) uint8 RGB. box: (4,) xyxy, pixels of that array.

    Rejects: BOX_OUTSIDE.
    """
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = enlarged_window(box, wanted, width, height)
    is_inside = x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height
    part = pixels[y1:y2, x1:x2] if is_inside else _filled_up(pixels, (x1, y1, x2, y2), wanted)
    return resized(part, wanted.side, wanted.resize)


def enlarged_from(photo: Photo, box: ArrayLike, wanted: Enlarged, turn_deg: int = 0) -> Pixels:
    """Cut an enlarged crop, `box` in pixels of the upright ORIGINAL, out of the photo turned by `turn_deg`.

    turn_deg: clockwise, any number of quarters. Rejects: BOX_OUTSIDE.
    """
    corners = to_photo_pixels(photo, np.asarray(box, np.float64).reshape(2, 2))
    height, width = photo.pixels.shape[:2]
    quarter = turn_deg // 90 % 4
    # A view: nothing is copied but the window.
    return enlarged_crop(np.rot90(photo.pixels, -quarter), _turned(corners, quarter, width, height), wanted)


def enlarged_shrink(box: ArrayLike, wanted: Enlarged) -> int:
    """The largest decode shrink, 1, 2, 4 or 8, that leaves the window as many pixels as the crop has.

    box: (4,) xyxy, pixels of the upright original. What is resized bilinearly needs all pixels: 1.
    """
    if wanted.resize == "bilinear":
        return 1
    low, high = np.asarray(box, np.float64).reshape(2, 2)
    sides = (high - low) * wanted.scale
    least = float(sides.min() if wanted.border == "shift" else sides.max())
    return max((shrink for shrink in SHRINKS if least / shrink >= wanted.side), default=1)


def resized(pixels: Pixels, side: int, how: Resize = "area") -> Pixels:
    """Resize to (side, side, 3): by area where both axes shrink, else bilinearly."""
    height, width = pixels.shape[:2]
    by_area = how == "area" and min(height, width) >= side
    way = cv2.INTER_AREA if by_area else cv2.INTER_LINEAR
    smaller: Pixels = cv2.resize(np.ascontiguousarray(pixels), (side, side), interpolation=way)
    return smaller


def _moved_inside(
    low: NDArray[np.float64], high: NDArray[np.float64], scale: float, photo: NDArray[np.int64]
) -> tuple[int, int, int, int]:
    """Move a window into the photo (`shift`): low, high, photo are (x, y); the last pixel is inclusive."""
    scale = min(scale, *((photo - 1) / (high - low)))
    half = (high - low) * scale / 2
    first, last = (low + high) / 2 - half, (low + high) / 2 + half
    first, last = first - np.minimum(first, 0), last - np.minimum(first, 0)
    over = np.maximum(last - (photo - 1), 0)
    # What is lost in float64 may put a corner a hair beyond the photo.
    ends = [np.clip(end - over, 0, photo - 1) for end in (first, last)]
    (x1, y1), (x2, y2) = (np.floor(end).astype(int).tolist() for end in ends)
    return x1, y1, x2 + 1, y2 + 1


def _filled_up(pixels: Pixels, window: tuple[int, int, int, int], wanted: Enlarged) -> Pixels:
    """Fill up what of a window lies beyond the photo; reduce it first where it is many times the crop."""
    x1, y1, x2, y2 = window
    height, width = pixels.shape[:2]
    factor = max(1, (x2 - x1) // (_MOST_RATIO * wanted.side))
    if factor > 1:
        size = (max(1, round(width / factor)), max(1, round(height / factor)))
        pixels = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)
        across, down = size[0] / width, size[1] / height
        side = max(1, round((x2 - x1) * across))
        x1, y1 = round(x1 * across), round(y1 * down)
        x2, y2 = x1 + side, y1 + side
        height, width = pixels.shape[:2]
    left, columns, right = _needed(x1, x2, width)
    above, rows, below = _needed(y1, y2, height)
    # A border pixel of the reduced photo is many of the photo: only its outermost one is not repeated.
    mirrored = cv2.BORDER_REFLECT_101 if factor == 1 else cv2.BORDER_REFLECT
    way = mirrored if wanted.border == "reflect" else cv2.BORDER_CONSTANT
    part = np.ascontiguousarray(pixels[rows, columns])
    padded: Pixels = cv2.copyMakeBorder(part, above, below, left, right, way, value=(0, 0, 0))
    y, x = y1 - rows.start + above, x1 - columns.start + left
    return padded[y : y + y2 - y1, x : x + x2 - x1]


def _needed(start: int, stop: int, length: int) -> tuple[int, slice, int]:
    """Measure how far start..stop reaches beyond an axis of `length` on either side, and what of it is seen.

    Mirrored pixels are as far inside as they are seen outside.
    """
    before, after = max(0, -start), max(0, stop - length)
    first, last = max(0, start), min(length, stop)
    if before:
        last = min(length, max(last, before + 1))
    if after:
        first = max(0, min(first, length - 1 - after))
    return before, slice(first, last), after


def _turned(corners: NDArray[np.float64], quarter: int, width: int, height: int) -> NDArray[np.float64]:
    """Turn the box of `corners` (2, 2) as its photo of width x height is turned clockwise: (4,) xyxy."""
    for _ in range(quarter):
        x, y = corners[:, 0], corners[:, 1]
        corners = np.column_stack([height - 1 - y, x])
        width, height = height, width
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])

"""Resampling a square out of a photo by a similarity transform."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from frpipe.vision.geometry import invert, reduction

Pixels = NDArray[np.uint8]
# Whole cells kept around the region sampled, so that bilinear sampling never meets its cut edge.
_RIM_CELLS = 2
# OpenCV addresses the source of a warp with 16-bit integers.
_MAX_WARP_SIDE_PX = 32_000


def area_factor(source_px_per_pixel: float) -> int:
    """The largest power of two <= `source_px_per_pixel`, at least 1.

    After a reduction by it the warp samples at 1 to 2 source pixels per pixel, where bilinear sampling loses
    and aliases little. A power of two, so that libjpeg's scaled decode can stand in for the reduction.
    """
    factor = 1
    while factor * 2 <= source_px_per_pixel:
        factor *= 2
    return factor


def warp_square(
    pixels: Pixels,
    matrix: NDArray[np.float64],
    size: int,
    antialias: bool,
    grid: tuple[int, int] = (0, 0),
) -> Pixels:
    """(size, size, 3) uint8: `pixels` (H, W, 3) through `matrix` (2, 3), source to target. Black outside.

    antialias: reduce the source by area first, by `area_factor`, where it is larger than the target.
    grid: (x, y) of a pixel that starts a cell of that reduction; where cells start is visible in the crop.
    """
    height, width = pixels.shape[:2]
    factor = area_factor(min(reduction(matrix), max(height, width))) if antialias else 1
    low_x, high_x, low_y, high_y = _extent(matrix, size)
    longest = max(high_x - low_x, high_y - low_y)
    while longest / factor > _MAX_WARP_SIDE_PX and max(height, width) > _MAX_WARP_SIDE_PX:
        factor *= 2
    across = _span(low_x, high_x, factor, grid[0], width)
    down = _span(low_y, high_y, factor, grid[1], height)
    if len(across) == 0 or len(down) == 0:
        return np.zeros((size, size, 3), np.uint8)
    reduced = reduce_area(_cut(pixels, across, down), factor)
    # Cell u covers source pixels across.start + u*factor .. across.start + (u+1)*factor - 1.
    first = np.array([across.start, down.start]) + (factor - 1) / 2
    combined = matrix * factor
    combined[:, 2] = matrix[:, :2] @ first + matrix[:, 2]
    crop: Pixels = cv2.warpAffine(
        reduced, combined, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
    return crop


def _extent(matrix: NDArray[np.float64], size: int) -> tuple[float, float, float, float]:
    """The extent of the source that a target of `size` pixels a side sees: lowest and highest x, then y."""
    (a, b, x), (c, d, y) = invert(matrix).tolist()
    ends = (-0.5, size - 0.5)
    xs = [a * u + b * v + x for u in ends for v in ends]
    ys = [c * u + d * v + y for u in ends for v in ends]
    return min(xs), max(xs), min(ys), max(ys)


def reduce_area(pixels: Pixels, factor: int) -> Pixels:
    """Reduce by means of factor x factor cells. A cut cell at the right or bottom repeats its last pixels."""
    if factor == 1:
        return pixels
    height, width = pixels.shape[:2]
    columns, rows = -(-width // factor), -(-height // factor)
    missing_x, missing_y = columns * factor - width, rows * factor - height
    if missing_x or missing_y:
        pixels = cv2.copyMakeBorder(pixels, 0, missing_y, 0, missing_x, cv2.BORDER_REPLICATE)
    reduced: Pixels = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA)
    return reduced


def _span(low: float, high: float, factor: int, start: int, length: int) -> range:
    """The pixels of the whole cells that low..high sees, along an axis of `length` pixels.

    Cells are counted from `start`; the first and the last of the axis may reach beyond it.
    """
    phase = start % factor
    first = max(math.floor((low - phase) / factor) - _RIM_CELLS, -1 if phase else 0)
    last = min(math.ceil((high - phase) / factor) + _RIM_CELLS, -(-(length - phase) // factor))
    return range(phase + first * factor, phase + last * factor)


def _cut(pixels: Pixels, across: range, down: range) -> Pixels:
    """Cut out a part of a picture; beyond its border the outermost pixels are repeated, as encoders do."""
    height, width = pixels.shape[:2]
    part = pixels[max(down.start, 0) : down.stop, max(across.start, 0) : across.stop]
    above, below = max(-down.start, 0), max(down.stop - height, 0)
    before, after = max(-across.start, 0), max(across.stop - width, 0)
    if above or below or before or after:
        part = cv2.copyMakeBorder(part, above, below, before, after, cv2.BORDER_REPLICATE)
    return part

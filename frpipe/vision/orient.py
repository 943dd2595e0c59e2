"""EXIF orientation: from pixels as stored to pixels as seen."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Which axes of the upright picture run against the stored ones. Orientations 5 to 8 swap the axes first.
FLIPS_X = frozenset({2, 3, 6, 7})
FLIPS_Y = frozenset({3, 4, 7, 8})


def orient(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply EXIF orientation 1..8 (CIPA DC-008, tag 0x0112) to (H, W, 3) uint8 pixels.

    Returns (H, W, 3), or (W, H, 3) for 5 to 8; the array itself for 1. Raises ValueError for other values.
    """
    if not 1 <= orientation <= 8:
        raise ValueError(f"orientation {orientation} is not 1..8")
    if orientation >= 5:
        pixels = cv2.transpose(pixels)
    flips_x, flips_y = orientation in FLIPS_X, orientation in FLIPS_Y
    if not (flips_x or flips_y):
        return pixels
    # cv2.flip: 1 mirrors x, 0 mirrors y, -1 both.
    axis = -1 if flips_x and flips_y else int(flips_x)
    flipped: NDArray[np.uint8] = cv2.flip(pixels, axis)
    return flipped

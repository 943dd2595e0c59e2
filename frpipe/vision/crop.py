"""Cut a square around a box, for embedders and displays that want no alignment."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.core.reasons import Reason, Reject
from frpipe.vision.warp import warp_square

# A pixel, as far as corners that are rounded can say it.
_MIN_SIDE_PX = 0.999
_MAX_SIDE_PX = 1e6


def square_crop(
    pixels: NDArray[np.uint8], box: ArrayLike, size: int = 224, margin: float = 0.0
) -> NDArray[np.uint8]:
    """(size, size, 3) uint8 RGB: the square about the centre of `box`, as wide as its longer side.

    pixels: (H, W, 3) uint8 RGB. box: (4,) xyxy, pixels of that array. margin: share of the side added to it.
    Both axes are scaled alike, so a circle stays a circle. Black outside the photo.
    Rejects: BOX_OUTSIDE where the box is not finite, has no area or lies wholly outside the photo, and where
    the square is smaller than a pixel or larger than any photo.
    """
    low, high = np.asarray(box, np.float64).reshape(2, 2)
    check_box(low, high, pixels.shape[1::-1])
    side = float((high - low).max()) * (1 + margin)
    if not _MIN_SIDE_PX <= side <= _MAX_SIDE_PX:
        raise Reject(Reason.BOX_OUTSIDE, "the square is smaller than a pixel or larger than any photo")
    scale = size / side
    shift = (size - 1) / 2 - scale * (low + high) / 2
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return warp_square(pixels, matrix, size, antialias=True)


def check_box(low: NDArray[np.float64], high: NDArray[np.float64], photo: tuple[int, ...]) -> None:
    """Reject a box outside of its photo: BOX_OUTSIDE. low, high: its corners; photo: (width, height)."""
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise Reject(Reason.BOX_OUTSIDE, "the box is not finite")
    if (high <= low).any():
        raise Reject(Reason.BOX_OUTSIDE, "the box has no area")
    if (high <= -0.5).any() or (low >= np.subtract(photo, 0.5)).any():
        raise Reject(Reason.BOX_OUTSIDE, "the box lies outside the photo")

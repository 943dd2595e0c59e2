"""Cut the aligned crop that embedders take out of a photo, by five points."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.vision.decode import SHRINKS, Photo
from frpipe.vision.exif import FLIPS_X, FLIPS_Y
from frpipe.vision.geometry import Points, reduction, similarity, template
from frpipe.vision.warp import area_factor, warp_square


def align(
    pixels: NDArray[np.uint8], points: ArrayLike, size: int = 112, antialias: bool = True
) -> NDArray[np.uint8]:
    """(size, size, 3) uint8 RGB: the face at `points`, moved onto the template. Black outside the photo.

    pixels: (H, W, 3) uint8 RGB. points: (5, 2), pixels of that array; they may lie outside it.
    Rejects: DEGENERATE_LANDMARKS.
    """
    return warp_square(pixels, similarity(points, template(size)), size, antialias)


def align_photo(
    photo: Photo, points: ArrayLike, size: int = 112, antialias: bool = True
) -> NDArray[np.uint8]:
    """Align as `align` does; points: (5, 2), in pixels of the upright ORIGINAL, whatever the shrink."""
    matrix = similarity(to_photo_pixels(photo, points), template(size))
    return warp_square(photo.pixels, matrix, size, antialias, grid_of(photo))


def grid_of(photo: Photo) -> tuple[int, int]:
    """The pixel (x, y) that starts a cell of `warp_square`.

    A scaled decode counts its cells from the corner that was stored first, and so does a reduction after it.
    """
    height, width = photo.pixels.shape[:2]
    return width if photo.orientation in FLIPS_X else 0, height if photo.orientation in FLIPS_Y else 0


def needed_shrink(points: ArrayLike, size: int = 112, antialias: bool = True) -> int:
    """The largest decode shrink, 1, 2, 4 or 8, that still gives the crop of the full decode.

    points: (5, 2), pixels of the upright original. Rejects: DEGENERATE_LANDMARKS.
    """
    matrix = similarity(points, template(size))
    return min(area_factor(reduction(matrix)), SHRINKS[-1]) if antialias else 1


def to_photo_pixels(photo: Photo, points: ArrayLike) -> Points:
    """(..., 2) float64: `points` of the upright original, in pixels of `photo.pixels`."""
    return (np.asarray(points, np.float64) + 0.5) / photo.shrink - 0.5 + _offset(photo)


def to_original_pixels(photo: Photo, points: ArrayLike) -> Points:
    """(..., 2) float64: `points` of `photo.pixels`, in pixels of the upright original."""
    return (np.asarray(points, np.float64) - _offset(photo) + 0.5) * photo.shrink - 0.5


def _offset(photo: Photo) -> Points:
    """Offset of a flipped axis: its cut last cell has become the first and starts outside the original."""
    height, width = photo.pixels.shape[:2]
    x = width - photo.width / photo.shrink if photo.orientation in FLIPS_X else 0.0
    y = height - photo.height / photo.shrink if photo.orientation in FLIPS_Y else 0.0
    return np.array([x, y])

"""Views for a detector: pictures cut, turned and scaled out of a photo, and the way back to the photo.

A frame is a (2, 3) float64 affine transform from pixels of the picture to pixels of the upright ORIGINAL
photo (EXIF applied, full size). Pixel centres lie at integers. Angles are degrees, clockwise as seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.vision.align import grid_of, to_original_pixels
from frpipe.vision.decode import Photo
from frpipe.vision.geometry import invert, similarity, template
from frpipe.vision.warp import warp_square

Frame = NDArray[np.float64]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A view. pixels: (h, w, 3) uint8 RGB. frame: from its pixels to those of the upright original."""

    pixels: Pixels
    frame: Frame

    @property
    def scale(self) -> float:
        """Pixels of the view per pixel of the original, along one axis."""
        return float(abs(np.linalg.det(self.frame[:, :2])) ** -0.5)


def whole(photo: Photo, side: int, turn_deg: int = 0) -> View:
    """View all of a photo, reduced by area until its longer side is at most `side`, then turned clockwise.

    turn_deg: 0, 90, 180 or 270. A photo is never enlarged.
    """
    pixels = reduced(photo.pixels, side)
    height, width = pixels.shape[:2]
    frame = _of_photo(photo) @ _stretch(photo.pixels.shape[1] / width, photo.pixels.shape[0] / height)
    return turned(View(pixels, frame[:2]), turn_deg)


def turned(view: View, turn_deg: int) -> View:
    """The view turned clockwise by 0, 90, 180 or 270 degrees."""
    quarter = turn_deg // 90 % 4
    if not quarter:
        return view
    height, width = view.pixels.shape[:2]
    frame = np.vstack([view.frame, [0.0, 0.0, 1.0]]) @ _unturned(quarter, width, height)
    return View(np.ascontiguousarray(np.rot90(view.pixels, -quarter)), frame[:2])


def square(photo: Photo, centre: ArrayLike, side: float, roll_deg: float, size: int) -> View:
    """View a square of a photo, turned so that what is rolled by `roll_deg` stands upright. Black outside.

    centre: (x, y) and side: pixels of the original. size: of the view, pixels. A reduction is done by area.
    """
    frame = _square_frame(np.asarray(centre, np.float64), side / size, roll_deg, size)
    back, of_photo = invert(frame), _of_photo(photo)
    matrix = back[:, :2] @ of_photo[:2]
    matrix[:, 2] += back[:, 2]
    return View(warp_square(photo.pixels, matrix, size, True, grid_of(photo)), frame)


def reduced(pixels: Pixels, side: int) -> Pixels:
    """Reduce a picture, (h, w, 3), by area until its longer side is `side`; itself where it is no longer."""
    height, width = pixels.shape[:2]
    ratio = side / max(height, width, 1)
    if ratio >= 1:
        return pixels
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    smaller: Pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return smaller


def roll_of(points: ArrayLike) -> float:
    """The roll of a face by its landmarks (5, 2), in (-180, 180].

    That of the similarity which brings them closest to the template. Rejects: DEGENERATE_LANDMARKS.
    """
    matrix = similarity(points, template(112))
    return wrapped(-float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))))


def wrapped(angle_deg: float) -> float:
    """Wrap an angle into (-180, 180]."""
    return 180.0 - (180.0 - angle_deg) % 360.0


def _of_photo(photo: Photo) -> Frame:
    """The transform (3, 3) from pixels of a decoded photo to those of its original."""
    corner = to_original_pixels(photo, [[0.0, 0.0]])[0]
    frame = np.eye(3) * photo.shrink
    frame[:2, 2] = corner
    frame[2, 2] = 1
    return frame


def _stretch(factor_x: float, factor_y: float) -> Frame:
    """The transform (3, 3) `(p + 0.5) * factor - 0.5`, since resizing keeps the outer edges in place."""
    return np.array(
        [[factor_x, 0, factor_x / 2 - 0.5], [0, factor_y, factor_y / 2 - 0.5], [0, 0, 1]], np.float64
    )


def _unturned(quarter: int, width: int, height: int) -> Frame:
    """The transform (3, 3) that undoes a clockwise turn by `quarter` quarters of a picture width x height."""
    across, down = width - 1.0, height - 1.0
    return {
        1: np.array([[0, 1, 0], [-1, 0, down], [0, 0, 1]], np.float64),
        2: np.array([[-1, 0, across], [0, -1, down], [0, 0, 1]], np.float64),
        3: np.array([[0, -1, across], [1, 0, 0], [0, 0, 1]], np.float64),
    }[quarter]


def _square_frame(centre: Frame, px_per_pixel: float, roll_deg: float, size: int) -> Frame:
    roll = math.radians(roll_deg)
    cosine, sine = px_per_pixel * math.cos(roll), px_per_pixel * math.sin(roll)
    x, y = centre.tolist()
    middle = (size - 1) / 2
    return np.array(
        [
            [cosine, -sine, x - (cosine - sine) * middle],
            [sine, cosine, y - (sine + cosine) * middle],
        ]
    )

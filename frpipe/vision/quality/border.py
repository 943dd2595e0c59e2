"""Measure how far a face stands from the left and the right border of its photo."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from frpipe.vision.quality.component import Floats, sigmoid, whole


def upright_points(
    points: ArrayLike, width: ArrayLike, height: ArrayLike, turn_deg: ArrayLike
) -> tuple[Floats, Floats]:
    """Points (n, 5, 2) and widths (n,) of photos that were turned by 0, 90, 180 or 270 degrees clockwise.

    width, height: (n,), of the photos as the points are in them, pixels.
    """
    marks, w, h = (np.asarray(each, np.float64) for each in (points, width, height))
    x, y = marks[..., 0], marks[..., 1]
    turns = np.asarray(turn_deg, np.int64)[:, None] // 90 % 4
    left, up = (
        np.choose(turns, options)
        for options in (
            (x, h[:, None] - 1 - y, w[:, None] - 1 - x, y),
            (y, x, h[:, None] - 1 - y, w[:, None] - 1 - x),
        )
    )
    return np.stack([left, up], axis=-1), np.where(turns[:, 0] % 2 == 1, h, w)


def border_distances(points: ArrayLike, width: ArrayLike) -> tuple[Floats, Floats]:
    """Distances, (n,) each, from the left and the right border to the eye beside it, in eye distances.

    points: (n, 5, 2) in pixels of upright photos `width` (n,) wide.  NaN where the eyes are at one place.
    ISO/IEC 29794-5:2025, leftward and rightward crop of the face image, as OFIQ computes them
    (`CropOfTheFaceImage`). OFIQ takes an eye as the middle of its corners; here it is the detector's point.
    """
    marks, wide = np.asarray(points, np.float64), np.asarray(width, np.float64)
    left, right = marks[:, 0], marks[:, 1]
    eyes = np.hypot(*(right - left).T)
    eyes = np.where(eyes > 0, eyes, np.nan)
    return left[:, 0] / eyes, (wide - right[:, 0]) / eyes


def border_component(distances: ArrayLike) -> Floats:
    """round(100 sigmoid) with x0 0.9 distances of the eyes and w 0.1 (OFIQ, `CropOfTheFaceImage`)."""
    return whole(100.0 * sigmoid(distances, 0.9, 0.1))

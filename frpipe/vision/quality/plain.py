"""Plain measures of how usable a face is. They rank; none of them is a decision."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray


def inter_eye_px(points: ArrayLike) -> float:
    """Distance of the eyes, in the pixels that `points` (5, 2) are in."""
    left, right = np.asarray(points, np.float64)[:2]
    return float(np.hypot(*(right - left)))


def nose_offset(points: ArrayLike) -> float:
    """Distance of the nose from the middle of the eyes, in eye distances: 0 from the front, 0.5 at one eye.

    points: (5, 2), upright or rolled. Infinite where the eyes are at one place.
    """
    left, right, nose = np.asarray(points, np.float64)[:3]
    eyes = right - left
    length = float(eyes @ eyes)
    return float(abs((nose - (left + right) / 2) @ eyes) / length) if length else float("inf")


def sharpness(crop: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of an aligned crop, (H, W, 3) uint8 RGB: higher is sharper, 0 is flat.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000. It depends on the size of
    the crop and on noise: compare crops of one size only.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var(dtype=np.float64))


def brightness(crop: NDArray[np.uint8]) -> float:
    """Mean luma (ITU-R BT.601) of a crop, (H, W, 3) uint8 RGB: 0 black to 255 white."""
    return float(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).mean())

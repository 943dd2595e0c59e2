"""Fine detail of an aligned crop: how sharp it is, and how noisy."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.vision.quality.component import Floats, sigmoid, whole
from frpipe.vision.quality.luminance import BOX, IN_BOX

# Of the difference of Gaussians, pixels of the crop: what is finer than the first is mostly noise.
_FINE, _COARSE = 1.0, 2.0
# The second blurs what the first has blurred.
_FURTHER: Final = (_COARSE**2 - _FINE**2) ** 0.5
# Of grey levels: keeps flat crops from having infinite detail.
_LEAST_CONTRAST: Final = 5.0
_SECOND: Final = np.array([1, -2, 1], np.float32)
# Of the mean of |filter| of white noise: sigma, times the norm of the filter, times sqrt(2 / pi).
_TO_SIGMA: Final = (np.pi / 2) ** 0.5 / 6


def detail(crops: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Sharpness and noise, (n,) each, of the face region of aligned crops (n, 112, 112, 3) uint8 RGB.

    Sharpness, from 0: the standard deviation of what Gaussians of 1 and 2 pixels differ by, over that of all
    of the grey values plus 5: the share of contrast at the fine scale that an embedder sees, whatever the
    light. Marr and Hildreth (Proc. R. Soc. B 207, 1980) give the band; the ratio is frpipe's own. It stands
    for the sharpness of ISO/IEC 29794-5:2025, which OFIQ takes from a random forest over 26 features.
    Noise: the standard deviation of white noise, grey levels of 255, by Immerkaer, "Fast noise variance
    estimation", CVIU 64(2), 1996; fine texture counts as noise, some 0.7 on clean photos.
    """
    found = np.array([_detail(crop[BOX]) for crop in crops], np.float64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _detail(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = cv2.GaussianBlur(grey, (7, 7), _FINE)
    band = fine - cv2.GaussianBlur(fine, (11, 11), _FURTHER)
    (_, contrast), (_, spread) = (cv2.meanStdDev(each, mask=IN_BOX) for each in (grey, band))
    rough = cv2.mean(np.abs(cv2.sepFilter2D(grey, -1, _SECOND, _SECOND)), mask=IN_BOX)[0]
    return spread.item() / (contrast.item() + _LEAST_CONTRAST), rough * _TO_SIGMA


def sharpness_component(sharpness: ArrayLike) -> Floats:
    """round(100 sigmoid) with x0 0.08 and w 0.012, chosen on blurred and reduced photos of LFW."""
    return whole(100.0 * sigmoid(sharpness, 0.08, 0.012))


def noise_component(sigma: ArrayLike) -> Floats:
    """round(100 (1 - sigmoid)) with x0 11 grey levels and w 2.5, chosen on noisy photos of LFW."""
    return whole(100.0 * (1.0 - sigmoid(sigma, 11.0, 2.5)))

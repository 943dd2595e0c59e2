"""Light on a face: luminance of the aligned crop, its histogram, and the measures that follow from it."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.vision.quality.component import Floats, sigmoid, whole

_SIDE: Final = 112
# The face in the 112x112 crop, from the brows to the chin: an ellipse, below the brows. It stands for the
# hull of the 98 landmarks that OFIQ uses.
_CENTRE, _HALF, _BROWS = (56, 74), (34, 44), 38


def _region() -> tuple[tuple[slice, slice], NDArray[np.uint8]]:
    """Rows and columns of a crop that hold the face region, and which of their pixels are in it, 1 or 0."""
    mask = np.zeros((_SIDE, _SIDE), np.uint8)
    cv2.ellipse(mask, _CENTRE, _HALF, 0, 0, 360, 1, -1)
    mask[:_BROWS] = 0
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    return box, np.ascontiguousarray(mask[box])


BOX, IN_BOX = _region()


def _linear(values: Floats) -> Floats:
    """Linear light of sRGB values in [0, 1] (IEC 61966-2-1)."""
    return np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)


_LIGHT: Final = np.ascontiguousarray(
    np.outer(255 * _linear(np.arange(256) / 255), (0.2126, 0.7152, 0.0722)).astype(np.float32)[None]
)
_SUM: Final = np.ones((1, 3), np.float32)


def luminance(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) uint8: relative luminance, linear light in 255 steps, of (h, w, 3) uint8 RGB (sRGB).

    Of ITU-R BT.709 after the transfer function of sRGB is undone, rounded, as OFIQ computes it
    (`GetLuminanceImageFromBGR`).
    """
    grey = cv2.transform(cv2.LUT(pixels, _LIGHT), _SUM)
    grey += np.float32(0.5)
    found: NDArray[np.uint8] = grey.astype(np.uint8)
    return found


def face_histograms(crops: NDArray[np.uint8]) -> Floats:
    """(n, 256): shares of the luminances in the face region of aligned crops (n, 112, 112, 3) uint8 RGB."""
    counts = [cv2.calcHist([luminance(crop[BOX])], [0], IN_BOX, [256], [0, 256]).ravel() for crop in crops]
    return np.array(counts, np.float64).reshape(-1, 256) / int(IN_BOX.sum())


def luminance_mean(histograms: ArrayLike) -> Floats:
    """(n,), 0 to 1: the mean of histograms (n, 256) (ISO/IEC 29794-5:2025, luminance mean; OFIQ)."""
    return np.asarray(histograms, np.float64) @ (np.arange(256) / 255)


def luminance_mean_component(mean: ArrayLike) -> Floats:
    """round(100 sigmoid(m, 0.2, 0.05) (1 - sigmoid(m, 0.8, 0.05))) (OFIQ, `Luminance`)."""
    return whole(100.0 * sigmoid(mean, 0.2, 0.05) * (1.0 - sigmoid(mean, 0.8, 0.05)))


def luminance_variance(histograms: ArrayLike) -> Floats:
    """(n,), 0 to 0.25: variance of histograms (n, 256) (ISO/IEC 29794-5:2025, luminance variance; OFIQ)."""
    shares = np.asarray(histograms, np.float64)
    away = np.arange(256) / 255 - luminance_mean(shares)[:, None]
    found: Floats = (shares * away**2).sum(axis=1)
    return found


def luminance_variance_component(variance: ArrayLike) -> Floats:
    """round(100 sin(pi 60v / (60v + 1))) (OFIQ, `Luminance`): best at 1/60."""
    scaled = 60.0 * np.asarray(variance, np.float64)
    return whole(100.0 * np.sin(scaled / (scaled + 1.0) * np.pi))


def dynamic_range(histograms: ArrayLike) -> Floats:
    """(n,), 0 to 8 bits: the entropy of histograms (n, 256) (ISO/IEC 29794-5:2025, dynamic range; OFIQ)."""
    shares = np.asarray(histograms, np.float64)
    found: Floats = -(shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(axis=1)
    return np.abs(found)


def dynamic_range_component(entropy: ArrayLike) -> Floats:
    """round(12.5 entropy) (OFIQ, `DynamicRange`)."""
    return whole(12.5 * np.asarray(entropy, np.float64))


def over_exposure(histograms: ArrayLike) -> Floats:
    """(n,): share of luminances of 247 to 255 (ISO/IEC 29794-5:2025, over-exposure prevention; OFIQ)."""
    found: Floats = np.asarray(histograms, np.float64)[:, 247:].sum(axis=1)
    return found


def over_exposure_component(share: ArrayLike) -> Floats:
    """round(1 / (share + 0.01)) (OFIQ, `OverExposurePrevention`)."""
    return whole(1.0 / (np.asarray(share, np.float64) + 0.01))


def under_exposure(histograms: ArrayLike) -> Floats:
    """(n,): share of luminances of 0 to 25 (ISO/IEC 29794-5:2025, under-exposure prevention; OFIQ)."""
    found: Floats = np.asarray(histograms, np.float64)[:, :26].sum(axis=1)
    return found


def under_exposure_component(share: ArrayLike) -> Floats:
    """round(120 (0.832 - sigmoid(share, 0.92, 0.05))) (OFIQ, `UnderExposurePrevention`)."""
    return whole(120.0 * (0.832 - sigmoid(share, 0.92, 0.05)))

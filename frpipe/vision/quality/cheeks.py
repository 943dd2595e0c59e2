"""Measures of the zones below the eyes: whether both are lit alike, and their colour is one of skin."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.vision.geometry import template
from frpipe.vision.quality.component import Floats, sigmoid, whole
from frpipe.vision.quality.luminance import luminance

# OFIQ's crop is 616 pixels wide. The zones of a crop of 112 have too few pixels to fill a histogram.
_ENLARGED: Final = 5


def _zones() -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Rows and columns of the zones at the viewer's left and right, in the 112x112 crop.

    Squares of 0.3 eye distances, half way from the eyes to the mouth, outward of the eyes' middles, as OFIQ
    1.1 places them (`CalculateRegionOfInterest`), about the points of the template.
    """
    points = template()
    side = int(0.3 * float(np.hypot(*(points[1] - points[0]))))
    down = int(float(np.hypot(*(points[3:].mean(axis=0) - points[:2].mean(axis=0)))) / 2)
    (left_x, left_y), (right_x, right_y) = points[:2].round().astype(int).tolist()
    return (
        (slice(left_y + down, left_y + down + side), slice(left_x - side, left_x)),
        (slice(right_y + down, right_y + down + side), slice(right_x, right_x + side)),
    )


ZONES: Final = _zones()


def illumination_uniformity(crops: NDArray[np.uint8]) -> Floats:
    """(n,), 0 to 1: how much the histograms of luminance of both zones have in common.

    crops: (n, 112, 112, 3) uint8 RGB, aligned. ISO/IEC 29794-5:2025, illumination uniformity, as OFIQ
    computes it: the sum of the lesser shares. Zones are enlarged, since OFIQ's are 5.5 times as wide.
    """
    return np.array([_common(*(_shares(crop[zone]) for zone in ZONES)) for crop in crops], np.float64)


def _shares(zone: NDArray[np.uint8]) -> Floats:
    grey = luminance(zone)
    wide = cv2.resize(grey, None, fx=_ENLARGED, fy=_ENLARGED, interpolation=cv2.INTER_LINEAR)
    shares: Floats = np.bincount(wide.ravel(), minlength=256) / wide.size
    return shares


def _common(one: Floats, other: Floats) -> float:
    return float(np.minimum(one, other).sum())


def illumination_uniformity_component(common: ArrayLike) -> Floats:
    """round(100 common^0.3) (OFIQ, `IlluminationUniformity`)."""
    return whole(100.0 * np.asarray(common, np.float64) ** 0.3)


def natural_colour(crops: NDArray[np.uint8]) -> Floats:
    """(n,), from 0: how far the mean colour of both zones lies from the colours of skin, in CIELAB.

    crops: (n, 112, 112, 3) uint8 RGB, aligned. 0 within a* of 5 to 25 and b* of 5 to 35; 100 where either is
    negative; 0 for a crop without any colour. ISO/IEC 29794-5:2025, natural colour, as OFIQ computes it.
    """
    means = np.mean([crops[(slice(None), *zone)].mean(axis=(1, 2)) for zone in ZONES], axis=0)
    a, b = _cielab(means / 255)
    beyond = np.hypot(
        *(np.maximum(np.maximum(0, 5 - each), each - most) for each, most in ((a, 25), (b, 35)))
    )
    found: Floats = np.where((a >= 0) & (b >= 0), beyond, 100.0)
    grey = np.flatnonzero(means.max(axis=1) == means.min(axis=1))
    found[grey] = [found[i] if _has_colour(crops[i]) else 0.0 for i in grey]
    return found


def _cielab(rgb: Floats) -> tuple[Floats, Floats]:
    """a* and b* of sRGB (n, 3) in [0, 1], by the white of D50 (CIE 15; matrix of IEC 61966-2-1, adapted)."""
    light = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    to_xyz = np.array([[0.43605, 0.38508, 0.14309], [0.22249, 0.71689, 0.06062], [0.01393, 0.09710, 0.71419]])
    relative = light @ to_xyz.T / (0.964221, 1.0, 0.825211)
    x, y, z = np.where(relative <= 216 / 24389, (24389 / 27 * relative + 16) / 116, np.cbrt(relative)).T
    return 500 * (x - y), 200 * (y - z)


def _has_colour(crop: NDArray[np.uint8]) -> bool:
    return bool((crop != crop[..., :1]).any())


def natural_colour_component(beyond: ArrayLike) -> Floats:
    """round(200 (1 - sigmoid(d, 0, 10))) (OFIQ, `NaturalColour`)."""
    return whole(200.0 * (1.0 - sigmoid(beyond, 0.0, 10.0)))

"""The distance of the eyes as it would be from the front."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from frpipe.vision.quality.component import Floats, sigmoid, whole

_LEAST_COSINE = 1e-6


def inter_eye_distance(eye_distance_px: ArrayLike, yaw_deg: ArrayLike) -> Floats:
    """(n,): distance of the eyes over cos(yaw), pixels of the photo; NaN in profile, where that is 0.

    ISO/IEC 29794-5:2025, inter-eye distance, as OFIQ computes it (`FaceMeasures::InterEyeDistance`). OFIQ
    takes an eye as the middle of its two corners, to whole pixels; here it is the detector's point.
    """
    cosine = np.cos(np.radians(np.asarray(yaw_deg, np.float64)))
    found: Floats = np.asarray(eye_distance_px, np.float64) / np.where(
        np.abs(cosine) < _LEAST_COSINE, np.nan, cosine
    )
    return found


def inter_eye_component(distance_px: ArrayLike) -> Floats:
    """round(100 sigmoid) with x0 70 pixels and w 20 (OFIQ, `InterEyeDistance`)."""
    return whole(100.0 * sigmoid(distance_px, 70.0, 20.0))

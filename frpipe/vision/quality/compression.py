"""Measure how strongly a photo was compressed, by the bits that are left of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from frpipe.vision.quality.component import Floats, sigmoid, whole


def bits_per_pixel(size_bytes: ArrayLike, width: ArrayLike, height: ArrayLike) -> Floats:
    """(n,): bits of an encoded photo for each of its pixels; NaN where it has none.

    It stands for the compression artifacts of ISO/IEC 29794-5:2025, which OFIQ takes from a network. It is
    of the photo, not of the face; a photo with much plain background needs fewer, a noisy one more, and
    one that was compressed strongly and stored again at a high quality is not found out.
    """
    pixels = np.asarray(width, np.float64) * np.asarray(height, np.float64)
    found: Floats = 8.0 * np.asarray(size_bytes, np.float64) / np.where(pixels > 0, pixels, np.nan)
    return found


def compression_component(bits: ArrayLike) -> Floats:
    """round(100 sigmoid) with x0 0.35 and w 0.08 bits, chosen on recompressed photos of LFW."""
    return whole(100.0 * sigmoid(bits, 0.35, 0.08))

"""A faster counter for histograms of very many scores: OpenCV's, where it has Intel's kernels."""

from __future__ import annotations

import cv2
import numpy as np

from frpipe.metrics.scores import Indices
from frpipe.metrics.streaming import PLACE, PLACES, Places

# Below so many NumPy is faster: OpenCV takes 0.4 ms for its 65,536 counters.
_FEW = 1 << 18


def counted(places: Places, bins: int) -> Indices:
    """As `np.bincount`: (bins,) of (n,) numbers below `bins`. n is at most 2^24: OpenCV counts in float32.

    Half a nanosecond for a 16-bit number, against three by NumPy and seven by OpenCV's own kernel.
    """
    if places.dtype != PLACE or len(places) < _FEW or not cv2.ipp.useIPP():
        return np.bincount(places, minlength=bins)
    row = places.reshape(1, -1)
    found = cv2.calcHist([row], [0], None, [PLACES], [0, PLACES])
    counts: Indices = np.asarray(found).reshape(-1)[:bins].astype(np.int64)
    return counts

"""Measure whether a photo shows one face."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.vision.quality.component import Floats, whole


def second_face_share(areas: ArrayLike, photos: NDArray[np.int64], count: int) -> Floats:
    """Share, (count,): the area of each photo's second largest face over its largest's, 0 for one face.

    areas: (n,), of the boxes.  photos: (n,), the photo of each, from 0.  NaN for a photo without a face.
    ISO/IEC 29794-5:2025, single face present, as OFIQ computes it (`SingleFacePresent`).
    """
    sizes = np.asarray(areas, np.float64)
    order = np.lexsort((-sizes, photos))
    start = np.searchsorted(photos[order], np.arange(count + 1))
    found = np.full(count, np.nan)
    has = np.diff(start)
    found[has == 1] = 0.0
    several = np.flatnonzero(has > 1)
    first = order[start[several]]
    second = order[start[several] + 1]
    found[several] = sizes[second] / np.maximum(sizes[first], 1e-12)
    return found


def single_face_component(share: ArrayLike) -> Floats:
    """round(100 (1 - share)) (OFIQ, `SingleFacePresent`)."""
    return whole(100.0 * (1.0 - np.asarray(share, np.float64)))

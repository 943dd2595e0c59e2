"""Whether five landmarks can be those of a face."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from frpipe.core.reasons import Reject
from frpipe.vision.geometry import apply, similarity, template

# In a 112x112 crop whose face is frontal the eyes are 35 pixels apart, and 41 above the corners of the mouth.
# A face turned far to the side loses the first distance, and may cross it by a little, and keeps the second.
_LEAST_HEIGHT_PX = 15.0
_MOST_CROSSED_PX = 8.0
# Landmarks may pass their box by this share of its longer side.
_OUTSIDE = 0.35


def is_plausible(box: ArrayLike, points: ArrayLike) -> bool:
    """Whether landmarks (5, 2) may belong to a face in `box` (4,) xyxy, whichever way it is rolled.

    Not so where they are collapsed, where the mouth is not below the eyes or they are mirrored once the roll
    is taken out, or where they lie far outside of the box.
    """
    x1, y1, x2, y2 = np.asarray(box, np.float64)
    marks = np.asarray(points, np.float64)
    rim = _OUTSIDE * max(x2 - x1, y2 - y1)
    if not np.all((marks >= (x1 - rim, y1 - rim)) & (marks <= (x2 + rim, y2 + rim))):
        return False
    try:
        upright = apply(similarity(marks, template(112)), marks)
    except Reject:
        return False
    eyes, mouth = upright[:2].mean(axis=0), upright[3:].mean(axis=0)
    height = mouth[1] - eyes[1]
    spans = upright[1, 0] - upright[0, 0], upright[4, 0] - upright[3, 0]
    return bool(height > _LEAST_HEIGHT_PX and max(spans) > 0 and min(spans) > -_MOST_CROSSED_PX)

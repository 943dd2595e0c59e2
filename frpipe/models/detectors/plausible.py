"""Tell whether five landmarks can be those of a face."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from frpipe.core.reasons import Reject
from frpipe.vision.geometry import apply, similarity, template
from frpipe.vision.view import wrapped

_TEMPLATE = template(112)

# In a 112x112 crop whose face is frontal the eyes are 35 pixels apart, and 41 above the corners of the mouth.
# A face turned far to the side loses the first distance, and may cross it by a little, and keeps the second.
_LEAST_HEIGHT_PX = 15.0
_MOST_CROSSED_PX = 8.0
# Landmarks may pass their box by this share of its longer side.
_OUTSIDE = 0.35


class Pose(NamedTuple):
    """The pose that landmarks show. roll_deg: clockwise, in (-180, 180]; None where they are no face's."""

    roll_deg: float | None
    is_plausible: bool


def pose_of(box: ArrayLike, points: ArrayLike) -> Pose:
    """The roll of landmarks (5, 2), and whether they may belong to a face in `box` (4,) xyxy.

    Not so where they are collapsed, where the mouth is not below the eyes or they are mirrored once the roll
    is taken out, or where they lie far outside of the box.
    """
    marks = np.asarray(points, np.float64)
    try:
        to_template = similarity(marks, _TEMPLATE)
    except Reject:
        return Pose(None, False)
    roll_deg = wrapped(-math.degrees(math.atan2(to_template[1, 0], to_template[0, 0])))
    x1, y1, x2, y2 = np.asarray(box, np.float64).tolist()
    rim = _OUTSIDE * max(x2 - x1, y2 - y1)
    (left, top), (right, bottom) = marks.min(axis=0).tolist(), marks.max(axis=0).tolist()
    if left < x1 - rim or top < y1 - rim or right > x2 + rim or bottom > y2 + rim:
        return Pose(roll_deg, False)
    upright = apply(to_template, marks).tolist()
    height = (upright[3][1] + upright[4][1] - upright[0][1] - upright[1][1]) / 2
    spans = upright[1][0] - upright[0][0], upright[4][0] - upright[3][0]
    stands = height > _LEAST_HEIGHT_PX and max(spans) > 0 and min(spans) > -_MOST_CROSSED_PX
    return Pose(roll_deg, stands)


def is_plausible(box: ArrayLike, points: ArrayLike) -> bool:
    """Whether landmarks (5, 2) may belong to a face in `box` (4,) xyxy, whichever way it is rolled."""
    return pose_of(box, points).is_plausible

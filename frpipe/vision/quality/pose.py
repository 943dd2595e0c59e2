"""The pose of a head: from five points by a rigid model of them, or from the rotation that a network gives.

Axes are those of the image: x to the viewer's right, y down, z away from the camera. A rotation is that of
the head, Rz(roll) Ry(yaw) Rx(pitch). Signs of yaw and pitch are those of ISO/IEC 19794-5: yaw is positive
where a person looks to their own left, pitch where they look down. Roll is positive clockwise, as `roll_deg`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from frpipe.vision.quality.component import Floats, whole

# Both eyes, the nose and both corners of the mouth, viewer's left first, in distances of the eyes' middle
# from the mouth's. Fitted to the points of YuNet and RetinaFace on 1,397 frontal and profile photos of CFP by
# factorisation (Tomasi and Kanade, IJCV 9(2), 1992, under scaled orthography), then made symmetric; its zero
# of pitch is the mean of the frontal photos. benchmarks/quality.py fits it anew.
HEAD: Final = np.array(
    [[-0.50, 0.0, 0.0], [0.50, 0.0, 0.0], [0.0, 0.57, -0.32], [-0.43, 1.0, 0.26], [0.43, 1.0, 0.26]]
)
HEAD.flags.writeable = False
_FIT: Final = np.linalg.pinv(HEAD - HEAD.mean(axis=0))


class Pose(NamedTuple):
    """The poses of n heads, degrees: (n,) float64 each; NaN where one cannot be assessed."""

    yaw: Floats
    pitch: Floats
    roll: Floats


def pose_of_points(points: ArrayLike) -> Pose:
    """The pose of heads by their five points, (n, 5, 2), pixels; NaN for points that span nothing.

    The scaled orthographic projection of `HEAD` that comes closest: an affine map by least squares, and the
    rotation closest to it (DeMenthon and Davis, "Model-based object pose in 25 lines of code", IJCV 15, 1995,
    without its perspective iterations). Yaw is too small beyond some 50 degrees, since detectors put a hidden
    eye where it would still be seen. Pitch depends on the shape of the face and is of low confidence.
    """
    marks = np.asarray(points, np.float64).reshape(-1, 5, 2)
    known = np.isfinite(marks.sum(axis=(1, 2)))
    marks = np.where(known.reshape(-1, 1, 1), marks, 0.0)
    affine = np.einsum("npk,mp->nkm", marks - marks.mean(axis=1, keepdims=True), _FIT)
    left, sizes, right = np.linalg.svd(affine, full_matrices=False)
    rows = left @ right
    rotations = np.concatenate([rows, np.cross(rows[:, 0], rows[:, 1])[:, None]], axis=1)
    rotations[~known | (sizes[:, 1] <= 1e-6 * np.maximum(sizes[:, 0], 1e-300))] = np.nan
    return pose_of_rotations(rotations)


def pose_of_rotations(rotations: ArrayLike) -> Pose:
    """The angles of rotations, (n, 3, 3). At a yaw of 90 degrees roll is 0, and pitch has the rest."""
    r = np.asarray(rotations, np.float64).reshape(-1, 3, 3)
    level = np.hypot(r[:, 0, 0], r[:, 1, 0])
    upright = ~(level < 1e-9)
    pitch = np.where(upright, np.arctan2(r[:, 2, 1], r[:, 2, 2]), np.arctan2(-r[:, 1, 2], r[:, 1, 1]))
    roll = np.where(upright, np.arctan2(r[:, 1, 0], r[:, 0, 0]), 0.0)
    return Pose(*(np.degrees(angle) for angle in (np.arctan2(r[:, 2, 0], level), pitch, roll)))


def pose_component(degrees: ArrayLike) -> Floats:
    """round(100 max(0, cos a)^2) of an angle: 100 from the front, 0 from 90 degrees on.

    ISO/IEC 29794-5:2025 as OFIQ computes it (`HeadPose`), for yaw, pitch and roll alike. OFIQ takes the
    angles from a network (3DDFA-V2), not from points.
    """
    return whole(100.0 * np.maximum(0.0, np.cos(np.radians(np.asarray(degrees, np.float64)))) ** 2)

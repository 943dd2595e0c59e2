"""Similarity transforms in the plane, and the five points that embedders expect a face at.

A transform is (2, 3) float64: (x, y) -> M[:, :2] @ (x, y) + M[:, 2]. Pixel centres lie at integers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.core.reasons import Reason, Reject

Points = NDArray[np.float64]

# The positions of both eyes, the nose and both corners of the mouth in a 112x112 crop that ArcFace was
# trained on (Deng et al., CVPR 2019), as InsightFace publishes them (`arcface_dst`): those of SphereFace
# (Liu et al., CVPR 2017) for a 96x112 crop, 8 pixels further right.
ARCFACE_112: Points = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
ARCFACE_112.flags.writeable = False

# Root mean square distance of the points from their centre.
_MIN_SPREAD_PX = 1.0
# Correlation of the points with the target under the best similarity: 1 for a frontal face, 0.78 for points
# on one upright line, 0.62 for points on one level line, 0.23 for a mirror image (left and right swapped).
_MIN_FIT = 0.3
_MAX_COORDINATE_PX = 1e6


def template(size: int = 112) -> Points:
    """(5, 2) float64: `ARCFACE_112` for a `size` x `size` crop.

    Scaled about pixel corners, so that a crop of 224 reduced 2:1 by area is the crop of 112.
    """
    return (ARCFACE_112 + 0.5) * (size / 112) - 0.5


def similarity(source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """The rotation, uniform scale and shift, no reflection, that bring `source` closest to `target`.

    source, target: (k, 2), k >= 2, pixels. Returns (2, 3) float64. Least squares, as Umeyama (PAMI 13(4),
    1991) solves it for any dimension; in the plane, with points as complex numbers, it is one division.
    Rejects: DEGENERATE_LANDMARKS where `source` is not finite, spans less than a pixel, lies absurdly far
    away, or does not resemble `target`.
    """
    # In plain Python: for five points NumPy's calls cost more than the arithmetic.
    src, dst = np.asarray(source, np.float64).tolist(), np.asarray(target, np.float64).tolist()
    if not all(abs(number) <= _MAX_COORDINATE_PX for point in src for number in point):
        raise Reject(Reason.DEGENERATE_LANDMARKS, "not finite, or far outside of any photo")
    z, src_centre = _centred(src)
    w, dst_centre = _centred(dst)
    spread, target_spread = _length(z), _length(w)
    if spread < _MIN_SPREAD_PX * len(src) ** 0.5:
        raise Reject(Reason.DEGENERATE_LANDMARKS, "within a pixel of one another")
    product = sum(a.conjugate() * b for a, b in zip(z, w, strict=True))
    if abs(product) < _MIN_FIT * spread * target_spread:
        raise Reject(Reason.DEGENERATE_LANDMARKS, "not in the arrangement of a face")
    factor = product / spread**2
    shift = dst_centre - factor * src_centre
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def _centred(points: list[list[float]]) -> tuple[list[complex], complex]:
    """Points (k, 2) as complex numbers about their mean, and the mean."""
    numbers = [complex(x, y) for x, y in points]
    centre = sum(numbers) / len(numbers)
    return [number - centre for number in numbers], centre


def _length(numbers: list[complex]) -> float:
    return math.sqrt(sum(n.real * n.real + n.imag * n.imag for n in numbers))


def invert(matrix: ArrayLike) -> NDArray[np.float64]:
    """The (2, 3) transform that undoes `matrix`. Raises numpy.linalg.LinAlgError where none does."""
    # In plain Python, as `similarity`.
    (a, b, x), (c, d, y) = np.asarray(matrix, np.float64).tolist()
    area = a * d - b * c
    if area == 0:
        raise np.linalg.LinAlgError("a transform that cannot be undone")
    a, b, c, d = d / area, -b / area, -c / area, a / area
    return np.array([[a, b, -(a * x + b * y)], [c, d, -(c * x + d * y)]])


def apply(matrix: ArrayLike, points: ArrayLike) -> Points:
    """(..., 2) float64: `points` (..., 2) moved by `matrix` (2, 3)."""
    forward = np.asarray(matrix, np.float64)
    moved: Points = np.asarray(points, np.float64) @ forward[:, :2].T + forward[:, 2]
    return moved


def reduction(matrix: ArrayLike) -> float:
    """Source pixels per target pixel along one axis, of a similarity from source to target."""
    (a, b, _), (c, d, _) = np.asarray(matrix, np.float64).tolist()
    return float(abs(a * d - b * c) ** -0.5)

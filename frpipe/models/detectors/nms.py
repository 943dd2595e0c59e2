"""Non-maximum suppression: of detections that cover the same face, keep the best scored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


# So many boxes are all compared at once: NumPy's calls cost more than their arithmetic.
_FEW = 64


def iou(first: Floats, second: Floats) -> Floats:
    """Intersection over union of boxes (..., 4) xyxy, broadcast; 0 where neither has an area."""
    corner = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    overlap = np.prod(np.maximum(corner, 0), axis=-1)
    union = _area(first) + _area(second) - overlap
    ratio: Floats = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return ratio


def _area(boxes: Floats) -> Floats:
    area: Floats = np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1)
    return area


def suppress(boxes: Floats, scores: Floats, owners: Indices, max_iou: float, most: int) -> Indices:
    """Greedy suppression in many photos at once.

    boxes: (k, 4) xyxy; scores: (k,); owners: (k,) the photo that each belongs to. A box goes when its IoU
    with a better box of its photo, itself kept, is above `max_iou`. At most `most` stay per photo.
    Returns the indices kept, by photo, then best score first, then left to right, then top to bottom.

    Each round settles the best box left in EVERY photo, so the rounds are as many as the faces of the fullest
    photo, not as many as there are photos.
    """
    order = np.lexsort((boxes[:, 1], boxes[:, 0], -scores, owners))
    if len(order) <= _FEW:
        return order[_kept_of_few(boxes[order], owners[order].tolist(), max_iou, most)]
    left, kept = order, [order[:0]]
    for _ in range(most):
        if not len(left):
            break
        is_best = np.diff(owners[left], prepend=-1) != 0
        best = left[is_best]
        kept.append(best)
        rival = boxes[best[np.cumsum(is_best) - 1]]
        left = left[~is_best & (iou(boxes[left], rival) <= max_iou)]
    chosen = np.zeros(len(order), bool)
    chosen[np.concatenate(kept)] = True
    return order[chosen[order]]


def _kept_of_few(boxes: Floats, owners: list[int], max_iou: float, most: int) -> list[int]:
    """Suppress among a few boxes that are in order; the places of those kept."""
    covers = (iou(boxes[:, None], boxes[None]) > max_iou).tolist()
    kept: list[int] = []
    of_photo: list[int] = []
    for place, owner in enumerate(owners):
        if of_photo and owners[of_photo[0]] != owner:
            of_photo = []
        if len(of_photo) < most and not any(covers[place][better] for better in of_photo):
            of_photo.append(place)
            kept.append(place)
    return kept

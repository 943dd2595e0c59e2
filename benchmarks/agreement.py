"""Whether two outputs hold the same faces: a comparison of speed means nothing otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
# photo -> (boxes (k, 4) xyxy, unit vectors (k, dim))
Faces = dict[str, tuple[Array, Array]]


def group(photos: list[str], boxes: Array, vectors: Array) -> Faces:
    """Rows of faces, by photo. boxes: (n, 4); vectors: (n, dim)."""
    rows: dict[str, list[int]] = {}
    for row, photo in enumerate(photos):
        rows.setdefault(photo, []).append(row)
    return {photo: (boxes[index], vectors[index]) for photo, index in rows.items()}


def overlap(boxes: Array, others: Array) -> Array:
    """(k, m) intersection over union of boxes (k, 4) and (m, 4), xyxy."""
    corner = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    corner = corner - np.maximum(boxes[:, None, :2], others[None, :, :2])
    shared = np.maximum(corner, 0).prod(axis=2)
    area, other_area = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others))
    result: Array = shared / (area[:, None] + other_area[None] - shared)
    return result


def agreement(ours: Faces, theirs: Faces, least_iou: float = 0.5) -> dict[str, float]:
    """Counts of faces, and the cosines of those that both found (boxes overlap by `least_iou`)."""
    cosines: list[float] = []
    for photo in ours.keys() & theirs.keys():
        boxes, vectors = ours[photo]
        other_boxes, other_vectors = theirs[photo]
        best = overlap(boxes, other_boxes)
        for row, column in enumerate(best.argmax(axis=1)):
            if best[row, column] >= least_iou:
                cosines.append(float(vectors[row] @ other_vectors[column]))
    return {
        "faces_ours": sum(len(boxes) for boxes, _ in ours.values()),
        "faces_theirs": sum(len(boxes) for boxes, _ in theirs.values()),
        "faces_in_both": len(cosines),
        "cosine_median": round(float(np.median(cosines)), 6),
        "cosine_min": round(min(cosines), 6),
    }

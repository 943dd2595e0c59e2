"""YuNet: Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", MIR 2023.

Roles of the card: cls, obj, box, points, one output each per stride, one anchor per cell.
"""

from __future__ import annotations

import numpy as np

from frpipe.models.detectors.faces import Candidates
from frpipe.models.detectors.head import Head, grid


def decode(head: Head, threshold: float) -> Candidates:
    """Decode the outputs.

    score = sqrt(cls * obj); box centre = cell + (dx, dy) * stride, size = exp((dw, dh)) * stride.
    """
    return Candidates.joined([_level(head, threshold, k) for k in range(len(head.spec.strides))])


def _level(head: Head, threshold: float, level: int) -> Candidates:
    stride = np.float32(head.spec.strides[level])
    cells = grid(head.height, head.width, head.spec.strides[level])
    square = np.clip(head.read("cls", level, len(cells), 1)[..., 0], 0, 1)
    square = square * np.clip(head.read("obj", level, len(cells), 1)[..., 0], 0, 1)
    owners, hits = np.nonzero(square >= threshold * threshold)
    origin = cells[hits]
    box = head.read("box", level, len(cells), 4)[owners, hits]
    points = head.read("points", level, len(cells), 10)[owners, hits].reshape(-1, 5, 2) * stride
    centre = origin + box[:, :2] * stride
    with np.errstate(over="ignore"):
        half = np.exp(box[:, 2:]) * stride / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    return Candidates(owners, boxes, np.sqrt(square[owners, hits]), origin[:, None] + points)

"""SCRFD: Guo et al., "Sample and Computation Redistribution for Efficient Face Detection", ICLR 2022.

Roles of the card: score, box, points, one output each per stride, two anchors per cell.
"""

from __future__ import annotations

import numpy as np

from frpipe.models.detectors.faces import Candidates
from frpipe.models.detectors.head import Head, grid

ANCHORS = 2  # per cell, in every published SCRFD with key points


def decode(head: Head, threshold: float) -> Candidates:
    """Decode the outputs.

    box = cell -/+ distances (left, top, right, bottom) * stride; point = cell + offset * stride.
    """
    return Candidates.joined([_level(head, threshold, k) for k in range(len(head.spec.strides))])


def _level(head: Head, threshold: float, level: int) -> Candidates:
    stride = np.float32(head.spec.strides[level])
    cells = grid(head.height, head.width, head.spec.strides[level], ANCHORS)
    scores = head.read("score", level, len(cells), 1)[..., 0]
    owners, hits = np.nonzero(scores >= threshold)
    origin = cells[hits]
    distance = head.read("box", level, len(cells), 4)[owners, hits] * stride
    points = head.read("points", level, len(cells), 10)[owners, hits].reshape(-1, 5, 2) * stride
    boxes = np.concatenate([origin - distance[:, :2], origin + distance[:, 2:]], axis=1)
    return Candidates(owners, boxes, scores[owners, hits], origin[:, None] + points)

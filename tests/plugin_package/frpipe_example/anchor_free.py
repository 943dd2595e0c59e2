"""A family of detectors: one box for each cell, by its centre and its size in strides."""

from __future__ import annotations

import numpy as np

from frpipe.models.detectors.faces import Candidates
from frpipe.models.detectors.head import Head, grid


def decode(head: Head, threshold: float) -> Candidates:
    """Decode the outputs: score = sqrt(cls * obj), size = exp((dw, dh)) * stride."""
    return Candidates.joined([_level(head, threshold, level) for level in range(len(head.spec.strides))])


def _level(head: Head, threshold: float, level: int) -> Candidates:
    stride = head.spec.strides[level]
    cells = grid(head.height, head.width, stride)
    sure, there = (head.read(role, level, len(cells), 1)[..., 0].clip(0, 1) for role in ("cls", "obj"))
    photos, hits = np.nonzero(sure * there >= threshold * threshold)
    box = head.read("box", level, len(cells), 4)[photos, hits]
    points = head.read("points", level, len(cells), 10)[photos, hits].reshape(-1, 5, 2)
    centre, half = cells[hits] + box[:, :2] * np.float32(stride), np.exp(box[:, 2:]) * np.float32(stride / 2)
    return Candidates(
        photos,
        np.concatenate([centre - half, centre + half], axis=1),
        np.sqrt((sure * there)[photos, hits]),
        cells[hits][:, None] + points * np.float32(stride),
    )

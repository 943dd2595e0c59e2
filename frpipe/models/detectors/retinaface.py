"""RetinaFace: Deng et al., "RetinaFace: Single-shot Multi-level Face Localisation in the Wild", CVPR 2020.

Roles of the card: score (or classes, of background and face), box, points, ONE output each that holds the
cells of all strides one after another, two anchors per cell.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from frpipe.core.errors import ModelMismatch
from frpipe.models.detectors.faces import Candidates
from frpipe.models.detectors.head import Head, grid

Floats = NDArray[np.float32]

# Side of the two square anchors of a cell, pixels, and the factors by which offsets were divided in
# training: the configuration of the MobileNet-0.25 release, which descends from SSD (Liu et al., ECCV 2016).
SIDES = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
SHIFT, GROWTH = np.float32(0.1), np.float32(0.2)


def decode(head: Head, threshold: float) -> Candidates:
    """Decode: box centre = anchor + loc * 0.1 * side, size = exp(loc * 0.2) * side; points as the centre."""
    centres, sides = anchors(head.height, head.width, head.spec.strides)
    role, columns = ("classes", 2) if "classes" in head.spec.outputs else ("score", 1)
    scores = head.read(role, 0, len(sides), columns)[..., -1]
    owners, hits = np.nonzero(scores >= threshold)
    loc = head.read("box", 0, len(sides), 4)[owners, hits]
    offsets = head.read("points", 0, len(sides), 10)[owners, hits].reshape(-1, 5, 2)
    anchor, side = centres[hits], sides[hits]
    centre = anchor + loc[:, :2] * SHIFT * side
    with np.errstate(over="ignore"):
        half = np.exp(loc[:, 2:] * GROWTH) * side / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    points = anchor[:, None] + offsets * SHIFT * side[:, None]
    return Candidates(owners, boxes, scores[owners, hits], points)


@lru_cache(maxsize=128)
def anchors(height: int, width: int, strides: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Centres (n, 2), x then y, and sides (n, 1) of all anchors, pixels, in the order of the outputs."""
    centres, sides = [], []
    for stride in strides:
        if stride not in SIDES:
            raise ModelMismatch(f"no anchor sides are known for stride {stride}", "use strides 8, 16 and 32")
        pair = np.array(SIDES[stride], np.float32)
        cells = grid(height, width, stride, len(pair))
        centres.append(cells + np.float32(stride / 2))
        sides.append(np.tile(pair, len(cells) // len(pair))[:, None])
    return np.concatenate(centres), np.concatenate(sides)

"""Outcomes of photos with given crops, without a model or a photo."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.reasons import Status
from frpipe.models.detectors.candidates import FaceCandidate
from frpipe.models.detectors.faces import Faces
from frpipe.stages.locate import Located
from frpipe.vision.enlarge import Enlarged, enlarged_crop
from frpipe.vision.geometry import template

# Of the face in an aligned crop.
_MIDDLE = (32.0, 40.0, 80.0, 104.0)


def located_faces(crops: NDArray[np.uint8], enlarged: Iterable[Enlarged] = ()) -> Located:
    """Make a photo of 640 x 480 with upright faces side by side. crops: (n, 112, 112, 3); n may be 0.

    enlarged: crops that a stage asks for; each is cut from the aligned one, as if that were a photo.
    """
    count = len(crops)
    if not count:
        return Located(width=640, height=480)
    shift = np.arange(count, dtype=np.float32)[:, None, None] * (100, 0)
    points = (template()[None] + shift).astype(np.float32)
    boxes = np.concatenate([points.min(axis=1) - 20, points.max(axis=1) + 20], axis=1).astype(np.float32)
    scores = np.linspace(0.9, 0.8, count, dtype=np.float32)
    return Located(
        Status.OK,
        width=640,
        height=480,
        turn_deg=0,
        faces_refused=0,
        faces_detected=count,
        least_face_px=48.0,
        faces=Faces(boxes, scores, points),
        candidates=[FaceCandidate(boxes[i], points[i], float(scores[i]), 40.0) for i in range(count)],
        crops=list(crops),
        enlarged={kind: [enlarged_crop(crop, _MIDDLE, kind) for crop in crops] for kind in enlarged},
        eye_distance_px=[35.0] * count,
        sharpness=[30.0] * count,
    )


def plan_of(photos: int) -> pa.Table:
    """Make the rows of a plan, as many as photos."""
    names = [f"photo-{number}" for number in range(photos)]
    nobody = pa.nulls(photos, pa.string())
    return pa.table({"image_id": names, "image_uri": names, "location": names, "subject_id": nobody})

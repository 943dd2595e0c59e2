"""The one rule that chooses the subject's face of a photo: for the column of `faces` and for galleries."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.left_out import is_left_out
from frpipe.core.subject import SubjectRule
from frpipe.models.detectors.policy import first_of_each

RULE: SubjectRule = "centre-largest"
"""The rule of the column `is_subject`, and what galleries are filled by unless told otherwise."""
_BOX = ("box_x1", "box_y1", "box_x2", "box_y2")


def subject_faces(
    images: pa.Table, faces: pa.Table, photos: NDArray[np.integer], rule: SubjectRule = RULE
) -> NDArray[np.bool_]:
    """Mark the faces that are their photos' subjects, (faces,) bool: one face of each photo that has any.

    Of a photo whose subject's face was left out (frpipe.core.left_out) no face is. The rest as
    `subject_candidates`.
    """
    found: NDArray[np.bool_] = subject_candidates(images, faces, photos, rule)
    found &= ~is_left_out(images, rule)[photos]
    return found


def subject_candidates(
    images: pa.Table, faces: pa.Table, photos: NDArray[np.integer], rule: SubjectRule = RULE
) -> NDArray[np.bool_]:
    """Mark the faces that a rule takes, (faces,) bool: one face of each photo that has any.

    The rule is `frpipe.models.detectors.policy.chosen`'s, over the faces that are given and no others.
    images: width and height.  faces: the columns of its box, those of a photo best score first.  photos:
    (faces,) of each face the row of its photo.
    """
    boxes = np.stack([faces[name].to_numpy() for name in _BOX], axis=1)
    owners = images.select(["width", "height"]).take(pa.array(photos, pa.int64()))
    sizes = np.stack([column.to_numpy() for column in owners.columns], axis=1)
    return first_of_each(photos, boxes, sizes, rule)

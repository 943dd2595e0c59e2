"""Templates of an enroll output without the photos that a gallery's suppression list names."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.flows import subject_faces
from frpipe.flows.subject_faces import SubjectPolicy
from frpipe.gallery.suppression import Suppressions

IMAGE_NAMES = [*subject_faces.IMAGE_NAMES, "content_sha256"]


def templates_of(
    images: pa.Table, faces: pa.Table, policy: SubjectPolicy, enrolled_at: datetime, barred: Suppressions
) -> tuple[pa.Table, Counter[str]]:
    """As `subject_faces.templates_of`, with one more reason for a face that is left out: `suppressed`.

    A face is suppressed with its person, or with its photo by id or content. images: at least IMAGE_NAMES.
    """
    if not barred:
        return subject_faces.templates_of(images, faces, policy, enrolled_at)
    photos = images.filter(pa.array(barred.mask(images.select(["image_id", "content_sha256"]))))["image_id"]
    out = barred.mask(faces.select(["image_id", "subject_id"]))
    out |= pc.is_in(faces["image_id"], value_set=photos.combine_chunks()).to_numpy()
    kept, left_out = subject_faces.templates_of(images, faces.filter(pa.array(~out)), policy, enrolled_at)
    return kept, left_out + Counter(suppressed=int(np.count_nonzero(out)))

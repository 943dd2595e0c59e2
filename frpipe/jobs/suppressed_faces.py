"""Make templates of an enroll output without the photos that a gallery's suppression list names."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.gallery.photos import sourced
from frpipe.gallery.suppression import CONTENT, Suppressions
from frpipe.jobs import subject_faces
from frpipe.jobs.subject_faces import SubjectPolicy

IMAGE_NAMES = [*subject_faces.IMAGE_NAMES, CONTENT]


def templates_of(
    images: pa.Table,
    faces: pa.Table,
    policy: SubjectPolicy,
    enrolled_at: datetime,
    barred: Suppressions,
    *,
    source: str = "",
    candidates: bool = False,
    kept_as: str = "all",
) -> tuple[pa.Table, Counter[str]]:
    """Make templates as `subject_faces.templates_of`, with a further reason to leave out: `suppressed`.

    A face is suppressed with its person, or with its photo by id or content. images: at least IMAGE_NAMES.
    source: what the gallery has before the ids of these photos.  candidates, kept_as: as there.
    """
    if not barred:
        return subject_faces.templates_of(
            images, faces, policy, enrolled_at, candidates=candidates, kept_as=kept_as
        )
    named = pa.table({"image_id": sourced(images["image_id"], source), CONTENT: images[CONTENT]})
    photos = images.filter(pa.array(barred.mask(named)))["image_id"]
    out = barred.mask(faces.select(["subject_id"]))
    out |= pc.is_in(faces["image_id"], value_set=photos.combine_chunks()).to_numpy()
    others = faces.filter(pa.array(~out))
    kept, left_out = subject_faces.templates_of(
        images, others, policy, enrolled_at, candidates=candidates, kept_as=kept_as
    )
    return kept, left_out + Counter(suppressed=int(np.count_nonzero(out)))

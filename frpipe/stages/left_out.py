"""Note on photos that the face which is meant was left out, so that no other face becomes the person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from frpipe.core.left_out import columns_there
from frpipe.stages.subject_face import subject_candidates


def noted(images: pa.Table, faces: pa.Table, photos: np.ndarray, reasons: Sequence[str | None]) -> pa.Table:
    """Note on images where a step leaves out the face that is meant, and not all faces of the photo.

    What is noted already stays. photos: (faces,) of each face the row of its photo.  reasons: of each face
    why it is left out.  Images without these columns stay as they are.
    """
    columns = columns_there(images.schema)
    lost = np.array([reason is not None for reason in reasons], bool)
    if not columns or not lost.any():
        return images
    some_left = np.bincount(photos[~lost], minlength=images.num_rows) > 0
    for policy, name in columns.items():
        meant = subject_candidates(images, faces, photos, policy)
        found = images[name].to_pylist()
        for row in np.flatnonzero(meant & lost & some_left[photos]).tolist():
            found[photos[row]] = found[photos[row]] or reasons[row]
        at = images.column_names.index(name)
        images = images.set_column(at, images.schema.field(at), pa.array(found, pa.string()))
    return images

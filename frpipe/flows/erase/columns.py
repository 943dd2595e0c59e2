"""Which rows of any table of results name people who are erased, by the names of its columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.io.columns import ID, SUBJECT
from frpipe.io.erased_ids import ErasedIds

_SUBJECTS = (SUBJECT, "subject_a", "subject_b", "probe_subject_id")
_IMAGES = (ID,)
_FACES = ("face_id", "face_a", "face_b")


def rows_of(ids: ErasedIds, table: pa.Table) -> np.ndarray:
    """(rows,) bool: which rows are of these people or photos. Candidates of others' rows do not count."""
    hit = np.zeros(table.num_rows, bool)
    for names, kind in ((_SUBJECTS, SUBJECT), (_IMAGES, ID), (_FACES, ID)):
        for name in names:
            if name in table.column_names:
                column = photo_of(table[name]) if names is _FACES else table[name]
                hit |= ids.mask(pa.table({kind: column}))
    return hit


def without(ids: ErasedIds, table: pa.Table) -> pa.Table:
    """The other rows."""
    hit = rows_of(ids, table)
    return table.filter(pa.array(~hit)) if hit.any() else table


def named(ids: ErasedIds, values: list[str]) -> list[bool]:
    """Which of some texts are the id of one of these people or photos."""
    column = pa.array(values, pa.string())
    found: list[bool] = (ids.mask(pa.table({SUBJECT: column})) | ids.mask(pa.table({ID: column}))).tolist()
    return found


def photo_of(faces: pa.ChunkedArray) -> pa.ChunkedArray:
    """The photos that faces are on: their ids without the number of the face."""
    return pc.replace_substring_regex(faces, "#[0-9]+$", "")

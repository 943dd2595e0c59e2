"""Find the rows of any table of results that name people who are erased, by the names of its columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from frpipe.gallery.photos import image_ids
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.manifest.columns import ID, SUBJECT

_SUBJECTS = (SUBJECT, "subject_a", "subject_b", "probe_subject_id", "other_subject_id")
_IMAGES = (ID,)
_FACES = ("face_id", "face_a", "face_b", "other_face_id")
_RANKED, _CANDIDATES = "rank1_subject_id", "candidates"


def rows_of(ids: ErasedIds, table: pa.Table) -> np.ndarray:
    """Mark the rows of these people or photos, (rows,) bool. Candidates in rows of others do not count."""
    hit = np.zeros(table.num_rows, bool)
    for names, kind in ((_SUBJECTS, SUBJECT), (_IMAGES, ID), (_FACES, ID)):
        for name in names:
            if name in table.column_names:
                column = image_ids(table[name]) if names is _FACES else table[name]
                hit |= ids.mask(pa.table({kind: column}))
    return hit


def names_any(ids: ErasedIds, table: pa.Table) -> bool:
    """Whether a row is of these people or photos, or has them among its candidates.

    table: texts of any type that Arrow has for them.
    """
    texts = {
        name: table[name].cast(pa.string())
        for name in (*_SUBJECTS, *_IMAGES, *_FACES, _RANKED)
        if name in table.column_names and not pa.types.is_nested(table[name].type)
    }
    if rows_of(ids, pa.table(texts)).any():
        return True
    people = [texts[_RANKED]] if _RANKED in texts else []
    kind = table.schema.field(_CANDIDATES).type if _CANDIDATES in table.column_names else pa.null()
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        ranked = table[_CANDIDATES].combine_chunks().flatten()
        if kind.value_type.get_field_index(SUBJECT) >= 0:
            people.append(pa.chunked_array([ranked.field(SUBJECT)]).cast(pa.string()))
    return any(ids.mask(pa.table({SUBJECT: column})).any() for column in people)


def without(ids: ErasedIds, table: pa.Table) -> pa.Table:
    """Remove the rows of these people or photos from a table."""
    hit = rows_of(ids, table)
    return table.filter(pa.array(~hit)) if hit.any() else table


def people_of(ids: ErasedIds, subjects: pa.Array) -> set[str]:
    """Select those of some subjects who are erased."""
    hit = ids.mask(pa.table({SUBJECT: subjects}))
    return set(subjects.filter(pa.array(hit)).to_pylist())


def named(ids: ErasedIds, values: list[str]) -> list[bool]:
    """Mark the texts that are ids of these people or photos, (n,) bool."""
    column = pa.array(values, pa.string())
    found: list[bool] = (ids.mask(pa.table({SUBJECT: column})) | ids.mask(pa.table({ID: column}))).tolist()
    return found

"""Keep faces that are held back in files of their own, with the reason behind the columns of faces.

In memory they are rows of faces like the others until a part is written, so that whatever embeds, takes or
merges faces does the same with them; there `held_reason` is null for a face that is not held.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.held import HELD_COLUMNS
from frpipe.core.schema import Column
from frpipe.io.output.embeddings import fields_behind, without_further

_HELD = b"frpipe.held"
_REASON = HELD_COLUMNS[0].name


def held_fields(faces: pa.Schema) -> list[pa.Field]:
    """Find the columns of held faces, as they are in memory, in a table of faces: all, or none."""
    return [_field(column) for column in HELD_COLUMNS] if _marked(faces) else []


def with_held(faces: pa.Table, columns: dict[str, list[str | float | None]]) -> pa.Table:
    """Put the columns of held faces behind faces: of each name a value per face, null where not held."""
    for column in HELD_COLUMNS:
        field = _field(column)
        faces = faces.append_column(field, pa.array(columns[column.name], field.type))
    return faces


def is_held(faces: pa.Table) -> NDArray[np.bool_]:
    """Mark the faces that are held back, (faces,)."""
    if not _marked(faces.schema):
        return np.zeros(faces.num_rows, bool)
    held: NDArray[np.bool_] = pc.is_valid(faces[_REASON]).to_numpy()
    return held


def divided(faces: pa.Table) -> tuple[pa.Table, pa.Table | None]:
    """Divide faces into those not held, and the held as they are written; None: no stage holds any back."""
    if not _marked(faces.schema):
        return faces, None
    names = [column.name for column in HELD_COLUMNS]
    mask = pa.array(is_held(faces))
    held = without_further(faces.filter(mask))
    fields = [_as_written(field) for field in held.schema]
    arrays = [held[field.name].cast(field.type) for field in fields]
    written = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    return faces.filter(pc.invert(mask)).drop_columns(names), written


def united(faces: pa.Table, held: pa.Table) -> pa.Table:
    """Put the held faces of a part behind the others, in the columns that they had in memory.

    faces: with the embeddings of further embedders.  held: as it was written; it has none of these, and gets
    vectors of zeros, which are never written.
    """
    nothing: list[str | float | None] = [None] * faces.num_rows
    faces = with_held(faces, {column.name: nothing for column in HELD_COLUMNS})
    names = {field.name for field in fields_behind(faces.schema)}
    arrays = [
        _zeros(field.type, held.num_rows) if field.name in names else held[field.name].cast(field.type)
        for field in faces.schema
    ]
    return pa.concat_tables([faces, pa.Table.from_arrays(arrays, schema=faces.schema)])


def _marked(faces: pa.Schema) -> bool:
    return any(_HELD in (field.metadata or {}) for field in faces)


def _field(column: Column) -> pa.Field:
    return pa.field(column.name, column.type, True, {_HELD: b"1"})


def _as_written(field: pa.Field) -> pa.Field:
    """The field of a held face in its file, where none is null."""
    if _HELD not in (field.metadata or {}):
        return field
    return next(column.field for column in HELD_COLUMNS if column.name == field.name)


def _zeros(kind: pa.DataType, rows: int) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.zeros(rows * kind.list_size, np.float32))
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.array(np.zeros(rows), kind)

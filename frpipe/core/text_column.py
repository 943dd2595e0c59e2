"""Columns of texts in the form in which they are compared; see `text`."""

from __future__ import annotations

from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.text import canonical_text

Column = TypeVar("Column", pa.Array, pa.ChunkedArray)


def canonical_column(column: Column) -> Column:
    """A column of strings in NFC, nulls kept; the same object where nothing changes."""
    if pc.all(pc.string_is_ascii(column), min_count=0).as_py():
        return column
    texts = column.to_pylist()
    normal = [None if text is None else canonical_text(text) for text in texts]
    if normal == texts:
        return column
    array = pa.array(normal, column.type)
    return pa.chunked_array([array]) if isinstance(column, pa.ChunkedArray) else array

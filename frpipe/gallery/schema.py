"""Schema of templates tables, in which templates enter and leave a gallery: one row for each vector.

A row's key is (subject_id, face_id). Every column that is not named here is an attribute of the row: text,
null allowed, under any name (Name, Department, ...). Ids, names of attributes and their values are in Unicode
NFC; `image_uri` is as given, for it leads to a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.errors import GalleryError, GalleryMismatch
from frpipe.core.schema import vector_type
from frpipe.core.text import canonical_text
from frpipe.core.text_column import canonical_column

SUBJECT_ID = "subject_id"
FACE_ID = "face_id"
URI = "image_uri"
QUALITY = "quality"
ENROLLED = "enrolled_at"
EMBEDDING = "embedding"
FIXED_COLUMNS = (SUBJECT_ID, FACE_ID, URI, QUALITY, ENROLLED, EMBEDDING)
TEXTS = (SUBJECT_ID, FACE_ID, URI)

TIME = pa.timestamp("us", tz="UTC")
# How far a vector's length may be from 1: room for float32 arithmetic, and for rounding to float16 (2**-11).
UNIT_TOLERANCE = 1e-3
# For given vectors: with this error, and rounded to float16, they are still within the above.
INPUT_TOLERANCE = 5e-4
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)


def template_schema(dim: int, attributes: Iterable[str] = (), *, vectors: bool = True) -> pa.Schema:
    """Schema of a templates table: the built-in columns in their order, then the given attributes."""
    return _template_schema(dim, tuple(attributes), vectors)


@lru_cache(256)
def schema_of(dim: int, columns: tuple[str, ...]) -> pa.Schema:
    """Schema of some columns of a templates table: the built-in ones in their order, then attributes."""
    known = template_schema(dim, (name for name in columns if name not in FIXED_COLUMNS))
    return pa.schema([known.field(name) for name in known.names if name in columns])


@lru_cache(256)
def _template_schema(dim: int, attributes: tuple[str, ...], vectors: bool) -> pa.Schema:
    fields = [
        pa.field(SUBJECT_ID, pa.string(), False),
        pa.field(FACE_ID, pa.string(), False),
        pa.field(URI, pa.string()),
        pa.field(QUALITY, pa.float32()),
        pa.field(ENROLLED, TIME),
    ]
    if vectors:
        fields.append(pa.field(EMBEDDING, vector_type(dim), False))
    return pa.schema(fields + [pa.field(name, pa.string()) for name in attributes])


def attributes_of(schema: pa.Schema) -> list[str]:
    """Names of the columns that are attributes, in their order."""
    return [name for name in schema.names if name not in FIXED_COLUMNS]


def union(names: Iterable[Iterable[str]]) -> list[str]:
    """Attribute names of several tables, sorted, each once."""
    return sorted({name for some in names for name in some})


def vectors_of(table: pa.Table) -> NDArray[np.float32]:
    """(n, dim) float32 vectors of the column `embedding`; a view where the column is one chunk."""
    column = table.column(EMBEDDING)
    if column.num_chunks == 1:
        array = column.chunk(0)
    else:
        array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    values = array.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float32).reshape(len(array), column.type.list_size)


def vector_array(vectors: NDArray[np.floating]) -> pa.FixedSizeListArray:
    """Arrow array of (n, dim) vectors, without a copy where they are float32."""
    flat = np.ascontiguousarray(vectors, np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=vector_type(vectors.shape[1]))


def conform(table: pa.Table, dim: int, now: datetime, tolerance: float = INPUT_TOLERANCE) -> pa.Table:
    """Bring a table to `template_schema`, and check it.

    Types are cast, texts brought to NFC, and missing optional columns filled.

    `enrolled_at` is `now` where it is missing; a quality of NaN is null. tolerance: how far a vector's length
    may be from 1. Raises GalleryMismatch for vectors of another dimension, and
    GalleryError for rows that no gallery can hold: no id or one with NUL, not a unit vector, a
    time outside the years 1 to 9999, an attribute that is no text in UTF-8.
    """
    table = table.rename_columns([canonical_text(name) for name in table.schema.names])
    attributes = attributes_of(table.schema)
    _check_names(table.schema.names)
    columns: dict[str, pa.ChunkedArray | pa.Array] = {name: _text(table, name) for name in TEXTS}
    for name in (SUBJECT_ID, FACE_ID):
        _check_ids(columns[name], name)
    quality = _cast(table, QUALITY, pa.float32())
    columns[QUALITY] = pc.if_else(pc.is_nan(quality), pa.scalar(None, pa.float32()), quality)
    columns[ENROLLED] = _times(table, now)
    columns[EMBEDDING] = vector_array(_checked_vectors(table, dim, tolerance))
    columns |= {name: _text(table, name) for name in attributes}
    return pa.table(columns, schema=template_schema(dim, attributes))


def _check_names(names: list[str]) -> None:
    if len(set(names)) != len(names) or any(not name or "\0" in name for name in names):
        raise GalleryError(
            "the names of the columns are not usable",
            "give each column a name of its own, without NUL; two Unicode forms of one name are one",
        )
    missing = [name for name in (SUBJECT_ID, FACE_ID, EMBEDDING) if name not in names]
    if missing:
        raise GalleryError(f"columns are missing: {', '.join(missing)}", "give a templates table")


def _check_ids(column: pa.ChunkedArray, name: str) -> None:
    if column.null_count or (len(column) and pc.min(pc.binary_length(column)).as_py() == 0):
        raise GalleryError(f"{name} is empty in some rows", "leave out rows without an id")
    if pc.any(pc.match_substring(column, "\0")).as_py():
        raise GalleryError(f"{name} has a NUL character in some rows", "take it out of the id")


def _text(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name in table.column_names:
        kind = table.schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            raise GalleryError(f"the column {name!r} is {kind}, not text", "cast it to text, or leave it out")
    text = _cast(table, name, pa.string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        raise GalleryError(
            f"the column {name!r} is not UTF-8 in some rows", "encode its text again"
        ) from None
    return text if name == URI else canonical_column(text)


def check_text(values: Iterable[str]) -> None:
    """Raise GalleryError where UTF-8 cannot hold a text: a lone surrogate is in it."""
    try:
        for value in values:
            value.encode()
    except UnicodeEncodeError:
        raise GalleryError(
            "a text holds a lone surrogate, which UTF-8 cannot hold", "decode it from the right encoding"
        ) from None


def canonical_where(where: Mapping[str, str]) -> dict[str, str]:
    """Names and values of attributes to look for, in NFC. Raises GalleryError as `check_text`."""
    check_text([*where, *where.values()])
    return {canonical_text(name): canonical_text(value) for name, value in where.items()}


def _times(table: pa.Table, now: datetime) -> pa.ChunkedArray:
    times = pc.fill_null(_cast(table, ENROLLED, TIME), pa.scalar(now, TIME))
    first, last = (pa.scalar(limit, TIME) for limit in (_EARLIEST, _LATEST))
    if not pc.all(pc.and_(pc.greater_equal(times, first), pc.less_equal(times, last)), min_count=0).as_py():
        raise GalleryError(f"{ENROLLED} is out of range in some rows", "give times of the years 1 to 9999")
    return times


def _cast(table: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, kind)])
    try:
        return table.column(name).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise GalleryError(f"the column {name} cannot be read as {kind}", "cast it before") from None


def _checked_vectors(table: pa.Table, dim: int, tolerance: float) -> NDArray[np.float32]:
    kind = table.schema.field(EMBEDDING).type
    if not pa.types.is_fixed_size_list(kind) or not pa.types.is_floating(kind.value_type):
        raise GalleryError(f"embedding is {kind}", f"give a fixed-size list of {dim} float32")
    if kind.list_size != dim:
        raise GalleryMismatch(
            f"the vectors have {kind.list_size} numbers, the gallery's have {dim}",
            "enroll the photos again with the gallery's model, or use another gallery",
        )
    # Check nulls first: they may have no values, so that all later values would be misplaced.
    missing = table.column(EMBEDDING).null_count > 0
    if missing or not is_unit(vectors := vectors_of(table), tolerance):
        raise GalleryError("a vector is missing or not of length 1", "divide each vector by its length")
    return vectors


def is_unit(vectors: NDArray[np.floating], tolerance: float = UNIT_TOLERANCE) -> bool:
    """Whether every row of (n, dim) is finite and of length 1, within `tolerance`."""
    for start in range(0, len(vectors), 8192):
        block = vectors[start : start + 8192].astype(np.float32, copy=False)
        lengths = np.einsum("ij,ij->i", block, block)
        if not bool(np.all(np.abs(np.sqrt(lengths) - 1) <= tolerance)):
            return False
    return True

"""The columns of a list of pairs, and of `pairs/`, the result of comparing them."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from frpipe.core.errors import ManifestError
from frpipe.core.schema import Column

A, B = "a", "b"

GIVEN_COLUMNS = (
    Column(A, pa.string(), "one side: the image_id, image_uri or face_id that the list names"),
    Column(B, pa.string(), "the other side"),
)

FOUND_COLUMNS = (
    Column(
        "similarity", pa.float64(), "cosine of the two embeddings, -1..1; null where a side is missing", True
    ),
    Column("distance", pa.float64(), "1 - similarity, 0..2", True),
    Column("threshold_similarity", pa.float64(), "the threshold of the run, as a similarity"),
    Column("decision", pa.bool_(), "similarity >= threshold_similarity; null where a side is missing", True),
    Column("status", pa.string(), "`compared`, `missing_a`, `missing_b` or `missing_both`"),
    Column("reason_a", pa.string(), "why side a is missing", True),
    Column("reason_b", pa.string(), "why side b is missing", True),
)

# By what is missing: 1 for a, 2 for b, 3 for both.
STATUSES = ("compared", "missing_a", "missing_b", "missing_both")

UNKNOWN_IMAGE = "unknown_image"
UNKNOWN_FACE = "unknown_face"


def pair_schema(given: pa.Schema) -> pa.Schema:
    """The schema of the result: the list's columns, a and b without nulls, then what was found."""
    sides = {column.name: column.field for column in GIVEN_COLUMNS}
    return pa.schema(
        [sides.get(field.name, field) for field in given] + [column.field for column in FOUND_COLUMNS]
    )


def carried(schema: pa.Schema) -> pa.Schema:
    """The columns of a list as they travel to the result: a and b as strings, dictionaries decoded.

    Raises ManifestError: no columns a and b, a name twice or one of ours, a type that some readers of Parquet
    lack.
    """
    folded = Counter(name.casefold() for name in schema.names)
    doubled = [name for name in schema.names if folded[name.casefold()] > 1 or not name]
    if doubled or not {A, B} <= set(schema.names):
        raise ManifestError(
            f"the list of pairs needs the columns {A} and {B}, and each name once; it has "
            f"{', '.join(schema.names[:8]) or 'none'}",
            "name the sides of each pair by image_id, image_uri or face_id; see docs/verify-job.md",
        )
    ours = {column.name for column in FOUND_COLUMNS}
    clash = [name for name in schema.names if name.casefold() in ours]
    if clash:
        raise ManifestError(
            f"the list's column {clash[0]} has a name that the result uses itself", "rename the column"
        )
    return pa.schema([_field(field) for field in schema])


def _field(field: pa.Field) -> pa.Field:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if field.name in (A, B):
        good = pa.types.is_integer(kind) or pa.types.is_null(kind) or _is_text(kind)
        kind = pa.string()
    else:
        good = _is_portable(kind)
    if not good:
        raise ManifestError(
            f"the list's column {field.name} is {field.type}, which cannot be used or carried to the result",
            "store a and b as text, and the others as text, numbers, booleans or times",
        )
    return pa.field(field.name, kind)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_portable(kind: pa.DataType) -> bool:
    """Whether every reader of Parquet knows a type."""
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    lacking = pa.types.is_uint64(kind) or pa.types.is_float16(kind)
    other = pa.types.is_boolean(kind) or pa.types.is_temporal(kind) or pa.types.is_null(kind)
    return bool((number and not lacking) or other or _is_text(kind))

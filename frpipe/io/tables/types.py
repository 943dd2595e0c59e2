"""The types that every reader of open tables knows, and their JSON form, which is that of Delta Lake.

Fixed-size lists become lists, unsigned integers the next larger signed ones, and points in time without a
zone are taken as UTC. A column that has no such type is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import pyarrow as pa

from frpipe.core.errors import OutputError

_PLAIN: tuple[tuple[pa.DataType, str], ...] = (
    (pa.string(), "string"),
    (pa.int8(), "byte"),
    (pa.int16(), "short"),
    (pa.int32(), "integer"),
    (pa.int64(), "long"),
    (pa.float32(), "float"),
    (pa.float64(), "double"),
    (pa.bool_(), "boolean"),
    (pa.binary(), "binary"),
    (pa.date32(), "date"),
    (pa.timestamp("us", tz="UTC"), "timestamp"),
)
_NAMES = dict(_PLAIN)
_TYPES = {name: kind for kind, name in _PLAIN}
_AS = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.date64(): pa.date32(),
    pa.null(): pa.string(),
}
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
# Characters that the name of a column of Delta Lake must not have.
_REFUSED = re.compile(r"[ ,;{}()\n\t=]")


def portable(kind: pa.DataType, column: str) -> pa.DataType:  # noqa: PLR0911 - one for each kind
    """Map a type to the one that it is published with. Raises OutputError where there is none."""
    if kind in _NAMES:
        return kind
    if kind in _AS:
        return _AS[kind]
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC")
    if pa.types.is_decimal(kind) and kind.precision <= 38:
        return pa.decimal128(kind.precision, kind.scale)
    if pa.types.is_dictionary(kind):
        return portable(kind.value_type, column)
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = kind.value_field
        return pa.list_(pa.field("element", portable(inner.type, column), inner.nullable))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, portable(f.type, column), f.nullable) for f in kind])
    raise OutputError(
        f"the column {column} is {kind}, which tables cannot hold", f"leave it out: --without {column}"
    )


def column_name(name: str, taken: Collection[str]) -> str:
    """Map the name of a manifest's or stage's column to that in the tables. taken: folded names of ours."""
    plain = _REFUSED.sub("_", name)
    return f"manifest_{plain}" if plain.casefold() in taken else plain


def schema_json(schema: pa.Schema) -> dict[str, Any]:
    """Convert a schema to JSON. Raises OutputError for a type that tables cannot hold."""
    return {"type": "struct", "fields": [_field_json(field) for field in schema]}


def schema_of(data: dict[str, Any]) -> pa.Schema:
    """Parse a schema from JSON. Raises OutputError for a type that is not known here."""
    return pa.schema([_field(each) for each in data["fields"]])


def _field_json(field: pa.Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "type": _type_json(field.type, field.name),
        "nullable": field.nullable,
        "metadata": {},
    }


def _type_json(kind: pa.DataType, column: str) -> Any:
    if kind in _NAMES:
        return _NAMES[kind]
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_list(kind):
        inner = kind.value_field
        return {
            "type": "array",
            "elementType": _type_json(inner.type, column),
            "containsNull": inner.nullable,
        }
    if pa.types.is_struct(kind):
        return {"type": "struct", "fields": [_field_json(each) for each in kind]}
    raise OutputError(f"the column {column} is {kind}, which tables cannot hold", "leave the column out")


def _field(data: dict[str, Any]) -> pa.Field:
    return pa.field(data["name"], _type(data["type"]), data["nullable"])


def _type(data: Any) -> pa.DataType:
    if isinstance(data, str):
        if data in _TYPES:
            return _TYPES[data]
        found = _DECIMAL.fullmatch(data)
        if found:
            return pa.decimal128(int(found[1]), int(found[2]))
    elif data["type"] == "array":
        return pa.list_(pa.field("element", _type(data["elementType"]), data["containsNull"]))
    elif data["type"] == "struct":
        return pa.struct([_field(each) for each in data["fields"]])
    raise OutputError(
        f"a table has a column of type {data}, which this version of frpipe does not know",
        "publish to another root, or use the program that changed the table",
    )

"""Find the type that holds the values of one column in several files."""

from __future__ import annotations

import pyarrow as pa

_UNITS = ("s", "ms", "us", "ns")


def common(a: pa.DataType, b: pa.DataType, *, is_id: bool = False) -> pa.DataType | None:
    """Find the type to which both can be brought without a change of any value; None: there is none.

    is_id: whole numbers become texts, as do all texts of other layouts.
    """
    a, b = plain(a), plain(b)
    if is_id:
        a, b = (pa.string() if pa.types.is_integer(kind) else kind for kind in (a, b))
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    return _wider(a, b)


def plain(kind: pa.DataType) -> pa.DataType:
    """Find the type of the same values without an encoding: no dictionaries, large or view layouts."""
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(plain(kind.value_type))
    return kind


def has_null(kind: pa.DataType) -> bool:
    """Whether a type, or one within it, is that of a column without any value."""
    return pa.types.is_null(kind) or any(has_null(kind.field(at).type) for at in range(kind.num_fields))


def _wider(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    wider = None
    if pa.types.is_integer(a) and pa.types.is_integer(b):
        wider = _whole(a, b)
    elif pa.types.is_floating(a) and pa.types.is_floating(b):
        wider = max(a, b, key=lambda kind: kind.bit_width)
    elif pa.types.is_timestamp(a) and pa.types.is_timestamp(b) and a.tz == b.tz:
        wider = max(a, b, key=lambda kind: _UNITS.index(kind.unit))
    elif pa.types.is_list(a) and pa.types.is_list(b):
        inner = common(a.value_type, b.value_type)
        wider = inner and pa.list_(inner)
    return wider


def _whole(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """Find the whole numbers that hold those of both; none for signed ones and 64 bits without a sign."""
    signed = [pa.types.is_signed_integer(kind) for kind in (a, b)]
    if signed[0] == signed[1]:
        return max(a, b, key=lambda kind: kind.bit_width)
    unsigned, other = (b, a) if signed[0] else (a, b)
    bits = max(2 * unsigned.bit_width, other.bit_width)
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(bits)

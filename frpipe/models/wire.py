"""Read Protobuf's wire format where it lies: https://protobuf.dev/programming-guides/encoding/."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5
_VARINT_BYTES = 10


class Field(NamedTuple):
    """A field of a message: its number and wire type, and where its tag, its value and its end lie."""

    number: int
    kind: int
    start: int
    value: int
    end: int


class Message:
    """A message in `data[start:end]`. ValueError at the first look at it, where it is none.

    Nothing in it is copied or parsed before it is asked for. A field of another wire type than the one asked
    for is passed over, as protobuf does.
    """

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self.data, self.start, self.end = data, start, end

    @cached_property
    def fields(self) -> list[Field]:
        """All fields, in their order."""
        return list(_fields(self.data, self.start, self.end))

    def sized(self, number: int) -> list[Field]:
        """The fields of a number whose size stands before them: texts, bytes, messages, packed numbers."""
        return [field for field in self.fields if field.number == number and field.kind == _SIZED]

    def messages(self, number: int) -> list[Message]:
        return [Message(self.data, field.value, field.end) for field in self.sized(number)]

    def blobs(self, number: int) -> list[bytes]:
        """The values of a field as they are stored: bytes, or one or several numbers of four bytes."""
        kinds = (_SIZED, _FOUR_BYTES)
        found = (field for field in self.fields if field.number == number and field.kind in kinds)
        return [self.data[field.value : field.end] for field in found]

    def texts(self, number: int) -> list[str]:
        return [
            self.data[field.value : field.end].decode(errors="surrogateescape")
            for field in self.sized(number)
        ]

    def text(self, number: int) -> str:
        """The last value of a field, which counts; empty if there is none."""
        return (self.texts(number) or [""])[-1]

    def integers(self, number: int) -> list[int]:
        """Integers of a field, packed or one by one."""
        found = []
        for field in self.fields:
            if field.number == number and field.kind in (_VARINT, _SIZED):
                at = field.value
                while at < field.end:
                    value, at = _read_varint(self.data, at)
                    found.append(value)
        return found

    def integer(self, number: int, default: int = 0) -> int:
        """The last value of a field, which counts."""
        return (self.integers(number) or [default])[-1]


def integer(number: int, value: int) -> bytes:
    """Write a field that holds an integer of 0 or more."""
    return _varint(number << 3 | _VARINT) + _varint(value)


def four_bytes(number: int, value: bytes) -> bytes:
    """Write a field that holds a float32 or the like."""
    return _varint(number << 3 | _FOUR_BYTES) + value


def sized(number: int, value: bytes | str) -> bytes:
    """Write a field that holds bytes, text or a message."""
    data = value.encode(errors="surrogateescape") if isinstance(value, str) else value
    return sized_head(number, len(data)) + data


def sized_head(number: int, size: int) -> bytes:
    """Write the head of such a field: what comes before its value."""
    return _varint(number << 3 | _SIZED) + _varint(size)


def _fields(data: bytes, start: int, end: int) -> Iterator[Field]:
    while start < end:
        tag, value = _read_varint(data, start)
        kind = tag & 7
        if kind == _VARINT:
            _, stop = _read_varint(data, value)
        elif kind == _SIZED:
            size, value = _read_varint(data, value)
            stop = value + size
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            stop = value + (8 if kind == _EIGHT_BYTES else 4)
        else:
            raise ValueError("a wire type that is out of use")
        if stop > end:
            raise ValueError("a field goes on after its message")
        yield Field(tag >> 3, kind, start, value, stop)
        start = stop


def _read_varint(data: bytes, start: int) -> tuple[int, int]:
    """Read an integer of variable length and where it ends."""
    value = 0
    for place, byte in enumerate(data[start : start + _VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, start + place + 1
    raise ValueError("a number without an end")


def _varint(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)

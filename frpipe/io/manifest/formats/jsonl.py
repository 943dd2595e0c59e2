"""Read lists in JSON: one object a line, or an array. The first block settles the columns' types."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.json as pj

from frpipe.core.errors import ManifestError
from frpipe.io.manifest.formats import text

_BLOCKS = 4
_BLOCK_CHARS = 1 << 20
_OBJECT_CHARS = 64 << 20
# Arrow's parser calls itself for each level: a hundred thousand of them end the process.
_MOST_LEVELS = 64
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_MARKS = re.compile(r"[][{}]")
_BETWEEN = re.compile(r"[ \t\r\n]*")
_LONG = re.compile(r"\d{16}")
_REMEDY = "write one object a line, with the same columns and types in each"


def schema(file: BinaryIO, name: str) -> pa.Schema:
    """Columns and types of the first block. Dates are text; a column without a value there is null."""
    for block in _blocks(file, name):
        found = block.parsed(None).schema
        return pa.schema([pa.field(field.name, _as_written(field.type)) for field in found])
    return pa.schema([])


def batches(
    file: BinaryIO, name: str, columns: Sequence[str], expected: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Iterate over the rows in order. Raises ManifestError with the line that does not fit `expected`."""
    for block in _blocks(file, name):
        yield from block.parsed(expected).select(list(columns)).to_batches()


def _as_written(inferred: pa.DataType) -> pa.DataType:
    """Turn a type back into text where Arrow would take a text for a time."""
    if pa.types.is_temporal(inferred):
        return pa.string()
    if pa.types.is_list(inferred):
        return pa.list_(_as_written(inferred.value_type))
    if pa.types.is_struct(inferred):
        return pa.struct([pa.field(field.name, _as_written(field.type)) for field in inferred])
    return inferred


class _Block(NamedTuple):
    """A block of objects, one in each text; blank texts are none.

    first: number of the first, of its `unit`.
    """

    name: str
    unit: str
    first: int
    texts: list[str]

    def parsed(self, expected: pa.Schema | None) -> pa.Table:
        objects = [self._object(number, line) for number, line in enumerate(self.texts, self.first)]
        try:
            table = _parse(self.texts, expected)
        except pa.ArrowInvalid:
            raise self._misfit(expected) from None
        self._check_numbers(table.schema, objects)
        return table

    def _object(self, number: int, line: str) -> dict[str, Any]:
        """Parse one object, which JSON has to know as such before Arrow may see it."""
        if not line or line.isspace():
            return {}
        if line.count("{") + line.count("[") > _MOST_LEVELS and _levels(line) > _MOST_LEVELS:
            raise self._refused(
                number, f"nested more than {_MOST_LEVELS} deep", "leave the column out, or store it as text"
            )
        try:
            found = _DECODER.decode(line)
        except ValueError as error:
            what = f"no JSON ({error.msg})" if isinstance(error, json.JSONDecodeError) else str(error)
            raise self._refused(number, what, _REMEDY) from None
        if not isinstance(found, dict):
            raise self._refused(number, "no object", _REMEDY)
        return found

    def _check_numbers(self, schema: pa.Schema, objects: list[dict[str, Any]]) -> None:
        """Refuse whole numbers that a column of floating point numbers would change."""
        floats = [field.name for field in schema if "double" in str(field.type)]
        if not floats or not any(map(_LONG.search, self.texts)):
            return
        for number, found in enumerate(objects, self.first):
            for column in floats:
                if _is_inexact(found.get(column)):
                    what = f"not to be kept to its last digit in column {column}"
                    raise self._refused(number, what, "write long numbers as text")

    def _misfit(self, expected: pa.Schema | None) -> ManifestError:
        """Find the last object of the shortest beginning of the block that does not parse."""
        errors: dict[int, str] = {}

        def fails(count: int) -> bool:
            try:
                _parse(self.texts[:count], expected)
            except pa.ArrowInvalid as error:
                errors[count] = str(error)
                return True
            return False

        count = bisect_left(range(len(self.texts) + 1), True, key=fails)
        column = re.search(r"Column\(/(\w+)\)", errors.get(count, ""))
        where = f" in column {column[1]}" if column else ""
        return self._refused(self.first + count - 1, f"no object of the columns before it{where}", _REMEDY)

    def _refused(self, number: int, what: str, remedy: str) -> ManifestError:
        return ManifestError(f"{self.unit} {number} of {self.name} is {what}", remedy)


def _parse(texts: Sequence[str], expected: pa.Schema | None) -> pa.Table:
    block = "\n".join(texts).encode()
    if not block.strip():
        return (expected or pa.schema([])).empty_table()
    options = pj.ParseOptions(
        explicit_schema=expected, unexpected_field_behavior="infer" if expected is None else "error"
    )
    whole = pj.ReadOptions(use_threads=False, block_size=len(block) + 1)
    return pj.read_json(pa.BufferReader(block), read_options=whole, parse_options=options)


def _blocks(file: BinaryIO, name: str) -> Iterator[_Block]:
    data = text.pieces(file, name, _BLOCKS)
    first = next(data, b"")
    if first.lstrip().startswith(b"["):
        yield from _items(chain([first], data), name)
        return
    for line, block in text.blocks(chain([first], data), name):
        if block.strip():
            yield _Block(name, "line", line, block.decode().split("\n"))


def _items(data: Iterable[bytes], name: str) -> Iterator[_Block]:
    """Iterate over the objects of an array, in blocks."""
    texts: list[str] = []
    first, chars = 1, 0
    for item in _Array(data, name).items():
        texts.append(item.replace("\n", " "))
        chars += len(item)
        if chars > _BLOCK_CHARS:
            yield _Block(name, "item", first, texts)
            first, chars, texts = first + len(texts), 0, []
    if texts:
        yield _Block(name, "item", first, texts)


class _Array:
    """An array that is read piece by piece. held: the text that is not used up; at: the place in it."""

    def __init__(self, data: Iterable[bytes], name: str) -> None:
        self._data = iter(data)
        self._decode = getincrementaldecoder("utf-8")().decode
        self._name = name
        self._held, self._at, self._number = "", 0, 0

    def items(self) -> Iterator[str]:
        """Iterate over the texts of the items."""
        mark = self._mark()
        if self._peek() == "]":
            mark = self._mark()
        while mark != "]":
            self._number += 1
            yield self._item()
            mark = self._mark()
            if mark not in ("]", ","):
                raise self._refused("not followed by a comma or the end of the array")
        if self._peek():
            raise self._refused("the last of the array, and more text follows")

    def _mark(self) -> str:
        mark = self._peek()
        self._at += 1
        return mark

    def _peek(self) -> str:
        """The next character that is no blank; an empty text at the end."""
        while True:
            blanks = _BETWEEN.match(self._held, self._at)
            self._at = blanks.end() if blanks else self._at
            if self._at < len(self._held):
                return self._held[self._at]
            if not self._grow():
                return ""

    def _item(self) -> str:
        self._peek()
        while True:
            try:
                _, end = _DECODER.raw_decode(self._held, self._at)
            except RecursionError:
                raise self._refused(f"nested more than {_MOST_LEVELS} deep") from None
            except ValueError as error:
                if not self._is_cut(error) or len(self._held) > _OBJECT_CHARS or not self._grow():
                    raise self._refused("no JSON") from None
                continue
            start, self._at = self._at, end
            return self._held[start:end]

    def _is_cut(self, error: ValueError) -> bool:
        """Whether an item may be whole once more is read."""
        return isinstance(error, json.JSONDecodeError) and (
            error.msg.startswith("Unterminated") or error.pos > len(self._held) - 16
        )

    def _grow(self) -> bool:
        piece = next(self._data, None)
        if piece is None:
            return False
        try:
            self._held, self._at = self._held[self._at :] + self._decode(piece), 0
        except UnicodeDecodeError:
            raise ManifestError(
                f"{self._name} is not UTF-8 after item {self._number}", "save the file as UTF-8"
            ) from None
        return True

    def _refused(self, what: str) -> ManifestError:
        return ManifestError(f"item {self._number} of {self._name} is {what}", "write an array of objects")


def _no_number(text: str) -> Any:
    raise ValueError(f"no JSON: {text} is no number there")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def _is_inexact(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) > 2**53 and (abs(value) > 2**1000 or int(float(value)) != value)
    if isinstance(value, dict):
        return any(map(_is_inexact, value.values()))
    return isinstance(value, list) and any(map(_is_inexact, value))


def _levels(line: str) -> int:
    """Measure how deep objects and lists are nested, what stands in strings left out."""
    deepest = level = 0
    for mark in _MARKS.findall(_STRING.sub("", line)):
        level += 1 if mark in "{[" else -1
        deepest = max(deepest, level)
    return deepest

"""Manifests in JSON lines: one object a line. The first block settles the columns and their types."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.json as pj

from frpipe.core.errors import ManifestError

_BLOCK_BYTES = 1 << 20
_LINE_BYTES = 64 << 20
# Arrow's parser calls itself for each level: a hundred thousand of them end the process.
_MOST_LEVELS = 64
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_MARKS = re.compile(rb"[][{}]")
_BOM = b"\xef\xbb\xbf"


def schema(file: BinaryIO) -> pa.Schema:
    """Columns and types of the first block. Dates are text, as is a column without any value there."""
    for first_line, block in _blocks(file):
        try:
            found = _parse(block, None).schema
        except pa.ArrowInvalid:
            raise _misfit(block, first_line, None) from None
        return pa.schema([pa.field(f.name, pa.string() if _is_text(f.type) else f.type) for f in found])
    return pa.schema([])


def batches(file: BinaryIO, columns: Sequence[str], expected: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows in order. Raises ManifestError with the line that does not fit `expected`."""
    for first_line, block in _blocks(file):
        try:
            table = _parse(block, expected)
        except pa.ArrowInvalid:
            raise _misfit(block, first_line, expected) from None
        yield from table.select(list(columns)).to_batches()


def _is_text(inferred: pa.DataType) -> bool:
    return bool(pa.types.is_null(inferred) or pa.types.is_temporal(inferred))


def _parse(block: bytes, expected: pa.Schema | None) -> pa.Table:
    options = pj.ParseOptions(
        explicit_schema=expected, unexpected_field_behavior="infer" if expected is None else "error"
    )
    whole = pj.ReadOptions(use_threads=False, block_size=len(block) + 1)
    return pj.read_json(pa.BufferReader(block), read_options=whole, parse_options=options)


def _blocks(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(number of its first line, block of whole lines), blank blocks left out."""
    rest, line = b"", 1
    while data := file.read(_BLOCK_BYTES):
        if line == 1 and not rest:
            data = data.removeprefix(_BOM)
        whole, newline, tail = data.rpartition(b"\n")
        if not newline:
            rest += data
            if len(rest) > _LINE_BYTES:
                raise ManifestError(
                    f"line {line} of a JSON lines file is too long", "write one object a line"
                )
            continue
        block, rest = rest + whole + newline, tail
        if block.strip():
            _check_levels(block, line)
            yield line, block
        line += block.count(b"\n")
    if rest.strip():
        _check_levels(rest, line)
        yield line, rest


def _check_levels(block: bytes, first_line: int) -> None:
    for number, line in enumerate(block.split(b"\n"), first_line):
        if line.count(b"{") + line.count(b"[") > _MOST_LEVELS and _levels(line) > _MOST_LEVELS:
            raise ManifestError(
                f"line {number} of a JSON lines file is nested more than {_MOST_LEVELS} deep",
                "leave the column out, or store it as text",
            )


def _levels(line: bytes) -> int:
    """How deep objects and lists lie in one another, what stands in strings left out."""
    deepest = level = 0
    for mark in _MARKS.findall(_STRING.sub(b"", line)):
        level += 1 if mark in b"{[" else -1
        deepest = max(deepest, level)
    return deepest


def _misfit(block: bytes, first_line: int, expected: pa.Schema | None) -> ManifestError:
    """The last line of the shortest beginning of the block that does not parse."""
    lines = block.split(b"\n")
    errors: dict[int, str] = {}

    def fails(count: int) -> bool:
        beginning = b"\n".join(lines[:count])
        try:
            if beginning.strip():
                _parse(beginning, expected)
        except pa.ArrowInvalid as error:
            errors[count] = str(error)
            return True
        return False

    count = bisect_left(range(len(lines) + 1), True, key=fails)
    column = re.search(r"Column\(/(\w+)\)", errors.get(count, ""))
    where = f" in column {column[1]}" if column else ""
    return ManifestError(
        f"line {first_line + count - 1} of a JSON lines file is no object of the columns before it{where}",
        "write one object a line, with the same columns and types in each",
    )

"""Read lists in CSV as RFC 4180 has it, a row a line. Separators: comma, semicolon, tab, pipe.

What programs read differently is refused with its line: a quote within a value or one that is not doubled or
not closed, a line break in a value, a row of another length than the header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from frpipe.core.errors import ManifestError
from frpipe.io.manifest.formats.text import blocks, pieces

_SPOKEN = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
_EXCEL = re.compile(r"sep=([,;\t|])")
_QUOTED = re.compile(r'"([^"]*+(?:""[^"]*+)*+)"')
_QUOTES = (
    "write a quote within a value twice, and the value in quotes (Spark: option escape='\"'); values with "
    "line breaks need .jsonl or .parquet"
)


class Header(NamedTuple):
    """The header of a list. padded: blanks around names, and so around values, are no part of either."""

    names: list[str]
    separator: str
    padded: bool


class _Fault(Exception):
    """A fault of a line, and of which of its values, from 0."""

    def __init__(self, what: str, value: int, remedy: str = _QUOTES) -> None:
        super().__init__(what, value, remedy)
        self.what, self.value, self.remedy = what, value, remedy


def _carriage_return() -> _Fault:
    return _Fault("a carriage return stands alone", -1, "end each line with a line feed")


def schema(file: BinaryIO, name: str, known: frozenset[str]) -> pa.Schema:
    """The columns of the header, each of strings; metadata `padded` where the header is padded.

    known: names of columns, of which the right separator finds most.
    """
    found, _ = _opened(file, name, known)
    names = found.names if found else []
    return pa.schema(
        [(column, pa.string()) for column in names], {"padded": "1"} if found and found.padded else None
    )


def batches(
    file: BinaryIO, name: str, known: frozenset[str], columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Iterate over the rows in order, columns as written, all strings; an empty value is null."""
    found, rest = _opened(file, name, known)
    if found is not None:
        options = _options(found, columns)
        for first_line, block in rest:
            yield from _Block(name, found, first_line, block).read(columns, options)


def _options(header: Header, columns: Sequence[str]) -> dict[str, Any]:
    """Options with which Arrow reads blocks below the header, each as a whole."""
    names, separator, _ = header
    return {
        "read_options": pc.ReadOptions(use_threads=False, block_size=1 << 30, column_names=names),
        "parse_options": pc.ParseOptions(delimiter=separator),
        "convert_options": pc.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=list(columns),
            strings_can_be_null=True,
            null_values=[""],
        ),
    }


def _opened(
    file: BinaryIO, name: str, known: frozenset[str]
) -> tuple[Header | None, Iterator[tuple[int, bytes]]]:
    """Read the header, and iterate over the blocks of lines below it."""
    separators = "\t,;|" if ".tsv" in PurePosixPath(name.lower()).suffixes else "".join(_SPOKEN)
    lines = blocks(pieces(file, name), name)
    for first, block in lines:
        end = 0
        for number, line in enumerate(BytesIO(block), first):
            end += len(line)
            text = line.decode().strip("\n").removesuffix("\r")
            if excel := _EXCEL.fullmatch(text):
                separators = excel[1]
            elif text.strip():
                found = _header(text, name, number, separators, known)
                return found, chain([(number + 1, block[end:])], lines)
    return None, lines


def _header(text: str, name: str, line: int, separators: str, known: frozenset[str]) -> Header:
    """Read the header with the separator that finds most of the known names; the first of equals."""
    best, most, fault = None, -1, _carriage_return()
    for separator in "" if "\r" in text else separators:
        try:
            names = _values(text, separator, padded=True)
        except _Fault as error:
            fault = error
            continue
        count = len(known.intersection(names))
        if count > most:
            best, most = Header(names, separator, _is_padded(text, separator, names)), count
    if best is None:
        raise _misread(name, line, fault)
    return best


def _is_padded(text: str, separator: str, names: list[str]) -> bool:
    try:
        return _values(text, separator, padded=False) != names
    except _Fault:
        return True


class _Block(NamedTuple):
    """Whole lines of a file below its header."""

    name: str
    header: Header
    first_line: int
    block: bytes

    def read(self, columns: Sequence[str], options: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
        if self.header.padded:
            yield self._padded(columns)
            return
        if b"\r" in self.block and self.block.count(b"\r") != self.block.count(b"\r\n"):
            self.check()
        if b'"' in self.block and not self._is_well_quoted():
            self.check()
        try:
            table = pc.read_csv(pa.BufferReader(self.block), **options)
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                return
            self.check()
            raise ManifestError(
                f"{self.name} cannot be read from line {self.first_line} on", "write it as Parquet"
            ) from None
        if b'"' in self.block and table.num_rows != self._lines():
            self.check()
        yield from table.to_batches()

    def check(self) -> None:
        """Raise ManifestError with the first line that is not as it has to be, if there is one."""
        for _ in self._rows():
            pass

    def _lines(self) -> int:
        ends = np.count_nonzero(np.frombuffer(self.block, np.uint8) == ord("\n"))
        return int(ends) + (not self.block.endswith(b"\n"))

    def _padded(self, columns: Sequence[str]) -> pa.RecordBatch:
        at = [self.header.names.index(column) for column in columns]
        rows = list(self._rows())
        return pa.record_batch(
            [pa.array([row[index] or None for row in rows], pa.string()) for index in at], list(columns)
        )

    def _rows(self) -> Iterator[list[str]]:
        """Read the values of each line, one by one: slow, and exact about what is wrong."""
        names, separator, padded = self.header
        for number, line in enumerate(self.block.decode().split("\n"), self.first_line):
            text = line.removesuffix("\r")
            if not text:
                continue
            try:
                values = _row(text, separator, len(names), padded=padded)
            except _Fault as fault:
                column = names[fault.value] if 0 <= fault.value < len(names) else ""
                raise _misread(self.name, number, fault, column) from None
            yield values

    def _is_well_quoted(self) -> bool:
        """Whether quotes stand where they may, if there are no line breaks between them."""
        marks = np.frombuffer(b"\n" + self.block + b"\n", np.uint8)
        quotes = np.flatnonzero(marks == ord('"'))
        if len(quotes) % 2:
            return False
        # Quotes open and close in turn; one that is doubled closes and opens at once.
        opening, closing = quotes[0::2], quotes[1::2]
        doubled = closing[:-1] + 1 == opening[1:]
        before, after = marks[opening - 1], marks[closing + 1]
        opens = (before == ord(self.header.separator)) | (before == ord("\n"))
        closes = (after == ord(self.header.separator)) | (after == ord("\n")) | (after == ord("\r"))
        opens[1:] |= doubled
        closes[:-1] |= doubled
        return bool(opens.all() and closes.all())


def _row(text: str, separator: str, length: int, *, padded: bool) -> list[str]:
    if "\r" in text:
        raise _carriage_return()
    values = _values(text, separator, padded=padded)
    if len(values) != length:
        several = "s" * (len(values) > 1)
        raise _Fault(
            f"{len(values)} value{several} where the header has {length}",
            -1,
            f"quote values that hold {_SPOKEN[separator]}, and write a row a line",
        )
    return values


def _values(text: str, separator: str, *, padded: bool) -> list[str]:
    """Split a line into values. padded: blanks around a value, quoted or not, are no part of it."""
    blanks = (" " if separator == "\t" else " \t") if padded else ""
    if '"' not in text:
        return [value.strip(blanks) if padded else value for value in text.split(separator)]
    values: list[str] = []
    at = 0
    while True:
        start = _after(text, at, blanks)
        if text.startswith('"', start):
            value, at = _quoted(text, start, len(values))
            at = _after(text, at, blanks)
            if not text.startswith(separator, at) and at < len(text):
                raise _stray(text[start:], len(values), "text stands after a closing quote")
        else:
            value = text[at : text.find(separator, at) if separator in text[at:] else None]
            at += len(value)
            if '"' in value:
                raise _stray(value, len(values), "a quote stands within a value")
            value = value.strip(blanks) if padded else value
        values.append(value)
        if at == len(text):
            return values
        at += 1


def _after(text: str, at: int, blanks: str) -> int:
    """The place after any blanks."""
    while at < len(text) and text[at] in blanks:
        at += 1
    return at


def _quoted(text: str, start: int, value: int) -> tuple[str, int]:
    found = _QUOTED.match(text, start)
    if found is None:
        raise _stray(text[start:], value, "a quote is not closed on its line")
    return found[1].replace('""', '"'), found.end()


def _stray(text: str, value: int, what: str) -> _Fault:
    """Describe what is wrong with a quote, with its likely cause where there is one."""
    if '\\"' in text:
        what = "a quote is escaped by a backslash"
    elif text.lstrip().startswith('"') and text[0] != '"':
        return _Fault("a blank stands before a quoted value", value, "leave no blank before the quote")
    return _Fault(what, value)


def _misread(name: str, line: int, fault: _Fault, column: str = "") -> ManifestError:
    where = f", column {column}" if column.isprintable() and column else ""
    return ManifestError(f"line {line} of {name}{where}: {fault.what}", fault.remedy)

"""Find the page of a Parquet column that holds a row: a part need not read its row group from the start.

The footer says where a column's pages begin in a row group. Each page begins with a header that says how long
it is and how many rows it has: following the headers, and skipping what is between, leads to any row. Arrow
then reads a file in which the skipped pages are not there.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import ManifestError
from frpipe.io.manifest.columns import BYTES
from frpipe.io.manifest.formats.parquet import BUFFER_BYTES
from frpipe.io.manifest.image_struct import struct_column
from frpipe.io.storage.window import ReadRange

# A header is a few dozen bytes, but holds the least and the greatest photo of its page if these are small.
_HEADER_BYTES, _MOST_HEADER_BYTES = 1 << 10, 1 << 24
# A request to a store takes as long as reading some megabytes.
_REMOTE_BUFFER_BYTES = 8 << 20
# Fields of a page's header, as parquet.thrift numbers them.
_COMPRESSED_SIZE, _DATA_PAGE, _DATA_PAGE_V2, _NUM_VALUES, _ENCODING, _ENCODING_V2 = 3, 5, 8, 1, 2, 4
_BY_DICTIONARY = (2, 8)
_CHUNKS_KNOWN = 256
_INTEGERS = range(3, 7)
_DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 7, 8, 9, 10, 12


class ParquetPhotos:
    """A column of a Parquet file, read from any page on.

    key: what tells this content of the file from any other.  read, size: of the file.
    """

    def __init__(self, key: str, read: ReadRange, size: int, *, is_local: bool) -> None:
        self._key, self._read, self._size = key, read, size
        self._buffer = BUFFER_BYTES if is_local else _REMOTE_BUFFER_BYTES
        self._metadata: pq.FileMetaData = None
        parquet = self._open(_Shortened(read, size))
        self._metadata, self._column = parquet.metadata, photo_column(parquet.schema_arrow)
        columns = [self._metadata.schema.column(i) for i in range(self._metadata.num_columns)]
        paths = [column.path for column in columns]
        if self._column not in paths:
            raise changed()
        self._number = paths.index(self._column)
        # One value a row, or pages would not say how many rows they have.
        self._is_flat = columns[self._number].max_repetition_level == 0

    def groups(self) -> Iterator[tuple[int, int, int]]:
        """Row groups, each as (first row, row after the last, number)."""
        start = 0
        for group in range(self._metadata.num_row_groups):
            end = start + self._metadata.row_group(group).num_rows
            yield start, end, group
            start = end

    def page(self, group: int, row: int) -> int:
        """The first row, in its row group, of the page that holds a row."""
        return self._pages(group).first_row(row, self._read) if self._is_flat else 0

    def batches(self, group: int, first: int, size: int) -> Iterator[pa.Array]:
        """Iterate over values of a row group from a page's first row on; of a struct over its leaf."""
        start, end = self._extent(group)
        at = jump = 0
        if first:
            offset, has_dictionary = self._pages(group).place(first)
            chunk = self._metadata.row_group(group).column(self._number)
            at = chunk.data_page_offset if has_dictionary else start
            jump = offset - at
        parquet = self._open(_Shortened(self._read, self._size, at, jump, end))
        with _as_written():
            for batch in parquet.iter_batches(
                size, row_groups=[group], columns=[self._column], use_threads=False
            ):
                values = batch.column(0)
                yield values.flatten()[0] if values.type.num_fields else values

    def _open(self, file: _Shortened) -> pq.ParquetFile:
        with _as_written():
            return pq.ParquetFile(file, metadata=self._metadata, buffer_size=self._buffer, pre_buffer=False)

    def _extent(self, group: int) -> tuple[int, int]:
        """The place where the pages of a row group begin, and where they end."""
        chunk = self._metadata.row_group(group).column(self._number)
        start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
        return start, start + chunk.total_compressed_size

    def _pages(self, group: int) -> _Pages:
        return _pages_of(self._key, group, *self._extent(group))


@lru_cache(_CHUNKS_KNOWN)
def _pages_of(key: str, group: int, start: int, end: int) -> _Pages:
    """Remember what this process knows of a column's pages: parts that follow begin where others ended."""
    return _Pages(start, end)


class _Pages:
    """Data pages of a column chunk, as far as their headers have been read."""

    def __init__(self, start: int, end: int) -> None:
        self._next, self._end = start, end
        self._rows, self._firsts, self._places = 0, list[int](), list[tuple[int, bool]]()
        self._lock = Lock()

    def first_row(self, row: int, read: ReadRange) -> int:
        """The first row of the page that holds a row. Raises ManifestError: there is no such page."""
        with self._lock:
            while self._rows <= row:
                self._follow(read)
            return self._firsts[bisect_right(self._firsts, row) - 1]

    def place(self, first: int) -> tuple[int, bool]:
        """The place of the page with this first row, and whether its values are numbers of a dictionary.

        Writers give a dictionary up when it is full, and do not come back to it.
        """
        return self._places[bisect_right(self._firsts, first) - 1]

    def _follow(self, read: ReadRange) -> None:
        if self._next >= self._end:
            raise changed()
        length, size, rows, has_dictionary = _page_header(read, self._next, self._end)
        if rows:
            self._firsts.append(self._rows)
            self._places.append((self._next, has_dictionary))
        self._rows += rows
        self._next += length + size


def _page_header(read: ReadRange, at: int, end: int) -> tuple[int, int, int, bool]:
    """Read a page's header: its length, length and rows of the page, and whether a dictionary is used."""
    wanted = _HEADER_BYTES
    while True:
        data = read(at, min(at + wanted, end))
        header = _Compact(data)
        try:
            fields = header.struct()
        except IndexError:
            if at + wanted >= end or wanted >= _MOST_HEADER_BYTES:
                raise changed() from None
            wanted *= 16
            continue
        plain, second = fields.get(_DATA_PAGE, {}), fields.get(_DATA_PAGE_V2, {})
        encoding = plain.get(_ENCODING, second.get(_ENCODING_V2))
        rows = plain.get(_NUM_VALUES, second.get(_NUM_VALUES, 0))
        size = fields.get(_COMPRESSED_SIZE, -1)
        if min(size, rows) < 0:
            raise changed()
        return header.at, size, rows, encoding in _BY_DICTIONARY


class _Compact:
    """Read a struct in Thrift's compact protocol: integers and structs by their numbers.

    Raises IndexError where the data end before the struct does.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def struct(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            kind, delta = head & 15, head >> 4
            number = number + delta if delta else self._integer()
            found[number] = self._value(kind)
        return found

    def _value(self, kind: int) -> Any:
        if kind in _INTEGERS:
            return self._byte() if kind == _INTEGERS[0] else self._integer()
        if kind == _STRUCT:
            return self.struct()
        if kind == _BINARY:
            return self._skip(self._varint())
        if kind == _DOUBLE:
            return self._skip(8)
        if kind in (_LIST, _SET):
            head = self._byte()
            length = head >> 4 if head >> 4 < 15 else self._varint()
            return [self._value(head & 15) for _ in range(length)]
        if kind > _STRUCT:
            raise changed()
        return kind == 1

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self._data):
            raise IndexError


class _Shortened(io.RawIOBase):
    """A file that leaves out `jump` bytes from `at` on, and ends after `end` bytes."""

    def __init__(self, read: ReadRange, size: int, at: int = 0, jump: int = 0, end: int = 0) -> None:
        self._range, self._size = read, size
        # (from, up to, how much further on it lies)
        self._pieces = ((0, at, 0), (at, end - jump, jump), (end, size, 0)) if jump else ((0, size, 0),)
        self._at = 0

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        filled = 0
        for start, end, jump in self._pieces:
            here = self._at + filled
            if start <= here < end and filled < len(view):
                data = self._range(here + jump, min(here + len(view) - filled, end) + jump)
                view[filled : filled + len(data)] = data
                filled += len(data)
        self._at += filled
        return filled

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


@contextmanager
def _as_written() -> Iterator[None]:
    """Turn Arrow's errors about the bytes of a file into ManifestError; storage errors pass unchanged."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        # Arrow says half of it as OSError, of no class and no number of its own.
        is_storage = isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None)
        if is_storage or isinstance(error, MemoryError):
            raise
        raise changed() from error


def photo_column(schema: pa.Schema) -> str:
    """The leaf that holds the photos of a manifest, as Parquet names it."""
    return BYTES if BYTES in schema.names else f"{struct_column(schema)}.bytes"


def changed() -> ManifestError:
    """The error where a file of the manifest is not what it was."""
    return ManifestError(
        "a file of the manifest is gone or has changed since the run began",
        "put it back, or use another output",
    )

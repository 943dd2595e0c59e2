"""Index of a shard: where its columns lie, and which rows may be of a person or a photo.

File: magic (8) | bytes of the head (4) | CRC-32 of the rest of the head (4) | bytes of the JSON (4) | JSON
| per table and column the CRC-32 of each block, and per table the first key of each block | tables.

A table holds one entry a key and row, sorted by the key: a 64-bit hash of the id in Unicode NFC. Its columns
lie one after the other, little-endian uint32: the upper half of the hash, the row, and for people the lower
half. A look-up reads the blocks in which its keys may be. It finds candidates, whose ids the caller compares.
An index is made from its shard alone, may be missing, and is removed with it. See ADR 50.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.distinct import distinct
from frpipe.core.text_column import canonical_column
from frpipe.gallery.layout import Extent, Layout, TextExtent
from frpipe.gallery.packed import hashes
from frpipe.gallery.photos import MADE_OF, image_ids, members_of
from frpipe.gallery.schema import FACE_ID, SUBJECT_ID

Kind = Literal["subjects", "photos"]
Read = Callable[[int, int], bytes | bytearray | memoryview]
Rows = NDArray[np.int64]

_MAGIC = b"FRPIDX01"
_FRONT = struct.Struct("<8sIII")
_BLOCK = 1024
# Bytes to read at once for the head; they hold that of a full shard.
_HEAD = 4096
_COLUMNS: dict[Kind, int] = {"subjects": 3, "photos": 2}
_U4, _U1, _F4, _I8 = map(np.dtype, ("<u4", "|u1", "<f4", "<i8"))


class BrokenIndex(Exception):
    """Error: an index is not as it was written. Its shard is read as if there were none."""


def index_of(
    texts: pa.Table, layout: Layout, sha256: str, file_bytes: int, size: int, *, structure: str
) -> bytes:
    """Build the index of a shard.

    texts: ids of its rows, in order.  sha256, file_bytes: of its file.  size, structure: of its plain bytes,
    see `structure_digest`; without a structure it is an index as earlier code wrote them.
    """
    stored = texts[SUBJECT_ID]
    subjects, faces = canonical_column(stored), canonical_column(texts[FACE_ID])
    every = np.arange(texts.num_rows, dtype=np.int64)
    photos, rows = [hashes(image_ids(faces))], [every]
    if MADE_OF in texts.column_names:
        for of, made in members_of(texts[MADE_OF].combine_chunks()):
            photos.append(made)
            rows.append(of)
    tables: dict[Kind, NDArray[np.uint32]] = {
        "subjects": _table(hashes(subjects), every, 3),
        "photos": _table(np.concatenate(photos), np.concatenate(rows), 2),
    }
    facts: dict[str, Any] = {
        "sha256": sha256,
        "bytes": file_bytes,
        "size": size,
        "rows": layout.rows,
        # Rows are sorted by stored texts, which is the order of ids if these are all in NFC.
        "ordered": subjects is stored,
        "layout": _plain(layout),
        "counts": {kind: table.shape[1] for kind, table in tables.items()},
    }
    facts |= {"structure": structure} if structure else {}
    text = json.dumps(facts, ensure_ascii=False).encode()
    sums = b"".join(_sums(table) for table in tables.values())
    body = struct.pack("<I", len(text)) + text + sums
    head = _FRONT.size - 4 + len(body)
    front = struct.pack("<8sII", _MAGIC, head, zlib.crc32(body))
    return front + body + b"".join(table.tobytes() for table in tables.values())


def _table(keys: NDArray[np.uint64], rows: Rows, columns: int) -> NDArray[np.uint32]:
    """Table of keys and rows, sorted by the key: (columns, n); upper half of the key, row, lower half."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    parts = (keys >> np.uint64(32), rows[order], keys & np.uint64(0xFFFFFFFF))
    return np.stack([part.astype(_U4) for part in parts[:columns]])


def _sums(table: NDArray[np.uint32]) -> bytes:
    """First keys of the blocks, then the check sums of the blocks of each column."""
    crcs = [zlib.crc32(column[at : at + _BLOCK].tobytes()) for column in table for at in _starts(len(column))]
    return table[0, ::_BLOCK].tobytes() + np.array(crcs, _U4).tobytes()


def _starts(count: int) -> range:
    return range(0, count, _BLOCK)


def _plain(layout: Layout) -> dict[str, Any]:
    texts = {
        name: [each.offsets.offset, each.data.offset, each.data.numbers, each.valid and each.valid.offset]
        for name, each in layout.texts.items()
    }
    numbers = (layout.vectors.offset, layout.quality.offset, layout.enrolled.offset)
    return {"numbers": numbers, "texts": texts, "attributes": layout.attributes}


@dataclass(frozen=True, slots=True)
class _Table:
    """Position of a table: offset `at`, `count` entries.  fences: the first key of each block.

    sums: (columns, blocks) check sums.
    """

    at: int
    count: int
    fences: NDArray[np.uint32]
    sums: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """Head of an index; blocks of its tables are read when they are needed.

    sha256, stored: digest and size of the shard's file.  size, structure: of its plain bytes; structure: ""
    in an index of earlier code.  ordered: whether rows are in the order of their ids in NFC.
    """

    sha256: str
    stored: int
    size: int
    structure: str
    layout: Layout
    ordered: bool
    tables: dict[Kind, _Table]

    @classmethod
    def read(cls, read: Read, dim: int, stored_type: str) -> ShardIndex:
        """Read the head. Raises BrokenIndex for anything that is not as it was written."""
        first = bytes(read(0, _HEAD))
        try:
            magic, size, crc, length = _FRONT.unpack_from(first)
            if magic != _MAGIC:
                raise BrokenIndex
            head = first[:size] if size <= len(first) else first + bytes(read(len(first), size))
            if len(head) != size or zlib.crc32(head[_FRONT.size - 4 :]) != crc:
                raise BrokenIndex
            return cls._parsed(head, length, dim, stored_type)
        except (struct.error, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise BrokenIndex from None

    @classmethod
    def _parsed(cls, head: bytes, length: int, dim: int, stored_type: str) -> ShardIndex:
        facts = json.loads(head[_FRONT.size : _FRONT.size + length])
        place, at, tables = _FRONT.size + length, len(head), dict[Kind, _Table]()
        for kind, columns in _COLUMNS.items():
            count = int(facts["counts"][kind])
            if count < 0:
                raise BrokenIndex
            blocks = len(_starts(count))
            numbers = np.frombuffer(head, _U4, blocks * (1 + columns), place)
            tables[kind] = _Table(at, count, numbers[:blocks], numbers[blocks:].reshape(columns, blocks))
            place, at = place + numbers.nbytes, at + 4 * columns * count
        layout = _layout(facts, dim, np.dtype(stored_type))
        sizes, structure = (int(facts["bytes"]), int(facts["size"])), str(facts.get("structure", ""))
        return cls(str(facts["sha256"]), *sizes, structure, layout, bool(facts["ordered"]), tables)

    def find(self, kind: Kind, wanted: NDArray[np.uint64], read: Read) -> Rows:
        """Find all rows with one of these hashes, ascending, and perhaps some others. Raises BrokenIndex."""
        table = self.tables[kind]
        keys = distinct((wanted >> np.uint64(32)).astype(_U4))
        found = [np.zeros(0, np.int64)]
        for first, last in _touched(table.fences, keys):
            have = self._column(table, 0, first, last, read)
            starts, ends = (np.searchsorted(have, keys, side) for side in ("left", "right"))
            hits = np.flatnonzero(ends > starts)
            if hits.size:
                places = np.concatenate([np.arange(starts[hit], ends[hit]) for hit in hits])
                found.append(self._rows(table, places + first * _BLOCK, read))
        return distinct(np.concatenate(found)) if len(found) > 1 else found[0]

    def check(self, read: Read) -> None:
        """Check all blocks. Raises BrokenIndex."""
        for kind, columns in _COLUMNS.items():
            table = self.tables[kind]
            for column in range(columns):
                self._column(table, column, 0, len(table.fences), read)

    def _rows(self, table: _Table, places: Rows, read: Read) -> Rows:
        found = []
        blocks = places // _BLOCK
        for first, last in _runs(distinct(blocks)):
            inside = places[(blocks >= first) & (blocks < last)] - first * _BLOCK
            found.append(self._column(table, 1, first, last, read)[inside].astype(np.int64))
        rows = np.concatenate(found)
        if rows.size and rows.max() >= self.layout.rows:
            raise BrokenIndex
        return rows

    def subjects(self, read: Read) -> NDArray[np.uint64]:
        """Read the hashes of the people of all rows: (rows,), in the order of rows. Raises BrokenIndex."""
        table = self.tables["subjects"]
        upper, rows, lower = (self._column(table, each, 0, len(table.fences), read) for each in range(3))
        if len(rows) != self.layout.rows or (rows.size and rows.max() >= len(rows)):
            raise BrokenIndex
        found = np.zeros(len(rows), np.uint64)
        found[rows] = (upper.astype(np.uint64) << np.uint64(32)) | lower
        return found

    @staticmethod
    def _column(table: _Table, column: int, first: int, last: int, read: Read) -> NDArray[np.uint32]:
        """Read blocks of a column of a table, checked."""
        start, end = first * _BLOCK, min(last * _BLOCK, table.count)
        at = table.at + 4 * column * table.count
        data = memoryview(read(at + 4 * start, at + 4 * end))
        if len(data) != 4 * (end - start):
            raise BrokenIndex
        for number, begin in enumerate(range(0, 4 * (end - start), 4 * _BLOCK), first):
            if zlib.crc32(data[begin : begin + 4 * _BLOCK]) != table.sums[column, number]:
                raise BrokenIndex
        return np.frombuffer(data, _U4)


def _touched(fences: NDArray[np.uint32], keys: NDArray[np.uint32]) -> Iterable[tuple[int, int]]:
    """Runs of the blocks in which keys may be: the first, and one beyond the last."""
    low = np.maximum(np.searchsorted(fences, keys, "left") - 1, 0)
    high = np.searchsorted(fences, keys, "right")
    if len(keys) == 1:
        return [(int(low[0]), int(high[0]))] if high[0] else []
    touched = np.zeros(len(fences) + 1, np.int64)
    np.add.at(touched, low[high > 0], 1)
    np.add.at(touched, high[high > 0], -1)
    return _runs(np.flatnonzero(np.cumsum(touched[:-1]) > 0))


def _runs(numbers: Rows) -> Iterator[tuple[int, int]]:
    """Runs of consecutive numbers, ascending: the first, and one beyond the last."""
    if numbers.size:
        breaks = np.flatnonzero(np.diff(numbers) > 1)
        firsts, lasts = numbers[np.r_[0, breaks + 1]], numbers[np.r_[breaks, len(numbers) - 1]]
        yield from zip(firsts.tolist(), (lasts + 1).tolist(), strict=True)


def _layout(facts: dict[str, Any], dim: int, stored: np.dtype[Any]) -> Layout:
    """Layout in an index, with every range within the shard's file. Raises BrokenIndex, KeyError."""
    rows, size, told = int(facts["rows"]), int(facts["size"]), facts["layout"]

    def extent(offset: int, kind: np.dtype[Any], count: int) -> Extent:
        found = Extent(int(offset), kind, int(count))
        if found.offset < 0 or found.numbers < 0 or found.end > size:
            raise BrokenIndex
        return found

    texts = {
        str(name): TextExtent(
            extent(offsets, _U4, rows + 1),
            extent(data, _U1, count),
            None if valid is None else extent(valid, _U1, rows),
        )
        for name, (offsets, data, count, valid) in told["texts"].items()
    }
    vectors, quality, enrolled = told["numbers"]
    return Layout(
        rows=rows,
        vectors=extent(vectors, stored, rows * dim),
        quality=extent(quality, _F4, rows),
        enrolled=extent(enrolled, _I8, rows),
        texts=texts,
        attributes=tuple(map(str, told["attributes"])),
    )

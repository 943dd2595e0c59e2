"""A shard file: written from a sorted table, read as views of its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.distinct import distinct
from frpipe.core.text import canonical_text
from frpipe.core.text_column import canonical_column
from frpipe.gallery.byte_ranges import Bytes
from frpipe.gallery.document import damaged
from frpipe.gallery.layout import ATTRIBUTES, NAME, TEXT_GROUPS, VECTORS, Extent, Layout, TextExtent
from frpipe.gallery.packed import PackedStrings
from frpipe.gallery.schema import (
    EMBEDDING,
    ENROLLED,
    QUALITY,
    SUBJECT_ID,
    TIME,
    URI,
    attributes_of,
    schema_of,
    vector_array,
)

# Metadata of this HDF5 form has checksums, so that damage is an error and never a wild pointer.
_HDF5_FORM = ("v110", "v110")
_ALIGNMENT = 64
# Rows this near to each other are read at once; if an eighth of all is wanted, all are read.
_NEAR, _MANY = 64, 8

Spans = Sequence[tuple[int, int]]


def write_shard(
    target: Path | BinaryIO, texts: pa.Table, vectors: NDArray[np.floating], facts: dict[str, Any]
) -> None:
    """Write a shard. texts: the rows without `embedding`; vectors: theirs, (n, dim), in the stored type.

    The small columns come first and the vectors last, so that the columns alone can be read in one piece.
    """
    options = {"libver": _HDF5_FORM, "alignment_threshold": _ALIGNMENT, "alignment_interval": _ALIGNMENT}
    with h5py.File(target, "w", **options) as file:
        for key, value in facts.items():
            file.attrs[key] = value
        for name in TEXT_GROUPS:
            _write_text(file.create_group(name), texts.column(name))
        group = file.create_group(ATTRIBUTES)
        for number, name in enumerate(attributes_of(texts.schema)):
            member = group.create_group(f"{number:04d}")
            member.attrs[NAME] = np.bytes_(name.encode())
            _write_text(member, texts.column(name))
        _write(file, QUALITY, texts.column(QUALITY).fill_null(np.nan).to_numpy().astype("<f4", copy=False))
        times = texts.column(ENROLLED).cast(pa.int64()).to_numpy()
        _write(file, ENROLLED, times.astype("<i8", copy=False))
        _write(file, VECTORS, vectors)


def _write_text(group: h5py.Group, column: pa.ChunkedArray) -> None:
    packed = PackedStrings.of(column)
    _write(group, "offsets", packed.offsets)
    _write(group, "data", packed.data)
    if packed.valid is not None:
        _write(group, "valid", packed.valid)


def _write(group: h5py.Group, name: str, values: NDArray[Any]) -> None:
    group.create_dataset(name, data=np.ascontiguousarray(values))


@dataclass(frozen=True, slots=True)
class Shard:
    """A checked shard, open for reading. Its arrays are views if the file is mapped.

    canonical: whether to return texts and names of attributes in Unicode NFC; `image_uri` is as stored.
    """

    name: str
    layout: Layout
    content: Bytes
    dim: int
    canonical: bool = False

    def vectors(self) -> NDArray[np.floating]:
        """(n, dim) vectors in the stored type; a view."""
        return self._numbers(self.layout.vectors).reshape(self.layout.rows, self.dim)

    def text(self, name: str, spans: Spans | None = None) -> pa.StringArray:
        """Read a text column, of all rows or some spans; all null if the shard does not have it."""
        column, is_ascii = self._stored_text(name, spans)
        if not self.canonical or name == URI:
            return column
        # Names of attributes that were stored before texts were brought to NFC.
        forms = [form for form in self.layout.texts if form != name and canonical_text(form) == name]
        if forms:
            column = pc.coalesce(column, *(self._stored_text(form, spans)[0] for form in forms))
        # Whether all is ASCII is known of bytes in a tenth of the time that Arrow takes to find it.
        return column if is_ascii and not forms else canonical_column(column)

    def first_after(self, subject_id: str) -> int:
        """Find the first row whose stored id is greater. Rows must be in the order of their ids."""
        low, high = 0, self.layout.rows
        while low < high:
            middle = (low + high) // 2
            # The order of code points is that of bytes in UTF-8.
            if (self._stored_text(SUBJECT_ID, [(middle, middle + 1)])[0][0].as_py() or "") > subject_id:
                high = middle
            else:
                low = middle + 1
        return low

    def _stored_text(self, name: str, spans: Spans | None) -> tuple[pa.StringArray, bool]:
        """Read a text column as it is stored; and whether it is known to be ASCII."""
        extent = self.layout.texts.get(name)
        spans = [(0, self.layout.rows)] if spans is None else spans
        if extent is None:
            return pa.nulls(sum(end - start for start, end in spans), pa.string()), True
        try:
            packed = [self._packed(extent, start, end) for start, end in spans]
            parts = [each.array() for each in packed]
        except ValueError:
            raise damaged(self.name, "a text column is not as it was written") from None
        whole = parts[0] if len(parts) == 1 else pa.concat_arrays([pa.array([], pa.string()), *parts])
        return whole, all(each.is_ascii for each in packed)

    def _packed(self, extent: TextExtent, start: int, end: int) -> PackedStrings:
        """Read rows of a text column. Raises ValueError if it is not as it was written."""
        valid = self._numbers(extent.valid, start, end) if extent.valid else None
        offsets = self._numbers(extent.offsets, start, end + 1)
        whole = end - start == self.layout.rows
        first, last = (0, extent.data.numbers) if whole else (int(offsets[0]), int(offsets[-1]))
        if not 0 <= first <= last <= extent.data.numbers:
            raise ValueError("offsets leave the data")
        rising = offsets if whole else offsets - offsets[0]
        return PackedStrings(rising, self._numbers(extent.data, first, last), valid)

    def table(
        self, columns: Sequence[str], rows: NDArray[np.int64] | None = None, *, vectors: bool = False
    ) -> pa.Table:
        """Read columns (for `embedding` use `vectors`) of some rows or all, in schema order."""
        spans = None if rows is None else _spans(rows, self.layout.rows)
        arrays = {name: self._column(name, spans) for name in columns}
        if rows is not None and spans is not None and not _is_run(rows):
            taken = pa.array(_places(rows, spans))
            arrays = {name: array.take(taken) for name, array in arrays.items()}
        if vectors:
            arrays[EMBEDDING] = vector_array(self.vectors() if rows is None else self.vectors()[rows])
        schema = schema_of(self.dim, tuple(arrays))
        return pa.Table.from_arrays([arrays[name] for name in schema.names], schema=schema)

    def _column(self, name: str, spans: Spans | None) -> pa.Array:
        if name == QUALITY:
            return pa.array(self._of_spans(self.layout.quality, spans), from_pandas=True)
        if name == ENROLLED:
            times = self._of_spans(self.layout.enrolled, spans)
            return pa.Array.from_buffers(TIME, len(times), [None, pa.py_buffer(times)])
        return self.text(name, spans)

    def _of_spans(self, extent: Extent, spans: Spans | None) -> NDArray[Any]:
        if spans is None:
            return self._numbers(extent)
        parts = [self._numbers(extent, start, end) for start, end in spans]
        return np.concatenate([np.zeros(0, extent.dtype), *parts])

    def _numbers(self, extent: Extent, start: int = 0, end: int | None = None) -> NDArray[Any]:
        """Read the numbers of a column from `start` up to `end`, or to its end."""
        count, size = (extent.numbers if end is None else end) - start, extent.dtype.itemsize
        data = self.content.read(extent.offset + start * size, count * size)
        return np.frombuffer(data, extent.dtype, count)


def _spans(rows: NDArray[np.int64], count: int) -> Spans:
    """Spans to read for some rows, ascending: one for near rows, and one of all rows if many are wanted."""
    if not len(rows):
        return []
    if _is_run(rows):
        return [(int(rows[0]), int(rows[-1]) + 1)]
    if _MANY * len(rows) >= count:
        return [(0, count)]
    wanted = distinct(rows)
    breaks = np.flatnonzero(np.diff(wanted) > _NEAR)
    firsts, lasts = wanted[np.r_[0, breaks + 1]], wanted[np.r_[breaks, len(wanted) - 1]]
    return list(zip(firsts.tolist(), (lasts + 1).tolist(), strict=True))


def _is_run(rows: NDArray[np.int64]) -> bool:
    """Whether rows are consecutive."""
    return len(rows) > 0 and int(rows[-1] - rows[0]) == len(rows) - 1 and bool(np.all(rows[1:] > rows[:-1]))


def _places(rows: NDArray[np.int64], spans: Spans) -> NDArray[np.int64]:
    """Positions of rows within the concatenated spans."""
    if not spans:
        return np.zeros(0, np.int64)
    starts, ends = np.array(spans, np.int64).T
    before = np.cumsum(ends - starts) - (ends - starts)
    span = np.searchsorted(starts, rows, "right") - 1
    return np.asarray(before[span] + rows - starts[span])

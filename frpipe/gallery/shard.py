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

from frpipe.core.text import canonical_text
from frpipe.core.text_column import canonical_column
from frpipe.gallery.byte_ranges import Bytes
from frpipe.gallery.document import damaged
from frpipe.gallery.layout import ATTRIBUTES, NAME, TEXT_GROUPS, VECTORS, Extent, Layout
from frpipe.gallery.packed import PackedStrings
from frpipe.gallery.schema import (
    EMBEDDING,
    ENROLLED,
    QUALITY,
    TIME,
    URI,
    attributes_of,
    template_schema,
    vector_array,
)

# Metadata of this form carries checksums, so that a damaged file is an error and never a wild pointer.
_HDF5_FORM = ("v110", "v110")
_ALIGNMENT = 64


def write_shard(
    target: Path | BinaryIO, texts: pa.Table, vectors: NDArray[np.floating], facts: dict[str, Any]
) -> None:
    """Write a shard. texts: the rows without `embedding`; vectors: theirs, (n, dim), in the stored type.

    The small columns come first and the vectors last: a reader of the columns alone reads one piece.
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
    """A checked shard, open for reading. Its arrays are views of the file where the file is mapped.

    canonical: whether texts, and names of attributes, are given in Unicode NFC; `image_uri` is as stored.
    """

    name: str
    layout: Layout
    content: Bytes
    dim: int
    canonical: bool = False

    def vectors(self) -> NDArray[np.floating]:
        """(n, dim) vectors in the stored type; a view."""
        return self._numbers(self.layout.vectors).reshape(self.layout.rows, self.dim)

    def text(self, name: str) -> pa.StringArray:
        """A text column; all null where the shard does not have it."""
        if not self.canonical or name == URI:
            return self._stored_text(name)
        # Names of attributes that were stored before texts were brought to NFC.
        forms = [form for form in self.layout.texts if form != name and canonical_text(form) == name]
        columns = [self._stored_text(form) for form in (name, *forms)]
        return canonical_column(pc.coalesce(*columns) if forms else columns[0])

    def _stored_text(self, name: str) -> pa.StringArray:
        extent = self.layout.texts.get(name)
        if extent is None:
            return pa.nulls(self.layout.rows, pa.string())
        valid = self._numbers(extent.valid) if extent.valid else None
        packed = PackedStrings(self._numbers(extent.offsets), self._numbers(extent.data), valid)
        try:
            return packed.array()
        except ValueError:
            raise damaged(self.name, "a text column is not as it was written") from None

    def table(
        self, columns: Sequence[str], rows: NDArray[np.int64] | None = None, *, vectors: bool = False
    ) -> pa.Table:
        """Some columns (never `embedding`: say `vectors`), of some rows or all, in schema order."""
        arrays = {name: self._column(name) for name in columns}
        if rows is not None:
            taken = pa.array(rows)
            arrays = {name: array.take(taken) for name, array in arrays.items()}
        if vectors:
            arrays[EMBEDDING] = vector_array(self.vectors() if rows is None else self.vectors()[rows])
        known = template_schema(self.dim, self._unknown(columns))
        schema = pa.schema([known.field(name) for name in known.names if name in arrays])
        return pa.table(arrays, schema=schema)

    def _unknown(self, columns: Sequence[str]) -> list[str]:
        return attributes_of(pa.schema([pa.field(name, pa.string()) for name in columns]))

    def _column(self, name: str) -> pa.Array:
        if name == QUALITY:
            return pa.array(self._numbers(self.layout.quality), from_pandas=True)
        if name == ENROLLED:
            return pa.array(self._numbers(self.layout.enrolled)).cast(TIME)
        return self.text(name)

    def _numbers(self, extent: Extent) -> NDArray[Any]:
        data = self.content.read(extent.offset, extent.count * extent.dtype.itemsize)
        return np.frombuffer(data, extent.dtype, extent.count)

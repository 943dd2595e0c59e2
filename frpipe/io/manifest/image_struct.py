"""Photos in a column `struct<bytes, path>`, as the datasets library of Hugging Face writes its images.

A row with bytes is a photo of that content, named by its path. One without bytes lies where its path says, as
an `image_uri` does. One without both has no photo.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import ManifestError
from frpipe.io.manifest.formats.parquet import open_parquet

PATH, HAS_BYTES = "image_uri", "image has bytes"
"""What `batches` gives of the column: the path, and whether there are bytes. No file has the second name."""
_NAME = "image"
_BATCH_ROWS, _PHOTOS = 1 << 14, 16


def struct_column(schema: pa.Schema) -> str | None:
    """The column of this type, the one named `image` if there are several. Raises ManifestError: which?"""
    names = [field.name for field in schema if _is_image(field.type)]
    if len(names) < 2 or _NAME in names:
        return _NAME if _NAME in names else next(iter(names), None)
    raise ManifestError(
        f"the manifest has {len(names)} columns of images, and none is named {_NAME}",
        f"rename the one with the photos to {_NAME}",
    )


def bytes_column(schema: pa.Schema) -> str:
    """The leaf with the bytes, as Parquet names it."""
    return f"{struct_column(schema)}.bytes"


def batches(file: BinaryIO, columns: Sequence[str], image: str) -> Iterator[pa.RecordBatch]:
    """The rows in order: some other columns, and of the column `image` what is asked for as PATH, HAS_BYTES.

    The photos are read only where the file does not say how many of a row group's are null.
    """
    parquet = open_parquet(file)
    plain = [name for name in columns if name not in (PATH, HAS_BYTES)]
    for group in range(parquet.metadata.num_row_groups):
        known = _all_or_none(parquet.metadata.row_group(group), image) if HAS_BYTES in columns else True
        leaves = [f"{image}.path", *([f"{image}.bytes"] if known is None else [])]
        size = _PHOTOS if known is None else _BATCH_ROWS
        for rows in parquet.iter_batches(
            size, row_groups=[group], columns=[*plain, *leaves], use_threads=False
        ):
            yield rows.select(plain) if len(plain) == len(columns) else _told(rows, columns, image, known)


def ids(paths: Sequence[str | None], file: str, first_row: int) -> list[str]:
    """Ids of rows without an `image_id`: their paths, else `FILE#ROW`, counted from 0.

    first_row: the number of the first, counted from 1.
    """
    return [path or f"{file}#{first_row - 1 + index}" for index, path in enumerate(paths)]


def _told(rows: pa.RecordBatch, columns: Sequence[str], image: str, known: bool | None) -> pa.RecordBatch:
    struct = rows.column(image)
    leaves = dict(zip([field.name for field in struct.type], struct.flatten(), strict=True))
    own = {
        PATH: lambda: leaves["path"],
        HAS_BYTES: lambda: leaves["bytes"].is_valid() if known is None else pa.array([known] * len(rows)),
    }
    return pa.record_batch(
        [own[name]() if name in own else rows.column(name) for name in columns], names=list(columns)
    )


def _all_or_none(group: pq.RowGroupMetaData, image: str) -> bool | None:
    """Whether all rows of a row group have bytes, or none has; None: some, or the file does not say."""
    for index in range(group.num_columns):
        column = group.column(index)
        if column.path_in_schema == f"{image}.bytes" and column.is_stats_set:
            nulls = column.statistics.null_count if column.statistics.has_null_count else None
            return {0: True, group.num_rows: False}.get(nulls)
    return None


def _is_image(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind) or {field.name for field in kind} != {"bytes", "path"}:
        return False
    data, path = kind.field("bytes").type, kind.field("path").type
    return bool(
        (pa.types.is_binary(data) or pa.types.is_large_binary(data))
        and (pa.types.is_string(path) or pa.types.is_large_string(path))
    )

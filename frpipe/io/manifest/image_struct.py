"""Read photos in a column `struct<bytes, path>`, as Hugging Face's datasets library writes images.

A row with bytes is a photo of that content, named by its path. One without bytes lies where its path says, as
an `image_uri` does. One without both has no photo. Readers see two columns in the place of the struct: the
path as `image_uri`, and whether there are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

PATH, HAS_BYTES = "image_uri", "image has bytes"
_OTHER_PHOTOS = ("image_uri", "image_bytes")
_NAME = "image"
_BATCH_ROWS, _PHOTOS = 1 << 14, 16


def struct_column(schema: pa.Schema) -> str | None:
    """Find the column of this type: the one named `image`, or the only one. None: photos lie elsewhere."""
    names = [field.name for field in schema if _is_image(field.type)]
    if set(_OTHER_PHOTOS) & set(schema.names) or not names:
        return None
    return _NAME if _NAME in names else names[0] if len(names) == 1 else None


def as_read(schema: pa.Schema) -> pa.Schema:
    """The columns of a file, with those that stand for its column of images."""
    image = struct_column(schema)
    if image is None:
        return schema
    others = [field for field in schema if field.name != image]
    return pa.schema([(PATH, pa.string()), (HAS_BYTES, pa.bool_()), *others])


def batches(parquet: pq.ParquetFile, columns: Sequence[str], image: str) -> Iterator[pa.RecordBatch]:
    """Iterate over the rows in order, some of the columns of `as_read`.

    The photos are read only where the file does not say how many of a row group's are null.
    """
    plain = [name for name in columns if name not in (PATH, HAS_BYTES)]
    for group in range(parquet.metadata.num_row_groups):
        known = _all_or_none(parquet.metadata.row_group(group), image) if HAS_BYTES in columns else True
        leaves = [f"{image}.path", *([f"{image}.bytes"] if known is None else [])]
        for rows in parquet.iter_batches(
            _PHOTOS if known is None else _BATCH_ROWS,
            row_groups=[group],
            columns=[*plain, *leaves],
            use_threads=False,
        ):
            yield _told(rows, columns, image, known)


def ids(paths: Sequence[str | None], file: str, first_row: int) -> list[str]:
    """Ids of rows without an `image_id`: their paths, else `FILE#ROW`, counted from 0.

    first_row: the number of the first, counted from 1.
    """
    return [path or f"{file}#{first_row - 1 + index}" for index, path in enumerate(paths)]


def _told(rows: pa.RecordBatch, columns: Sequence[str], image: str, known: bool | None) -> pa.RecordBatch:
    struct = rows.column(image)
    leaves = dict(zip([field.name for field in struct.type], struct.flatten(), strict=True))
    own: dict[str, Callable[[], pa.Array]] = {
        PATH: lambda: leaves["path"].cast(pa.string()),
        HAS_BYTES: lambda: leaves["bytes"].is_valid() if known is None else pa.array([known] * len(rows)),
    }
    arrays = [own[name]() if name in own else rows.column(name) for name in columns]
    return pa.record_batch(arrays, names=list(columns))


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

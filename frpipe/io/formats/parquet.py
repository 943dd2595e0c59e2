"""Manifests in Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import ManifestError

# Without a buffer Arrow reads a whole column chunk at once, which may be gigabytes of photos.
BUFFER_BYTES = 1 << 20
_BATCH_ROWS = 1 << 14


def open_parquet(file: BinaryIO) -> pq.ParquetFile:
    """A Parquet file for streaming. Raises ManifestError if it is none."""
    try:
        return pq.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)
    except pa.ArrowInvalid:
        raise ManifestError(
            "a .parquet file of the manifest is not Parquet, or is cut short", "write it anew"
        ) from None


def schema(file: BinaryIO) -> pa.Schema:
    """The file's columns."""
    return open_parquet(file).schema_arrow


def rows(file: BinaryIO) -> int:
    """The number of rows, from the footer."""
    return int(open_parquet(file).metadata.num_rows)


def batches(file: BinaryIO, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows in order, some columns only."""
    try:
        yield from open_parquet(file).iter_batches(_BATCH_ROWS, columns=list(columns), use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise ManifestError("a .parquet file of the manifest is damaged", "write it anew") from error

"""Read manifests in Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import ManifestError
from frpipe.io.manifest import image_struct
from frpipe.io.storage.whole_file import out_of_memory

# Without a buffer Arrow reads a whole column chunk at once, which may be gigabytes of photos.
BUFFER_BYTES = 1 << 20
_BATCH_ROWS = 1 << 14


def open_parquet(file: BinaryIO, name: str) -> pq.ParquetFile:
    """Open a Parquet file for streaming. name: for messages.  Raises ManifestError if it is none."""
    with _refused(name):
        return pq.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)


def head(file: BinaryIO, name: str) -> tuple[pa.Schema, int]:
    """The file's columns, and the number of its rows."""
    with _refused(name):
        parquet = open_parquet(file, name)
        found = parquet.schema_arrow
        # A name that is no UTF-8 shows only when it is read.
        plain = pa.schema([(name, kind) for name, kind in zip(found.names, found.types, strict=True)])
        return image_struct.as_read(plain), int(parquet.metadata.num_rows)


def batches(file: BinaryIO, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Iterate over the rows in order, some columns only."""
    with _refused(name):
        parquet = open_parquet(file, name)
        if image := image_struct.struct_column(parquet.schema_arrow):
            yield from image_struct.batches(parquet, columns, image)
        else:
            yield from parquet.iter_batches(_BATCH_ROWS, columns=list(columns), use_threads=False)


@contextmanager
def _refused(name: str) -> Iterator[None]:
    """Turn Arrow's errors about the bytes of a file into ManifestError; storage errors pass unchanged."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        # Arrow says half of it as OSError, of no class and no number of its own.
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            raise
        if isinstance(error, MemoryError):
            raise out_of_memory(name) from error
        if isinstance(error, NotImplementedError):
            raise ManifestError(
                f"{name} uses something of Parquet that this pyarrow does not read",
                "write it anew with usual types and compression",
            ) from error
        raise ManifestError(f"{name} is not Parquet, is damaged or is cut short", "write it anew") from error

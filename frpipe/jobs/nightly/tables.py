"""Read and write the small Parquet files of a night."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import FileDamaged, FrpipeError, OutputError
from frpipe.io.manifest.id_order import BLOCK_ROWS
from frpipe.io.output.parts import PartFile, part_file, to_parquet
from frpipe.io.storage.failure import storage_error
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import as_table, read_if_there, read_whole


def write_table(folder: Folder, name: str, table: pa.Table) -> None:
    """Write a table, replacing an older one."""
    folder.write(name, to_parquet(table, {"frpipe.job": "night"}))


def write_blocks(folder: Folder, name: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write a table that comes in blocks, replacing an older one; one block is held at a time."""
    with tempfile.TemporaryDirectory(prefix="frpipe-") as scratch:
        path = Path(scratch) / "table"
        with pq.ParquetWriter(
            path, schema.with_metadata({"frpipe.job": "night"}), compression="zstd", write_page_checksum=True
        ) as writer:
            for table in tables:
                writer.write_table(table.replace_schema_metadata({"frpipe.job": "night"}), BLOCK_ROWS)
        folder.publish(name, path)


def table_blocks(folder: Folder, name: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Iterate over the rows of a table in blocks. Raises as `read_table`."""
    try:
        with folder.open(name) as opened:
            file = pq.ParquetFile(opened, pre_buffer=False, page_checksum_verification=True)
            for batch in file.iter_batches(BLOCK_ROWS, columns=columns, use_threads=False):
                yield pa.Table.from_batches([batch]).replace_schema_metadata(None)
    except (FrpipeError, FileNotFoundError):
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        # Reading the file whole tells a damaged file from a failed read.
        read_table(folder, name, columns)
        raise storage_error(error, f"{folder.uri}: {name}") from error


def read_table(folder: Folder, name: str, columns: list[str] | None = None) -> pa.Table:
    """Read a table. Raises OutputError where it is damaged; FileNotFoundError where there is none."""
    try:
        table = read_if_there(folder, name, lambda data: as_table(data, columns))
    except FileDamaged:
        raise OutputError(f"{name} in {folder.uri} is damaged", "move that night's folder away") from None
    return table.replace_schema_metadata(None)


def as_file(folder: Folder, name: str) -> PartFile:
    """Make the entry of a table in the list of files."""
    return read_whole(folder, name, partial(part_file, name))

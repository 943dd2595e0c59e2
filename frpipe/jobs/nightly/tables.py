"""Read and write the small Parquet files of a night."""

from __future__ import annotations

from functools import partial

import pyarrow as pa

from frpipe.core.errors import FileDamaged, OutputError
from frpipe.io.output.parts import PartFile, part_file, to_parquet
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import as_table, read_if_there, read_whole


def write_table(folder: Folder, name: str, table: pa.Table) -> None:
    """Write a table, over an older one."""
    folder.write(name, to_parquet(table, {"frpipe.job": "night"}))


def read_table(folder: Folder, name: str, columns: list[str] | None = None) -> pa.Table:
    """Read a table. Raises OutputError where it is damaged; FileNotFoundError where there is none."""
    try:
        table = read_if_there(folder, name, lambda data: as_table(data, columns))
    except FileDamaged:
        raise OutputError(f"{name} in {folder.uri} is damaged", "move that night's folder away") from None
    return table.replace_schema_metadata(None)


def as_file(folder: Folder, name: str) -> PartFile:
    """Entry of a table in the list of files."""
    return read_whole(folder, name, partial(part_file, name))

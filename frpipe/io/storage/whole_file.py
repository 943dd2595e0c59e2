"""Read a file of an output whole, and tell a file that is damaged from a read that failed.

A file is called damaged only where two reads gave the same bytes, and these are not what was recorded of it:
its SHA-256 in the list of a finished run, or before a run has ended the checksums that stand in each of its
pages. Everything else is an error of the storage, of the memory or of the software: the file may be as good
as it ever was, and nothing may be deleted for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import FileDamaged, FrpipeError, OutOfMemory, OutputError, StorageError
from frpipe.io.storage.failure import storage_error
from frpipe.io.storage.folder import Folder

T = TypeVar("T")
_READS = 2
_BATCH_ROWS = 65_536
# Errors that libraries raise for bytes that they cannot make sense of.
_SENSELESS = (pa.ArrowException, OSError, ValueError)


def read_whole(folder: Folder, name: str, use: Callable[[bytes], T], sha256: str = "") -> T:
    """Read a file whole and return what `use` makes of its bytes.

    sha256: as it was recorded; empty: there is no record, and that `use` understands the bytes must do.
    Raises FileDamaged: it is gone, or damaged as above; StorageError: each read gives something else;
    OutOfMemory; OutputError: it is whole, and not understood.
    """
    seen: set[str] = set()
    for _ in range(_READS):
        data = bytes_of(folder, name)
        found = hashlib.sha256(data).hexdigest() if sha256 else ""
        if not sha256 or found == sha256:
            try:
                return use(data)
            except FrpipeError:
                raise
            except MemoryError as error:
                raise out_of_memory(name) from error
            except NotImplementedError as error:
                raise _not_understood(folder, name, error) from error
            except _SENSELESS as error:
                if sha256:
                    raise _not_understood(folder, name, error) from error
        seen.add(found or hashlib.sha256(data).hexdigest())
    if len(seen) > 1:
        raise unsteady(folder, name)
    raise damaged(folder, name)


def bytes_of(folder: Folder, name: str) -> bytes:
    """Read all bytes of a file. Raises FileDamaged where it is not there; StorageError; OutOfMemory."""
    try:
        try:
            return folder.read(name)
        except FileNotFoundError:
            if not folder.exists(name):
                gone = damaged(folder, name, "is not there")
                gone.absent = True
                raise gone from None
            # Another process may have put it in place since.
            return folder.read(name)
    except FrpipeError:
        raise
    except MemoryError as error:
        raise out_of_memory(name) from error
    except (*_SENSELESS, NotImplementedError) as error:
        raise _flaky(folder, name, error) from error


def read_json(folder: Folder, name: str) -> dict[str, Any]:
    """Read a JSON object. FileNotFoundError where there is none; else raises as `read_whole`."""
    return read_if_there(folder, name, _object)


def read_if_there(folder: Folder, name: str, use: Callable[[bytes], T]) -> T:
    """Read a file as `read_whole`, but raise FileNotFoundError where there is none."""
    try:
        return read_whole(folder, name, use)
    except FileDamaged as error:
        # Whether it is there now says nothing of what the read met: another process may have made it since.
        if error.absent or not folder.exists(name):
            raise FileNotFoundError(name) from None
        raise


def as_table(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """Parse a Parquet file's bytes to a table, the checksum of every page compared. columns: None reads all.

    Raises OutputError where it lacks a column; else what Arrow does.
    """
    return _columns(pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True), columns)


def batches(data: bytes, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Parse a Parquet file some rows at a time, as `as_table`; what has passed is not held."""
    file, rows = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True), 0
    for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
        rows += batch.num_rows
        yield batch
    # As in `_columns`.
    if rows != file.metadata.num_rows:
        raise pa.ArrowInvalid("the pages do not hold the rows that the file says")


def read_columns(
    folder: Folder, name: str, columns: list[str], rows: int | None = None, sha256: str = ""
) -> pa.Table:
    """Read some columns of a Parquet file; a store is asked for little else. Raises as `read_whole`.

    Only the number of rows, if it is known, and the checksums of their pages are compared. Where these are
    wrong or the read fails, the whole file is read to tell why.
    In this thread alone: Arrow's own, if they still hold a Python file at exit, abort the process.
    """
    try:
        with folder.open(name) as file:
            found = pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)
            if rows in {None, found.metadata.num_rows} and {*columns} <= {*found.schema_arrow.names}:
                return _columns(found, columns)
    except FrpipeError:
        raise
    except MemoryError as error:
        raise out_of_memory(name) from error
    except (*_SENSELESS, NotImplementedError):
        pass
    return read_whole(folder, name, lambda data: as_table(data, columns), sha256)


def damaged(folder: Folder, name: str, what: str = "is damaged") -> FileDamaged:
    """The error for a file that is gone, or proven not to be the one that was written."""
    error = FileDamaged(
        f"{name} in {folder.uri} {what}",
        "see with `frpipe check` what else is, mend it with --mend, then run the job that made the output "
        "again: it does anew what is missing",
    )
    error.file = name
    return error


def unsteady(folder: Folder, name: str) -> StorageError:
    """The error for a file whose reads do not agree."""
    return StorageError(
        f"{name} in {folder.uri}: two reads give different bytes",
        "check the disk, the network share or the store; then run again: nothing was changed",
    )


def out_of_memory(name: str) -> OutOfMemory:
    """The error for a file that memory was too short for."""
    return OutOfMemory(
        f"there is not enough memory to read {name}",
        "give the process more memory, or run fewer at once; then run again: nothing was changed",
    )


def _columns(file: pq.ParquetFile, columns: list[str] | None) -> pa.Table:
    lacking = sorted(set(columns or ()) - set(file.schema_arrow.names))
    if lacking:
        raise OutputError(
            f"the output lacks a column that is needed: {', '.join(lacking)}",
            "ask for columns that it has, or make it anew with this version of frpipe",
        )
    table = file.read(columns, use_threads=False)
    # The header of a page bears no checksum: with one that is wrong Arrow may read no rows at all.
    if table.num_columns and table.num_rows != file.metadata.num_rows:
        raise pa.ArrowInvalid("the pages do not hold the rows that the file says")
    return table if columns is None else table.select(columns)


def _object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises ValueError for bytes that are none."""
    try:
        return {**json.loads(data)}
    except (TypeError, RecursionError):
        raise ValueError from None


def _flaky(folder: Folder, name: str, error: Exception) -> StorageError:
    if isinstance(error, FileNotFoundError):
        return none_found(folder, name)
    return storage_error(error, f"{folder.uri}: {name}")


def none_found(folder: Folder, name: str) -> StorageError:
    """The error for a file that is there, and is not found by a read."""
    return StorageError(
        f"{folder.uri}: {name} is there, and a read of it found none", "run again: nothing was changed"
    )


def _not_understood(folder: Folder, name: str, error: Exception) -> OutputError:
    return OutputError(
        f"{name} in {folder.uri} cannot be read by this version of frpipe ({type(error).__name__})",
        "use the version of frpipe, and of pyarrow, that wrote it; nothing was changed",
    )

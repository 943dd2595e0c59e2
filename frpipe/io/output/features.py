"""Read the published output of an enroll run: whole parts only, by their marks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import OutputError
from frpipe.io.output import run
from frpipe.io.output.parts import FACES, IMAGES, PartFile, done_parts, part_name
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import as_table, read_columns, read_whole

# Most of the bytes of a file of faces.
_VECTORS = "embedding"
T = TypeVar("T")


def read_outputs(
    out: Folder, image_names: list[str] | None = None, face_names: list[str] | None = None
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """(images, faces) of each published part, in order; None reads all columns.

    Raises OutputError if the folder holds no enroll output.
    """
    for part in sorted(refuse_no_output(out, done_parts(out))):
        yield read_part_output(out, part, image_names, face_names)


def refuse_no_output(out: Folder, parts: set[int]) -> set[int]:
    """The parts of an enroll output. Raises OutputError where there are none."""
    if not parts:
        raise OutputError(f"{out.uri} holds no enroll output", "give the --output of a jobs/enroll.py run")
    return parts


def image_columns(out: Folder) -> list[str]:
    """Names of the columns of `images`: ours, then the manifest's. Raises OutputError as `read_outputs`."""
    name = f"{IMAGES}/{part_name(min(refuse_no_output(out, done_parts(out))))}"
    names: list[str] = _read(out, name, lambda data: pq.read_schema(pa.BufferReader(data)).names)
    return names


def read_part_output(
    out: Folder, part: int, image_names: list[str] | None = None, face_names: list[str] | None = None
) -> tuple[pa.Table, pa.Table]:
    """(images, faces) of one published part; None reads all columns.

    Raises FileDamaged where it is gone or damaged; StorageError, OutOfMemory; OutputError: it lacks a column.
    """
    name = part_name(part)
    return (
        read_published(out, f"{IMAGES}/{name}", image_names),
        read_published(out, f"{FACES}/{name}", face_names),
    )


def read_published(out: Folder, name: str, columns: list[str] | None = None) -> pa.Table:
    """A file of the output; of a finished run, as its list of files has it. Raises as `read_part_output`.

    It is read whole, and its SHA-256 compared, but for a file of faces whose vectors are not wanted: of that
    the columns are read, and the checksums of their pages compared.
    """
    if columns is None or _VECTORS in columns or not name.startswith(f"{FACES}/"):
        return _read(out, name, lambda data: as_table(data, columns))

    def read(known: PartFile | None) -> pa.Table:
        return read_columns(out, name, columns, *((known.rows, known.sha256) if known else ()))

    return run.read_recorded(out, name, read)


def _read(out: Folder, name: str, use: Callable[[bytes], T]) -> T:
    def read(known: PartFile | None) -> T:
        return read_whole(out, name, use, known.sha256 if known else "")

    return run.read_recorded(out, name, read)

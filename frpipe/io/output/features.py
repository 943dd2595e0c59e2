"""Read the published output of an enroll run: whole parts only, by their marks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import OutputError
from frpipe.io.output import run
from frpipe.io.output.parts import EMBEDDINGS, FACES, IMAGES, PartFile, done_parts, part_name
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import as_table, damaged, read_columns, read_whole

# Most of the bytes of a file of faces.
_VECTORS = "embedding"
_OF_EMBEDDER = ("embedding", "norm", "embedder_hash", "preprocessing_hash")
T = TypeVar("T")


def read_outputs(
    out: Folder,
    image_names: list[str] | None = None,
    face_names: list[str] | None = None,
    embedder: str | None = None,
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """(images, faces) of each published part, in order; None reads all columns.

    embedder: as of `read_part_output`.  Raises OutputError if the folder holds no enroll output.
    """
    for part in sorted(refuse_no_output(out, done_parts(out))):
        yield read_part_output(out, part, image_names, face_names, embedder)


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


def further_embedders(out: Folder) -> list[str]:
    """The names of the embedders of a run behind the first."""
    return [*run.begun(out).get("identity", {}).get("recipe", {}).get("embedders", {})]


def read_part_output(
    out: Folder,
    part: int,
    image_names: list[str] | None = None,
    face_names: list[str] | None = None,
    embedder: str | None = None,
) -> tuple[pa.Table, pa.Table]:
    """(images, faces) of one published part; None reads all columns.

    embedder: a further one, whose embedding, norm and hashes the faces then have; None: the first.
    Raises FileDamaged where it is gone or damaged; StorageError, OutOfMemory; OutputError: it lacks a column.
    """
    name = part_name(part)
    return (
        read_published(out, f"{IMAGES}/{name}", image_names),
        _faces(out, name, face_names, embedder),
    )


def _faces(out: Folder, name: str, names: list[str] | None, embedder: str | None) -> pa.Table:
    """Faces of a part; what is an embedder's comes from the files of the one that is asked for."""
    if embedder is None or (names is not None and not {*names} & {*_OF_EMBEDDER}):
        return read_published(out, f"{FACES}/{name}", names)
    wanted = None if names is None else ["face_id", *({*names} - {*_OF_EMBEDDER, "face_id"})]
    faces = read_published(out, f"{FACES}/{name}", wanted)
    beside = read_published(out, f"{EMBEDDINGS}/{embedder}/{name}")
    if not beside["face_id"].equals(faces["face_id"]):
        raise damaged(out, f"{EMBEDDINGS}/{embedder}/{name}", "is not of the faces beside it")
    sources = {each: beside if each in _OF_EMBEDDER else faces for each in names or faces.column_names}
    fields = [source.schema.field(each) for each, source in sources.items()]
    columns = [source[each] for each, source in sources.items()]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, beside.schema.metadata))


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

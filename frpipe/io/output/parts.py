"""Publish the output of a part: `faces/` first, `images/` last, each of them only once.

Both are created exclusively: whoever comes later, be it an attempt that everybody thought dead, finds them
there and changes nothing. The images file is the mark that the part's rows are done. It names the SHA-256 of
its faces file, so that a faces file of another attempt cannot pass for it. Before the end of a run readers go
by these marks; after it `files.json` and a plain glob name the same files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import FileDamaged
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import as_table, bytes_of, damaged, read_whole

IMAGES = "images"
FACES = "faces"
_FACES_SHA = b"frpipe.faces_sha256"
_PART = re.compile(r"part-(\d{6,})\.parquet")


def part_name(part: int) -> str:
    """File name of a part, the same under every folder: `part-000012.parquet`."""
    return f"part-{part:06d}.parquet"


@dataclass(frozen=True, slots=True)
class PartFile:
    """One published file, as `files.json` lists it."""

    name: str
    rows: int
    bytes: int
    sha256: str


def part_file(name: str, data: bytes) -> PartFile:
    """The entry of a Parquet file with these bytes."""
    rows = pq.read_metadata(pa.BufferReader(data)).num_rows
    return PartFile(name, rows, len(data), hashlib.sha256(data).hexdigest())


def part_number(name: str) -> int | None:
    """The part that a file of this name, with or without its folder, is of; None: of none."""
    found = _PART.fullmatch(name.rpartition("/")[2])
    return int(found[1]) if found else None


def write_part(
    out: Folder, part: int, images: pa.Table, faces: pa.Table, metadata: Mapping[str, str]
) -> bool:
    """Publish a part. False if another attempt has published it, or other faces of it: they stay.

    Faces without images are what an attempt left that died between the two, or is still at it. Faces of the
    same bytes are as good as our own; others only the run's driver clears away (`clear_orphans`).
    """
    faces_bytes = to_parquet(faces, metadata)
    mark = {**metadata, _FACES_SHA.decode(): hashlib.sha256(faces_bytes).hexdigest()}
    return create_part(out, part, to_parquet(images, mark), faces_bytes)


def create_part(out: Folder, part: int, images: bytes, faces: bytes) -> bool:
    """Publish a part from the bytes of its two files; else as `write_part`."""
    name = part_name(part)
    if out.exists(f"{IMAGES}/{name}"):
        return False
    # A store that loses its answer says no although the faces are ours.
    if not out.create(f"{FACES}/{name}", faces) and not _holds(out, f"{FACES}/{name}", faces):
        return False
    return out.create(f"{IMAGES}/{name}", images)


def replace_part(out: Folder, part: int, images: pa.Table, faces: pa.Table) -> None:
    """Put other rows in place of a published part's. Both tables bring the metadata of their files.

    Between its two writes the part is damaged for whoever checks it: the run may not be marked as complete.
    """
    name = part_name(part)
    faces_bytes = to_parquet(faces, {})
    mark = {_FACES_SHA.decode(): hashlib.sha256(faces_bytes).hexdigest()}
    out.write(f"{FACES}/{name}", faces_bytes)
    out.write(f"{IMAGES}/{name}", to_parquet(images, mark))


def is_whole(images: pa.Table, faces: bytes) -> bool:
    """Whether a file of faces is the one that the images of its part were written with."""
    return _mark_of(images.schema) == hashlib.sha256(faces).hexdigest()


def faces_mark(images: bytes) -> str:
    """SHA-256 of the faces that an images file was written with; empty: it does not say.

    Raises what Arrow does for bytes that are damaged: the checksum of every page is compared.
    """
    return _mark_of(as_table(images).schema)


def done_parts(out: Folder) -> set[int]:
    """Parts whose images file is published."""
    return _numbered(out, IMAGES)


def clear_orphans(out: Folder) -> None:
    """Remove faces without images, before their parts are done again. For the run's own driver alone."""
    faces = _numbered(out, FACES)
    for part in sorted(faces - done_parts(out)):
        # An attempt that was at it when the files were listed may have ended since.
        if not out.exists(f"{IMAGES}/{part_name(part)}"):
            out.delete(f"{FACES}/{part_name(part)}")


def check_part(out: Folder, part: int) -> tuple[PartFile, PartFile, pa.Table]:
    """Read a published part back: its two files with their digests, and its images.

    Raises FileDamaged where a file is gone or damaged, or the faces are not those that the images were
    written with; StorageError, OutOfMemory and OutputError where it cannot be told.
    """
    name = part_name(part)
    images, images_file = read_whole(out, f"{IMAGES}/{name}", lambda data: _listed(f"{IMAGES}/{name}", data))
    mark = _mark_of(images.schema)
    if not mark:
        raise damaged(out, f"{IMAGES}/{name}")
    faces_file = read_whole(out, f"{FACES}/{name}", lambda data: part_file(f"{FACES}/{name}", data), mark)
    return images_file, faces_file, images


def withdraw_part(out: Folder, part: int) -> None:
    """Take a damaged part back, so that it is done again: its mark first. For the run's own driver alone."""
    for table in (IMAGES, FACES):
        out.delete(f"{table}/{part_name(part)}")


def to_parquet(table: pa.Table, metadata: Mapping[str, str]) -> bytes:
    """A whole Parquet file: strings dictionary coded, vectors plain, since they do not compress."""
    leaves = [leaf for field in table.schema for leaf in _leaves(field, field.name)]
    strings = [path for path, kind in leaves if pa.types.is_string(kind)]
    vectors = {f"{f.name}.list.element" for f in table.schema if pa.types.is_fixed_size_list(f.type)}
    codecs = {path: "NONE" if path in vectors else "ZSTD" for path, _ in leaves}
    sink = pa.BufferOutputStream()
    own = {key.encode(): value.encode() for key, value in metadata.items()}
    pq.write_table(
        table.replace_schema_metadata({**(table.schema.metadata or {}), **own}),
        sink,
        compression=codecs,
        use_dictionary=strings,
        store_schema=True,
        write_page_checksum=True,
    )
    return bytes(sink.getvalue())


def _leaves(field: pa.Field, path: str) -> Iterator[tuple[str, pa.DataType]]:
    """The Parquet leaf columns of a field: their paths and types."""
    kind = field.type
    if pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            yield from _leaves(kind.field(number), f"{path}.{kind.field(number).name}")
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(kind.value_field, f"{path}.list.element")
    else:
        yield path, kind


def _mark_of(images: pa.Schema) -> str:
    mark: bytes = (images.metadata or {}).get(_FACES_SHA, b"")
    return mark.decode()


def _numbered(out: Folder, table: str) -> set[int]:
    parts = (part_number(entry.name) for entry in out.child(table).list())
    return {part for part in parts if part is not None}


def _holds(out: Folder, name: str, data: bytes) -> bool:
    """Whether a file holds exactly these bytes; False if another driver has removed it since."""
    try:
        return bytes_of(out, name) == data
    except FileDamaged:
        return False


def _listed(name: str, data: bytes) -> tuple[pa.Table, PartFile]:
    return as_table(data), part_file(name, data)

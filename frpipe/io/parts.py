"""The published output of a part: `faces/` first, `images/` last and only once.

The images file is the mark that its rows are done. It names the SHA-256 of its faces file, so that a faces
file from another attempt cannot pass for it. Readers go by `files.json` or by these marks, never by a glob
of faces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import OutputError
from frpipe.io.folder import Folder

IMAGES = "images"
FACES = "faces"
_FACES_SHA = b"frpipe.faces_sha256"


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


def write_part(
    out: Folder, part: int, images: pa.Table, faces: pa.Table, metadata: Mapping[str, str]
) -> bool:
    """Publish a part. False if another attempt had published it already: the first one stays."""
    name = part_name(part)
    faces_bytes = to_parquet(faces, metadata)
    mark = {**metadata, _FACES_SHA.decode(): hashlib.sha256(faces_bytes).hexdigest()}
    images_bytes = to_parquet(images, mark)
    if out.exists(f"{IMAGES}/{name}"):
        return False
    out.write(f"{FACES}/{name}", faces_bytes)
    return out.create(f"{IMAGES}/{name}", images_bytes)


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
    mark: bytes = (images.schema.metadata or {}).get(_FACES_SHA, b"")
    return mark.decode() == hashlib.sha256(faces).hexdigest()


def done_parts(out: Folder) -> set[int]:
    """Parts whose images file is published."""
    return {
        int(entry.name[5:11])
        for entry in out.child(IMAGES).list()
        if entry.name.startswith("part-") and entry.name.endswith(".parquet")
    }


def check_part(out: Folder, part: int) -> tuple[PartFile, PartFile, pa.Table]:
    """Read a published part back: its two files with their digests, and its images.

    Raises OutputError where a file is damaged or the faces are not those that the images were written with.
    """
    name = part_name(part)
    images_bytes = out.read(f"{IMAGES}/{name}")
    try:
        faces_bytes = out.read(f"{FACES}/{name}")
        images = pq.read_table(pa.BufferReader(images_bytes), page_checksum_verification=True)
        faces_rows = pq.read_metadata(pa.BufferReader(faces_bytes)).num_rows
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise _damaged(part) from error
    if not is_whole(images, faces_bytes):
        raise _damaged(part)
    faces_sha = hashlib.sha256(faces_bytes).hexdigest()
    return (
        PartFile(
            f"{IMAGES}/{name}", images.num_rows, len(images_bytes), hashlib.sha256(images_bytes).hexdigest()
        ),
        PartFile(f"{FACES}/{name}", faces_rows, len(faces_bytes), faces_sha),
        images,
    )


def withdraw_part(out: Folder, part: int) -> None:
    """Take a damaged part back, so that it is done again."""
    out.delete(f"{IMAGES}/{part_name(part)}")


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
    """Parquet's columns of a field: their paths and types."""
    kind = field.type
    if pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            yield from _leaves(kind.field(number), f"{path}.{kind.field(number).name}")
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(kind.value_field, f"{path}.list.element")
    else:
        yield path, kind


def _damaged(part: int) -> OutputError:
    return OutputError(
        f"part {part} of the output is damaged or incomplete",
        "run the same command again: the part is done anew",
    )

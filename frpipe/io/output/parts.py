"""Publish the output of a part: its data first, `images/` last, each file only once.

The data are `faces/`, and before them `embeddings/NAME/` of each further embedder, and `held/` where a
further stage may hold faces back. All are created
exclusively: whoever comes later, be it an attempt that everybody thought dead, finds them there and changes
nothing. The images file is the mark that the part's rows are done. It names the SHA-256 of each file of data,
so that one of another attempt cannot pass for it. Before the end of a run readers go by these marks; after it
`files.json` and a plain glob name the same files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import FileDamaged
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import as_table, bytes_of, damaged, read_whole

IMAGES = "images"
FACES = "faces"
EMBEDDINGS = "embeddings"
HELD = "held"
_FACES_SHA = b"frpipe.faces_sha256"
_EMBEDDINGS_SHA = b"frpipe.embeddings_sha256."
_HELD_SHA = b"frpipe.held_sha256"
Check = Callable[[], None]
Further = Mapping[str, pa.Table]
"""The embeddings of further embedders, by their names; each table brings the metadata of its file."""
_NOTHING: Further = MappingProxyType({})
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


def part_file(name: str, data: bytes, sha256: str = "") -> PartFile:
    """The entry of a Parquet file with these bytes. sha256: of them, where it is known; empty: it is not."""
    rows = pq.read_metadata(pa.BufferReader(data)).num_rows
    return PartFile(name, rows, len(data), sha256 or hashlib.sha256(data).hexdigest())


def part_number(name: str) -> int | None:
    """The part of a file of this name, with or without its folder; None: it is of none."""
    found = _PART.fullmatch(name.rpartition("/")[2])
    return int(found[1]) if found else None


def write_part(  # noqa: PLR0917 - as the files of a part are
    out: Folder,
    part: int,
    images: pa.Table,
    faces: pa.Table,
    metadata: Mapping[str, str],
    further: Further = _NOTHING,
    *,
    held: pa.Table | None = None,
    check: Check = lambda: None,
) -> bool:
    """Publish a part. False if another attempt has published it, or other data of it: they stay.

    Data without images are what an attempt left that died between the two, or is still at it. Data of the
    same bytes are as good as our own; others only the run's driver clears away (`clear_orphans`).

    held: faces that are held back; None in a run whose stages hold none.
    check: called before each file; raises where the output is not this run's any more.
    """
    data = _data_files(faces, metadata, further, held)
    return create_part(out, part, to_parquet(images, {**metadata, **_marks(data)}), data, check)


def create_part(
    out: Folder, part: int, images: bytes, data: Mapping[str, bytes], check: Check = lambda: None
) -> bool:
    """Publish a part from the bytes of its files. data: by folder, in the order of their creation."""
    name = part_name(part)
    if out.exists(f"{IMAGES}/{name}"):
        return False
    for sub, content in data.items():
        check()
        # A store that loses its answer says no although the file is ours.
        if not out.create(f"{sub}/{name}", content) and not _holds(out, f"{sub}/{name}", content):
            return False
    check()
    return out.create(f"{IMAGES}/{name}", images)


def replace_part(  # noqa: PLR0917 - as the files of a part are
    out: Folder,
    part: int,
    images: pa.Table,
    faces: pa.Table,
    further: Further = _NOTHING,
    held: pa.Table | None = None,
) -> None:
    """Put other rows in place of a published part's. All tables bring the metadata of their files.

    Between its writes the part is damaged for whoever checks it: the run may not be marked as complete.
    """
    name = part_name(part)
    data = _data_files(faces, {}, further, held)
    for sub, content in data.items():
        out.write(f"{sub}/{name}", content)
    out.write(f"{IMAGES}/{name}", to_parquet(images, _marks(data)))


def data_of(images: pa.Schema) -> dict[str, str]:
    """List the files of data that a part's images were written with: SHA-256 by folder, faces the last."""
    marks = images.metadata or {}
    further = {
        f"{EMBEDDINGS}/{key.removeprefix(_EMBEDDINGS_SHA).decode()}": value.decode()
        for key, value in marks.items()
        if key.startswith(_EMBEDDINGS_SHA)
    }
    held = {HELD: marks[_HELD_SHA].decode()} if _HELD_SHA in marks else {}
    return {**dict(sorted(further.items())), **held, FACES: marks.get(_FACES_SHA, b"").decode()}


def marks_of(images: bytes) -> dict[str, str]:
    """List the files of data, as `data_of`, by the bytes of an images file, every page checked."""
    return data_of(as_table(images).schema)


def is_whole(images: pa.Table, data: Mapping[str, bytes]) -> bool:
    """Whether files of data, by folder, are those that the images of their part were written with."""
    return data_of(images.schema) == {sub: hashlib.sha256(data[sub]).hexdigest() for sub in data}


def done_parts(out: Folder) -> set[int]:
    """Parts whose images file is published."""
    return _numbered(out, IMAGES)


def clear_orphans(out: Folder) -> None:
    """Remove data without images, before their parts are done again. For the run's own driver alone."""
    names = [entry.name for sub in (EMBEDDINGS, HELD, FACES) for entry in out.list(sub)]
    numbers = {name: part_number(name) for name in names}
    done = done_parts(out)
    for name, part in numbers.items():
        # An attempt that was at it when the files were listed may have ended since.
        if part is not None and part not in done and not out.exists(f"{IMAGES}/{part_name(part)}"):
            out.delete(name)


def check_part(out: Folder, part: int) -> tuple[PartFile, PartFile, pa.Table]:
    """Read a published part back: its two files with their digests, and its images.

    Raises FileDamaged where a file is gone or damaged, or the faces are not those that the images were
    written with; StorageError, OutOfMemory and OutputError where it cannot be told.
    """
    name = part_name(part)
    images, images_file = read_whole(out, f"{IMAGES}/{name}", lambda data: _listed(f"{IMAGES}/{name}", data))
    mark = data_of(images.schema)[FACES]
    if not mark:
        raise damaged(out, f"{IMAGES}/{name}")
    return images_file, _data_file(out, f"{FACES}/{name}", mark), images


def check_beside(out: Folder, part: int, images: pa.Table) -> list[PartFile]:
    """Read back what a published part has beside its faces: further embeddings, and held faces.

    images: from `check_part`; they name the files that they were written with.

    Raises as `check_part`.
    """
    name = part_name(part)
    return [
        _data_file(out, f"{sub}/{name}", sha256)
        for sub, sha256 in data_of(images.schema).items()
        if sub != FACES
    ]


def withdraw_part(out: Folder, part: int) -> None:
    """Take a damaged part back, so that it is done again: its mark first. For the run's own driver alone."""
    name = part_name(part)
    further = [entry.name for entry in out.list(EMBEDDINGS) if entry.name.endswith(f"/{name}")]
    held = [f"{HELD}/{name}"] if out.exists(f"{HELD}/{name}") else []
    for file in (f"{IMAGES}/{name}", f"{FACES}/{name}", *held, *further):
        out.delete(file)


def to_parquet(table: pa.Table, metadata: Mapping[str, str]) -> bytes:
    """Write a whole Parquet file: strings dictionary coded, vectors plain, since they do not compress."""
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


def _data_files(
    faces: pa.Table, metadata: Mapping[str, str], further: Further, held: pa.Table | None
) -> dict[str, bytes]:
    """Make the files of data of a part, by folder, faces the last."""
    data = {f"{EMBEDDINGS}/{name}": to_parquet(table, {}) for name, table in sorted(further.items())}
    if held is not None:
        data[HELD] = to_parquet(held, metadata)
    return {**data, FACES: to_parquet(faces, metadata)}


def _marks(data: Mapping[str, bytes]) -> dict[str, str]:
    """The marks of the files of data, which the images hold."""
    keys = {sub: _EMBEDDINGS_SHA.decode() + sub.removeprefix(f"{EMBEDDINGS}/") for sub in data}
    keys |= {FACES: _FACES_SHA.decode(), HELD: _HELD_SHA.decode()}
    return {keys[sub]: hashlib.sha256(content).hexdigest() for sub, content in data.items()}


def _numbered(out: Folder, table: str) -> set[int]:
    parts = (part_number(entry.name) for entry in out.child(table).list())
    return {part for part in parts if part is not None}


def _holds(out: Folder, name: str, data: bytes) -> bool:
    """Whether a file holds exactly these bytes; False if another driver has removed it since."""
    try:
        return bytes_of(out, name) == data
    except FileDamaged:
        return False


def _data_file(out: Folder, name: str, sha256: str) -> PartFile:
    """Read a file of data back, whose digest the images of its part name."""
    return read_whole(out, name, partial(part_file, name, sha256=sha256), sha256)


def _listed(name: str, data: bytes) -> tuple[pa.Table, PartFile]:
    return as_table(data), part_file(name, data)

"""Read enroll outputs, here and nowhere else: parts, columns of images and faces, verified, in order.

A finished run is read by its list of files: only the files that are listed, each compared with the SHA-256
that stands there. A run that has not ended is read by its marks: the images file of a part says that the part
is there, and which faces file belongs to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from frpipe.core.errors import FileDamaged, OutputError
from frpipe.core.held import HELD_INSTEAD
from frpipe.core.subject import LEFT_OUT_BY
from frpipe.io.output import run
from frpipe.io.output.parts import (
    EMBEDDINGS,
    FACES,
    HELD,
    IMAGES,
    PartFile,
    done_parts,
    marks_of,
    part_name,
    part_number,
)
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order
from frpipe.io.storage.whole_file import as_table, damaged, read_columns, read_whole

# Most of the bytes of a file of faces.
_VECTORS = "embedding"
OF_EMBEDDER = frozenset({"embedding", "norm", "embedder_hash", "preprocessing_hash"})
"""Columns of faces that are of one embedder."""
# Parts that are held at a time: their vectors are some MB each.
_AHEAD, _AHEAD_WITH_VECTORS = 16, 4
_LATER = frozenset(LEFT_OUT_BY.values())
Names = Sequence[str] | None
"""Names of columns; None: all."""
Tables = tuple[pa.Table, pa.Table]
"""Images and faces of a part."""
T = TypeVar("T")


class PartRows(NamedTuple):
    """The numbers of rows of a part."""

    photos: int
    faces: int


@dataclass(frozen=True, slots=True)
class Features:
    """The published parts of an enroll output, finished or under way.

    embedder: a further one, whose embedding, norm and hashes the faces have; None: the first.
    held: whether `faces` are those that are held back, in place of the others.
    Reading raises FileDamaged where a file is gone or is not the one that was written; StorageError or
    OutOfMemory where that cannot be told; OutputError where a column is lacking. Nothing is ever changed.
    """

    folder: Folder
    embedder: str | None = None
    held: bool = False

    @classmethod
    def at(cls, uri: str, embedder: str | None = None) -> Features:
        """Open the output in a folder, given by its address."""
        return cls(Folder.at(uri), embedder)

    def by_embedder(self) -> list[Features]:
        """Make a reader for each embedder of the run, the first one first."""
        further = run.begun(self.folder).get("identity", {}).get("recipe", {}).get("embedders", {})
        return [Features(self.folder, name) for name in (None, *further)]

    @property
    def holds(self) -> bool:
        """Whether the run has stages that may hold faces back: then each part has a file in `held/`."""
        listed = run.recorded(self.folder)
        first = next((name for name in listed if name.startswith(f"{IMAGES}/")), None)
        if first is not None:
            return f"{HELD}/{first.removeprefix(f'{IMAGES}/')}" in listed
        stages = run.begun(self.folder).get("identity", {}).get("recipe", {}).get("stages", {})
        return any(stage.get("holds") for stage in stages.values())

    def by_vectors(self) -> list[Features]:
        """Make a reader for each place where vectors of people stand: each embedder, and held faces."""
        return [*self.by_embedder(), *([Features(self.folder, held=True)] if self.holds else ())]

    def parts(self) -> list[int]:
        """The numbers of the published parts, in order: as listed if the run has ended, or by their marks."""
        listed = run.recorded(self.folder)
        if not listed:
            return sorted(done_parts(self.folder))
        return sorted(_parts_of(listed, IMAGES))

    def some_parts(self) -> list[int]:
        """The numbers of the parts, as `parts`; raises OutputError where there are none."""
        parts = self.parts()
        if not parts:
            raise no_output(self.folder.uri)
        return parts

    def rows(self) -> dict[int, PartRows]:
        """The numbers of rows of each part of a finished run, in order, as its list of files says."""
        listed = {file.name: file for file in run.file_list(self.folder)}
        images, faces = (_parts_of(listed, table) for table in (IMAGES, FACES))
        return {part: PartRows(images[part].rows, faces[part].rows) for part in sorted(faces)}

    def columns(self) -> list[str]:
        """Names of the columns of `images`: ours, then the manifest's. Raises OutputError: no output."""
        name = _name(IMAGES, self.some_parts()[0])
        names: list[str] = self._whole(name, lambda data: pq.read_schema(pa.BufferReader(data)).names)
        return names

    def images(self, part: int, columns: Names = None) -> pa.Table:
        """Read the images of a part, (photos, columns).

        `held_instead` and the later columns may be named of any run, and are left out of one without them.
        """
        wanted = _listed(columns)
        if wanted and HELD_INSTEAD.name in wanted and not self.holds:
            wanted.remove(HELD_INSTEAD.name)
        return self._whole(_name(IMAGES, part), lambda data: as_table(data, _there(data, wanted)))

    def faces(self, part: int, columns: Names = None) -> pa.Table:
        """Read the faces of a part, (faces, columns).

        A file is read whole and its SHA-256 compared, but for one of a finished run whose vectors are not
        wanted: of that the columns are read, and the checksums of their pages compared.
        """
        wanted = _listed(columns)
        if self.held:
            return self._data(HELD, part, wanted)
        if self.embedder is None or (wanted is not None and OF_EMBEDDER.isdisjoint(wanted)):
            return self._data(FACES, part, wanted)
        others = None if wanted is None else ["face_id", *({*wanted} - OF_EMBEDDER - {"face_id"})]
        sub = f"{EMBEDDINGS}/{self.embedder}"
        faces, beside = self._data(FACES, part, others), self._data(sub, part, None)
        if not beside["face_id"].equals(faces["face_id"]):
            raise damaged(self.folder, _name(sub, part), "is not of the faces beside it")
        names = faces.column_names if wanted is None else wanted
        sources = [beside if name in OF_EMBEDDER else faces for name in names]
        fields = [source.schema.field(name) for name, source in zip(names, sources, strict=True)]
        columns_of = [source[name] for name, source in zip(names, sources, strict=True)]
        return pa.Table.from_arrays(columns_of, schema=pa.schema(fields, beside.schema.metadata))

    def part(self, part: int, images: Names = None, faces: Names = None) -> Tables:
        """Read images and faces of a part; of each the columns that are named."""
        return self.images(part, images), self.faces(part, faces)

    def tables(
        self, images: Names = None, faces: Names = None, parts: Sequence[int] | None = None
    ) -> Iterator[Tables]:
        """Iterate over images and faces of each part in order, read ahead in threads.

        parts: None: all that are published.  Memory: four parts where vectors are read, else sixteen.
        Raises OutputError also where there is no enroll output.
        """
        each = self.some_parts() if parts is None else parts
        return in_order(lambda part: self.part(part, images, faces), each, _ahead(faces))

    def all_images(self, columns: Names = None, parts: Sequence[int] | None = None) -> Iterator[pa.Table]:
        """Iterate over the images of each part, as `tables`."""
        each = self.some_parts() if parts is None else parts
        return in_order(lambda part: self.images(part, columns), each)

    def all_faces(self, columns: Names = None) -> Iterator[pa.Table]:
        """Iterate over the faces of each part, as `tables`."""
        return in_order(lambda part: self.faces(part, columns), self.some_parts(), _ahead(columns))

    def joined(self, parts: Sequence[int], images: Names = None, faces: Names = None) -> Tables:
        """Join images and faces of some parts, as one table each."""
        tables = list(in_order(lambda part: self.part(part, images, faces), parts))
        return pa.concat_tables(pair[0] for pair in tables), pa.concat_tables(pair[1] for pair in tables)

    def vectors(self, parts: Sequence[int]) -> NDArray[np.float32]:
        """Read the unit vectors, (n, dim), of all faces of some parts, in order."""
        column = pa.concat_tables(in_order(lambda part: self.faces(part, [_VECTORS]), parts))[_VECTORS]
        flat = column.combine_chunks()
        vectors: NDArray[np.float32] = flat.flatten().to_numpy(zero_copy_only=False)
        return vectors.reshape(-1, flat.type.list_size)

    def _whole(self, name: str, use: Callable[[bytes], T]) -> T:
        def read(known: PartFile | None) -> T:
            return read_whole(self.folder, name, use, known.sha256 if known else "")

        return run.read_recorded(self.folder, name, read)

    def _data(self, sub: str, part: int, columns: list[str] | None) -> pa.Table:
        """Read a file of data of a part: of `faces`, or of a further embedder's folder."""
        name = _name(sub, part)

        def use(data: bytes) -> pa.Table:
            return as_table(data, columns)

        def read(known: PartFile | None) -> pa.Table:
            if known is None:
                return self._marked(sub, part, use)
            if columns is not None and _VECTORS not in columns:
                return read_columns(self.folder, name, columns, known.rows, known.sha256)
            return read_whole(self.folder, name, use, known.sha256)

        return run.read_recorded(self.folder, name, read)

    def _marked(self, sub: str, part: int, use: Callable[[bytes], T]) -> T:
        """Read a file of data with `use`, compared with its mark in the images of the part."""
        name = _name(sub, part)
        mark = read_whole(self.folder, _name(IMAGES, part), marks_of).get(sub, "")
        try:
            return read_whole(self.folder, name, use, mark)
        except FileDamaged:
            # An erasure writes the two files one after the other; its own resumption reads them between.
            if not self.folder.exists(run.ERASING):
                raise
            return read_whole(self.folder, name, use)


def no_output(uri: str) -> OutputError:
    """The error for a folder that holds no enroll output."""
    return OutputError(f"{uri} holds no enroll output", "give the --output of a jobs/enroll.py run")


def _name(table: str, part: int) -> str:
    return f"{table}/{part_name(part)}"


def _parts_of(listed: dict[str, PartFile], table: str) -> dict[int, PartFile]:
    """The listed files of `images` or `faces`, by part."""
    of_table = {name: file for name, file in listed.items() if name.startswith(f"{table}/")}
    numbered = ((part_number(name), file) for name, file in of_table.items())
    return {part: file for part, file in numbered if part is not None}


def _ahead(faces: Names) -> int:
    return _AHEAD_WITH_VECTORS if faces is None or _VECTORS in faces else _AHEAD


def _there(data: bytes, columns: list[str] | None) -> list[str] | None:
    """The columns to read of a file of images, without the later ones that it lacks."""
    if columns is None or _LATER.isdisjoint(columns):
        return columns
    there = {*pq.read_schema(pa.BufferReader(data)).names}
    return [name for name in columns if name in there or name not in _LATER]


def _listed(columns: Names) -> list[str] | None:
    return None if columns is None else [*columns]

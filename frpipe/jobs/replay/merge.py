"""Merge a run with the replay of its rejected rows, part by part, in a new output."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import InvariantError
from frpipe.core.pulse import Say, silent, told
from frpipe.core.recipe import Recipe
from frpipe.core.schema import extras_of, face_schema, later_columns_of, staged_fields, version_of
from frpipe.io.output.embeddings import fields_behind, joined, split
from frpipe.io.output.held import divided, held_fields, united
from frpipe.io.output.parts import EMBEDDINGS, FACES, HELD, IMAGES, create_part, part_name, write_part
from frpipe.io.output.run import ListedFiles
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order
from frpipe.jobs.replay.plan import Span
from frpipe.jobs.replay.source import Selection
from frpipe.jobs.rescan.affected import Carry

# Parts of a replay are often shared by neighbouring parts of the run.
_HELD_PARTS = 16

Tables = tuple[pa.Table, pa.Table]
"""Images, and faces with the embeddings of further embedders behind them, held ones among them."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Merge of a run with the replay of some of its rows.

    run: what is replayed.  replayed: the rows done again.  spans: where those of each part are.  recipe: of
    the output.  carry: brings the rows of the run into that recipe, where it is not theirs.
    """

    run: ListedFiles
    replayed: ListedFiles
    selection: Selection
    spans: Mapping[int, Sequence[Span]]
    recipe: Recipe
    out: Folder
    carry: Carry | None = None

    def write(self, parts: Sequence[int], say: Say = silent) -> None:
        """Publish some parts of the new output; memory: a few parts for each of eight threads.

        say: told how far it is.
        """
        again = lru_cache(_HELD_PARTS)(lambda part: _tables(self.replayed, part, self.recipe))

        def one(part: int) -> None:
            if part in self.spans or self.carry is not None:
                self._merge(part, again)
            else:
                self._copy(part)

        line = f"{{}} of {len(parts):,} parts merged or copied"
        deque(told(in_order(one, parts), len(parts), line, say), maxlen=0)

    def _copy(self, part: int) -> None:
        """Copy a part byte for byte."""
        further = (f"{EMBEDDINGS}/{name}" for name in sorted(self.recipe.further))
        held = (HELD,) if _holds(self.run, part) else ()
        data = {sub: self.run.read(f"{sub}/{part_name(part)}") for sub in (*further, *held, FACES)}
        create_part(self.out, part, self.run.read(f"{IMAGES}/{part_name(part)}"), data)

    def _merge(self, part: int, again: Any) -> None:
        old = _tables(self.run, part, self.recipe)
        mask = self.selection.among(*old)
        if self.carry is not None:
            old = self.carry.over(*old)
        spans = self.spans.get(part)
        if spans is None:
            images, faces = old
        else:
            images, faces = merged(old, _sliced(again, spans), mask, self.recipe)
        written, held = divided(faces)
        faces, further = split(written, self.recipe)
        write_part(self.out, part, images, faces, self.recipe.metadata(), further, held=held)


def merged(old: Tables, new: Tables, mask: pa.ChunkedArray, recipe: Recipe) -> Tables:
    """Merge rows of a part with those of the mask taken from a replay; attempts add up.

    recipe: whose hash all faces bear: what a replay may change decides which photos are taken, and no number
    of a face.
    """
    images = _with_images(old[0], new[0], mask)
    labels = pa.array([recipe.preprocessing_hash] * new[1].num_rows, pa.string())
    at = new[1].column_names.index("preprocessing_hash")
    fresh = new[1].set_column(at, "preprocessing_hash", labels)
    schema = _face_schema(old)
    replaced = old[0]["image_id"].filter(mask).combine_chunks()
    kept = old[1].filter(pc.invert(pc.is_in(old[1]["image_id"], value_set=replaced)))
    return images, _in_order(images, pa.concat_tables([kept.cast(schema), fresh.cast(schema)]))


def _in_order(images: pa.Table, faces: pa.Table) -> pa.Table:
    """Order the faces as their photos are, and those of a photo as they were found."""
    owners = pc.index_in(faces["image_id"], value_set=images["image_id"].combine_chunks())
    keys = [("photo", "ascending"), ("face", "ascending")]
    order = pc.sort_indices(pa.table({"photo": owners, "face": faces["face_index"]}), sort_keys=keys)
    return faces.take(order)


def _face_schema(tables: Tables) -> pa.Schema:
    """The schema of faces as it was written.

    Parquet renames the items of lists, and a part must come out as it would have.
    """
    images, faces = tables
    dim = faces.schema.field("embedding").type.list_size
    staged = staged_fields(faces.schema)
    extra, later = extras_of(images.schema), later_columns_of(faces.schema)
    known = face_schema(dim, extra, version_of(images.schema), staged, later)
    return pa.schema([*known, *fields_behind(faces.schema), *held_fields(faces.schema)])


def _with_images(old: pa.Table, new: pa.Table, mask: pa.ChunkedArray) -> pa.Table:
    replaced = old.filter(mask)
    if not replaced["image_id"].equals(new["image_id"]):
        raise InvariantError(
            "rows of the replay are not those it was given", "keep both outputs and report this"
        )
    attempts = pc.add(replaced["attempts"], new["attempts"])
    new = new.set_column(new.column_names.index("attempts"), "attempts", attempts).cast(old.schema)
    hit = mask.to_numpy()
    rows = np.empty(old.num_rows, np.int64)
    rows[~hit] = np.arange(np.count_nonzero(~hit))
    rows[hit] = np.arange(np.count_nonzero(~hit), old.num_rows)
    return pa.concat_tables([old.filter(pc.invert(mask)), new]).take(pa.array(rows))


def _tables(files: ListedFiles, part: int, recipe: Recipe) -> Tables:
    name = part_name(part)
    further = {each: files.table(f"{EMBEDDINGS}/{each}/{name}") for each in recipe.further}
    faces = joined(files.table(f"{FACES}/{name}"), further)
    images = files.table(f"{IMAGES}/{name}")
    if not _holds(files, part):
        return images, faces
    return images, _in_order(images, united(faces, files.table(f"{HELD}/{name}")))


def _holds(files: ListedFiles, part: int) -> bool:
    """Whether a part has a file of held faces: all have one, or none."""
    return f"{HELD}/{part_name(part)}" in files.sha256


def _sliced(again: Any, spans: Sequence[Span]) -> Tables:
    images, faces = [], []
    for span in spans:
        every, found = again(span.part)
        images.append(every.slice(span.start, span.stop - span.start))
        faces.append(found.filter(pc.is_in(found["image_id"], images[-1]["image_id"].combine_chunks())))
    return pa.concat_tables(images), pa.concat_tables(faces)

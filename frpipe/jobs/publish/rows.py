"""Convert the parts of a run to rows of tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import FileDamaged
from frpipe.core.schema import face_columns, image_columns
from frpipe.gallery.spec import RECIPE_HASHES
from frpipe.io.output.features import Features
from frpipe.io.storage.folder import Folder
from frpipe.io.tables.types import column_name, portable
from frpipe.jobs.photo_places import located
from frpipe.jobs.publish.schema import EMBEDDING, OWN_NAMES, REJECTS, VECTOR, further_column
from frpipe.jobs.publish.sources import Publication

_OURS = frozenset(column.name for column in (*image_columns(99), *face_columns(1, 99)))
Keep = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, slots=True)
class RunRows:
    """The rows of a publication. recipe: of the tables.  without: columns of its manifest to leave out."""

    publication: Publication
    recipe: str
    embeddings: bool = True
    without: frozenset[str] = frozenset()

    @property
    def features(self) -> Features:
        """The reader of the parts of its run."""
        assert self.publication.features is not None
        return self.publication.features.features

    def keys(self) -> pa.Array:
        """Read the ids of its photos."""
        if self.publication.features is None:
            return pa.array([], pa.string())
        found = [table["image_id"] for table in self.features.all_images(["image_id"])]
        return pa.chunked_array([c for each in found for c in each.chunks], pa.string()).combine_chunks()

    def photos(self) -> Iterator[pa.Table]:
        """Iterate over the rows of `photos`, part by part."""
        for table in self.images() if self.publication.features else ():
            yield self._whole(table, self._spec_hashes())

    def images(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Iterate over its photos as the output has them, part by part, with the places where they lie."""
        parts, tables = self.features.some_parts(), self.features.all_images(columns)
        for part, table in zip(parts, tables, strict=True):
            yield _placed(self.features.folder, part, table)

    def rejects(self) -> Iterator[pa.Table]:
        """Iterate over the rows of `rejects`, part by part."""
        names = {column.name for column in REJECTS.columns}
        for table in self.photos():
            mine = table.filter(pc.equal(table["status"], "rejected"))
            yield mine.select([name for name in mine.column_names if name in names])

    def faces(self) -> Iterator[pa.Table]:
        """Iterate over the rows of `faces`, part by part; vectors of further embedders come last."""
        if self.publication.features is None:
            return
        first, *further = self.features.by_embedder()
        for part in first.parts():
            if not self.embeddings:
                names = first.faces(part, []).column_names or None
                table = first.faces(part, names)
                yield self._whole(_placed(first.folder, part, table).drop_columns([EMBEDDING]), {})
                continue
            table = self._whole(_placed(first.folder, part, first.faces(part)), {})
            for other in further:
                table = _beside(table, other, part)
            yield table

    def _whole(self, table: pa.Table, hashes: Mapping[str, str]) -> pa.Table:
        """Convert columns to the names and types of the tables, and append those of the run."""
        columns: dict[str, Any] = {}
        for name, column in zip(table.column_names, table.columns, strict=True):
            ours = name in _OURS
            if not ours and name in self.without:
                continue
            columns[name if ours else column_name(name, OWN_NAMES)] = plain(column, name)
        return with_run(pa.table({**columns, **_repeated(hashes, len(table))}), self.publication, self.recipe)

    def _spec_hashes(self) -> dict[str, str]:
        assert self.publication.features is not None
        return self.publication.features.spec.hashes


def with_run(
    table: pa.Table, publication: Publication, recipe: str | None, *, source: str | None = None
) -> pa.Table:
    """Append the columns of a run to a table. source: None: that of the publication."""
    facts = {
        "source": publication.source if source is None else source,
        "run_id": publication.run_id,
        "recipe": recipe,
        "month": publication.month,
    }
    table = with_texts(table, facts)
    times = {
        "night": pa.scalar(publication.night, pa.date32()),
        "as_of": pa.scalar(publication.as_of, pa.timestamp("us", tz="UTC")),
        "processed_at": pa.scalar(publication.processed_at, pa.timestamp("us", tz="UTC")),
    }
    for name, value in times.items():
        table = table.append_column(name, pa.repeat(value, len(table)))
    return table


def with_texts(table: pa.Table, facts: Mapping[str, str | None]) -> pa.Table:
    """Set columns of a table to the same text in every row."""
    return pa.table(
        {**dict(zip(table.column_names, table.columns, strict=True)), **_repeated(facts, len(table))}
    )


def _placed(folder: Folder, part: int, table: pa.Table) -> pa.Table:
    """Say where the photos of an output lie; as its manifest did, where the plan of the output is lost."""
    try:
        return located(folder, part, table)[0]
    except FileDamaged:
        return table


def _beside(table: pa.Table, other: Features, part: int) -> pa.Table:
    """Append the vectors of a further embedder to faces; its recipe is in the names of the columns."""
    beside = other.faces(part, [EMBEDDING, "norm", "embedder_hash", "preprocessing_hash"])
    metadata = beside.schema.metadata or {}
    hashes = [metadata.get(f"frpipe.{name}".encode(), b"").decode() for name in RECIPE_HASHES[:2]]
    vectors, norms = (further_column(name, str(other.embedder), hashes) for name in (EMBEDDING, "norm"))
    table = table.append_column(vectors, beside[EMBEDDING].cast(VECTOR))
    return table.append_column(norms, beside["norm"])


def plain(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Convert a column to a type that all readers of tables know. Raises OutputError where there is none."""
    kind = portable(column.type, name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_timestamp(column.type) and column.type.tz is None:
        column = column.cast(pa.timestamp("us"), safe=False)
    return column if column.type == kind else column.cast(kind, safe=not pa.types.is_timestamp(kind))


def _repeated(facts: Mapping[str, str | None], rows: int) -> dict[str, pa.Array]:
    return {name: pa.repeat(pa.scalar(value, pa.string()), rows) for name, value in facts.items()}

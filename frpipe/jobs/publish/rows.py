"""From the parts of a run to rows of tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.schema import face_columns, image_columns
from frpipe.io.output.features import Features
from frpipe.io.tables.types import column_name, portable
from frpipe.jobs.publish.schema import EMBEDDING, OWN_NAMES, REJECTS, VECTOR
from frpipe.jobs.publish.sources import Publication

_HASHES = ("detector_hash", "embedder_hash", "preprocessing_hash")
_OURS = frozenset(column.name for column in (*image_columns(99), *face_columns(1, 99)))
Keep = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, slots=True)
class RunRows:
    """Rows of a publication. recipe: of the tables.  without: columns of its manifest that are left out."""

    publication: Publication
    recipe: str
    embeddings: bool = True
    without: frozenset[str] = frozenset()

    @property
    def features(self) -> Features:
        """The reader of its parts."""
        assert self.publication.features is not None
        return self.publication.features.features

    def keys(self) -> pa.Array:
        """Ids of its photos."""
        if self.publication.features is None:
            return pa.array([], pa.string())
        found = [table["image_id"] for table in self.features.all_images(["image_id"])]
        return pa.chunked_array([c for each in found for c in each.chunks], pa.string()).combine_chunks()

    def photos(self) -> Iterator[pa.Table]:
        """Rows of `photos`, part by part."""
        for table in self.features.all_images() if self.publication.features else ():
            yield self._whole(table, self._spec_hashes())

    def rejects(self) -> Iterator[pa.Table]:
        """Rows of `rejects`, part by part."""
        names = {column.name for column in REJECTS.columns}
        for table in self.photos():
            mine = table.filter(pc.equal(table["status"], "rejected"))
            yield mine.select([name for name in mine.column_names if name in names])

    def faces(self) -> Iterator[pa.Table]:
        """Rows of `faces`, part by part. Vectors of further embedders are columns behind."""
        if self.publication.features is None:
            return
        first, *further = self.features.by_embedder()
        for part in first.parts():
            if not self.embeddings:
                names = first.faces(part, []).column_names or None
                table = first.faces(part, names)
                yield self._whole(table.drop_columns([EMBEDDING]), {})
                continue
            table = self._whole(first.faces(part), {})
            for other in further:
                table = _beside(table, other, part)
            yield table

    def _whole(self, table: pa.Table, hashes: Mapping[str, str]) -> pa.Table:
        """Columns under the names that tables have, with types that every reader knows, and the run's."""
        columns: dict[str, Any] = {}
        for name, column in zip(table.column_names, table.columns, strict=True):
            ours = name in _OURS
            if not ours and name in self.without:
                continue
            columns[name if ours else column_name(name, OWN_NAMES)] = plain(column, name)
        return with_run(pa.table({**columns, **_repeated(hashes, len(table))}), self.publication, self.recipe)

    def _spec_hashes(self) -> dict[str, str]:
        assert self.publication.features is not None
        return {name: getattr(self.publication.features.spec, name) for name in _HASHES}


def with_run(
    table: pa.Table, publication: Publication, recipe: str, *, source: str | None = None
) -> pa.Table:
    """A table with the columns of its run behind. source: None: of the publication."""
    facts = {
        "source": publication.source if source is None else source,
        "run_id": publication.run_id,
        "recipe": recipe,
        "month": publication.month,
    }
    table = pa.table(
        {**dict(zip(table.column_names, table.columns, strict=True)), **_repeated(facts, len(table))}
    )
    times = {
        "night": pa.scalar(publication.night, pa.date32()),
        "as_of": pa.scalar(publication.as_of, pa.timestamp("us", tz="UTC")),
        "processed_at": pa.scalar(publication.processed_at, pa.timestamp("us", tz="UTC")),
    }
    for name, value in times.items():
        table = table.append_column(name, pa.repeat(value, len(table)))
    return table


def _beside(table: pa.Table, other: Features, part: int) -> pa.Table:
    """Faces with the vectors of a further embedder; its recipe is in the names of the columns."""
    beside = other.faces(part, [EMBEDDING, "norm", "embedder_hash", "preprocessing_hash"])
    metadata = beside.schema.metadata or {}
    known = [metadata.get(f"frpipe.{name}".encode(), b"").decode()[:4] for name in _HASHES[1:]]
    name = f"{other.embedder}_{''.join(known)}"
    table = table.append_column(f"embedding_{name}", beside[EMBEDDING].cast(VECTOR))
    return table.append_column(f"norm_{name}", beside["norm"])


def plain(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """A column with a type that every reader of tables knows. Raises OutputError where there is none."""
    kind = portable(column.type, name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_timestamp(column.type) and column.type.tz is None:
        column = column.cast(pa.timestamp("us"), safe=False)
    return column if column.type == kind else column.cast(kind, safe=not pa.types.is_timestamp(kind))


def _repeated(facts: Mapping[str, str], rows: int) -> dict[str, pa.Array]:
    return {name: pa.repeat(pa.scalar(value, pa.string()), rows) for name, value in facts.items()}

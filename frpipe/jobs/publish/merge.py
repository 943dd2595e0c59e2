"""Merge a publication into tables, exactly once, whatever was killed, repeated or raced.

`photos` decides: of two rows of a photo that of the later publication stands. A row of another table stands
with the row of its photo. Each change is one version of a table, made again where another writer was first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.gallery.photos import sourced
from frpipe.gallery.suppression import SUBJECTS, Suppressions
from frpipe.io.output.units import Units
from frpipe.io.tables.state import State
from frpipe.io.tables.table import Change, PublishedTable, edited, unified
from frpipe.jobs.identify.candidates import without_candidates
from frpipe.jobs.identify.worker import PROBES
from frpipe.jobs.publish.rows import RunRows, plain, with_run
from frpipe.jobs.publish.sources import Publication, Search

Mask = NDArray[np.bool_]
Decide = Callable[[pa.Table], tuple[Mask, Mask]]
"""Which rows of a file go, and which are marked as vanished."""
Gone = Callable[[pa.Table], Mask]
_KEYS = ["source", "image_id"]
_ORDER = ["as_of", "processed_at", "night", "run_id"]


@dataclass(slots=True)
class Tally:
    """What was written. rows: new ones.  gone: rows that were replaced or removed."""

    rows: int = 0
    gone: int = 0
    files: int = 0
    bytes: int = 0

    def clear(self) -> None:
        """Begin anew: another writer was first."""
        self.rows = self.gone = self.files = self.bytes = 0

    def __iadd__(self, other: Tally) -> Tally:
        self.rows, self.gone = self.rows + other.rows, self.gone + other.gone
        self.files, self.bytes = self.files + other.files, self.bytes + other.bytes
        return self


@dataclass(frozen=True, slots=True)
class Barred:
    """Who is suppressed.

    sources: of whose rows, and all that the gallery may have before the ids of their photos; None: of all
    rows, and the source, as of nights with `consolidate.source`, or one of the prefixes.
    """

    list: Suppressions = field(default_factory=lambda: Suppressions(()))
    sources: Mapping[str, Collection[str]] | None = None
    prefixes: Collection[str] = ("",)

    def mask(self, table: pa.Table) -> Mask:
        """(rows,) bool: rows of suppressed people and photos."""
        if not self.list:
            return np.zeros(len(table), bool)
        if "source" not in table.column_names:
            return self._named(table, "")
        sources = self.sources
        if sources is None:
            sources = {each: {*self.prefixes, each} for each in table["source"].unique().to_pylist()}
        hit = np.zeros(len(table), bool)
        for source, prefixes in sources.items():
            mine = _is(table["source"], source)
            for prefix in prefixes if mine.any() else ():
                hit |= mine & self._named(table, prefix)
        return hit

    def _named(self, table: pa.Table, prefix: str) -> Mask:
        there = [name for name in ("subject_id", "content_sha256") if name in table.column_names]
        named = table.select(there)
        if "image_id" in table.column_names:
            named = named.append_column("image_id", sourced(table["image_id"], prefix))
        hit: Mask = self.list.mask(named)
        return hit

    def people(self, subjects: pa.Array) -> set[str]:
        """Those of some subjects who are suppressed."""
        return {who for who in subjects.to_pylist() if who and self.list.holds(SUBJECTS, who)}


def merge_photos(table: PublishedTable, rows: RunRows, barred: Barred) -> Tally:
    """Put the photos of a publication into `photos`."""
    publication = rows.publication
    keys, tally = rows.keys(), Tally()
    applied = {publication.run_id: publication.number}

    def change(base: State) -> Change | None:
        tally.clear()
        if base.applied.get(publication.run_id) == publication.number:
            return None
        newer: list[pa.Array] = []
        marks: dict[str, object] = {}

        def decide(found: pa.Table) -> tuple[Mask, Mask]:
            mine = _is(found["source"], publication.source)
            hit = mine & _in(found["image_id"], keys)
            own = mine & _is(found["run_id"], publication.run_id)
            later = hit & _later(found, publication)
            newer.append(found["image_id"].filter(pa.array(later)).combine_chunks())
            marked = found.filter(pa.array(own)).select(["image_id", "vanished"]).to_pylist()
            marks.update({row["image_id"]: row["vanished"] for row in marked if row["vanished"]})
            gone = (hit & ~later) | own
            return gone, _vanishes(found, mine & ~gone, publication)

        columns = [*_KEYS, *_ORDER, "vanished"]
        edit = _Edit.of(table, base, columns, decide)
        losers = _joined(newer)

        def fresh() -> Iterator[pa.Table]:
            for part in rows.photos():
                out = barred.mask(part) | _in(part["image_id"], losers)
                yield _with_marks(part.filter(pa.array(~out)), marks)

        return edit.change(fresh(), applied, tally, publication.night)

    table.transact(change)
    return tally


def merge_dependent(
    table: PublishedTable,
    photos: PublishedTable,
    rows: RunRows,
    made: Callable[[], Iterator[pa.Table]],
) -> Tally:
    """Put rows of a publication into a table whose rows stand with those of their photos."""
    publication = rows.publication
    keys, tally = rows.keys(), Tally()
    applied = {publication.run_id: publication.number}

    def change(base: State) -> Change | None:
        tally.clear()
        if base.applied.get(publication.run_id) == publication.number:
            return None
        # Read after the version of this table: whoever changes photos since will come to this table, too.
        current = _current(photos, publication.source, keys)
        winners = current.filter(_as(current["run_id"], publication.run_id))["image_id"].combine_chunks()
        marked = current.filter(pc.is_valid(current["vanished"]))
        marks = dict(zip(marked["image_id"].to_pylist(), marked["vanished"].to_pylist(), strict=True))

        def decide(found: pa.Table) -> tuple[Mask, Mask]:
            mine = _is(found["source"], publication.source)
            hit = mine & _in(found["image_id"], keys)
            own = mine & _is(found["run_id"], publication.run_id)
            gone = (hit & ~_agrees(found, "run_id", current)) | own
            return gone, _vanishes(found, mine & ~gone, publication)

        columns = [*_KEYS, *_ORDER, "vanished"]
        edit = _Edit.of(table, base, columns, decide)

        def fresh() -> Iterator[pa.Table]:
            for part in made():
                yield _with_marks(part.filter(pa.array(_in(part["image_id"], winners))), marks)

        return edit.change(fresh(), applied, tally, publication.night)

    table.transact(change)
    return tally


def merge_search(  # noqa: PLR0917
    table: PublishedTable,
    photos: PublishedTable,
    publication: Publication,
    search: Search,
    recipe: str,
    barred: Barred,
) -> Tally:
    """Put a result of identify into `matches`.

    Its rows stand until their photo is processed again, or searched for again.
    """
    tally, units = Tally(), Units(search.folder, PROBES)
    keys = _joined([each["image_id"].unique() for each in units.tables()])
    name = f"{publication.run_id}.{search.name}"

    def change(base: State) -> Change | None:
        tally.clear()
        if base.applied.get(name) == publication.number:
            return None
        current = _current(photos, search.source, keys)
        newer: list[pa.Array] = []

        def decide(found: pa.Table) -> tuple[Mask, Mask]:
            mine = _is(found["source"], search.source) & _is(found["search"], search.name)
            hit = mine & _in(found["image_id"], keys)
            own = mine & _is(found["run_id"], publication.run_id)
            later = hit & _later(found, publication)
            newer.append(found["image_id"].filter(pa.array(later)).combine_chunks())
            return (hit & ~later) | own, np.zeros(len(found), bool)

        edit = _Edit.of(table, base, [*_KEYS, "search", *_ORDER], decide)
        losers = _joined(newer)

        def fresh() -> Iterator[pa.Table]:
            for part in units.tables():
                found = with_run(
                    pa.table(
                        {
                            **{column: plain(part[column], column) for column in part.column_names},
                            "search": pa.repeat(search.name, len(part)),
                            "photo_run_id": pa.repeat(pa.scalar(search.photo_run_id, pa.string()), len(part)),
                        }
                    ),
                    publication,
                    recipe,
                    source=search.source,
                )
                out = _in(found["image_id"], losers) | _stale(found, current)
                out |= barred.mask(found.rename_columns({"probe_subject_id": "subject_id"}))
                yield without_candidates(found.filter(pa.array(~out)), barred.people)[0]

        return edit.change(fresh(), {name: publication.number}, tally)

    table.transact(change)
    return tally


def remove_stale(table: PublishedTable, photos: PublishedTable, rows: RunRows) -> int:
    """Remove matches of photos that this publication, or another, has processed again; how many."""
    publication, keys = rows.publication, rows.keys()

    def chosen() -> Gone:
        current = _current(photos, publication.source, keys)

        def gone(found: pa.Table) -> Mask:
            return _is(found["source"], publication.source) & _stale(found, current)

        return gone

    return remove_rows(table, [*_KEYS, "photo_run_id"], chosen)


def remove_rows(
    table: PublishedTable, columns: list[str], chosen: Callable[[], Gone], *, barrier: bool = False
) -> int:
    """Remove rows; how many.

    chosen: called for each attempt; gives what says which rows of a file go.  barrier: a version is committed
    in any case, so that nobody goes on from an older one.
    """
    tally = Tally()

    def change(base: State) -> Change | None:
        tally.clear()
        gone = chosen()

        def decide(found: pa.Table) -> tuple[Mask, Mask]:
            return gone(found), np.zeros(len(found), bool)

        there = [name for name in columns if name in base.schema.names]
        edit = _Edit.of(table, base, there, decide)
        return edit.change(iter(()), {}, tally) if edit.edits or barrier else None

    if table.head().version >= 0:
        table.transact(change)
    return tally.gone


def replace_rows(
    table: PublishedTable,
    column: str,
    value: str,
    made: Callable[[], pa.Table],
    publication: Publication,
) -> Tally:
    """Replace all rows that have a value in a column, unless those of a later publication stand there.

    made: gives the new rows; called for each attempt, after the version that is changed was read: whoever is
    erased between is in neither.
    """
    tally, name = Tally(), f"{publication.run_id}.{column}"

    def change(base: State) -> Change | None:
        tally.clear()
        if base.applied.get(name) == publication.number:
            return None
        later = False

        def decide(found: pa.Table) -> tuple[Mask, Mask]:
            nonlocal later
            mine = _is(found[column], value)
            later = later or bool((mine & _later(found, publication)).any())
            return mine, np.zeros(len(found), bool)

        columns = list(dict.fromkeys((column, *_ORDER)))
        edit = _Edit.of(table, base, columns, decide)
        if later:
            return None
        return edit.change(iter((made(),)), {name: publication.number}, tally)

    table.transact(change)
    return tally


@dataclass(frozen=True, slots=True)
class _Edit:
    """Files of a version that change. edits: of each, which rows go, and which are marked as vanished."""

    table: PublishedTable
    base: State
    edits: dict[str, tuple[Mask, Mask]]

    @classmethod
    def of(cls, table: PublishedTable, base: State, columns: list[str], decide: Decide) -> _Edit:
        """What `decide` says of each file. columns: those that it looks at."""
        edits = {}
        for file, found in table.scan(base, columns):
            gone, marked = decide(found)
            if gone.any() or marked.any():
                edits[file.path] = gone, marked
        return cls(table, base, edits)

    def change(
        self,
        fresh: Iterator[pa.Table],
        applied: dict[str, int],
        tally: Tally,
        night: date | None = None,
    ) -> Change:
        """The next version: what is left of these files in new ones, and fresh rows."""
        first = next(fresh, None)
        schema = self.base.schema if first is None else unified(self.base.schema, first.schema)

        def new() -> Iterator[pa.Table]:
            for part in () if first is None else chain((first,), fresh):
                tally.rows += len(part)
                yield part

        written = [*self.table.write(schema, self._left(night)), *self.table.write(schema, new())]
        tally.gone += sum(int(gone.sum()) for gone, _ in self.edits.values())
        tally.files += len(written)
        tally.bytes += sum(each.bytes for each in written)
        return Change(edited(self.base, list(self.edits), written, applied, schema))

    def _left(self, night: date | None) -> Iterator[pa.Table]:
        for path, (gone, marked) in self.edits.items():
            whole = self.table.read(self.base, self.base.files[path])
            if marked.any():
                at = whole.schema.get_field_index("vanished")
                day = pa.scalar(night, pa.date32())
                column = pc.if_else(pa.array(marked), day, whole["vanished"])
                whole = whole.set_column(at, whole.schema.field(at), column)
            yield whole.filter(pa.array(~gone))


def _current(photos: PublishedTable, source: str, keys: pa.Array) -> pa.Table:
    """Of each of some photos of a source, whose row stands."""
    head = photos.head()
    found = []
    for _, table in photos.scan(head, [*_KEYS, "run_id", "vanished"]):
        hit = _is(table["source"], source) & _in(table["image_id"], keys)
        found.append(table.filter(pa.array(hit)))
    schema = pa.schema([photos.schema.field(name) for name in (*_KEYS, "run_id", "vanished")])
    return pa.concat_tables(found) if found else schema.empty_table()


def _agrees(found: pa.Table, name: str, current: pa.Table) -> Mask:
    """Whether rows are of the run whose row of their photo stands."""
    at = pc.index_in(found["image_id"], value_set=current["image_id"].combine_chunks())
    stands = current["run_id"].combine_chunks().take(at.combine_chunks())
    same: Mask = pc.fill_null(pc.equal(found[name].combine_chunks(), stands), False).to_numpy(
        zero_copy_only=False
    )
    return same


def _stale(found: pa.Table, current: pa.Table) -> Mask:
    """Rows of photos of which another run's row stands than that which found their faces."""
    known = _in(found["image_id"], current["image_id"].combine_chunks())
    return known & _mask(pc.is_valid(found["photo_run_id"])) & ~_agrees(found, "photo_run_id", current)


def _vanishes(found: pa.Table, mine: Mask, publication: Publication) -> Mask:
    """Rows of photos that a night did not find, and that were not marked before."""
    if not publication.vanished:
        return np.zeros(len(found), bool)
    gone = _in(found["image_id"], pa.array(publication.vanished, pa.string()))
    return mine & gone & ~_later(found, publication) & _mask(pc.is_null(found["vanished"]))


def _later(found: pa.Table, publication: Publication) -> Mask:
    """Rows that are of a later publication."""
    later, equal = np.zeros(len(found), bool), np.ones(len(found), bool)
    for name, value in zip(_ORDER, publication.order, strict=True):
        scalar, column = pa.scalar(value, found[name].type), found[name]
        if name == "night":
            column = pc.fill_null(column, date.min)
        later |= equal & _mask(pc.greater(column, scalar))
        equal &= _mask(pc.equal(column, scalar))
    return later


def _with_marks(table: pa.Table, marks: dict[str, object]) -> pa.Table:
    if not marks:
        return table.append_column("vanished", pa.nulls(len(table), pa.date32()))
    days = [marks.get(each) for each in table["image_id"].to_pylist()]
    return table.append_column("vanished", pa.array(days, pa.date32()))


def _is(column: pa.ChunkedArray, value: str) -> Mask:
    return _mask(pc.fill_null(pc.equal(column, value), False))


def _as(column: pa.ChunkedArray, value: str) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(column, value), False)


def _in(column: pa.ChunkedArray, values: pa.Array) -> Mask:
    if not len(values):
        return np.zeros(len(column), bool)
    return _mask(pc.is_in(column, value_set=values))


def _mask(column: pa.ChunkedArray) -> Mask:
    found: Mask = np.asarray(column.to_numpy(), bool)
    return found


def _joined(arrays: list[pa.Array]) -> pa.Array:
    return pa.chunked_array(arrays, pa.string()).combine_chunks()

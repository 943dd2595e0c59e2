"""Merge a publication into tables exactly once, after kills, repeats and races too.

`photos` decides: of two rows of a photo the one of the later publication stands. A row of another table
stands if the row of its photo does. Each change is one version of a table; it is made again if another
writer was first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.gallery.photos import sourced
from frpipe.gallery.suppression import SUBJECTS, Suppressions
from frpipe.io.output.units import Units
from frpipe.io.tables.ranges import Wanted
from frpipe.io.tables.state import State
from frpipe.io.tables.table import Change, PublishedTable, edited, unified
from frpipe.jobs.identify.candidates import without_candidates
from frpipe.jobs.identify.worker import PROBES
from frpipe.jobs.publish.moved_sources import MovedSources
from frpipe.jobs.publish.obeyed import GALLERY, SOURCE, kept, number, owed, record
from frpipe.jobs.publish.result_recipe import ResultRecipe
from frpipe.jobs.publish.rows import RunRows, plain, with_run, with_texts
from frpipe.jobs.publish.schema import MATCHES
from frpipe.jobs.publish.sources import Publication, Search, digest_of

Mask = NDArray[np.bool_]
Decide = Callable[[pa.Table], tuple[Mask, Mask]]
"""Marks the rows of a file to remove, and those to mark as vanished."""
Gone = Callable[[pa.Table], Mask]
_NAMES = ("image_id", "subject_id", "content_sha256")
_KEYS, _EPOCH = ["source", "image_id"], datetime(1970, 1, 1, tzinfo=UTC)
ORDER = ["as_of", "night", "processed_at", "run_id"]
FACES = [f"photo_{name}" for name in ORDER]
"""The same of the run that found the faces of a search."""


@dataclass(slots=True)
class Tally:
    """Counts of a change. rows: new ones.  gone: rows that were replaced or removed."""

    rows: int = 0
    gone: int = 0
    files: int = 0
    bytes: int = 0

    def clear(self) -> None:
        """Count anew: another writer was first."""
        self.rows = self.gone = self.files = self.bytes = 0

    def __iadd__(self, other: Tally) -> Tally:
        self.rows, self.gone = self.rows + other.rows, self.gone + other.gone
        self.files, self.bytes = self.files + other.files, self.bytes + other.bytes
        return self


@dataclass(frozen=True, slots=True)
class Barred:
    """Suppressed people and photos.

    list: of the gallery that the photos go to.  sources: the sources that it speaks for, with all prefixes
    that the gallery may have before the ids of their photos; None: all sources, and as prefixes the source
    itself and `prefixes`.  galleries: by the id of a gallery, the list that its people obey as candidates and
    in clusters; None: `list`, in every gallery.  moves: of the tables, where `sources` is None.
    """

    list: Suppressions = field(default_factory=lambda: Suppressions(()))
    sources: Mapping[str, Collection[str]] | None = None
    prefixes: Collection[str] = ("",)
    galleries: Mapping[str, Suppressions] | None = None
    moves: MovedSources = field(default_factory=MovedSources)

    def __bool__(self) -> bool:
        return bool(self.list) or any((self.galleries or {}).values())

    def with_moves(self, moves: MovedSources) -> Barred:
        """Hold for the sources where photos are now, with the prefixes of those where they were."""
        if not moves.targets:
            return self
        if self.sources is None:
            return replace(self, moves=moves)
        found: dict[str, dict[str, None]] = {}
        for source, prefixes in self.sources.items():
            found.setdefault(moves.of(source), {}).update(dict.fromkeys(prefixes))
        return replace(self, sources={source: [*prefixes] for source, prefixes in found.items()})

    def mask(self, table: pa.Table) -> Mask:
        """Mark the rows of suppressed people and photos, (rows,) bool. table: by source, or by scope."""
        if self.galleries is not None and "scope" in table.column_names:
            scopes, lists = table["scope"], self.galleries.items()
            return _any(table, [_is(scopes, name) & _named(barred, table) for name, barred in lists])
        if not self.list or "source" not in table.column_names:
            return _named(self.list, table)
        hit = np.zeros(len(table), bool)
        named = table.select([each for each in _NAMES if each in table.column_names])
        for source in table["source"].unique().to_pylist():
            if prefixes := self._prefixes(source):
                at = np.flatnonzero(_is(table["source"], source))
                hit[at] = _named(self.list, named.take(pa.array(at)), prefixes)
        return hit

    def _prefixes(self, source: str) -> Collection[str]:
        if self.sources is None:
            return {*self.prefixes, *self.moves.names_of(source)}
        return self.sources.get(source, ())

    def of_sources(self) -> dict[str, int]:
        """The records of tables whose rows are of sources that they obey: name and number."""
        if not self.list:
            return {}
        if self.sources is None:
            told = sorted(self.prefixes), sorted(self.moves.targets.items())
            return {record(SOURCE, None): number(self.list.digest, *told)}
        return {record(SOURCE, s): number(self.list.digest, sorted(p)) for s, p in self.sources.items()}

    def of_galleries(self) -> dict[str, int]:
        """The same of candidates and clusters."""
        lists = {None: self.list} if self.galleries is None else self.galleries
        return {record(GALLERY, name): number(each.digest) for name, each in lists.items() if each}

    def filtered(self, sources: Iterable[str] = (), galleries: Iterable[str] = ()) -> dict[str, int]:
        """The records that rows concern which were filtered by the lists: name and number."""
        known, names = {**self.of_sources(), **self.of_galleries()}, list[str]()
        for kind, each in ((SOURCE, [*sources]), (GALLERY, [*galleries])):
            names += [record(kind, name) for name in (None, *each)] if each else []
        return {name: known.get(name, 0) for name in names}

    def beyond(self, records: Mapping[str, int]) -> Barred:
        """Leave out what a table obeys. records: of its log."""
        sources, galleries = self.sources, self.galleries
        if due := [name for name, each in self.of_sources().items() if records.get(name) != each]:
            sources = sources and {s: p for s, p in sources.items() if record(SOURCE, s) in due}
        else:
            sources = {}
        if due := [name for name, each in self.of_galleries().items() if records.get(name) != each]:
            galleries = galleries and {g: each for g, each in galleries.items() if record(GALLERY, g) in due}
        else:
            galleries = {}
        return replace(self, sources=sources, galleries=galleries)

    def candidates(self, table: pa.Table) -> tuple[pa.Table, int]:
        """Remove suppressed people from the candidates of `matches`; returns how many rows changed."""
        if self.galleries is None:
            return without_candidates(table, partial(_people, self.list))
        changed = 0
        for gallery, barred in self.galleries.items():
            mine = _is(table["gallery_id"], gallery)
            if barred and mine.any():
                fixed, count = without_candidates(table.filter(pa.array(mine)), partial(_people, barred))
                table = pa.concat_tables([table.filter(pa.array(~mine)), fixed])
                changed += count
        return table, changed


def _named(barred: Suppressions, table: pa.Table, prefixes: Collection[str] = ("",)) -> Mask:
    """Mark the rows that a list names. prefixes: what it may have before the ids of photos."""
    hit = np.zeros(len(table), bool)
    if not barred:
        return hit
    hit |= barred.mask(table.select([n for n in _NAMES[1:] if n in table.column_names]))
    for prefix in prefixes if "image_id" in table.column_names else ():
        hit |= barred.mask(pa.table({"image_id": sourced(table["image_id"], prefix)}))
    return hit


def _any(table: pa.Table, masks: list[Mask]) -> Mask:
    hit: Mask = np.logical_or.reduce([np.zeros(len(table), bool), *masks])
    return hit


def _people(barred: Suppressions, subjects: pa.Array) -> set[str]:
    return {who for who in subjects.to_pylist() if who and barred.holds(SUBJECTS, who)}


def merge_photos(
    table: PublishedTable, rows: RunRows, barred: Barred, refuse: Callable[[State], None] = lambda _: None
) -> Tally:
    """Merge the photos of a publication into `photos`.

    refuse: raises for a version that they may not be merged into; asked once they are about to be.
    """
    publication = rows.publication
    keys, tally = rows.keys(), Tally()
    filtered = barred.filtered([publication.source])

    def change(base: State) -> Change | None:
        tally.clear()
        if base.applied.get(publication.run_id) == publication.number:
            return None
        refuse(base)
        applied = {publication.run_id: publication.number, **kept(base, filtered)}
        newer: list[pa.Array] = []
        marks: dict[str, object] = {}

        def decide(found: pa.Table) -> tuple[Mask, Mask]:
            mine = _is(found["source"], publication.source)
            hit = mine & _in(found["image_id"], keys)
            own = mine & _is(found["run_id"], publication.run_id)
            later = hit & _later(found, publication)
            newer.append(found["image_id"].filter(pa.array(later)).combine_chunks())
            gone = (hit & ~later) | own
            # A row in the place of another, as of a replay, keeps the mark that a later night has made.
            since = _mask(pc.fill_null(pc.greater(found["vanished"], publication.day), False))
            marked = found.filter(pa.array(gone & since)).select(["image_id", "vanished"]).to_pylist()
            marks.update({row["image_id"]: row["vanished"] for row in marked})
            return gone, _vanishes(found, mine & ~gone, publication)

        columns = [*_KEYS, *ORDER, "vanished"]
        edit = _Edit.of(table, base, columns, decide, _wanted(publication, keys))
        applied |= _in_doubt(base, filtered, edit)
        losers = _joined(newer)

        def fresh() -> Iterator[pa.Table]:
            for part in rows.photos():
                out = barred.mask(part) | _in(part["image_id"], losers)
                yield _with_marks(part.filter(pa.array(~out)), marks)

        return edit.change(fresh(), applied, tally, publication.night)

    table.transact(change)
    return tally


def _in_doubt(base: State, filtered: Mapping[str, int], edit: _Edit) -> dict[str, int]:
    """Note that rows which are replaced may be of people on a list that the version does not obey."""
    unsure = any(each and base.applied.get(name, 0) != each for name, each in filtered.items())
    return owed(base) if unsure and any(gone.any() for gone, _ in edit.edits.values()) else {}


def merge_dependent(
    table: PublishedTable,
    standing: Standing,
    rows: RunRows,
    made: Callable[[], Iterator[pa.Table]],
    barred: Barred,
) -> Tally:
    """Merge rows of a publication into a table whose rows stand with those of their photos.

    barred: those whom the photos were merged without, by this publisher at least.
    """
    publication = rows.publication
    keys, tally = rows.keys(), Tally()
    filtered = barred.filtered([publication.source])

    def change(base: State) -> Change | None:
        tally.clear()
        if base.applied.get(publication.run_id) == publication.number:
            return None
        # Read after the version of this table: a later writer of `photos` will come to this table, too.
        current = standing.now()
        # Another publisher of the run may have merged its photos with others among them.
        obeyed = {name: each if standing.records.get(name) == each else 0 for name, each in filtered.items()}
        applied = {publication.run_id: publication.number, **kept(base, obeyed)}
        winners = current.filter(_as(current["run_id"], publication.run_id))["image_id"].combine_chunks()
        marked = current.filter(pc.is_valid(current["vanished"]))
        marks = dict(zip(marked["image_id"].to_pylist(), marked["vanished"].to_pylist(), strict=True))

        def decide(found: pa.Table) -> tuple[Mask, Mask]:
            mine = _is(found["source"], publication.source)
            hit = mine & _in(found["image_id"], keys)
            own = mine & _is(found["run_id"], publication.run_id)
            gone = (hit & ~agrees(found, "run_id", current)) | own
            return gone, _vanishes(found, mine & ~gone, publication)

        columns = [*_KEYS, *ORDER, "vanished"]
        edit = _Edit.of(table, base, columns, decide, _wanted(publication, keys))
        applied |= _in_doubt(base, filtered, edit)

        def fresh() -> Iterator[pa.Table]:
            for part in made():
                yield _with_marks(part.filter(pa.array(_in(part["image_id"], winners))), marks)

        return edit.change(fresh(), applied, tally, publication.night)

    table.transact(change)
    if standing.is_old():
        # Who took photos out meanwhile did not see these rows.
        tally.gone += _remove_orphans(table, standing, publication)
    return tally


def _remove_orphans(table: PublishedTable, standing: Standing, publication: Publication) -> int:
    """Remove rows of a publication whose photos have none of it any more; returns how many."""

    def chosen(_: State) -> Gone:
        current = standing.now()

        def gone(found: pa.Table) -> Mask:
            own = _is(found["source"], publication.source) & _is(found["run_id"], publication.run_id)
            return own & ~agrees(found, "run_id", current)

        return gone

    own_rows = Wanted({"run_id": pa.array([publication.run_id])})
    columns = [*_KEYS, "run_id"]
    return remove_rows(
        table, columns, chosen, wanted=own_rows, noted=lambda base, removed: owed(base) if removed else {}
    )


def merge_search(  # noqa: PLR0917
    table: PublishedTable,
    photos: PublishedTable,
    publication: Publication,
    search: Search,
    recipe: str,
    barred: Barred,
    runs: Collection[str],
    refuse: Callable[[], None] = lambda: None,
) -> Tally:
    """Merge a result of identify into `matches`. runs: as of `Standing`.  refuse: as for `merge_photos`.

    Its rows stand until their photo is processed again, or searched for again in the same gallery. Of two
    searches that of the later faces stands, and of the same faces the later one.
    """
    tally, units = Tally(), Units(search.folder, PROBES)
    named = [(each["image_id"].unique(), each["gallery_id"].unique()) for each in units.tables()]
    keys, galleries = (_joined([pair[at] for pair in named]).unique() for at in (0, 1))
    standing = Standing(photos, search.source, keys, runs)
    name, own_rows = f"{publication.run_id}.{search.name}", pa.array([publication.run_id])
    filtered = barred.filtered([search.source], galleries.to_pylist())
    detector = {"detector_hash": ResultRecipe.of(search.folder).hashes.get("detector_hash")}
    seen: list[int] = []

    def of_search(ids: pa.Table) -> pa.Table:
        faces = search.faces
        told = [getattr(faces, each) if faces else None for each in ORDER]
        for each, value in zip(FACES, told, strict=True):
            kind = MATCHES.schema().field(each).type
            ids = ids.append_column(each, pa.repeat(pa.scalar(value, kind), len(ids)))
        return with_run(ids, publication, recipe, source=search.source)

    def change(base: State) -> Change | None:
        tally.clear()
        seen.clear()
        if base.applied.get(name) == publication.number:
            return None
        refuse()
        current = standing.now()
        seen.append(standing.version)
        # What is stale stands nowhere, and takes nothing out.
        mine = of_search(pa.table({"image_id": keys}))
        mine = mine.filter(pa.array(~(stale(mine, current) | standing.taken_out(mine, current))))
        ids, rank = mine["image_id"].combine_chunks(), ranks(mine, current)
        newer: list[pa.Array] = []

        def decide(found: pa.Table) -> tuple[Mask, Mask]:
            same = _is(found["source"], search.source) & _is(found["search"], search.name)
            same &= _in(found["gallery_id"], galleries)
            own = same & _is(found["run_id"], publication.run_id)
            at = pc.index_in(found["image_id"], value_set=ids)
            hit = same & _mask(pc.is_valid(at)) & ~own
            theirs = ranks(found, current)
            later = hit & ~stale(found, current) & _greater(theirs, [each.take(at) for each in rank])
            newer.append(found["image_id"].filter(pa.array(later)).combine_chunks())
            return (hit & ~later) | own, np.zeros(len(found), bool)

        columns = [*_KEYS, "search", "gallery_id", *ORDER, *FACES]
        edit = _Edit.of(table, base, columns, decide, Wanted({"image_id": keys, "run_id": own_rows}))
        losers = _joined(newer)

        def fresh() -> Iterator[pa.Table]:
            for part in units.tables():
                columns = {column: plain(part[column], column) for column in part.column_names}
                columns["search"] = pa.repeat(search.name, len(part))
                found = with_texts(of_search(pa.table(columns)), detector)
                out = ~_in(found["image_id"], ids) | _in(found["image_id"], losers)
                out |= barred.mask(found.rename_columns({"probe_subject_id": "subject_id"}))
                yield barred.candidates(found.filter(pa.array(~out)))[0]

        return edit.change(fresh(), {name: publication.number, **kept(base, filtered)}, tally)

    table.transact(change)
    if seen != [photos.head().version]:
        # Photos that came meanwhile have removed what was stale then, before these rows were there.
        tally.gone += remove_stale(table, standing)
    return tally


def remove_stale(table: PublishedTable, standing: Standing) -> int:
    """Remove matches of photos that were processed again, by whichever publication, or taken out.

    Returns how many.
    """
    out = [False]

    def chosen(_: State) -> Gone:
        current, out[0] = standing.now(), False

        def gone(found: pa.Table) -> Mask:
            mine = _is(found["source"], standing.source)
            theirs = mine & standing.taken_out(found, current)
            out[0] |= bool(theirs.any())
            return theirs | (mine & stale(found, current))

        return gone

    columns = [*_KEYS, *ORDER, *FACES]
    return remove_rows(
        table,
        columns,
        chosen,
        wanted=Wanted({"image_id": standing.keys}),
        noted=lambda base, _: owed(base) if out[0] else {},
    )


def remove_rows(
    table: PublishedTable,
    columns: list[str],
    chosen: Callable[[State], Gone | None],
    *,
    barrier: bool = False,
    wanted: Wanted | None = None,
    noted: Callable[[State, bool], dict[str, int]] = lambda *_: {},
) -> int:
    """Remove rows; returns how many.

    chosen: called for each attempt; returns the function that marks the rows of a file to remove; None: the
    version stays.  barrier: whether a version is committed in any case, so that no writer goes on from an
    older one.  wanted: rows without which a file has none to remove.  noted: what the log is to say besides,
    of a version that rows are removed from or not.
    """
    tally = Tally()

    def change(base: State) -> Change | None:
        tally.clear()
        gone = chosen(base)
        if gone is None:
            return None

        def decide(found: pa.Table) -> tuple[Mask, Mask]:
            return gone(found), np.zeros(len(found), bool)

        known = {*base.schema.names, *table.schema.names}
        there = [name for name in columns if name in known]
        edit = _Edit.of(table, base, there, decide, wanted)
        notes = noted(base, bool(edit.edits))
        return edit.change(iter(()), notes, tally) if edit.edits or barrier or notes else None

    if table.head().version >= 0:
        table.transact(change)
    return tally.gone


def replace_rows(  # noqa: PLR0917
    table: PublishedTable,
    column: str,
    value: str,
    made: Callable[[], pa.Table],
    publication: Publication,
    filtered: Mapping[str, int] | None = None,
) -> Tally:
    """Replace all rows that have a value in a column, unless those of a later publication stand there.

    made: returns the new rows; called for each attempt, after the version that is changed was read, so that
    people who are erased in between are in neither. The newest publication may have none: its time stands in
    the log.  filtered: as for `kept`.
    """
    tally, name = Tally(), f"{publication.run_id}.{column}"
    newest, when = (
        f"{column}.{digest_of(value)[:32]}",
        (publication.as_of - _EPOCH) // timedelta(microseconds=1),
    )
    applied = {name: publication.number, **({newest: when} if value != publication.run_id else {})}

    def change(base: State) -> Change | None:
        tally.clear()
        if base.applied.get(name) == publication.number:
            return None
        later = base.applied.get(newest, when) > when

        def decide(found: pa.Table) -> tuple[Mask, Mask]:
            nonlocal later
            mine = _is(found[column], value)
            later = later or bool((mine & _later(found, publication)).any())
            return mine, np.zeros(len(found), bool)

        columns = list(dict.fromkeys((column, *ORDER)))
        edit = _Edit.of(table, base, columns, decide)
        if later:
            return None
        return edit.change(iter((made(),)), {**applied, **kept(base, filtered or {})}, tally)

    table.transact(change)
    return tally


@dataclass(frozen=True, slots=True)
class _Edit:
    """The files of a version that change. edits: the rows of each to remove, and to mark as vanished."""

    table: PublishedTable
    base: State
    edits: dict[str, tuple[Mask, Mask]]

    @classmethod
    def of(
        cls,
        table: PublishedTable,
        base: State,
        columns: list[str],
        decide: Decide,
        wanted: Wanted | None = None,
    ) -> _Edit:
        """Ask `decide` about each file that may hold wanted rows. columns: those that it reads."""
        edits = {}
        for file, found in table.scan(base, columns, wanted):
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
        """Make the next version: new files with what is left of these, and with fresh rows."""
        first = next(fresh, None)
        schema = self.base.schema if first is None else unified(self.base.schema, first.schema)

        def new() -> Iterator[pa.Table]:
            for part in () if first is None else chain((first,), fresh):
                tally.rows += len(part)
                yield part

        # Each file by itself: it is sorted already, and no two are in memory.
        written = [
            each for path in self.edits for each in self.table.write(schema, [self._left(path, night)])
        ]
        written += self.table.write(schema, new())
        tally.gone += sum(int(gone.sum()) for gone, _ in self.edits.values())
        tally.files += len(written)
        tally.bytes += sum(each.bytes for each in written)
        return Change(edited(self.base, list(self.edits), written, applied, schema))

    def _left(self, path: str, night: date | None) -> pa.Table:
        """Read what is left of a file."""
        gone, marked = self.edits[path]
        whole = self.table.read(self.base, self.base.files[path])
        if marked.any():
            at = whole.schema.get_field_index("vanished")
            day = pa.scalar(night, pa.date32())
            column = pc.if_else(pa.array(marked), day, whole["vanished"])
            whole = whole.set_column(at, whole.schema.field(at), column)
        return whole.filter(pa.array(~gone))


@dataclass
class Standing:
    """The rows of some photos of a source in `photos`.

    keys: ids of the photos.  runs: ids of the runs whose photos are published under the source.
    """

    photos: PublishedTable
    source: str
    keys: pa.Array
    runs: Collection[str]
    _read: tuple[State, pa.Table] | None = None

    @property
    def version(self) -> int:
        """The version of `photos` that was read last."""
        return self._state.version

    @property
    def records(self) -> Mapping[str, int]:
        """The records of that version."""
        return self._state.applied

    def is_old(self) -> bool:
        """Whether `photos` has changed since it was read last, or was not read at all."""
        return self._read is None or self.version != self.photos.head().version

    @property
    def _state(self) -> State:
        assert self._read is not None
        return self._read[0]

    def now(self) -> pa.Table:
        """Read those that stand, with their runs; anew where `photos` has changed since the last call."""
        self._read = self.photos.looked(self._newest)
        return self._read[1]

    def taken_out(self, found: pa.Table, current: pa.Table) -> Mask:
        """Mark the rows of searches whose photo has no row any more, though its run is published.

        current: as `now` has returned it. Whom a list names by content alone is known nowhere else.
        """
        published = _in(found["photo_run_id"], pa.array(self.runs, pa.string()))
        mine = published & _in(found["image_id"], self.keys)
        return mine & ~_in(found["image_id"], current["image_id"].combine_chunks())

    def _newest(self, head: State) -> tuple[State, pa.Table]:
        if self._read is not None and self.version == head.version:
            return self._read
        return head, self._rows(head)

    def _rows(self, head: State) -> pa.Table:
        names, found = [*_KEYS, *ORDER, "vanished"], []
        for _, table in self.photos.scan(head, names, Wanted({"image_id": self.keys})):
            hit = _is(table["source"], self.source) & _in(table["image_id"], self.keys)
            found.append(table.filter(pa.array(hit)))
        return pa.concat_tables(found) if found else self.photos.empty(head, names)


def _wanted(publication: Publication, keys: pa.Array) -> Wanted | None:
    """The rows that a publication may replace or mark; None where too many to tell have vanished."""
    vanished = publication.vanished
    gone = vanished.few() if vanished is not None else ()
    if gone is None:
        return None
    return Wanted({"image_id": pa.concat_arrays([keys, *gone]), "run_id": pa.array([publication.run_id])})


def agrees(found: pa.Table, name: str, current: pa.Table) -> Mask:
    """Mark the rows of the run whose row of their photo stands, (rows,) bool."""
    return _equal(found[name], _of_photo(found, current, "run_id"))


def ranks(found: pa.Table, current: pa.Table) -> list[pa.Array]:
    """What orders the rows of searches: the run of their faces, then the search.

    Where it is not known when that run was, the search found the faces by itself.
    """
    same, told = pa.array(agrees(found, "photo_run_id", current)), pc.is_valid(_whole(found["photo_as_of"]))
    columns = []
    for own, faces in zip(ORDER, FACES, strict=True):
        there = pc.if_else(told, _whole(found[faces]), _whole(found[own]))
        columns.append(_filled(own, pc.if_else(same, _of_photo(found, current, own), there)))
    return [*columns, *(_filled(own, _whole(found[own])) for own in ORDER)]


def stale(found: pa.Table, current: pa.Table) -> Mask:
    """Mark the rows of searches whose photo was processed again since by another run, (rows,) bool."""
    known = _in(found["image_id"], current["image_id"].combine_chunks())
    named, told = (_mask(pc.is_valid(found[name])) for name in ("photo_run_id", "photo_as_of"))
    rows = [_filled(name, _of_photo(found, current, name)) for name in ORDER]
    since = (named & ~told) | _greater(rows, ranks(found, current))
    return known & ~agrees(found, "photo_run_id", current) & since


def _of_photo(found: pa.Table, current: pa.Table, name: str) -> pa.Array:
    """The column of the photos of some rows; null for those that are not there."""
    at = pc.index_in(_whole(found["image_id"]), value_set=_whole(current["image_id"]))
    return _whole(current[name]).take(at)


def _filled(name: str, column: pa.Array) -> pa.Array:
    return pc.fill_null(column, date.max) if name == "night" else column


def _greater(left: Sequence[pa.Array], right: Sequence[pa.Array | pa.Scalar]) -> Mask:
    """Mark the rows that are greater by the first column that differs, (rows,) bool. right: may have more."""
    greater, equal = np.zeros(len(left[0]), bool), np.ones(len(left[0]), bool)
    for mine, other in zip(left, right, strict=False):
        greater |= equal & _mask(pc.fill_null(pc.greater(mine, other), False))
        equal &= _equal(mine, other)
    return greater


def _equal(left: pa.Array, right: pa.Array | pa.Scalar) -> Mask:
    return _mask(pc.fill_null(pc.equal(left, right), False))


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _vanishes(found: pa.Table, mine: Mask, publication: Publication) -> Mask:
    """Mark the rows of photos that a night did not find and that are not marked yet, (rows,) bool."""
    marks = np.zeros(len(found), bool)
    if publication.vanished is not None:
        asked = mine & ~_later(found, publication) & _mask(pc.is_null(found["vanished"]))
        rows = np.flatnonzero(asked)
        marks[rows] = _mask(publication.vanished.among(found["image_id"].take(pa.array(rows))))
    return marks


def _later(found: pa.Table, publication: Publication) -> Mask:
    """Mark the rows of later publications, (rows,) bool."""
    values = [pa.scalar(v, found[n].type) for n, v in zip(ORDER, publication.order, strict=True)]
    return _greater([_filled(name, _whole(found[name])) for name in ORDER], values)


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


def _mask(column: pa.ChunkedArray | pa.Array) -> Mask:
    found: Mask = np.asarray(column, bool)
    return found


def _joined(arrays: list[pa.Array]) -> pa.Array:
    return pa.chunked_array(arrays, pa.string()).combine_chunks()

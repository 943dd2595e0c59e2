"""Remove suppressed and erased people and photos from published tables."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import StorageError
from frpipe.io.tables.ranges import Wanted
from frpipe.io.tables.state import NONE, DataFile, State
from frpipe.io.tables.table import Change, PublishedTable, edited
from frpipe.jobs.identify.candidates import FOUND
from frpipe.jobs.publish import schema as columns
from frpipe.jobs.publish.derived import make_people
from frpipe.jobs.publish.merge import Barred, Gone, Mask, remove_rows
from frpipe.jobs.publish.obeyed import PURGE, owed
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.schema import TableSpec

_IDS = ["source", "image_id", "face_id", "subject_id", "content_sha256"]
_OF_MATCHES = ["source", "image_id", "face_id", "probe_subject_id", "gallery_id", *FOUND]
_BY_SOURCE = (columns.PHOTOS, columns.FACES, columns.REJECTS, columns.MATCHES)
_BY_GALLERY = (columns.MATCHES, columns.MEMBERS, columns.DUPLICATES)
_OBEYING = (*_BY_SOURCE, columns.MEMBERS, columns.DUPLICATES)
_ROUNDS = 100


@dataclass(frozen=True, slots=True)
class Leaving:
    """The people and photos to remove.

    rows: marks the rows of a table that are theirs.  candidates: removes them from the candidates of
    `matches`, and counts the rows that changed.
    """

    rows: Callable[[pa.Table], Mask]
    candidates: Callable[[pa.Table], tuple[pa.Table, int]]


def strike(root: Root, leaving: Leaving) -> int:
    """Remove rows from all tables; returns how many. Killed anywhere, it is completed by the same call.

    `photos` loses its rows last, as it alone knows the content of photos. A version of each table is
    committed in any case: a writer that works from an older one has to begin again, without them.
    """
    photos = root.table(columns.PHOTOS)
    gone = gone_with_photos(leaving.rows, photos_of(photos, leaving))
    count = 0
    for spec in (columns.FACES, columns.REJECTS):
        count += remove_rows(root.table(spec), _IDS, lambda _: gone, barrier=True)
    matches = root.table(columns.MATCHES)
    count += _rewrite(matches, _OF_MATCHES, lambda t: _matches(t, gone, leaving), barrier=True)
    members = root.table(columns.MEMBERS)
    count += remove_rows(members, [*_IDS, "scope"], lambda _: leaving.rows, barrier=True)
    _rewrite(root.table(columns.DUPLICATES), None, lambda t: _clusters(t, members), barrier=True)
    count += remove_rows(photos, _IDS, lambda _: gone, barrier=True)
    make_people(root.table(columns.PEOPLE), photos)
    return count


def obey(root: Root, barred: Barred) -> int:
    """Remove the rows of suppressed people and photos; returns how many.

    Tables that have a record of it are not read (`obeyed`). A round ends with one in each table: it is
    committed with what goes, and another publisher, whose rows were filtered otherwise, takes it out again.
    """
    obeying = _Obeying(root, barred)
    for _ in range(_ROUNDS):
        if not obeying.is_due():
            return obeying.count
        obeying.round()
    raise StorageError(
        f"other publishers wrote to {root.folder.uri} whom the list names, {_ROUNDS} times",
        "run again when they have ended, or have them obey the same list",
    )


def purge(root: Root) -> int:
    """Remove the files of older versions of tables that people were taken out of; returns how many.

    Killed anywhere, it is completed by the same call: the log says what is owed until it is done.
    """
    photos, count = root.table(columns.PHOTOS), 0
    # Photos come last: with their rows those of people go, which have no log of it.
    for spec in (*(each for each in columns.TABLES if each is not columns.PHOTOS), columns.PHOTOS):
        table = root.table(spec)
        since = (photos if spec is columns.PEOPLE else table).head().applied.get(PURGE, 0)
        if not since:
            continue
        if spec is columns.PEOPLE:
            make_people(table, photos)
        begun = time.monotonic()
        count += table.vacuum(barrier=True)
        # Whoever was writing then begins again, as behind any barrier.
        count += table.folder.sweep(time.monotonic() - begun)
        table.transact(partial(_purged, since))
    return count


def _purged(since: int, base: State) -> Change | None:
    # What was taken out since is owed anew.
    return Change(edited(base, applied={PURGE: 0})) if base.applied.get(PURGE) == since else None


@dataclass
class _Obeying:
    """Rounds over tables whose logs do not say that they obey.

    gone: source and id of the photos that have gone, or are about to.  known: those of each file.
    """

    root: Root
    barred: Barred
    count: int = 0
    gone: set[tuple[str, str]] = field(default_factory=set)
    known: dict[tuple[str, ...], set[tuple[str, str]]] = field(default_factory=dict)

    def is_due(self) -> bool:
        """Whether a table lacks a record."""
        return any(self._due(spec, self.root.table(spec).head()) for spec in _OBEYING)

    def round(self) -> None:
        """Go over the tables that lack records, and over the rows of photos that go."""
        head, mine = self._photos()
        for spec in (columns.FACES, columns.REJECTS):
            self._remove(spec, lambda barred: gone_with_photos(barred.mask, self.gone))
        self._matches()
        self._clusters()
        if due := self._due(columns.PHOTOS, head):
            table, rows = self.root.table(columns.PHOTOS), gone_with_photos(_nobody, mine)
            # Of a newer version it is not known yet who goes, and the other tables are not without them.
            self.count += remove_rows(
                table,
                _IDS,
                lambda base: rows if base.version == head.version else None,
                wanted=_of_photos(mine),
                noted=partial(_noted, due),
            )
        make_people(self.root.table(columns.PEOPLE), self.root.table(columns.PHOTOS))

    def _due(self, spec: TableSpec, state: State) -> dict[str, int]:
        """The records that a version lacks, with their numbers."""
        if state.version == NONE:
            return {}
        wanted = {
            **(self.barred.of_sources() if spec in _BY_SOURCE else {}),
            **(self.barred.of_galleries() if spec in _BY_GALLERY else {}),
        }
        return {name: each for name, each in wanted.items() if state.applied.get(name, 0) != each}

    def _photos(self) -> tuple[State, set[tuple[str, str]]]:
        """Find the photos that are to go from the newest version; only what is new of it is read twice."""
        photos = self.root.table(columns.PHOTOS)

        def look(head: State) -> tuple[State, set[tuple[str, str]]]:
            mine = set[tuple[str, str]]()
            if due := self._due(columns.PHOTOS, head):
                barred = self.barred.beyond(head.applied)
                for path, file in head.files.items():
                    key = (path, *due)
                    if key not in self.known:
                        self.known[key] = _marked(photos, head, file, barred.mask, _wanted(barred, set()))
                    mine |= self.known[key]
            # Photos that came again with another content stay.
            there = _there(photos, head, self.gone - mine)
            self.gone = mine | (self.gone - there)
            return head, mine

        return photos.looked(look)

    def _remove(self, spec: TableSpec, rows: Callable[[Barred], Gone]) -> None:
        table = self.root.table(spec)
        head = table.head()
        if not (due := self._due(spec, head)) and not self.gone:
            return
        barred = self.barred.beyond(head.applied)
        marked = rows(barred)
        wanted = _wanted(barred, self.gone) if spec in _BY_SOURCE else None
        noted = partial(_noted, due)
        # A writer that has read `photos` with these is to begin again.
        barrier = bool(self.gone) and spec in _BY_SOURCE
        self.count += remove_rows(
            table, [*_IDS, "scope"], lambda _: marked, barrier=barrier, wanted=wanted, noted=noted
        )

    def _matches(self) -> None:
        table = self.root.table(columns.MATCHES)
        head = table.head()
        if not (due := self._due(columns.MATCHES, head)) and not self.gone:
            return
        barred = self.barred.beyond(head.applied)
        leaving = Leaving(barred.mask, barred.candidates)
        gone = gone_with_photos(barred.mask, self.gone)
        wanted = _wanted(barred, self.gone) if not barred.of_galleries() else None
        noted = partial(_noted, due)
        self.count += _rewrite(
            table,
            _OF_MATCHES,
            lambda t: _matches(t, gone, leaving),
            barrier=bool(self.gone),
            wanted=wanted,
            noted=noted,
        )

    def _clusters(self) -> None:
        members, table = (self.root.table(spec) for spec in (columns.MEMBERS, columns.DUPLICATES))
        if self._due(columns.MEMBERS, members.head()):
            self._remove(columns.MEMBERS, lambda barred: barred.mask)
        if due := self._due(columns.DUPLICATES, table.head()):
            _rewrite(table, None, lambda t: _clusters(t, members), noted=partial(_noted, due))


def _noted(due: Mapping[str, int], base: State, removed: bool) -> dict[str, int]:
    """What the log is to say of a version that the lists of some records were asked about."""
    found = {name: each for name, each in due.items() if base.applied.get(name, 0) != each}
    return {**found, **(owed(base) if removed else {})}


def _nobody(table: pa.Table) -> Mask:
    return np.zeros(len(table), bool)


def _of_photos(photos: set[tuple[str, str]]) -> Wanted:
    return Wanted({"image_id": pa.array({image for _, image in photos}, pa.string())})


def _wanted(barred: Barred, photos: set[tuple[str, str]]) -> Wanted | None:
    """The rows that lists may name, and those of some photos; None where they may name any row."""
    if barred.list and barred.sources is None:
        return None
    sources = pa.array(barred.sources if barred.list and barred.sources else [], pa.string())
    return Wanted({**_of_photos(photos).texts, "source": sources})


def gone_with_photos(
    rows: Callable[[pa.Table], Mask], photos: set[tuple[str, str]]
) -> Callable[[pa.Table], Mask]:
    """Make the function that marks the rows that `rows` marks, and those of photos: by source and id."""

    ids = pa.array({image for _, image in photos}, pa.string())

    def gone(table: pa.Table) -> Mask:
        hit = rows(table)
        if photos and "image_id" in table.column_names:
            # Of these ids few are of another source: pairs are made of them alone.
            at = np.flatnonzero(pc.is_in(table["image_id"], value_set=ids))
            some = table.select(["source", "image_id"]).take(pa.array(at))
            pairs = zip(some["source"].to_pylist(), some["image_id"].to_pylist(), strict=True)
            hit = hit.copy()
            hit[at] |= np.fromiter((each in photos for each in pairs), bool, len(at))
        return hit

    return gone


def photos_of(photos: PublishedTable, leaving: Leaving) -> set[tuple[str, str]]:
    """Collect source and id of the photos that go."""

    def look(head: State) -> set[tuple[str, str]]:
        return {each for file in head.files.values() for each in _marked(photos, head, file, leaving.rows)}

    return photos.looked(look)


def _marked(
    photos: PublishedTable, state: State, file: DataFile, rows: Gone, wanted: Wanted | None = None
) -> set[tuple[str, str]]:
    """Collect source and id of the photos of a file that are marked."""
    table = photos.read(state, file, [name for name in _IDS if name in state.schema.names], wanted)
    mine = table.filter(pa.array(rows(table)))
    return set(zip(mine["source"].to_pylist(), mine["image_id"].to_pylist(), strict=True))


def _there(photos: PublishedTable, state: State, some: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Select the photos that have a row."""
    rows, wanted = gone_with_photos(_nobody, some), _of_photos(some)
    files = state.files.values() if some else ()
    return {each for file in files for each in _marked(photos, state, file, rows, wanted)}


def _rewrite(
    table: PublishedTable,
    names: Sequence[str] | None,
    fix: Callable[[pa.Table], tuple[pa.Table, int]],
    *,
    barrier: bool = False,
    wanted: Wanted | None = None,
    noted: Callable[[State, bool], dict[str, int]] = lambda *_: {},
) -> int:
    """Rewrite the files of a table that `fix` changes; returns how many rows it changed.

    names: of the columns by which it decides; None: it needs them all.  The rest as for `remove_rows`.
    """
    counts = [0]

    def change(base: State) -> Change | None:
        counts[0], paths, fresh = 0, [], []
        there = names and [name for name in names if name in base.schema.names]
        for file, found in table.scan(base, there, wanted):
            if fix(found)[1]:
                fixed, changed = fix(table.read(base, file) if there else found)
                counts[0] += changed
                paths.append(file.path)
                fresh += table.write(base.schema, [fixed])
        notes = noted(base, bool(paths))
        if not paths and not barrier and not notes:
            return None
        return Change(edited(base, paths, fresh, notes))

    if table.head().version != NONE:
        table.transact(change)
    return counts[0]


def _matches(table: pa.Table, gone: Callable[[pa.Table], Mask], leaving: Leaving) -> tuple[pa.Table, int]:
    named = table.rename_columns({"probe_subject_id": "subject_id"}).select(
        ["source", "image_id", "face_id", "subject_id"]
    )
    kept = table.filter(pa.array(~gone(named)))
    fixed, changed = leaving.candidates(kept)
    return fixed, len(table) - len(kept) + changed


def _clusters(table: pa.Table, members: PublishedTable) -> tuple[pa.Table, int]:
    """Recompute clusters from the members that are left; those without any are removed."""
    left = members.rows(["scope", "cluster_id", "subject_id", "keeper"])
    keys = list(zip(left["scope"].to_pylist(), left["cluster_id"].to_pylist(), strict=True))
    keepers = {
        key: who
        for key, who, keeps in zip(
            keys, left["subject_id"].to_pylist(), left["keeper"].to_pylist(), strict=True
        )
        if keeps
    }
    counts, rows = Counter(keys), []
    for row in table.to_pylist():
        key = (row["scope"], row["cluster_id"])
        if counts[key]:
            rows.append({**row, "members": counts[key], "keeper": keepers.get(key)})
    fixed = pa.Table.from_pylist(rows, table.schema)
    return fixed, 0 if fixed.equals(table) else max(1, len(table) - len(fixed))

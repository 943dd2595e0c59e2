"""Find the photos of a folder that tonight has to enroll: those that are new or have changed.

SUB/known.json        all photos below the folder: image_id, bytes, version, subject_id (see `known_photos`)
SUB/manifest.parquet  those to enroll tonight: new, changed, or to be tried again
SUB/vanished.parquet  those known before that are there no more
SUB/again.parquet     those listed that will not count as known tomorrow: they could not be tried, or were
                      suppressed by their content_sha256 and are not known once that is allowed
SUB/waiting.parquet   rows of the manifest of those in again.parquet, of photos from a table (see
`photo_table`) SUB/listing.parquet   instead of known.json, in a night that an older frpipe has written

A photo is known by its path, size and version (ETag, or time of change). Memory: some blocks of photos, and
the photos that have vanished. Ids are paths in Unicode NFC; the manifest has the paths as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.night_config import NightConfig, ScanStep
from frpipe.core.pulse import Pulse
from frpipe.core.reasons import PASSING, Reason
from frpipe.core.text_column import canonical_column
from frpipe.gallery.photos import sourced
from frpipe.gallery.suppression import CONTENT, Suppressions
from frpipe.io.manifest.columns import ID, SUBJECT, URI
from frpipe.io.manifest.id_order import IdSort, RowSpool, in_order_of, side_by_side
from frpipe.io.manifest.photo_listing import FolderLinks, PhotoListing
from frpipe.io.manifest.photo_rules import LeftOut, PhotoRules
from frpipe.io.output.features import Features
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.listed import BYTES, NAME, VERSION
from frpipe.io.storage.s3_listing import STRETCH_KEYS
from frpipe.jobs.nightly.known_photos import (
    GONE,
    KNOWN,
    LEVEL,
    SCHEMA,
    TRIED,
    KnownPhotos,
    Level,
    ObeyedEntries,
    merged,
    read_known,
    write_known,
)
from frpipe.jobs.nightly.listing_check import lost_some
from frpipe.jobs.nightly.photo_people import People, is_one_down, names_people, people_rule
from frpipe.jobs.nightly.tables import read_table, table_blocks, write_blocks, write_table

LISTING, MANIFEST, VANISHED, AGAIN, WAITING = (
    f"{name}.parquet" for name in ("listing", "manifest", "vanished", "again", "waiting")
)
_AGAIN = pa.schema([(ID, pa.string()), (CONTENT, pa.string())])
_PATH = "path"
_FOUND = pa.schema([*SCHEMA.remove(SCHEMA.get_field_index(SUBJECT)), (_PATH, pa.string())])
_TODO = pa.schema([(ID, pa.string()), (URI, pa.string()), (SUBJECT, pa.string())])
_NOBODY = Suppressions(())
Say = Callable[[str], None]


@dataclass(slots=True)
class PhotoCounts:
    """Counts of a scan. new + changed: photos to enroll; one that is tried again counts as new.

    unreadable: photos whose names no manifest can hold, or differ from another's only in Unicode form.
    suppressed: photos left out of all lists, as the gallery's suppression list names them or their people.
    no_longer_taken: known photos that the rules leave out now; they have not vanished.  nobodys: photos of no
    person.
    """

    listed: int = 0
    new: int = 0
    changed: int = 0
    vanished: int = 0
    unreadable: int = 0
    suppressed: int = 0
    no_longer_taken: int = 0
    nobodys: int = 0


@dataclass(frozen=True, slots=True)
class PhotoScan:
    """Result of listing the photos; its rows are in temporary files.

    before: the levels of last night's listing.  fresh: differences from it, rows of `LEVEL`.  todo: rows of
    tonight's manifest.  gone: rows of photos that have vanished.  links: what became of links below the
    folder. left_out: what the rules leave out.  seen: how far a table of photos was read.  obeyed: entries of
    the suppression list that name no photo of the listing.
    """

    counts: PhotoCounts
    before: tuple[Level, ...]
    fresh: RowSpool
    todo: RowSpool
    gone: RowSpool
    links: FolderLinks = field(default_factory=FolderLinks)
    left_out: LeftOut = field(default_factory=LeftOut)
    seen: dict[str, Any] = field(default_factory=dict)
    obeyed: ObeyedEntries = field(default_factory=ObeyedEntries)

    @property
    def listing(self) -> KnownPhotos:
        """All photos that are there."""
        return KnownPhotos((*self.before, self.fresh), seen=self.seen, obeyed=self.obeyed)

    @property
    def names_people(self) -> bool:
        """Whether any photo is of a person."""
        return self.counts.nobodys < self.counts.listed

    def has_other_ids(self) -> bool:
        """Whether photos are listed now and were before, but no id is in both lists."""
        if not self.counts.listed or self.counts.new < self.counts.listed:
            return False
        listed_before = False
        for now, then in side_by_side([self.todo.tables(), merged(self.before)]):
            listed_before |= then.num_rows > 0
            if now.num_rows and pc.any(pc.is_in(now[ID], value_set=then[ID].combine_chunks())).as_py():
                return False
        return listed_before

    def facts(self) -> dict[str, Any]:
        """Count the photos, for the report.

        people_without_photos: people known before who have none any more.  vanished_behind_links: vanished
        photos that lie behind links that lead out.  strays: photos of nobody, where folders are people.
        """
        counts = self.counts
        people = _without_photos(self.gone.tables(), self.listing)
        behind = sum(self.links.behind(table[ID].to_pylist()) for table in self.gone.tables())
        return {
            "listed": counts.listed,
            "known_before": counts.listed - counts.new + counts.vanished + counts.no_longer_taken,
            "new": counts.new,
            "changed": counts.changed,
            "vanished": counts.vanished,
            "unreadable_names": counts.unreadable,
            "left_out": self.left_out.facts(),
            "no_longer_taken": counts.no_longer_taken,
            "strays": counts.nobodys if self.names_people else 0,
            "suppressed": counts.suppressed,
            "people_without_photos": len(people),
            "vanished_behind_links": behind,
            **self.links.facts(),
        }

    def write(self, folder: Folder) -> None:
        """Write the tables into the folder RUNS/DATE/SUB of a night, and what is known beside the nights."""
        write_blocks(folder, VANISHED, SCHEMA, self.gone.tables())
        named = [name for name in self.todo.schema.names if name != SUBJECT or self.names_people]
        schema = pa.schema([self.todo.schema.field(name) for name in named])
        write_blocks(folder, MANIFEST, schema, (table.select(named) for table in self.todo.tables()))
        write_known(folder, self.before, self.fresh, self.seen, self.obeyed)


def look(
    uri: str,
    how: ScanStep,
    known: KnownPhotos | None,
    barred: Suppressions = _NOBODY,
    *,
    source: str = "",
    roots: tuple[str, ...] = (),
    say: Say = lambda _: None,
    ahead: bool = True,
) -> PhotoScan:
    """List the photos below a folder and compare them with what is known; None: nothing is.

    barred: photos and people to treat as if they had never been there.  source: prefix of the ids in the
    gallery. roots: where links may lead out to.  ahead: whether a store may be asked for photos from several
    places at once; not so again where that has lost some.

    Where `auto` named people before, folders stay people's: a photo that does not lie one folder down is of
    nobody. Raises ManifestError where no photo lies one folder down any more: no face would reach the
    gallery, tonight or later.
    """
    rules = PhotoRules(how.glob, how.exclude, system=how.system)
    photos = PhotoListing(Folder.at(uri), rules, roots)
    pulse = Pulse(say)
    guesses = _guesses(uri, known) if ahead else []
    with IdSort(_FOUND, then=(_PATH,)) as there:
        astray = 0
        for block in photos.blocks(guesses):
            astray += len(block) - pc.sum(is_one_down(block[NAME]), min_count=0).as_py()
            there.add(_by_id(block))
            pulse.beat(there.rows, "{} photos listed")
        found = PhotoScan(
            PhotoCounts(unreadable=photos.unreadable),
            known.levels if known else (),
            RowSpool(LEVEL),
            RowSpool(_TODO),
            RowSpool(SCHEMA),
            photos.links,
            photos.left_out,
            obeyed=ObeyedEntries(source, frozenset(entry.digest for entry in barred.entries)),
        )
        whose = people_rule(astray, there.rows, how, known)
        # What is listed since is asked about all of the list; what was is not asked about the same twice.
        obeyed = known.obeyed if known and known.obeyed.source == source else ObeyedEntries()
        since = barred.beyond(obeyed.entries)
        comparison = _Comparison(found, rules, whose, barred, since, source, Folder.at(uri).uri.rstrip("/"))
        sources = [there.tables(), known.tables() if known else ()]
        for listed, before in side_by_side(sources):
            comparison.add(listed, before)
            pulse.beat(
                found.counts.listed, f"{{}} of {there.rows:,} photos compared with last night's", there.rows
            )
    if guesses and lost_some(Folder.at(uri), found.gone):
        return look(uri, how, known, barred, source=source, roots=roots, say=say, ahead=False)
    return found


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Comparison of the photos that are there with those of last night, by ranges of ids."""

    found: PhotoScan
    rules: PhotoRules
    whose: People
    barred: Suppressions
    since: Suppressions
    source: str
    base: str

    def add(self, listed: pa.Table, before: pa.Table) -> None:
        """Compare the photos of a range of ids. listed: rows of _FOUND.  before: of `KnownPhotos.tables`."""
        counts = self.found.counts
        there = self._named(_each_once(listed)) if listed.num_rows else _NAMED.empty_table()
        counts.unreadable += listed.num_rows - there.num_rows
        if not before.num_rows:
            before = _BEFORE.empty_table()
        elif _are_the_same(there, before) and not suppressed_rows(there, self.since, self.source).any():
            counts.listed += there.num_rows
            counts.nobodys += there[SUBJECT].null_count
            return
        stays = there.filter(pa.array(~self._suppressed(there, before)))
        counts.suppressed += there.num_rows - stays.num_rows
        counts.listed += stays.num_rows
        counts.nobodys += stays[SUBJECT].null_count
        known = pc.and_(before[TRIED], pa.array(~suppressed_rows(before, self.since, self.source)))
        change = compared(stays, before, known)
        todo = stays.filter(change.todo)
        counts.new += change.new
        counts.changed += todo.num_rows - change.new
        paths = pc.coalesce(todo[_PATH], todo[ID])
        places = pc.binary_join_element_wise(pa.scalar(self.base), paths, "/")
        self.found.todo.add(pa.table([todo[ID], places, todo[SUBJECT]], schema=_TODO))
        is_gone = pc.invert(pc.is_in(before[ID], value_set=stays[ID].combine_chunks()))
        self._count_gone(before.filter(pc.and_(known, is_gone)))
        self.found.fresh.add(level_rows(stays.filter(change.differs), before.filter(is_gone)))

    def _suppressed(self, there: pa.Table, before: pa.Table) -> np.ndarray:
        """(rows,) bool: photos that the list names: new entries, or any if they differ from last night's."""
        hit = suppressed_rows(there, self.since, self.source)
        if self.barred and len(self.since) < len(self.barred):
            differs = compared(there, before, before[TRIED]).differs
            hit[differs.to_numpy()] |= suppressed_rows(there.filter(differs), self.barred, self.source)
        return hit

    def _count_gone(self, gone: pa.Table) -> None:
        """Count the known photos that are there no more; those that the rules leave out have not vanished."""
        vanished = gone.filter(
            pa.array([self.rules.takes(name) for name in gone[ID].to_pylist()], pa.bool_())
        )
        self.found.counts.vanished += vanished.num_rows
        self.found.counts.no_longer_taken += gone.num_rows - vanished.num_rows
        self.found.gone.add(vanished)

    def _named(self, table: pa.Table) -> pa.Table:
        return table.append_column(SCHEMA.field(SUBJECT), self.whose(table[ID].combine_chunks()))


_NAMED = _FOUND.append(SCHEMA.field(SUBJECT))
_BEFORE = SCHEMA.append(pa.field(TRIED, pa.bool_()))


def _are_the_same(there: pa.Table, before: pa.Table) -> bool:
    """Whether photos are those of last night, all known, in each column: so it is of most ranges of ids.

    there: rows of _NAMED.  before: of _BEFORE.
    """
    return (
        there.num_rows == before.num_rows
        and all(there[name].equals(before[name]) for name in SCHEMA.names)
        and pc.all(before[TRIED], min_count=0).as_py()
    )


@dataclass(frozen=True, slots=True)
class Change:
    """Changes of photos since last night, by row.

    todo: new or changed.  differs: from the row of last night's listing, in anything.  new: how many are new.
    """

    todo: pa.ChunkedArray
    differs: pa.ChunkedArray
    new: int


def compared(now: pa.Table, before: pa.Table, known: pa.Array) -> Change:
    """Compare photos with those of last night. before: all that were listed.  known: which of them are known.

    A photo that was of nobody and is of a person now has changed.
    """
    at = pc.index_in(now[ID], value_set=before[ID].combine_chunks())
    was_known = pc.fill_null(_taken(known, at), False)
    then = {name: _taken(before[name], at) for name in ("bytes", "version", SUBJECT)}
    same = pc.and_(*(pc.fill_null(pc.equal(now[name], then[name]), False) for name in ("bytes", "version")))
    named, named_then = pc.is_valid(now[SUBJECT]), pc.is_valid(then[SUBJECT])
    is_known = pc.and_(was_known, pc.and_not(same, pc.and_not(named, named_then)))
    same_person = pc.or_(
        pc.fill_null(pc.equal(now[SUBJECT], then[SUBJECT]), False), pc.invert(pc.or_(named, named_then))
    )
    identical = pc.and_(pc.is_valid(at), pc.and_(same, same_person))
    new = len(now) - (pc.sum(was_known).as_py() or 0)
    return Change(pc.invert(is_known), pc.invert(identical), new)


def _taken(values: Any, at: pa.ChunkedArray) -> pa.ChunkedArray:
    """Take the values at some places; null where a place is null."""
    return values.take(at) if len(values) else pa.chunked_array([pa.nulls(len(at), values.type)])


def level_rows(there: pa.Table, gone: pa.Table) -> pa.Table:
    """Make the rows of a level, in order of ids: photos that are there, and photos that are gone."""
    tables = []
    for table, is_gone in ((there, False), (gone, True)):
        marks = pa.nulls(table.num_rows, pa.bool_()).fill_null(is_gone)
        tables.append(table.select(SCHEMA.names).append_column(LEVEL.field(GONE), marks))
    return in_order_of(pa.concat_tables(tables), (ID,))


def people_without_photos(folder: Folder) -> list[str]:
    """Find the people who were known before and have no photo any more; sorted."""
    return sorted(_without_photos(table_blocks(folder, VANISHED), listing_of(folder)))


def strays(folder: Folder, most: int | None = None) -> list[str]:
    """Find the photos of nobody where folders are people; sorted, at most `most`."""
    listing = listing_of(folder)
    if not names_people(listing):
        return []
    nobodys = (table.filter(pc.is_null(table[SUBJECT])) for table in merged(listing.levels))
    return list(islice((name for table in nobodys for name in table[ID].to_pylist()), most))


def counted_listing(folder: Folder) -> tuple[int, int]:
    """Count the photos that a night has listed, and the strays among them."""
    listed = nobodys = 0
    for table in merged(listing_of(folder).levels):
        listed += table.num_rows
        nobodys += table[SUBJECT].null_count
    return listed, nobodys if nobodys < listed else 0


def vanished_at(folder: Folder, config: NightConfig) -> pa.Table | None:
    """Read image_id and image_uri of the photos that have vanished; None where none were listed."""
    if not folder.exists(VANISHED):
        return None
    names = read_table(folder, VANISHED, [ID])[ID]
    return pa.table({ID: names, URI: _places(names, config.photo_place)})


def known_of(folder: Folder | None, barred: Suppressions = _NOBODY) -> KnownPhotos | None:
    """Read the photos that a night has left as known; None: it has left none. Raises OutputError: damaged.

    barred: a photo that was suppressed by its content stays known only while the list names that.
    """
    if folder is None or not folder.exists(AGAIN):
        return None
    return replace(listing_of(folder), again=_Again(folder, barred))


def listing_of(folder: Folder) -> KnownPhotos:
    """Read all photos that a night has listed."""
    return read_known(folder) if folder.exists(KNOWN) else KnownPhotos((_OldListing(folder),))


def has_listing(folder: Folder) -> bool:
    """Whether a night has listed photos."""
    return folder.exists(KNOWN) or folder.exists(LISTING)


def carry_known(before: Folder | None, folder: Folder) -> None:
    """Copy what is known of photos to tonight, where nothing is scanned."""
    if before is not None and before.exists(AGAIN):
        for name in (LISTING, WAITING, KNOWN, AGAIN):
            if before.exists(name):
                folder.write(name, before.read(name))


def write_again(folder: Folder, enrolled: Folder | None, before: Folder | None = None) -> int:
    """Write which photos will be tried again tomorrow, and which once they are allowed.

    Returns the number of those to be tried again tomorrow.

    enrolled: the finished enroll output of the manifest; None: it was not enrolled, so its photos are not
    known. before: of last night, whose photos that were suppressed by content stay so.
    """
    again, tried_again = RowSpool(_AGAIN), 0
    for table in _untried(folder) if enrolled is None else _ended_early(enrolled):
        tried_again += table[CONTENT].null_count
        again.add(table)
    held = _still_suppressed(before, folder)
    if listing_of(folder).seen:
        _write_waiting(folder, again, before, held)
    # Written last: its existence says that the night has left photos as known.
    write_blocks(folder, AGAIN, _AGAIN, (*again.tables(), held))
    return tried_again


def tried_again(folder: Folder) -> int:
    """Count the photos of a night that will be tried again tomorrow."""
    if not folder.exists(AGAIN):
        return 0
    return sum(table[CONTENT].null_count for table in again_rows(folder))


def suppressed_rows(table: pa.Table, barred: Suppressions, source: str) -> np.ndarray:
    """(rows,) bool: photos that the suppression list names, or whose people it names."""
    if not barred:
        return np.zeros(table.num_rows, bool)
    return barred.mask(pa.table({ID: sourced(table[ID], source), SUBJECT: table[SUBJECT]}))


def again_rows(folder: Folder) -> Iterator[pa.Table]:
    """Iterate, in blocks, over the photos of a night that do not count as known."""
    for table in table_blocks(folder, AGAIN):
        rows = _canonical(table)
        if CONTENT not in rows.column_names:  # written before contents were looked at
            rows = rows.append_column(_AGAIN.field(CONTENT), pa.nulls(len(rows), pa.string()))
        yield rows.select(_AGAIN.names)


@dataclass(frozen=True, slots=True)
class _Again:
    """Sorted ids of photos that do not count as known. barred: a content that it names counts as known."""

    folder: Folder
    barred: Suppressions

    def __iter__(self) -> Iterator[pa.Table]:
        with IdSort(_AGAIN) as ordered:
            for table in again_rows(self.folder):
                ordered.add(table.filter(pa.array(~self.barred.mask(table.select([CONTENT])))))
            yield from ordered.tables()


@dataclass(frozen=True, slots=True)
class _OldListing:
    """The listing of a night of an older frpipe, as a level."""

    folder: Folder

    @property
    def rows(self) -> int:
        return 0

    def tables(self) -> Iterator[pa.Table]:
        with IdSort(SCHEMA) as ordered:
            for table in table_blocks(self.folder, LISTING):
                ordered.add(_canonical(table))
            for table in ordered.tables():
                marks = pa.nulls(table.num_rows, pa.bool_()).fill_null(False)
                yield table.append_column(LEVEL.field(GONE), marks)


def _untried(folder: Folder) -> Iterator[pa.Table]:
    for table in table_blocks(folder, MANIFEST, [ID]):
        yield pa.table([table[ID], pa.nulls(len(table), pa.string())], schema=_AGAIN)


def _ended_early(enrolled: Folder) -> Iterator[pa.Table]:
    """Iterate over photos that could not be tried, and suppressed ones with their content if known."""
    passing = pa.array([reason.value for reason in PASSING])
    for images in Features(enrolled).all_images([ID, "reason", CONTENT]):
        suppressed = pc.equal(images["reason"], Reason.SUPPRESSED.value)
        early = pc.or_(pc.is_in(images["reason"], value_set=passing), pc.fill_null(suppressed, False))
        content = pc.if_else(pc.fill_null(suppressed, False), images[CONTENT], None)
        yield pa.table([images[ID], content], schema=_AGAIN).filter(early)


def _still_suppressed(before: Folder | None, folder: Folder) -> pa.Table:
    """Find the photos that last night knew as suppressed by content and that are there unchanged."""
    if before is None or not before.exists(AGAIN):
        return _AGAIN.empty_table()
    held = pa.concat_tables(
        [_AGAIN.empty_table(), *(rows.filter(pc.is_valid(rows[CONTENT])) for rows in again_rows(before))]
    )
    ids = in_order_of(held, (ID,))[ID].combine_chunks()
    if not len(ids):
        return held
    there = pc.is_in(held[ID], value_set=listing_of(folder).find(ids)[ID].combine_chunks())
    for todo in table_blocks(folder, MANIFEST, [ID]):
        there = pc.and_not(there, pc.is_in(held[ID], value_set=todo[ID].combine_chunks()))
    return held.filter(there)


def _write_waiting(folder: Folder, again: RowSpool, before: Folder | None, held: pa.Table) -> None:
    """Write the rows of the manifest that tomorrow needs, as a row of a table is read only once."""
    waiting: list[pa.Table] = []
    with IdSort(_AGAIN) as ordered:
        for table in again.tables():
            ordered.add(table)
        for row, wanted in side_by_side([table_blocks(folder, MANIFEST), ordered.tables()]):
            waiting.append(row.filter(pc.is_in(row[ID], value_set=wanted[ID].combine_chunks())))
    if before is not None and before.exists(WAITING) and held.num_rows:
        rows = read_table(before, WAITING)
        waiting.append(rows.filter(pc.is_in(rows[ID], value_set=held[ID].combine_chunks())))
    kept = [table for table in waiting if table.num_rows]
    write_table(
        folder, WAITING, pa.concat_tables(kept, promote_options="default") if kept else _TODO.empty_table()
    )


def _places(names: pa.ChunkedArray, uri: str) -> pa.ChunkedArray:
    """Make the addresses of photos. uri: of their folder."""
    return pc.binary_join_element_wise(pa.scalar(Folder.at(uri).uri.rstrip("/")), names, "/")


def _guesses(uri: str, known: KnownPhotos | None) -> list[str] | None:
    """Find ids from which a store may be asked for photos at once; None where none are known."""
    return known.spread(STRETCH_KEYS) or None if known and not uris.is_local(uri) else None


def _by_id(block: pa.Table) -> pa.Table:
    """Make a table of photos by id, rows of _FOUND; path: null where it is the id. block: of `LISTED`."""
    paths = block[NAME]
    ids = canonical_column(paths)
    differing = pa.nulls(len(paths), pa.string())
    if ids is not paths:
        differing = pc.if_else(pc.equal(ids, paths), differing, paths)
    return pa.table([ids, block[BYTES], block[VERSION], differing], schema=_FOUND)


def _each_once(table: pa.Table) -> pa.Table:
    """Choose one photo of each id: with the path in NFC, or else the first. table: by id, then by path."""
    ids = table[ID].combine_chunks()
    if pc.all(pc.less(ids[:-1], ids[1:]), min_count=0).as_py():
        return table
    stays: dict[str, int] = {}
    for row, (name, path) in enumerate(zip(ids.to_pylist(), table[_PATH].to_pylist(), strict=True)):
        if name not in stays or path is None:
            stays[name] = row
    return table.take(pa.array(sorted(stays.values()), pa.int64()))


def _canonical(table: pa.Table) -> pa.Table:
    """Bring the ids of a table to NFC, as older versions did not write them so."""
    for name in {ID, SUBJECT} & {*table.column_names}:
        at = table.column_names.index(name)
        table = table.set_column(at, table.field(at), canonical_column(table[name]))
    return table


def _without_photos(gone: Iterable[pa.Table], listing: KnownPhotos) -> set[str]:
    """Find the people of vanished photos who have no photo any more."""
    people = {name for table in gone for name in table[SUBJECT].unique().to_pylist() if name is not None}
    for table in merged(listing.levels) if people else ():
        people -= {*table[SUBJECT].unique().to_pylist()}
        if not people:
            break
    return people

"""Find the photos that tonight has to do.

SUB/listing.parquet   every photo below the folder: image_id, bytes, version, subject_id
SUB/manifest.parquet  those of tonight: new, changed, or to be tried again
SUB/vanished.parquet  those known before that are there no more
SUB/again.parquet     those of the listing that do not count as known tomorrow: they could not be tried; with
                      a content_sha256, those that were suppressed by it: not known once it is allowed

A photo is known by its path, size and version (ETag, or time of change). Memory: some 0.7 KB a photo. Ids are
paths in Unicode NFC; the manifest leads to files by their paths as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.core.errors import ManifestError
from frpipe.core.night_config import NightConfig, ScanStep
from frpipe.core.reasons import PASSING, Reason
from frpipe.core.text import canonical_text
from frpipe.core.text_column import canonical_column
from frpipe.gallery.photos import sourced
from frpipe.gallery.suppression import CONTENT, Suppressions
from frpipe.io.manifest.columns import ID, SUBJECT, URI
from frpipe.io.manifest.photo_listing import FolderLinks, PhotoListing
from frpipe.io.manifest.photo_rules import LeftOut, PhotoRules, may_be_listed
from frpipe.io.output.features import Features
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Entry, Folder
from frpipe.jobs.nightly.tables import read_table, write_table

LISTING, MANIFEST, VANISHED, AGAIN = (
    f"{name}.parquet" for name in ("listing", "manifest", "vanished", "again")
)
_SCHEMA = pa.schema(
    [(ID, pa.string()), ("bytes", pa.int64()), ("version", pa.string()), (SUBJECT, pa.string())]
)
_AGAIN = pa.schema([(ID, pa.string()), (CONTENT, pa.string())])
_NOBODY = Suppressions(())


@dataclass(frozen=True, slots=True)
class PhotoScan:
    """Result of listing the photos. listing: all.  todo, vanished: rows of it, and of what was known.

    new + changed = rows of todo; a photo to be tried again counts as new.  unreadable: photos whose names no
    manifest can hold, or differ from another's only in Unicode form.  links: what became of links below the
    folder.  paths: as they are, of todo.  suppressed: photos that are there, and in none of the tables, as
    the gallery's suppression list names them or their people.  left_out: what the rules leave out.
    no_longer_taken: photos known before that the rules leave out now, and that are not in vanished.
    """

    listing: pa.Table
    todo: pa.Table
    vanished: pa.Table
    new: int
    changed: int
    unreadable: int
    paths: pa.Array
    links: FolderLinks = field(default_factory=FolderLinks)
    suppressed: int = 0
    left_out: LeftOut = field(default_factory=LeftOut)
    no_longer_taken: int = 0

    @property
    def people(self) -> set[str]:
        """Ids of the people who have photos."""
        return _people(self.listing)

    def facts(self) -> dict[str, Any]:
        """Counts, for the report. people_without_photos: of those known before, who have none any more.

        vanished_behind_links: of the vanished, those that lie behind links that lead out.  strays: photos of
        nobody, where folders are people.
        """
        return {
            "listed": self.listing.num_rows,
            "known_before": self.listing.num_rows - self.new + self.vanished.num_rows + self.no_longer_taken,
            "new": self.new,
            "changed": self.changed,
            "vanished": self.vanished.num_rows,
            "unreadable_names": self.unreadable,
            "left_out": self.left_out.facts(),
            "no_longer_taken": self.no_longer_taken,
            "strays": _strays(self.listing).num_rows,
            "suppressed": self.suppressed,
            "people_without_photos": len(_without_photos(self.vanished, self.listing)),
            "vanished_behind_links": self.links.behind(self.vanished[ID].to_pylist()),
            **self.links.facts(),
        }

    def write(self, folder: Folder, uri: str) -> None:
        """Write the tables. uri: of the folder of photos."""
        write_table(folder, LISTING, self.listing)
        write_table(folder, VANISHED, self.vanished)
        columns = {ID: self.todo[ID], URI: _places(self.paths, uri)}
        if self.listing[SUBJECT].null_count < self.listing.num_rows:
            columns[SUBJECT] = self.todo[SUBJECT]
        write_table(folder, MANIFEST, pa.table(columns))


def look(
    uri: str,
    how: ScanStep,
    known: pa.Table | None,
    barred: Suppressions = _NOBODY,
    *,
    source: str = "",
    roots: tuple[str, ...] = (),
) -> PhotoScan:
    """List the photos below a folder and compare them with what is known; None: nothing is.

    barred: whose photos, and which, are taken as if they were not there and never had been.  source:
    what the gallery has before their ids.  roots: where links may lead out to.
    Where `auto` named people before, folders stay people's: a photo that does not lie one folder down is
    nobody's. Raises ManifestError where no photo lies so any more: all faces would be left out of the
    gallery, tonight and for ever.
    """
    rules = PhotoRules(how.glob, how.exclude, system=how.system)
    photos = PhotoListing(Folder.at(uri), rules, roots)
    entries, unreadable = _named(photos.entries(), is_local=uris.is_local(uri))
    there = _table(entries, how, known)
    stays = pa.array(~_mask(there, barred, source))
    listing = there.filter(stays)
    paths = pa.array([entry.name for entry in entries], pa.string()).filter(stays)
    before = _SCHEMA.empty_table() if known is None else _without(_canonical(known), barred, source)
    at = pc.index_in(listing[ID], value_set=before[ID].combine_chunks())
    same = [
        pc.equal(listing[name], before[name].take(at).combine_chunks() if len(before) else pa.nulls(len(at)))
        for name in ("bytes", "version")
    ]
    before_named = pc.is_valid(before[SUBJECT].take(at)) if len(before) else pa.nulls(len(at), pa.bool_())
    named_since = pc.and_not(pc.is_valid(listing[SUBJECT]), before_named)
    is_known = pc.fill_null(pc.and_not(pc.and_(*same), named_since), False)
    todo = listing.filter(pc.invert(is_known))
    new = pc.sum(pc.is_null(at)).as_py() or 0
    gone = before.filter(pc.invert(pc.is_in(before[ID], value_set=listing[ID].combine_chunks())))
    vanished = gone.filter(pa.array([rules.takes(name) for name in gone[ID].to_pylist()], pa.bool_()))
    return PhotoScan(
        listing,
        todo,
        vanished,
        new,
        todo.num_rows - new,
        unreadable,
        paths.filter(pc.invert(is_known)),
        photos.links,
        len(there) - len(listing),
        photos.left_out,
        len(gone) - len(vanished),
    )


def people_without_photos(folder: Folder) -> list[str]:
    """People who were known before and have no photo any more; sorted."""
    return _without_photos(read_table(folder, VANISHED), read_table(folder, LISTING))


def strays(folder: Folder) -> list[str]:
    """Photos of nobody, where folders are people; sorted."""
    names: list[str] = _strays(read_table(folder, LISTING))[ID].to_pylist()
    return sorted(names)


def vanished_at(folder: Folder, config: NightConfig) -> pa.Table | None:
    """image_id and image_uri of the photos that have vanished; None where nothing was looked at."""
    if not folder.exists(VANISHED):
        return None
    names = read_table(folder, VANISHED, [ID])[ID]
    return pa.table({ID: names, URI: _places(names, str(config.photos))})


def known_of(folder: Folder | None, barred: Suppressions = _NOBODY) -> pa.Table | None:
    """Photos that a night has left as known; None where it has left none. Raises OutputError: damaged.

    barred: files that stay known as suppressed; those of them that were allowed since are not known.
    """
    if folder is None or not folder.exists(AGAIN):
        return None
    listing, again = _canonical(read_table(folder, LISTING)), _again(folder)
    again = again.filter(pa.array(~barred.mask(again.select([CONTENT]))))
    return listing.filter(pc.invert(pc.is_in(listing[ID], value_set=again[ID].combine_chunks())))


def carry_known(before: Folder | None, folder: Folder) -> None:
    """Copy what was known of photos to tonight, when nothing is scanned."""
    if before is not None and before.exists(AGAIN):
        for name in (LISTING, AGAIN):
            folder.write(name, before.read(name))


def write_again(folder: Folder, enrolled: Folder | None, before: Folder | None = None) -> int:
    """Write which photos will be tried again, and which once they are allowed.

    Returns the number of the first.

    enrolled: the finished enroll output of the manifest; None: it was not enrolled, so it is not known.
    before: what the last night has left, of which photos that were suppressed by content stay so.
    """
    if enrolled is None:
        todo = read_table(folder, MANIFEST, [ID])
        again = pa.table([todo[ID], pa.nulls(len(todo), pa.string())], schema=_AGAIN)
    else:
        again = _ended_early(enrolled)
    held = _still_suppressed(before, folder)
    write_table(folder, AGAIN, pa.concat_tables([again, held]))
    return int(again[CONTENT].null_count)


def tried_again(folder: Folder) -> int:
    """Number of photos that a night has listed to be tried again tomorrow."""
    return int(_again(folder)[CONTENT].null_count) if folder.exists(AGAIN) else 0


def _places(names: pa.ChunkedArray, uri: str) -> pa.ChunkedArray:
    """Addresses of photos. uri: of their folder."""
    return pc.binary_join_element_wise(pa.scalar(Folder.at(uri).uri.rstrip("/")), names, "/")


def _again(folder: Folder) -> pa.Table:
    table = _canonical(read_table(folder, AGAIN))
    if CONTENT not in table.column_names:  # of a night from before contents were looked at
        table = table.append_column(_AGAIN.field(CONTENT), pa.nulls(len(table), pa.string()))
    return table.select(_AGAIN.names)


def _ended_early(enrolled: Folder) -> pa.Table:
    """Photos that could not be tried, and suppressed ones, with their content where it was hashed."""
    passing = pa.array([reason.value for reason in PASSING])
    tables = [_AGAIN.empty_table()]
    for images in Features(enrolled).all_images([ID, "reason", CONTENT]):
        suppressed = pc.equal(images["reason"], Reason.SUPPRESSED.value)
        early = pc.or_(pc.is_in(images["reason"], value_set=passing), pc.fill_null(suppressed, False))
        content = pc.if_else(pc.fill_null(suppressed, False), images[CONTENT], None)
        tables.append(pa.table([images[ID], content], schema=_AGAIN).filter(early))
    return pa.concat_tables(tables)


def _still_suppressed(before: Folder | None, folder: Folder) -> pa.Table:
    """Photos that last night knew as suppressed by content, and that are there unchanged."""
    if before is None or not before.exists(AGAIN):
        return _AGAIN.empty_table()
    again, listing, todo = _again(before), *(read_table(folder, name, [ID]) for name in (LISTING, MANIFEST))
    there = pc.is_in(again[ID], value_set=listing[ID].combine_chunks())
    anew = pc.is_in(again[ID], value_set=todo[ID].combine_chunks())
    return again.filter(pc.and_(pc.is_valid(again[CONTENT]), pc.and_(there, pc.invert(anew))))


def _named(entries: list[Entry], *, is_local: bool) -> tuple[list[Entry], int]:
    """Photos whose names a manifest takes, and how many were left out.

    Of two that look the same the one whose path is in NFC stays.
    """
    stays: dict[str, Entry] = {}
    for entry in entries:
        name = canonical_text(entry.name)
        if may_be_listed(entry.name, is_local) and (name not in stays or name == entry.name):
            stays[name] = entry
    return list(stays.values()), len(entries) - len(stays)


def _table(entries: list[Entry], how: ScanStep, known: pa.Table | None) -> pa.Table:
    is_persons = _people_rule(entries, how, known)
    subjects = [_person(e.name) if is_persons(e.name) else None for e in entries]
    columns = [
        [canonical_text(entry.name) for entry in entries],
        [entry.bytes for entry in entries],
        [entry.version for entry in entries],
        subjects,
    ]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA)


def _people_rule(entries: list[Entry], how: ScanStep, known: pa.Table | None) -> Callable[[str], bool]:
    """Whether the folder of a photo is a person, by the photo's path."""
    if how.subject_from != "auto":
        return lambda _: how.subject_from == "folder"
    astray = sum(not _is_one_down(entry.name) for entry in entries)
    if not astray:
        return lambda _: True
    if known is None or not _people(known):
        return lambda _: False
    if astray == len(entries):
        raise ManifestError(
            f"of {counted(astray, 'photos')} none lies one folder down, so that folders are not taken "
            "for people any more, as they were before",
            "check the setting photos, or say in scan.subject_from what folders mean",
        )
    return _is_one_down


def _is_one_down(name: str) -> bool:
    return name.count("/") == 1


def _person(name: str) -> str | None:
    """Name of the folder that a photo lies in."""
    return canonical_text(name.rpartition("/")[0].rpartition("/")[2]) or None


def _canonical(table: pa.Table) -> pa.Table:
    """A night's table with ids in NFC, which nights of older versions did not write."""
    for name in {ID, SUBJECT} & {*table.column_names}:
        at = table.column_names.index(name)
        table = table.set_column(at, table.field(at), canonical_column(table[name]))
    return table


def _without_photos(vanished: pa.Table, listing: pa.Table) -> list[str]:
    return sorted(_people(vanished) - _people(listing))


def _without(table: pa.Table, barred: Suppressions, source: str) -> pa.Table:
    return table.filter(pa.array(~_mask(table, barred, source))) if barred else table


def _mask(table: pa.Table, barred: Suppressions, source: str) -> np.ndarray:
    """(rows,) bool: photos that the list names, or whose people it names."""
    return barred.mask(pa.table({ID: sourced(table[ID], source), SUBJECT: table[SUBJECT]}))


def _people(table: pa.Table) -> set[str]:
    return {name for name in table[SUBJECT].unique().to_pylist() if name is not None}


def _strays(listing: pa.Table) -> pa.Table:
    nobodys = listing.filter(pc.is_null(listing[SUBJECT]))
    return nobodys if len(nobodys) < len(listing) else nobodys.slice(0, 0)

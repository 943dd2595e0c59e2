"""Which photos there are, and which of them tonight has to do.

SUB/listing.parquet   every photo below the folder: image_id, bytes, version, subject_id
SUB/manifest.parquet  those of tonight: new, changed, or to be tried again
SUB/vanished.parquet  those known before that are there no more
SUB/again.parquet     those of the listing that do not count as known tomorrow: they could not be tried

A photo is known by its path, size and version (ETag, or time of change). Memory: some 0.7 KB a photo.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import ManifestError
from frpipe.core.night_config import ScanStep
from frpipe.core.reasons import Reason
from frpipe.flows.night.tables import read_table, write_table
from frpipe.gallery.suppression import Suppressions
from frpipe.io.columns import ID, SUBJECT, URI
from frpipe.io.folder import Entry, Folder
from frpipe.io.outputs import read_outputs
from frpipe.io.scan import IMAGE_SUFFIXES

LISTING, MANIFEST, VANISHED, AGAIN = (
    f"{name}.parquet" for name in ("listing", "manifest", "vanished", "again")
)
_SCHEMA = pa.schema(
    [(ID, pa.string()), ("bytes", pa.int64()), ("version", pa.string()), (SUBJECT, pa.string())]
)
_NOBODY = Suppressions(())
# What may be otherwise tomorrow: it lies with storage or workers, not with the photo's content.
PASSING = (
    Reason.NOT_FOUND,
    Reason.ACCESS_DENIED,
    Reason.FETCH_FAILED,
    Reason.CRASHED_WORKER,
    Reason.HUNG_WORKER,
    Reason.EXHAUSTED_MEMORY,
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at the photos gave. listing: all.  todo, vanished: rows of it, and of what was known.

    new + changed = rows of todo; a photo to be tried again counts as new.  left_out: photos whose names no
    manifest can hold.  suppressed: photos that are there, and in none of the tables, as the gallery's
    suppression list names them or their people.
    """

    listing: pa.Table
    todo: pa.Table
    vanished: pa.Table
    new: int
    changed: int
    left_out: int
    suppressed: int = 0

    @property
    def people(self) -> set[str]:
        """Whose photos there are."""
        return _people(self.listing)

    def facts(self) -> dict[str, Any]:
        """Counts, for the report. people_without_photos: of those known before, who has none any more."""
        return {
            "listed": self.listing.num_rows,
            "known_before": self.listing.num_rows - self.new + self.vanished.num_rows,
            "new": self.new,
            "changed": self.changed,
            "vanished": self.vanished.num_rows,
            "unreadable_names": self.left_out,
            "suppressed": self.suppressed,
            "people_without_photos": len(_without_photos(self.vanished, self.listing)),
        }

    def write(self, folder: Folder, uri: str) -> None:
        """Put the tables in place. uri: of the folder of photos."""
        write_table(folder, LISTING, self.listing)
        write_table(folder, VANISHED, self.vanished)
        names = self.todo[ID]
        base = Folder.at(uri).uri.rstrip("/")
        places = pc.binary_join_element_wise(pa.scalar(base), names, "/")
        columns = {ID: names, URI: places}
        if self.listing[SUBJECT].null_count < self.listing.num_rows:
            columns[SUBJECT] = self.todo[SUBJECT]
        write_table(folder, MANIFEST, pa.table(columns))


def look(uri: str, how: ScanStep, known: pa.Table | None, barred: Suppressions = _NOBODY) -> Found:
    """List the photos below a folder and compare them with what is known; None: nothing is.

    barred: whose photos, and which, are taken as if they were not there and never had been.
    Raises ManifestError where `auto` named people before, and cannot any more: their faces would be left out
    of the gallery, tonight and for ever.
    """
    entries, left_out = _photos(Folder.at(uri), how.glob)
    there = _table(entries, how)
    _refuse_nameless(there, how, known)
    listing = _without(there, barred)
    before = _SCHEMA.empty_table() if known is None else _without(known, barred)
    at = pc.index_in(listing[ID], value_set=before[ID].combine_chunks())
    same = [
        pc.equal(listing[name], before[name].take(at).combine_chunks() if len(before) else pa.nulls(len(at)))
        for name in ("bytes", "version")
    ]
    is_known = pc.fill_null(pc.and_(*same), False)
    todo = listing.filter(pc.invert(is_known))
    new = pc.sum(pc.is_null(at)).as_py() or 0
    gone = pc.invert(pc.is_in(before[ID], value_set=listing[ID].combine_chunks()))
    suppressed = len(there) - len(listing)
    return Found(listing, todo, before.filter(gone), new, todo.num_rows - new, left_out, suppressed)


def people_without_photos(folder: Folder) -> list[str]:
    """Who was known before and has no photo any more; sorted."""
    return _without_photos(read_table(folder, VANISHED), read_table(folder, LISTING))


def known_of(folder: Folder | None) -> pa.Table | None:
    """What a night has left as known; None where it has left nothing. Raises OutputError: it is damaged."""
    if folder is None or not folder.exists(AGAIN):
        return None
    listing, again = read_table(folder, LISTING), read_table(folder, AGAIN)
    return listing.filter(pc.invert(pc.is_in(listing[ID], value_set=again[ID].combine_chunks())))


def carry_known(before: Folder | None, folder: Folder) -> None:
    """Tonight nothing is looked at: what was known stays known."""
    if before is not None and before.exists(AGAIN):
        for name in (LISTING, AGAIN):
            folder.write(name, before.read(name))


def write_again(folder: Folder, enrolled: Folder | None) -> int:
    """Write which photos will be tried again; how many.

    enrolled: the finished enroll output of the manifest; None: it was not enrolled, so it is not known.
    """
    names = read_table(folder, MANIFEST, [ID])[ID] if enrolled is None else _passing(enrolled)
    write_table(folder, AGAIN, pa.table({ID: names}))
    return len(names)


def _passing(enrolled: Folder) -> pa.Array:
    reasons = pa.array([reason.value for reason in PASSING])
    found = [
        name
        for images, _ in read_outputs(enrolled, [ID, "reason"], ["image_id"])
        for name in images.filter(pc.is_in(images["reason"], value_set=reasons))[ID].to_pylist()
    ]
    return pa.array(found, pa.string())


def _photos(folder: Folder, glob: str | None) -> tuple[list[Entry], int]:
    """The photos, sorted by path, and how many were left out for their names."""
    chosen = [
        entry
        for entry in folder.list()
        if f".{entry.name.rpartition('.')[2].lower()}" in IMAGE_SUFFIXES
        and (glob is None or fnmatch.fnmatchcase(entry.name, glob))
    ]
    named = [entry for entry in chosen if _may_be_listed(entry.name, folder.is_local)]
    return named, len(chosen) - len(named)


def _table(entries: list[Entry], how: ScanStep) -> pa.Table:
    by_folder = how.subject_from == "folder" or (
        how.subject_from == "auto" and {entry.name.count("/") for entry in entries} == {1}
    )
    subjects = [_person(e.name) if by_folder else None for e in entries]
    columns = [
        [entry.name for entry in entries],
        [entry.bytes for entry in entries],
        [entry.version for entry in entries],
        subjects,
    ]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA)


def _person(name: str) -> str | None:
    """The folder that a photo lies in."""
    return name.rpartition("/")[0].rpartition("/")[2] or None


def _without_photos(vanished: pa.Table, listing: pa.Table) -> list[str]:
    return sorted(_people(vanished) - _people(listing))


def _without(table: pa.Table, barred: Suppressions) -> pa.Table:
    return table.filter(pa.array(~barred.mask(table.select([ID, SUBJECT])))) if barred else table


def _people(table: pa.Table) -> set[str]:
    return {name for name in table[SUBJECT].unique().to_pylist() if name is not None}


def _refuse_nameless(listing: pa.Table, how: ScanStep, known: pa.Table | None) -> None:
    if how.subject_from != "auto" or known is None or not listing.num_rows:
        return
    if not _people(listing) and _people(known):
        stray = sum(name.count("/") != 1 for name in listing[ID].to_pylist())
        raise ManifestError(
            f"{stray:,} of {listing.num_rows:,} photos do not lie one folder down, so that folders are not "
            "taken for people any more, as they were before",
            "move these photos, leave them out with scan.glob, or say in scan.subject_from what folders mean",
        )


def _may_be_listed(name: str, is_local: bool) -> bool:
    """Whether a manifest takes a photo of this name: UTF-8 on one line; in a URI no `::`, no `..` segment.

    One that it does not take would cost the night all others.
    """
    text = not {"\n", "\r", "\0"} & {*name} and name.encode(errors="replace").decode() == name
    return text and (is_local or not ("::" in name or ".." in name.split("/")))

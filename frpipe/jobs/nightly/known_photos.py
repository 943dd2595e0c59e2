"""Stored list of the photos that nights know: sorted by id, in levels, of which a night adds at most one.

RUNS/_known/DATE-SUB/part-000000.parquet ...   a level: photos that are new or have changed since the levels
                                               before it; `gone`: those that are there no more
RUNS/DATE/SUB/known.json                       the levels of a night, oldest first; written last

Only an erasure changes a level. A night writes what has changed, merged with newer levels that are not much
larger. So there are few levels, and a photo is rewritten only a few times, however many nights come.
Everything is read in order of ids, block by block, so that memory does not depend on the number of photos.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from frpipe.core.errors import FileDamaged, FrpipeError, OutputError
from frpipe.io.manifest.columns import ID, SUBJECT
from frpipe.io.manifest.id_order import BLOCK_ROWS, in_order_of, side_by_side
from frpipe.io.output.parts import part_name
from frpipe.io.output.plan import slices
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order
from frpipe.io.storage.whole_file import as_table, read_json, read_whole

KNOWN, STORE = "known.json", "_known"
GONE, TRIED = "gone", "tried"
SCHEMA = pa.schema(
    [(ID, pa.string()), ("bytes", pa.int64()), ("version", pa.string()), (SUBJECT, pa.string())]
)
LEVEL = SCHEMA.append(pa.field(GONE, pa.bool_()))
_TRIED = pa.field(TRIED, pa.bool_())
FORMAT = 1
PART_ROWS = 1 << 18
_MOST_ROWS = 1 << 48
# A level up to so many times as large as what comes is merged with it.
_RATIO = 4
_AHEAD = 2
_LEVEL_NAME = re.compile(r"\d{4}-\d{2}-\d{2}-[a-z]+")
_PLAIN_NAME = re.compile(r"[0-9A-Za-z-]{1,64}")


class Level(Protocol):
    """Rows of `LEVEL`, sorted by id, each id once."""

    @property
    def rows(self) -> int: ...
    def tables(self) -> Iterator[pa.Table]: ...


@dataclass(frozen=True, slots=True)
class StoredLevel:
    """A level in the folder STORE. rows: when it was written, before any erasure."""

    store: Folder
    name: str
    parts: int
    rows: int

    def tables(self) -> Iterator[pa.Table]:
        """Iterate over all rows in blocks. Raises OutputError where a part is damaged or gone."""
        for table in in_order(self.part, range(self.parts), _AHEAD):
            for start in range(0, table.num_rows, BLOCK_ROWS):
                yield table.slice(start, BLOCK_ROWS)

    def part(self, number: int) -> pa.Table:
        """Read the rows of a part. Raises OutputError where it is damaged or gone."""
        try:
            return read_whole(self.store, self.file(number), as_table).replace_schema_metadata(None)
        except FileDamaged:
            raise self._damaged(number) from None

    def file(self, number: int) -> str:
        """The name of a part below the store."""
        return f"{self.name}/{part_name(number)}"

    def find(self, ids: pa.Array) -> pa.Table:
        """Find the rows of some sorted ids; only row groups are read whose range holds one of them."""
        found = list(in_order(lambda number: self._found(number, ids), range(self.parts)))
        return pa.concat_tables([LEVEL.empty_table(), *found])

    def spread(self, rows: int) -> list[str]:
        """Find ids as `KnownPhotos.spread`, by the ranges that footers name; damaged ones name none."""
        every = max(1, rows // BLOCK_ROWS)
        firsts = [each for some in in_order(self._firsts, range(self.parts)) for each in some]
        return sorted({*firsts[every::every]})

    def _firsts(self, number: int) -> list[str]:
        """The first id of each row group of a part."""
        with suppress(FrpipeError, pa.ArrowException, OSError, ValueError):
            with self.store.open(self.file(number)) as opened:
                found = pq.ParquetFile(opened).metadata
            told = [found.row_group(group).column(0).statistics for group in range(found.num_row_groups)]
            return [each.min for each in told if each is not None and each.has_min_max]
        return []

    def _found(self, number: int, ids: pa.Array) -> pa.Table:
        try:
            with self.store.open(self.file(number)) as opened:
                file = pq.ParquetFile(opened, page_checksum_verification=True)
                groups = [at for at in range(file.num_row_groups) if _may_hold(file.metadata, at, ids)]
                table = file.read_row_groups(groups, use_threads=False).replace_schema_metadata(None)
        except FrpipeError:
            raise
        except (pa.ArrowException, OSError, ValueError):
            # Reading the file whole tells a damaged file from a failed read.
            table = self.part(number)
        return table.filter(pc.is_in(table[ID], value_set=ids))

    def _damaged(self, number: int) -> OutputError:
        return OutputError(
            f"{self.file(number)} in {self.store.uri} is damaged or gone: which photos are known is lost",
            "restore the file from a backup; or begin anew: put the nights away and give another folder as "
            "`runs`, all photos come again and people in the gallery stay as they are",
        )


@dataclass(frozen=True, slots=True)
class ObeyedEntries:
    """Digests of entries of a suppression list. source: the prefix that ids of photos had in the gallery."""

    source: str = ""
    entries: frozenset[str] = frozenset()

    @classmethod
    def read(cls, told: Any) -> ObeyedEntries:
        """Read a record; of one that is missing, or makes no sense, nothing was obeyed."""
        try:
            return cls(str(told["source"]), frozenset(map(str, told["entries"])))
        except (KeyError, TypeError):
            return cls()


@dataclass(frozen=True, slots=True)
class KnownPhotos:
    """The photos that a night has listed. levels: oldest first.

    again: sorted ids of those that do not count as known.  seen: how far a table of photos was read.  obeyed:
    of the suppression list, the entries that name none of them.
    """

    levels: tuple[Level, ...] = ()
    again: Iterable[pa.Table] = ()
    seen: Mapping[str, Any] = field(default_factory=dict)
    obeyed: ObeyedEntries = field(default_factory=ObeyedEntries)

    def tables(self) -> Iterator[pa.Table]:
        """Iterate over the photos by id, in blocks of SCHEMA and TRIED: false where they are not known."""
        for listed, again in side_by_side([merged(self.levels), self.again]):
            if listed.num_rows and not again.num_rows:
                yield listed.append_column(_TRIED, pa.nulls(len(listed), pa.bool_()).fill_null(True))
            elif listed.num_rows:
                failed = pc.is_in(listed[ID], value_set=again[ID].combine_chunks())
                yield listed.append_column(_TRIED, pc.invert(failed))

    def spread(self, rows: int) -> list[str]:
        """Find sorted ids with about so many photos from each to the next; none where they are not stored."""
        stored = [level for level in self.levels if isinstance(level, StoredLevel)]
        return max(stored, key=lambda level: level.rows).spread(rows) if stored else []

    def find(self, ids: pa.Array) -> pa.Table:
        """Find the photos of some sorted ids, with the columns of `tables`."""
        found = [
            level.find(ids) if isinstance(level, StoredLevel) else _all(level, ids) for level in self.levels
        ]
        listed = newest(found).select(SCHEMA.names) if found else SCHEMA.empty_table()
        failed = pa.nulls(len(listed), pa.bool_()).fill_null(False)
        for again in self.again:
            failed = pc.or_(failed, pc.is_in(listed[ID], value_set=again[ID].combine_chunks()))
        return listed.append_column(_TRIED, pc.invert(failed))

    def table(self) -> pa.Table:
        """Read all listed photos at once, with the columns of SCHEMA: for lists known to be small."""
        return pa.concat_tables([SCHEMA.empty_table(), *merged(self.levels)])


def merged(levels: Sequence[Level], *, gone: bool = False) -> Iterator[pa.Table]:
    """Iterate over the newest row of each id, in order. levels: oldest first.  gone: with those gone."""
    for found in side_by_side([level.tables() for level in levels]):
        rows = newest(found, gone=gone)
        if rows.num_rows:
            yield rows if gone else rows.select(SCHEMA.names)


def newest(found: Sequence[pa.Table], *, gone: bool = False) -> pa.Table:
    """Choose the newest row of each id, in order. found: the rows of some ids in each level, oldest first."""
    there = [table for table in reversed(found) if table.num_rows] or [LEVEL.empty_table()]
    kept = there[:1]
    for table in there[1:]:
        newer = pa.chunked_array([chunk for each in kept for chunk in each[ID].chunks], pa.string())
        kept.append(table.filter(pc.invert(pc.is_in(table[ID], value_set=newer.combine_chunks()))))
    rows = in_order_of(pa.concat_tables(kept), (ID,)) if len(kept) > 1 else kept[0]
    return rows if gone or not pc.any(rows[GONE]).as_py() else rows.filter(pc.invert(rows[GONE]))


def store_of(folder: Folder) -> Folder:
    """The folder of the levels that a night's folder RUNS/DATE/SUB names."""
    return Folder.at(uris.parent(uris.parent(folder.uri)[0])[0]).child(STORE)


def read_known(folder: Folder) -> KnownPhotos:
    """Read the photos that a night has listed; all count as tried.

    Raises FileNotFoundError: none are recorded there; OutputError: the record is damaged.
    """
    try:
        facts = read_json(folder, KNOWN)
        if facts["format"] != FORMAT:
            raise OutputError(f"{KNOWN} in {folder.uri} is of a newer frpipe", "use that, or a newer one")
        levels = [StoredLevel(store_of(folder), **level) for level in facts["levels"]]
        if all(map(_is_level, levels)) and _is_seen(facts["seen"]):
            obeyed = ObeyedEntries.read(facts.get("obeyed"))
            return KnownPhotos(tuple(levels), seen=facts["seen"], obeyed=obeyed)
    except (FileDamaged, KeyError, TypeError, ValueError):
        pass
    raise OutputError(f"{KNOWN} in {folder.uri} is damaged", "move that night's folder away")


def write_known(
    folder: Folder,
    levels: Sequence[Level],
    fresh: Level,
    seen: Mapping[str, Any],
    obeyed: ObeyedEntries | None = None,
) -> None:
    """Record the photos of a night: earlier levels, and what is fresh since.

    A kill leaves no record, and only files that the next call overwrites.
    """
    store, name = store_of(folder), "-".join(folder.uri.rsplit("/", 2)[1:])
    kept, rows, joined = list(levels), fresh.rows, [fresh]
    alien = any(not isinstance(level, StoredLevel) or level.store != store for level in kept)
    while kept and (alien or kept[-1].rows <= _RATIO * rows):
        joined.insert(0, kept.pop())
        rows += joined[0].rows
    if len(joined) > 1 or fresh.rows or not kept:
        # The oldest level needs no rows of photos that are gone: there is nothing below it.
        tables = _levelled(joined) if not kept else merged(joined, gone=True)
        kept.append(_stored(store, name, tables))
    told = [
        {"name": each.name, "parts": each.parts, "rows": each.rows}
        for each in kept
        if isinstance(each, StoredLevel)
    ]
    facts: dict[str, Any] = {"format": FORMAT, "levels": told, "seen": seen}
    if obeyed is not None and obeyed.entries:
        facts["obeyed"] = {"source": obeyed.source, "entries": sorted(obeyed.entries)}
    folder.write(KNOWN, (json.dumps(facts, indent=1) + "\n").encode())


def rewrite_part(store: Folder, name: str, table: pa.Table) -> None:
    """Write a part of a level, replacing what is there."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.select(LEVEL.names),
        sink,
        row_group_size=BLOCK_ROWS,
        compression="zstd",
        use_dictionary=[SUBJECT],
        column_encoding={ID: "DELTA_BYTE_ARRAY"},
        write_page_checksum=True,
    )
    store.write(name, bytes(sink.getvalue()))


def unused(runs: Folder, dates: Iterable[str], subs: Sequence[str]) -> list[str]:
    """Find the levels that no folder RUNS/DATE/SUB names; none where one of these cannot be read.

    dates: of the nights on the list. A folder that has written a level counts without it, as where the nights
    were copied and the list was not.
    """
    names = {entry.name.partition("/")[0] for entry in runs.child(STORE).list()}
    there = {name for name in names if _LEVEL_NAME.fullmatch(name)}
    places = {f"{date}/{sub}" for date in dates for sub in subs} | {f"{n[:10]}/{n[11:]}" for n in there}
    folders = [runs.child(place) for place in sorted(places)]
    try:
        found = [read_known(folder) for folder in folders if folder.exists(KNOWN)]
    except OutputError:
        return []
    used = {level.name for known in found for level in known.levels if isinstance(level, StoredLevel)}
    return sorted(there - used)


def _is_level(level: StoredLevel) -> bool:
    """Whether a record from an untrusted store can be that of a level."""
    counts = (level.parts, level.rows)
    return (
        isinstance(level.name, str)
        and _PLAIN_NAME.fullmatch(level.name) is not None
        and all(isinstance(each, int) and 0 <= each < _MOST_ROWS for each in counts)
    )


def _is_seen(seen: Any) -> bool:
    """Whether a record can say how far a table was read: texts, and texts by name."""
    return isinstance(seen, dict) and all(
        isinstance(value, str | None)
        or (isinstance(value, dict) and all(isinstance(each, str) for each in value.values()))
        for name, value in seen.items()
        if name != "table"
    )


def _levelled(levels: Sequence[Level]) -> Iterator[pa.Table]:
    for table in merged(levels):
        yield table.append_column(LEVEL.field(GONE), pa.nulls(len(table), pa.bool_()).fill_null(False))


def _stored(store: Folder, name: str, tables: Iterable[pa.Table]) -> StoredLevel:
    parts = rows = 0
    for table in slices(tables, PART_ROWS):
        rewrite_part(store, f"{name}/{part_name(parts)}", table)
        parts, rows = parts + 1, rows + table.num_rows
    # Parts of an earlier launch of the same night, which was killed or found more.
    left = {entry.name for entry in store.list(name)} - {f"{name}/{part_name(part)}" for part in range(parts)}
    store.delete_all(sorted(left))
    return StoredLevel(store, name, parts, rows)


def _all(level: Level, ids: pa.Array) -> pa.Table:
    found = (table.filter(pc.is_in(table[ID], value_set=ids)) for table in level.tables())
    return pa.concat_tables([LEVEL.empty_table(), *found])


def _may_hold(metadata: pq.FileMetaData, group: int, ids: pa.Array) -> bool:
    """Whether the range of ids of a row group holds one of some sorted ids."""
    statistics = metadata.row_group(group).column(0).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        if ids[middle].as_py() < statistics.min:
            low = middle + 1
        else:
            high = middle
    return low < len(ids) and bool(ids[low].as_py() <= statistics.max)

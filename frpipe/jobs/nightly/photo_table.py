"""Photos of a night from a manifest or a table: only what has come since last night.

How far the table was read is recorded as `seen` in `known.json` of the night:

files     the digest of each file's name, with its version: `new: files` reads those that are new or differ
arrived   the greatest value of the column `photos.arrived`: `new: arrived` reads rows from this value on
column    the name of that column: another one begins anew
read      as `files`, with sizes, of the files that `new: arrived` has read: read again when they differ

With `new: arrived` the `version` of a known photo is the value with which it arrived. So of the rows with the
greatest value, those that were read before are told from those that came late.

A row of a known photo is left alone, unless it has arrived anew, or names somebody where nobody was named. Of
several rows of one id the latest is taken. A table does not say which photos are gone: none vanishes.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from frpipe.core.errors import ManifestError
from frpipe.core.night_config import NightConfig, PhotoTable
from frpipe.core.pulse import Pulse
from frpipe.gallery.suppression import Suppressions
from frpipe.io.manifest.admission import admitted
from frpipe.io.manifest.columns import ID, LOCATION, SUBJECT, URI
from frpipe.io.manifest.id_order import IdSort, RowSpool, in_order_of, side_by_side
from frpipe.io.manifest.list_files import ListFile, find
from frpipe.io.manifest.manifest import Manifest
from frpipe.io.manifest.roots import BAD
from frpipe.io.manifest.row_list import Batch
from frpipe.io.manifest.types import common
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order
from frpipe.jobs.enroll.job import run_spec
from frpipe.jobs.nightly.known_photos import LEVEL, SCHEMA, TRIED, KnownPhotos
from frpipe.jobs.nightly.photos import (
    WAITING,
    PhotoCounts,
    PhotoScan,
    Say,
    compared,
    level_rows,
    suppressed_rows,
)
from frpipe.jobs.nightly.tables import read_table

FILES, ARRIVED, COLUMN, READ = "files", "arrived", "column", "read"
# Up to so many rows are looked up among the known photos; more are merged with all of them.
_FEW_ROWS = 50_000
_LONGEST_NUMBER = 40
# Types of a column of arrival, whose values survive being written as text.
_ORDERED = (
    pa.types.is_timestamp,
    pa.types.is_date,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_null,
)
_WIDER = (
    (pa.types.is_integer, pa.int64()),
    (pa.types.is_integer, pa.float64()),
    (pa.types.is_date, pa.timestamp("us")),
)
_FINER = ("ms", "us", "ns")
# Columns beside those of the table, one of which may be called `version`.
_VERSION = "frpipe.version"
_RANK = "frpipe.rank"
# What is recorded of a photo when its row arrives.
_DATED = ("bytes", "version")
_COLUMN_TESTS = {operator.ge: pc.greater_equal, operator.eq: pc.equal}


@dataclass(frozen=True, slots=True)
class TableScan(PhotoScan):
    """Result of reading a table of photos. read: counts of what was read, for the report."""

    read: dict[str, int] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Count the photos, for the report; zero for what a table does not tell."""
        told = super(TableScan, self).facts()
        return {**told, "strays": 0, **self.read}


def taken(
    config: NightConfig,
    before: Folder | None,
    known: KnownPhotos | None,
    barred: Suppressions,
    say: Say,
    *,
    source: str,
) -> TableScan:
    """Read what has come since last night, and compare it with what is known.

    before: folder of last night's scan.

    Raises ManifestError as `Manifest.open` and `admitted`; where the rows hold the photos themselves; where
    the column of arrival is missing or has no order; where there never was a row.
    """
    how = config.photo_table
    assert how is not None
    table = _Table.opened(config, how, known.seen if known else {})
    waiting = _waiting(before)
    schema = _todo_schema(table.schema, waiting)
    pulse = Pulse(say)
    counts = PhotoCounts()
    scan = TableScan(
        counts,
        known.levels if known else (),
        RowSpool(LEVEL),
        RowSpool(schema),
        RowSpool(SCHEMA),
        read=table.read,
    )
    with IdSort(schema.append(pa.field(_VERSION, pa.string()))) as fresh:
        for rows in table.rows():
            fresh.add(_fitted(rows, schema.append(pa.field(_VERSION, pa.string()))))
            pulse.beat(fresh.rows, "{} rows of the table read")
        if known is None and not fresh.rows:
            raise ManifestError(f"no photos in {how.manifest}", "check the setting photos")
        old = _known_of(known, fresh, waiting)
        sources = [fresh.tables(), _fitted_all(waiting, schema), old]
        for rows, waits, then in side_by_side(sources):
            latest = table.latest(rows)
            _compare(scan, (latest, waits, then), barred, source, table)
            pulse.beat(
                counts.listed, f"{{}} of {fresh.rows:,} photos compared with what is known", fresh.rows
            )
    scan.seen.update(table.seen())
    table.read["rows"] = fresh.rows
    return scan


@dataclass(slots=True)
class _Table:
    """The part of a table that has not been read yet.

    files: all files.  todo: names of those that are read.  last: the greatest arrival that was read before.
    before: how far the table was read before.  read: counts, for the report.  greatest: arrival of tonight.
    """

    how: PhotoTable
    roots: tuple[str, ...]
    files: tuple[ListFile, ...]
    todo: frozenset[str]
    manifest: Manifest | None
    last: str | None
    before: Mapping[str, Any]
    read: dict[str, int] = field(default_factory=dict)
    greatest: pa.Scalar | None = None

    @classmethod
    def opened(cls, config: NightConfig, how: PhotoTable, seen: Mapping[str, Any]) -> _Table:
        folder, files = find(how.manifest, "manifest")
        goes_on = how.arrived is not None and seen.get(COLUMN, how.arrived) == how.arrived
        last = seen.get(ARRIVED) if goes_on else None
        due = in_order(lambda file: _is_due(folder, file, how, seen, last), files)
        todo = [file for file, is_due in zip(files, due, strict=True) if is_due]
        manifest = None
        if todo:
            reserved = run_spec(config.settings, "").reserved_names
            names = frozenset(file.name for file in todo)
            manifest = Manifest.open(how.manifest, reserved, config.settings.manifest.nobody, only=names)
            if manifest.columns.embedded:
                raise ManifestError(
                    "the photos lie in the rows of the table, which a night does not list again",
                    "enroll such a table with jobs/enroll.py, or write the photos to files",
                )
            if how.arrived is not None and last is not None and len(todo) < len(files):
                manifest = _with_column(manifest, how.arrived)
            if how.arrived is not None and how.arrived not in manifest.columns.extra.names:
                raise ManifestError(
                    f"the table has no column {how.arrived}, which photos.arrived names", "check the setting"
                )
            kind = None if how.arrived is None else manifest.columns.extra.field(how.arrived).type
            if kind is not None and not any(is_kind(kind) for is_kind in _ORDERED):
                raise ManifestError(
                    f"{how.arrived}, which photos.arrived names, is {kind}: it does not say when a row "
                    "arrived",
                    "name a column of points in time, dates, numbers or texts",
                )
        roots = config.settings.storage.roots
        found = cls(how, roots, files, frozenset(f.name for f in todo), manifest, last, seen)
        found.read |= {"files": len(files), "files_read": len(todo), "undated": 0, "repeated": 0}
        found.read["other_subject"] = 0
        return found

    @property
    def compares(self) -> bool | None:
        """Whether a known photo with another arrival has changed; None: arrivals are not read.

        False on the first night that reads the column, when known photos have no arrival yet.
        """
        return None if self.how.arrived is None else self.last is not None

    @property
    def schema(self) -> pa.Schema:
        """The columns of tonight's manifest."""
        extra = self.manifest.columns.extra if self.manifest else pa.schema([])
        return pa.schema([(ID, pa.string()), (URI, pa.string()), (SUBJECT, pa.string()), *extra])

    def rows(self) -> Iterator[pa.Table]:
        """Iterate over the rows that may be new, normalised, with the addresses that a worker reads."""
        if self.manifest is None or not self.manifest.rows_estimate():
            return
        manifest = (
            self.manifest
            if self.how.arrived is None
            else _Arrived.of(self.manifest, self.how.arrived, self._since)
        )
        for rows in admitted(manifest, self.roots, whole=False):
            is_none = pc.starts_with(rows[LOCATION], BAD)
            places = pc.if_else(is_none, rows[URI], rows[LOCATION])
            versions: Any = pa.array([""] * len(rows), pa.string())
            if self.how.arrived is not None:
                versions = rows[self.how.arrived].cast(pa.string())
                if self.last is not None:
                    # As it was recorded, whatever type the column had then.
                    is_last = self._holds(operator.eq, rows[self.how.arrived])
                    versions = pc.if_else(is_last, self.last, versions)
            named = pa.table({ID: rows[ID], URI: places, SUBJECT: rows[SUBJECT]})
            for name in self.manifest.columns.extra.names:
                named = named.append_column(name, rows[name])
            yield named.append_column(_VERSION, versions)

    def latest(self, rows: pa.Table) -> pa.Table:
        """Choose one row of each id, the latest: of the greatest arrival, then the last that was read.

        rows: by id, those of one id in the order in which they were read.
        """
        ids = rows[ID].combine_chunks()
        if pc.count_distinct(ids).as_py() == len(ids):
            return rows
        if self.how.arrived is not None:
            ranks = self._ranks(rows[self.how.arrived].combine_chunks())
            at = pc.sort_indices(pa.table({ID: ids, _RANK: ranks}), [(ID, "ascending"), (_RANK, "ascending")])
            rows, ids = rows.take(at), ids.take(at)
        is_last = pa.concat_arrays([pc.not_equal(ids[:-1], ids[1:]), pa.array([True])])
        chosen = rows.filter(is_last)
        self.read["repeated"] += len(rows) - len(chosen)
        return chosen

    def _ranks(self, arrivals: pa.Array) -> pa.Array:
        """(rows,) numbers in the order of arrivals; equal where these are."""
        if self._is_key:
            orders = [_key_order(each) for each in arrivals.to_pylist()]
            ranks = {order: rank for rank, order in enumerate(sorted({*orders}))}
            return pa.array([ranks[order] for order in orders])
        return pc.rank(arrivals, tiebreaker="dense")

    def _since(self, values: pa.Array) -> pa.Array:
        """(rows,) bool: which have not arrived before the last one read; the greatest of them is kept."""
        # NaN is no arrival: it compares with nothing.
        is_dated = pc.invert(pc.is_null(values, nan_is_null=True))
        self.read["undated"] += len(values) - (pc.sum(is_dated).as_py() or 0)
        newest = self._newest(values.filter(is_dated))
        if newest is not None and (self.greatest is None or self._is_later(newest, self.greatest)):
            self.greatest = newest
        return is_dated if self.last is None else self._holds(operator.ge, values)

    def _holds(self, test: Callable[[Any, Any], Any], values: Any) -> Any:
        """(rows,) bool: whether `test` holds between a value and the last one read; false without a value."""
        assert self.last is not None
        if self._is_key:
            bound = _key_order(self.last)
            keys = [key for key in values.unique().to_pylist() if key is not None]
            passed = [key for key in keys if test(_key_order(key), bound)]
            return pc.is_in(values, value_set=pa.array(passed, values.type))
        if pa.types.is_null(values.type):
            # No row of these files says when it arrived.
            return pa.array([False] * len(values), pa.bool_())
        bound = _as_type(self.last, values.type, self.how)
        return pc.fill_null(_COLUMN_TESTS[test](values, bound), False)

    @property
    def _is_key(self) -> bool:
        """Whether a key of folders says when a row arrived."""
        return any(self.how.arrived in file.keys for file in self.files)

    def _newest(self, values: pa.Array) -> pa.Scalar | None:
        if not len(values):
            return None
        if self._is_key:
            return pa.scalar(max(values.unique().to_pylist(), key=_key_order))
        return pc.max(values)

    def _is_later(self, one: pa.Scalar, other: pa.Scalar) -> bool:
        if self._is_key:
            return _key_order(one.as_py()) > _key_order(other.as_py())
        return bool(pc.greater(one, other).as_py())

    def seen(self) -> dict[str, Any]:
        """Make the record of how far the table is read after tonight."""
        told: dict[str, Any] = {"table": True}
        if self.how.new == "files":
            told[FILES] = {_digest(file.name): file.entry.version for file in self.files}
        if self.how.new == "arrived":
            newest = self.last if self.greatest is None else self.greatest.cast(pa.string()).as_py()
            if self.last is not None and self.greatest is not None:
                last = _as_type(self.last, self.greatest.type, self.how)
                newest = newest if self._is_later(self.greatest, last) else self.last
            before = self.before.get(READ, {})
            read = {_digest(file.name): _state(file) for file in self.files if file.name in self.todo}
            skipped = {_digest(f.name): _state(f) for f in self.files if f.name not in self.todo}
            unchanged = {name: state for name, state in skipped.items() if before.get(name) == state}
            told |= {ARRIVED: newest, COLUMN: self.how.arrived, READ: unchanged | read}
        return told


@dataclass(frozen=True, slots=True)
class _Arrived(Manifest):
    """The rows of a manifest that pass a test of the column of arrival."""

    since: Callable[[pa.Array], pa.Array]
    column: str

    @classmethod
    def of(cls, manifest: Manifest, column: str, since: Callable[[pa.Array], pa.Array]) -> _Arrived:
        own = {each.name: getattr(manifest, each.name) for each in fields(manifest)}
        return cls(**own, since=since, column=column)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Batch]:
        names = self.schema.names if columns is None else list(dict.fromkeys(columns))
        for batch in Manifest.batches(self, [*names, *({self.column} - {*names})]):
            rows = batch.rows.filter(self.since(batch.rows.column(self.column)))
            yield Batch(batch.file, batch.first_row, rows.select(names))


def _with_column(manifest: Manifest, name: str) -> Manifest:
    """Give some files of a table a column of nulls that only its other files have."""
    if name in manifest.schema.names:
        return manifest
    extra = pa.field(name, pa.null())
    columns = replace(manifest.columns, extra=manifest.columns.extra.append(extra))
    return replace(manifest, schema=manifest.schema.append(extra), columns=columns)


def _is_due(
    folder: Folder, file: ListFile, how: PhotoTable, seen: Mapping[str, Any], last: str | None
) -> bool:
    """Whether a file may hold rows that have come since it was last read."""
    if how.new == "files":
        return bool(seen.get(FILES, {}).get(_digest(file.name)) != file.entry.version)
    if last is None or how.arrived is None:
        return True
    if seen.get(READ, {}).get(_digest(file.name)) == _state(file):
        return False
    if how.arrived in file.keys:
        value = file.keys[how.arrived]
        return value is not None and _key_order(value) >= _key_order(last)
    return file.format != "parquet" or _may_hold(folder, file, how, last)


def _may_hold(folder: Folder, file: ListFile, how: PhotoTable, last: str) -> bool:
    """Whether a Parquet file may hold a row that has come since, by its footer."""
    try:
        with folder.open(file.name) as opened:
            found = pq.ParquetFile(opened)
            at = found.schema_arrow.get_field_index(str(how.arrived))
            leaf = next(
                (i for i in range(len(found.schema)) if found.schema.column(i).path == how.arrived), None
            )
            if at < 0 or leaf is None:
                return True
            kind, groups = found.schema_arrow.field(at).type, found.metadata
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            told = [groups.row_group(group).column(leaf).statistics for group in range(groups.num_row_groups)]
    except (pa.ArrowException, OSError, ValueError):
        return True  # reading the file will say what is wrong with it
    if not all(each is not None and each.has_min_max for each in told):
        return True
    try:
        bound = _as_type(last, kind, how)
        return any(pc.greater_equal(pa.scalar(each.max, kind), bound).as_py() for each in told)
    except (ManifestError, pa.ArrowException, TypeError, ValueError):
        return True  # statistics of another type than the column


def _key_order(value: str) -> tuple[bool, int, str]:
    """Make the sort key of a key of folders: numbers as numbers, before all other texts."""
    is_number = value.isascii() and value.isdigit() and len(value) < _LONGEST_NUMBER
    return (False, int(value), "") if is_number else (True, 0, value)


def _as_type(text: str, kind: pa.DataType, how: PhotoTable) -> pa.Scalar:
    """Parse a recorded arrival in the type of some rows, or in the wider type that other files had."""
    wider = [wide for is_kind, wide in _WIDER if is_kind(kind)]
    wider += [pa.timestamp(unit, kind.tz) for unit in _FINER if pa.types.is_timestamp(kind)]
    for wanted in (kind, *wider):
        with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return pa.scalar(text, pa.string()).cast(wanted)
    raise ManifestError(
        f"{how.arrived} is {kind}, and was of another type last night",
        "write the column with one type; or take one night with photos.new: unseen",
    )


def _compare(
    scan: TableScan,
    found: tuple[pa.Table, pa.Table, pa.Table],
    barred: Suppressions,
    source: str,
    table: _Table,
) -> None:
    """Compare the rows of a range of ids with what is known, and add them to the scan.

    found: rows that have come, rows of last night that could not be tried, what is known.
    """
    counts, (rows, waits, then) = scan.counts, found
    rows = rows if rows.num_rows else scan.todo.schema.append(pa.field(_VERSION, pa.string())).empty_table()
    then = then if then.num_rows else SCHEMA.append(pa.field(TRIED, pa.bool_())).empty_table()
    if waits.num_rows:
        again = waits.filter(pc.invert(pc.is_in(waits[ID], value_set=rows[ID].combine_chunks())))
        at = pc.index_in(again[ID], value_set=then[ID].combine_chunks())
        failed = (
            pc.fill_null(pc.invert(then[TRIED].take(at)), False)
            if len(then)
            else pa.array([False] * len(again))
        )
        versions = then["version"].take(at) if len(then) else pa.nulls(len(again), pa.string())
        again = again.append_column(_VERSION, versions).filter(failed)
        rows = in_order_of(pa.concat_tables([rows, again.select(rows.column_names)]), (ID,))
    is_barred = suppressed_rows(rows, barred, source)
    there, kept_out = rows.filter(pa.array(~is_barred)), rows.filter(pa.array(is_barred))
    # Suppressed photos are as if they had never been there: once allowed, they are new.
    gone = then.filter(pc.is_in(then[ID], value_set=kept_out[ID].combine_chunks()))
    counts.suppressed += len(rows) - len(there)
    counts.listed += len(there)
    counts.nobodys += there[SUBJECT].null_count
    now = pa.table(
        [there[ID], pa.array([0] * len(there), pa.int64()), there[_VERSION], there[SUBJECT]], schema=SCHEMA
    )
    known = pc.and_(then[TRIED], pa.array(~suppressed_rows(then, barred, source)))
    alike = _alike(then, now, table)
    change = compared(now, alike, known)
    counts.new += change.new
    todo = there.filter(change.todo)
    counts.changed += len(todo) - change.new
    scan.todo.add(todo)
    fresh = now.filter(change.todo)
    table.read["other_subject"] += _otherwise_named(now.filter(pc.invert(change.todo)), then)
    if table.compares is not None:
        # Known photos get their arrivals, from which a later one will differ.
        left_alone = now.filter(pc.invert(change.todo))[ID].combine_chunks()
        is_dated = pc.and_(pc.is_in(then[ID], value_set=left_alone), _differ(alike, then))
        fresh = pa.concat_tables([fresh, alike.filter(is_dated).select(fresh.column_names)])
    scan.fresh.add(level_rows(fresh, gone))


def _alike(then: pa.Table, now: pa.Table, table: _Table) -> pa.Table:
    """What is known, with the sizes and versions of now where the id alone decides.

    Where arrivals are compared, it decides for photos without one whose rows arrived with the greatest value
    that was read: nights of an older frpipe have read that value, and recorded it of new photos alone.
    """
    if not len(now) or not len(then):
        return then
    at = pc.index_in(then[ID], value_set=now[ID].combine_chunks())
    taken = {name: now[name].take(at) for name in _DATED}
    if table.compares:
        undated = pc.or_(pc.equal(then["version"], ""), pc.greater(then["bytes"], 0))
        same = pc.fill_null(pc.and_(undated, pc.equal(taken["version"], table.last)), False)
        taken = {name: pc.if_else(same, column, then[name]) for name, column in taken.items()}
    return pa.table([taken.get(name, then[name]) for name in then.column_names], schema=then.schema)


def _otherwise_named(now: pa.Table, then: pa.Table) -> int:
    """Count rows that name another person than what is known of their photo."""
    at = pc.index_in(now[ID], value_set=then[ID].combine_chunks())
    return pc.sum(pc.not_equal(now[SUBJECT], then[SUBJECT].take(at))).as_py() or 0


def _differ(one: pa.Table, other: pa.Table) -> pa.ChunkedArray:
    """(rows,) bool: photos whose size or version differs. Tables of the same photos."""
    same = pc.and_(*(pc.equal(one[name], other[name]) for name in _DATED))
    return pc.invert(pc.fill_null(same, False))


def _known_of(known: KnownPhotos | None, fresh: IdSort, waiting: pa.Table) -> Iterator[pa.Table]:
    """Iterate over what is known of the photos that are read tonight, by id."""
    if known is None:
        return iter(())
    if fresh.rows + waiting.num_rows > _FEW_ROWS:
        return known.tables()
    ids = pa.concat_arrays([*(t[ID].combine_chunks() for t in fresh.tables()), waiting[ID].combine_chunks()])
    return iter([known.find(ids.unique().sort())])


def _waiting(before: Folder | None) -> pa.Table:
    if before is None or not before.exists(WAITING):
        return pa.schema([(ID, pa.string()), (URI, pa.string()), (SUBJECT, pa.string())]).empty_table()
    table = read_table(before, WAITING)
    if SUBJECT not in table.column_names:
        table = table.append_column(SUBJECT, pa.nulls(len(table), pa.string()))
    return table.sort_by(ID)


def _todo_schema(fresh: pa.Schema, waiting: pa.Table) -> pa.Schema:
    """The columns of tonight's manifest: of the table, and of rows that wait to be tried again."""
    old = waiting.column_names
    shared = [pa.field(f.name, _type_of_both(f.type, waiting[f.name])) if f.name in old else f for f in fresh]
    own = (name for name in old if name not in fresh.names)
    return pa.schema([*shared, *(waiting.schema.field(name) for name in own)])


def _type_of_both(fresh: pa.DataType, waiting: pa.ChunkedArray) -> pa.DataType:
    """Choose the type of a column of the table and of rows that wait, which other files may have told."""
    wider = common(fresh, waiting.type)
    if wider is None:
        with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return waiting.cast(fresh).type
    return wider or waiting.type


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Fit a table to a schema; null where it has no value. Raises ManifestError: another type."""
    columns = []
    for wanted in schema:
        if wanted.name not in table.column_names or table[wanted.name].null_count == len(table):
            columns.append(pa.nulls(len(table), wanted.type))
            continue
        try:
            columns.append(table[wanted.name].cast(wanted.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise ManifestError(
                f"column {wanted.name} of the table is of another type than last night, and photos of last "
                "night are to be tried again",
                "write the column with one type",
            ) from None
    return pa.table(columns, schema=schema)


def _fitted_all(table: pa.Table, schema: pa.Schema) -> list[pa.Table]:
    return [_fitted(table, schema)]


def _state(file: ListFile) -> str:
    """A text that differs once the file has changed."""
    return f"{file.entry.version} {file.entry.bytes}"


def _digest(name: str) -> str:
    """A digest for the name of a file, which may hold the id of a person."""
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()

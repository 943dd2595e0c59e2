"""A published table: rows in immutable Parquet files, changed by exclusive creation of the next version.

A change is made of the newest version and committed after it, or made again from a newer one. Files that no
version names are removed after a commit, so that a writer that is still using them has to begin again.
"""

from __future__ import annotations

import math
import random
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from frpipe.core.errors import FrpipeError, OutputError, StorageError
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import as_table, read_whole
from frpipe.io.tables.delta import DeltaLog
from frpipe.io.tables.file_lists import FileLists
from frpipe.io.tables.ranges import Wanted
from frpipe.io.tables.state import NONE, DataFile, Log, State, fresh_name, is_data_file, now_ms

Layout = Literal["delta", "parquet"]
T = TypeVar("T")
TARGET_BYTES = 256 << 20
_TRIES = 200
# Files that are written anew in one version.
_WIDENED = 16
_LONGEST_PAUSE_S = 0.5
_ROWS_OF_A_GROUP, _ROWS_WITH_VECTORS = 131_072, 16_384
_OWN = re.compile(r"(?:[a-z_]+=[^/]+/)?part-[0-9a-f]{24}\.parquet")
# Small files of a partition from which on they are merged by themselves.
_MANY = 8
# How many times as large as all smaller ones a file may be to be merged with them; and in past partitions.
_ALIKE, _ALIKE_IN_PAST = 1, 4
# Rows that tell how much memory those of a file take.
_SAMPLE = 8192


@dataclass(frozen=True, slots=True)
class Change:
    """A proposed next version: the files that stay, new ones, and the runs that are in it."""

    state: State
    compaction: bool = False


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table in a folder of its own.

    sort_by: the order of the rows of a file.  ids: columns with Bloom filters.  partition_by: None, or a
    column of text that the files do not hold.
    """

    folder: Folder
    layout: Layout
    schema: pa.Schema
    sort_by: tuple[str, ...]
    ids: tuple[str, ...] = ()
    partition_by: str | None = None
    target_bytes: int = TARGET_BYTES

    @property
    def log(self) -> Log:
        """The documents of its versions."""
        return DeltaLog(self.folder) if self.layout == "delta" else FileLists(self.folder)

    def head(self) -> State:
        """Read the newest version; where there is none, it has the columns of a new table.

        Raises OutputError as `Log.head`, and where a column is missing that no row may lack.
        """
        found = self.log.head()
        if found.version != NONE:
            needed = [field for field in self.schema if not field.nullable]
            if lacking := [field.name for field in needed if not _has(found.schema, field)]:
                raise OutputError(
                    f"the table in {self.folder.uri} has no column {lacking[0]}, or one of another type",
                    "publish to another root, or bring the table back to a version that frpipe wrote",
                )
            return found
        by = (self.partition_by,) if self.partition_by else ()
        return replace(found, schema=self.schema, partition_by=by, table_id=str(uuid.uuid4()))

    def transact(self, change: Callable[[State], Change | None]) -> State:
        """Apply a change to the newest version and commit it; returns the version that then holds.

        `change` is called again with the newer version each time that another writer was first; it returns
        None where nothing has to be done. Raises StorageError where other writers were always first.
        """
        for attempt in range(_TRIES):
            base = self.head()
            try:
                made = change(base)
                if made is None:
                    return base
                made = replace(made, state=self._readable(made.state))
                if self.log.commit(base, made.state, compaction=made.compaction):
                    return replace(made.state, version=base.version + 1)
            except (FileNotFoundError, StorageError, OutputError):
                # Files of an older version are removed once there is a newer one.
                if self.head().version == base.version:
                    raise
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, 0.005 * 2 ** min(attempt, 8))))
        raise self._busy()

    def _busy(self) -> StorageError:
        return StorageError(
            f"other writers changed {self.folder.uri} first, {_TRIES} times", "run again when it is less busy"
        )

    def read(
        self,
        state: State,
        file: DataFile,
        columns: Sequence[str] | None = None,
        wanted: Wanted | None = None,
    ) -> pa.Table:
        """Read the rows of a file, with the columns of the version: those that the file lacks are null.

        wanted: with columns, the rows that matter; of a file that has none of them no row may be read.
        """
        if columns is None:
            table = read_whole(self.folder, file.path, as_table)
        else:
            table = self._columns(file, columns, wanted)
        return conformed(table, self._wanted(state, columns), file.partition)

    def _wanted(self, state: State, columns: Sequence[str] | None) -> pa.Schema:
        """Select columns of a version; one that it does not have yet is as in a new table."""
        if columns is None:
            return state.schema
        there = {*state.schema.names}
        return pa.schema([(state.schema if name in there else self.schema).field(name) for name in columns])

    def _columns(self, file: DataFile, columns: Sequence[str], wanted: Wanted | None) -> pa.Table:
        """Read those of some columns that a file has. One that cannot be read is read whole, to tell why."""
        try:
            with self.folder.open(file.path) as opened:
                parquet = pq.ParquetFile(opened, pre_buffer=False, page_checksum_verification=True)
                there = [name for name in columns if name in parquet.schema_arrow.names]
                if there and wanted is not None and not wanted.may_be_in(parquet.metadata):
                    return parquet.schema_arrow.empty_table().select(there)
                if there:
                    return parquet.read(there, use_threads=False)
        except FrpipeError:
            raise
        except (pa.ArrowInvalid, OSError):
            pass
        return read_whole(self.folder, file.path, as_table)

    def scan(
        self, state: State, columns: Sequence[str] | None = None, wanted: Wanted | None = None
    ) -> Iterator[tuple[DataFile, pa.Table]]:
        """Iterate over the files of a version with their rows. wanted: as for `read`."""
        for path in sorted(state.files):
            yield state.files[path], self.read(state, state.files[path], columns, wanted)

    def files_there(self, state: State) -> Iterator[DataFile]:
        """Iterate over the files of rows in the folder, those of older versions and of killed writers too."""
        for entry in self.folder.list():
            if entry.name in state.files:
                yield state.files[entry.name]
            elif _OWN.fullmatch(entry.name) or (entry.name in state.removed and is_data_file(entry.name)):
                name, _, value = entry.name.rpartition("/")[0].partition("=")
                yield DataFile(entry.name, entry.bytes, 0, {name: value} if name else {})

    def looked(self, look: Callable[[State], T]) -> T:
        """Look at the newest version, and again at a newer one whose writer has removed files meanwhile.

        Raises StorageError where other writers were always first.
        """
        for _ in range(_TRIES):
            head = self.head()
            try:
                return look(head)
            except (FileNotFoundError, StorageError, OutputError):
                if self.head().version == head.version:
                    raise
        raise self._busy()

    def rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read all rows of the newest version; for tables that fit into memory."""

        def look(state: State) -> pa.Table:
            tables = [table for _, table in self.scan(state, columns)]
            return pa.concat_tables(tables) if tables else self.empty(state, columns)

        return self.looked(look)

    def empty(self, state: State, columns: Sequence[str] | None = None) -> pa.Table:
        """Make a table without rows, with columns of a version."""
        return self._wanted(state, columns).empty_table()

    def write(self, schema: pa.Schema, tables: Iterable[pa.Table]) -> list[DataFile]:
        """Write rows to new files, sorted within each file; no version names them yet.

        A file is cut where its rows take the target in memory.  Memory: one file.
        """
        found: list[DataFile] = []
        held: dict[str, list[pa.Table]] = {}
        for table in tables:
            for key, part in self._parts(conformed(table, schema)):
                mine = held.setdefault(key, [])
                mine.append(part)
                if sum(each.nbytes for each in mine) >= self.target_bytes:
                    found.append(self._write_file(key, held.pop(key)))
        found += [self._write_file(key, parts) for key, parts in held.items()]
        return found

    def compact(self, *, every: bool = True) -> tuple[int, int]:
        """Merge small files into larger ones; returns how many were merged, and into how many.

        A file is small if it takes less than half of the target, and its rows do in memory, where they take
        several times as much without vectors. So what is merged is large, and is not merged again.
        every: whether to merge all small files, and not only those that are due.  Memory: the rows of one
        large file.
        """
        counts = [0, 0]

        def change(base: State) -> Change | None:
            counts[:] = [0, 0]
            state = base
            for group in self._groups(base, every=every):
                fresh = self.write(base.schema, (self.read(base, file) for file in group))
                state = edited(state, [file.path for file in group], fresh)
                counts[0] += len(group)
                counts[1] += len(fresh)
            return Change(state, compaction=True) if counts[0] else None

        self.transact(change)
        return counts[0], counts[1]

    def widen(self) -> int:
        """Write files anew that lack columns of the table, with nulls in them; returns how many.

        Readers of a folder take the columns of its first file, or refuse files that differ.  Memory: one
        file.
        """
        count = [0]

        def change(base: State) -> Change | None:
            lacking = (file for _, file in sorted(base.files.items()) if self._lacks(base, file))
            files = list(islice(lacking, _WIDENED))
            fresh = [each for file in files for each in self.write(base.schema, [self.read(base, file)])]
            count[0] = len(files)
            return Change(edited(base, [f.path for f in files], fresh), compaction=True) if files else None

        total = 0
        while self.transact(change) and count[0]:
            total += count[0]
        return total

    def vacuum(self, keep_ms: int = 0, *, barrier: bool = False) -> int:
        """Remove files that the newest version does not name; returns how many.

        keep_ms: how long files of older versions stay.  barrier: whether a version is committed in any case,
        so that a writer that works from an older one has to begin again; also where a writer was killed
        before the first. Of the files that other programs wrote, only those are removed that were replaced.
        """
        head = self.head()
        if head.version == NONE and not barrier:
            return 0
        found = [entry.name for entry in self.folder.list()]
        head = self.head()
        listed = [n for n in found if _OWN.fullmatch(n) or (n in head.removed and is_data_file(n))]
        if head.version == NONE and not listed:
            return 0
        if barrier or any(name not in head.files and name not in head.removed for name in listed):
            # The writer of a file that is not named yet works from an older version: it will write it anew.
            head = self.transact(lambda base: Change(edited(base)))
        since = now_ms() - keep_ms
        # The clock of another machine may be ahead: where no file is to stay, its times do not count.
        gone = [n for n in listed if n not in head.files and (not keep_ms or head.removed.get(n, 0) <= since)]
        self.folder.delete_all(gone)
        return len(gone)

    def _lacks(self, state: State, file: DataFile) -> bool:
        """Whether a file lacks columns of a version."""
        with self.folder.open(file.path) as opened:
            names = pq.read_schema(opened).names
        return not {*state.schema.names} - {*file.partition} <= {*names}

    def _readable(self, state: State) -> State:
        """Give a version without a file an empty one: readers of a folder need it for the columns."""
        if state.files or self.layout != "parquet":
            return state
        value = f"{datetime.now(UTC):%Y-%m}"
        folder = "" if self.partition_by is None else f"{self.partition_by}={value}"
        return edited(state, fresh=[self._write_file(folder, [state.schema.empty_table()])])

    def _groups(self, state: State, *, every: bool) -> Iterator[list[DataFile]]:
        """Group small files of a partition, each group for a large file."""
        folders: dict[str, list[DataFile]] = {}
        for file in sorted(state.files.values(), key=lambda each: (each.rows, each.path)):
            if file.bytes < self.target_bytes // 2:
                folders.setdefault(file.folder, []).append(file)
        newest = max((file.folder for file in state.files.values() if file.rows), default="")
        most = 0.0
        for folder, files in sorted(folders.items(), reverse=True):
            due = list if every else partial(_due, past=folder < newest)
            if len(due(files)) < 2:
                continue
            # Of one file: else each month that has ended would be opened by each publication.
            most = most or self._rows_of_a_file(state, files[-1])
            group: list[DataFile] = []
            for file in due([file for file in files if file.rows < most / 2]):
                then = [*group, file]
                if sum(f.bytes for f in then) > self.target_bytes or sum(f.rows for f in then) > most:
                    if len(group) > 1:
                        yield group
                    then = [file]
                group = then
            if len(group) > 1:
                yield group

    def _rows_of_a_file(self, state: State, file: DataFile) -> float:
        """Compute how many rows take the target in memory, by the first ones of the row groups of a file."""
        try:
            with self.folder.open(file.path) as opened:
                parquet = pq.ParquetFile(opened, pre_buffer=False, page_checksum_verification=True)
                groups = range(parquet.num_row_groups)
                batches = (parquet.iter_batches(_SAMPLE, [group], use_threads=False) for group in groups)
                samples = [pa.Table.from_batches(islice(each, 1), parquet.schema_arrow) for each in batches]
        except FrpipeError:
            raise
        except (pa.ArrowInvalid, OSError):
            # One that cannot be read is read whole, to tell why.
            samples = [read_whole(self.folder, file.path, as_table)]
        sizes = [(conformed(each, state.schema, file.partition).nbytes, len(each)) for each in samples]
        one = max((size / rows for size, rows in sizes if rows), default=0)
        return self.target_bytes / one if one else math.inf

    def _parts(self, table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        """Split rows by the folder of their partition."""
        if not table.num_rows:
            return
        if self.partition_by is None:
            yield "", table
            return
        for value in table[self.partition_by].unique().to_pylist():
            mine = pc.equal(table[self.partition_by], value)
            yield f"{self.partition_by}={value}", table.filter(mine)

    def _write_file(self, folder: str, tables: Sequence[pa.Table]) -> DataFile:
        table = pa.concat_tables(tables)
        partition = {}
        if self.partition_by is not None:
            partition = {self.partition_by: folder.partition("=")[2]}
            table = table.drop_columns([self.partition_by])
        order = [(name, "ascending") for name in self.sort_by]
        rows = pc.sort_indices(table.select(list(self.sort_by)), sort_keys=order)
        # What is left of a file is sorted: a copy would double it in memory.
        if not np.array_equal(rows, np.arange(len(rows))):
            table = table.take(rows)
        path = fresh_name(folder)
        data = encoded(table, self.ids)
        self.folder.write(path, data)
        return DataFile(path, len(data), table.num_rows, partition)


def edited(
    base: State,
    gone: Iterable[str] = (),
    fresh: Iterable[DataFile] = (),
    applied: Mapping[str, int] | None = None,
    schema: pa.Schema | None = None,
) -> State:
    """Make the next version: without the files `gone`, with the files `fresh`."""
    out = set(gone)
    return replace(
        base,
        schema=schema or base.schema,
        files={
            **{path: file for path, file in base.files.items() if path not in out},
            **{file.path: file for file in fresh},
        },
        removed={**base.removed, **dict.fromkeys(out, now_ms())},
        applied={**base.applied, **(applied or {})},
    )


def _due(files: list[DataFile], *, past: bool) -> list[DataFile]:
    """Select the small files of a partition that are merged by themselves: the smallest ones, if any.

    Where a file is merged, at least a part of its own size comes to it: each row is written a few times, and
    what is left are few files, each much larger than all smaller ones.

    files: from the smallest to the largest.  past: whether newer rows go to other partitions.
    """
    alike, count, rows = _ALIKE_IN_PAST if past else _ALIKE, 0, 0
    for number, file in enumerate(files, 1):
        if file.rows <= alike * rows:
            count = number
        rows += file.rows
    return files[:count] if past or len(files) >= _MANY else []


def conformed(table: pa.Table, schema: pa.Schema, partition: Mapping[str, str] | None = None) -> pa.Table:
    """Convert a table to the columns and types of a schema. Columns that it lacks are null.

    Raises OutputError where a value does not fit the type.
    """
    columns = []
    for field in schema:
        if partition and field.name in partition:
            column = pa.repeat(pa.scalar(partition[field.name], field.type), table.num_rows)
        elif field.name not in table.column_names:
            column = pa.nulls(table.num_rows, field.type)
        else:
            column = _cast(table[field.name], field)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def unified(old: pa.Schema, new: pa.Schema) -> pa.Schema:
    """Append the columns of `new` that a table lacks; these may be null."""
    there = {name.casefold() for name in old.names}
    fresh = [field.with_nullable(True) for field in new if field.name.casefold() not in there]
    return pa.schema([*old, *fresh])


def encoded(table: pa.Table, ids: Sequence[str]) -> bytes:
    """Encode a table as Parquet: vectors without compression and statistics, ids with Bloom filters."""
    vectors = [field.name for field in table.schema if _is_vector(field.type)]
    leaves = [(path, kind) for field in table.schema for path, kind in _leaves(field, field.name)]
    plain = {path for path, _ in leaves if path.split(".")[0] in vectors}
    sink = pa.BufferOutputStream()
    ndv = max(1, table.num_rows)
    pq.write_table(
        table.replace_schema_metadata(None),
        sink,
        row_group_size=_ROWS_WITH_VECTORS if vectors else _ROWS_OF_A_GROUP,
        compression={path: "NONE" if path in plain else "ZSTD" for path, _ in leaves},
        use_dictionary=[path for path, kind in leaves if pa.types.is_string(kind)],
        write_statistics=[path for path, _ in leaves if path not in plain],
        # With an index of pages no vector lies across two pages.
        write_page_index=True,
        write_page_checksum=True,
        bloom_filter_options={name: {"ndv": ndv, "fpp": 0.01} for name in ids} if ids else None,
    )
    return bytes(sink.getvalue())


def _has(schema: pa.Schema, field: pa.Field) -> bool:
    return field.name in schema.names and bool(schema.field(field.name).type == field.type)


def _is_vector(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_floating(kind.value_type))


def _leaves(field: pa.Field, path: str) -> Iterator[tuple[str, pa.DataType]]:
    kind = field.type
    if pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            yield from _leaves(kind.field(number), f"{path}.{kind.field(number).name}")
    elif pa.types.is_list(kind):
        yield from _leaves(kind.value_field, f"{path}.list.element")
    else:
        yield path, kind


def _cast(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if column.type == field.type:
        return column
    try:
        if pa.types.is_timestamp(column.type) and column.type.tz is None:
            column = column.cast(pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise OutputError(
            f"the column {field.name} is {field.type} in the tables, and values of {column.type} do not fit",
            f"leave it out: --without {field.name}; or publish to another root",
        ) from None

"""Sort tables by image ids on disk, and walk them side by side, in bounded memory.

Ids are compared byte by byte, in UTF-8, as object stores list them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.io.manifest.columns import ID
from frpipe.io.storage.failure import storage_error

BLOCK_ROWS = 1 << 14
"""Rows of a table on its way."""

# A run that is sorted in memory; a merge holds a block of each.
_RUN_ROWS = 1 << 19


class RowSpool:
    """A spool of rows in a file without a name, on the disk of temporary files; gone with the process."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.rows = 0
        self._file = tempfile.TemporaryFile(prefix="frpipe-")  # noqa: SIM115 - closed by `close`
        self._writer: pa.RecordBatchStreamWriter | None = pa.ipc.new_stream(
            pa.PythonFile(self._file, "w"), schema, options=pa.ipc.IpcWriteOptions(compression="lz4")
        )

    def add(self, table: pa.Table) -> None:
        """Write some rows behind the others."""
        assert self._writer is not None
        if table.num_rows:
            try:
                self._writer.write_table(table.select(self.schema.names), BLOCK_ROWS)
            except OSError as error:
                raise storage_error(error, tempfile.gettempdir()) from error
            self.rows += table.num_rows

    def tables(self) -> Iterator[pa.Table]:
        """Iterate over the rows in blocks, as they were written; nothing is added from now on."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._file.flush()
        self._file.seek(0)
        at = 0
        with pa.ipc.open_stream(pa.PythonFile(self._file, "r")) as stream:
            while True:
                try:
                    batch = stream.read_next_batch()
                except StopIteration:
                    return
                at = self._file.tell()
                yield pa.Table.from_batches([batch])
                self._file.seek(at)

    def table(self) -> pa.Table:
        """Read all rows at once: for what is known to be small."""
        return pa.concat_tables([self.schema.empty_table(), *self.tables()])

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()


class IdSort:
    """Sort rows of any number by `image_id`, and by `then` where ids are equal. Use it with `with`.

    Rows that are equal in both come out in the order in which they were added.

    Rows that come in order cost no sorting, whatever their number.
    """

    def __init__(self, schema: pa.Schema, then: Sequence[str] = ()) -> None:
        self._schema, self._by = schema, (ID, *then)
        self._held: list[pa.Table] = []
        self._held_rows = 0
        self._runs: list[RowSpool] = []
        self._last: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for run in self._runs:
            run.close()

    @property
    def rows(self) -> int:
        """The number of rows taken."""
        return self._held_rows + sum(run.rows for run in self._runs)

    def add(self, table: pa.Table) -> None:
        """Take some rows."""
        self._held.append(table)
        self._held_rows += table.num_rows
        if self._held_rows >= _RUN_ROWS:
            self._spill()

    def tables(self) -> Iterator[pa.Table]:
        """Iterate over all rows in order, in blocks; rows of one id are never in two of them."""
        self._spill()
        for found in side_by_side([run.tables() for run in self._runs]):
            there = [table for table in found if table.num_rows]
            yield there[0] if len(there) == 1 else in_order_of(pa.concat_tables(there), self._by)

    def _spill(self) -> None:
        if not self._held_rows:
            return
        table = in_order_of(pa.concat_tables(self._held).combine_chunks(), self._by)
        self._held, self._held_rows = [], 0
        first, last = _ends(table)
        # Strictly above: rows of one id stay in one run, next to each other.
        if self._last is None or first <= self._last:
            self._runs.append(RowSpool(self._schema))
        self._runs[-1].add(table)
        self._last = last


def in_order_of(table: pa.Table, by: Sequence[str]) -> pa.Table:
    """Order rows by some columns of texts; the same table where they are in order already."""
    ids = table[by[0]].combine_chunks()
    if pc.all(pc.less(ids[:-1], ids[1:]), min_count=0).as_py():
        return table
    if len(by) == 1 or pc.count_distinct(ids).as_py() == len(ids):
        by = by[:1]
        if len(ids) < 2 or pc.all(pc.less_equal(ids[:-1], ids[1:])).as_py():
            return table
    return table.take(pc.sort_indices(table, [(name, "ascending") for name in by]))


def side_by_side(sources: Sequence[Iterable[pa.Table]]) -> Iterator[list[pa.Table]]:
    """Walk sorted tables together: of each source the rows of one range of ids, range after range.

    Each source gives tables in order of `image_id`; one may give rows of an id in two tables that follow
    each other, and they come out together. Of each a few tables are held.
    """
    heads = [_Head(source) for source in sources]
    # Of each head, not only up to the first that has rows.
    while any([head.fill() for head in heads]):  # noqa: C419
        bound = min(head.last for head in heads if head.rows is not None and len(head.rows))
        yield [head.take(bound) for head in heads]


class _Head:
    """The head of one source: the next table, which ends where its last id ends."""

    def __init__(self, source: Iterable[pa.Table]) -> None:
        self._source = iter(source)
        self._ahead = self._next()
        self.rows: pa.Table | None = None
        self.last = ""

    def fill(self) -> bool:
        """Make sure that there are rows, if the source has any left; whether there are."""
        if self.rows is not None and len(self.rows):
            return True
        if self._ahead is None:
            return False
        found, self._ahead = [self._ahead], self._next()
        while self._ahead is not None and _ends(self._ahead)[0] == _ends(found[-1])[1]:
            found.append(self._ahead)
            self._ahead = self._next()
        self.rows = found[0] if len(found) == 1 else pa.concat_tables(found)
        self.last = _ends(self.rows)[1]
        return True

    def take(self, bound: str) -> pa.Table:
        """Take the rows up to an id, that included."""
        if self.rows is None:
            # A source without any row: its tables have no columns to speak of.
            return _NOTHING
        count = len(self.rows) if self.last <= bound else _count_up_to(self.rows[ID], bound)
        taken, self.rows = self.rows.slice(0, count), self.rows.slice(count)
        return taken

    def _next(self) -> pa.Table | None:
        return next((table for table in self._source if table.num_rows), None)


_NOTHING = pa.table({ID: pa.array([], pa.string())})


def _ends(table: pa.Table) -> tuple[str, str]:
    ids = table[ID]
    return ids[0].as_py(), ids[len(ids) - 1].as_py()


def _count_up_to(ids: pa.ChunkedArray, bound: str) -> int:
    """Count the sorted ids that are not above the bound."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        if ids[middle].as_py() <= bound:
            low = middle + 1
        else:
            high = middle
    return low

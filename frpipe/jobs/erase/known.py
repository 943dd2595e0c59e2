"""Erase people from the known photos of all nights: once, whatever the number of nights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from frpipe.core.errors import FileDamaged, OutputError
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order
from frpipe.io.storage.whole_file import as_table, read_whole
from frpipe.jobs.erase.columns import without
from frpipe.jobs.nightly.known_photos import rewrite_part

_AHEAD = 2


@dataclass(frozen=True)
class KnownErasure:
    """An erasure from the levels of known photos. Killed anywhere, it is completed by running it again.

    store: their folder.  check: raises where the lease is lost.
    """

    store: Folder
    ids: ErasedIds
    check: Callable[[], None] = lambda: None

    def run(self) -> int:
        """Rewrite the parts that name these people; returns the number of rows removed."""
        # Files that killed writers left half written may name these people.
        self.store.sweep(0)
        gone = 0
        for name, table in zip(self._names(), in_order(self._read, self._names(), _AHEAD), strict=True):
            kept = without(self.ids, table)
            if kept.num_rows < table.num_rows:
                self.check()
                rewrite_part(self.store, name, kept)
                gone += table.num_rows - kept.num_rows
        return gone

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Iterate over some columns of all parts, those of vanished photos too."""
        for table in in_order(self._read, self._names(), _AHEAD):
            yield table.select(columns)

    def _names(self) -> list[str]:
        return [entry.name for entry in self.store.list() if entry.name.endswith(".parquet")]

    def _read(self, name: str) -> pa.Table:
        try:
            return read_whole(self.store, name, as_table).replace_schema_metadata(None)
        except FileDamaged:
            raise OutputError(
                f"{name} in {self.store.uri} is damaged: whom it names cannot be told",
                "restore it from a backup; then this command again",
            ) from None

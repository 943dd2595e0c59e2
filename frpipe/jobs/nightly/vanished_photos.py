"""The photos that a night did not find, read from its list some at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.io.manifest.columns import ID
from frpipe.io.manifest.id_order import IdSort
from frpipe.io.output.plan import slices
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly.photos import VANISHED
from frpipe.jobs.nightly.tables import table_blocks

_ID = pa.schema([(ID, pa.string())])
# Ids that are held at a time: some dozen MB.
_HELD_ROWS = 1 << 20


@dataclass(frozen=True, slots=True)
class VanishedPhotos:
    """The list of vanished photos of a night.

    folder: of its scan.  count: of them.  digest: the SHA-256 of the JSON list of their sorted ids.
    """

    folder: Folder
    count: int
    digest: str

    @classmethod
    def of(cls, folder: Folder) -> VanishedPhotos | None:
        """Open the list; None where none has vanished. Raises OutputError: it is damaged."""
        found, count = hashlib.sha256(b"["), 0
        with IdSort(_ID) as ordered:
            for table in _blocks(folder):
                ordered.add(table)
            for table in ordered.tables():
                found.update(f"{', ' if count else ''}{json.dumps(table[ID].to_pylist())[1:-1]}".encode())
                count += len(table)
        found.update(b"]")
        return cls(folder, count, found.hexdigest()) if count else None

    def among(self, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """(rows,) bool: which of some ids have vanished."""
        hit = pa.chunked_array([pa.nulls(len(ids), pa.bool_()).fill_null(False)])
        if len(ids):
            for some in self.few() or self._sets():
                hit = pc.or_(hit, pc.is_in(ids, value_set=some))
        return hit

    def few(self) -> tuple[pa.Array, ...] | None:
        """Read their ids, once for the night that is being published; None where they are too many."""
        return _read(self) if self.count <= _HELD_ROWS else None

    def _sets(self) -> Iterator[pa.Array]:
        for table in slices(_blocks(self.folder), _HELD_ROWS):
            yield table[ID].combine_chunks()


def _blocks(folder: Folder) -> Iterator[pa.Table]:
    yield from table_blocks(folder, VANISHED, [ID]) if folder.exists(VANISHED) else ()


@lru_cache(maxsize=1)
def _read(photos: VanishedPhotos) -> tuple[pa.Array, ...]:
    return tuple(photos._sets())

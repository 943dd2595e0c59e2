"""Those of a gallery that probes are compared with: templates of a version, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.errors import GalleryError
from frpipe.gallery.catalog import ShardRef
from frpipe.gallery.means import Means
from frpipe.gallery.packed import hashes
from frpipe.gallery.schema import FIXED_COLUMNS, SUBJECT_ID, check_text
from frpipe.gallery.snapshot import Snapshot

Score = Literal["max", "mean"]
Block = tuple[pa.StringArray, NDArray[np.float32]]


class Lineup:
    """Blocks of subject ids and unit vectors, a shard each.

    where: attributes that a template must have.  score: what a person scores: the best of their templates, or
    the mean of all; for the latter a block holds one vector a person, the mean of theirs, not of length 1.
    hold_bytes: blocks that are slow to get (of an object store, or encrypted) are kept up to so much.
    """

    def __init__(
        self, snapshot: Snapshot, where: Mapping[str, str], score: Score = "max", hold_bytes: int = 0
    ) -> None:
        self._snapshot, self._where, self._score = snapshot, dict(where), score
        self._room, self._held = hold_bytes, dict[str, Block]()
        check_text(self._where.values())
        unknown = sorted(self._where.keys() - {*snapshot.attributes, *FIXED_COLUMNS})
        if unknown and self.shards:
            raise GalleryError(
                f"no template has {', '.join(map(repr, unknown))}",
                f"attributes: {', '.join(snapshot.attributes)}",
            )

    @property
    def shards(self) -> Sequence[ShardRef]:
        """The shards of the version."""
        return self._snapshot.version.shards

    @cached_property
    def rows(self) -> int:
        """Templates that are compared."""
        if not self._where:
            return self._snapshot.rows
        return sum(len(self._rows(ref)) for ref in self.shards)

    def blocks(self, some: slice = slice(None)) -> Iterator[Block]:
        """The blocks of some shards, or all; the next is fetched while one is used."""
        blocks = self._ahead(self.shards[some])
        if self._score == "max":
            yield from blocks
            return
        means = Means(self._spanning)
        for subject_ids, vectors in blocks:
            yield means.add(subject_ids, vectors)
        yield means.rest()

    def _ahead(self, refs: Sequence[ShardRef]) -> Iterator[Block]:
        with ThreadPoolExecutor(1, "lineup") as pool:
            waiting = [pool.submit(self._block, ref) for ref in refs[:1]]
            for number in range(len(refs)):
                block = waiting.pop().result()
                waiting += [pool.submit(self._block, ref) for ref in refs[number + 1 : number + 2]]
                yield block

    def _block(self, ref: ShardRef) -> Block:
        if ref.name in self._held:
            return self._held[ref.name]
        shard = self._snapshot.open(ref)
        ids, vectors = shard.text(SUBJECT_ID), shard.vectors()
        if self._where or ref.deleted is not None:
            rows = self._rows(ref)
            ids, vectors = ids.take(pa.array(rows)), vectors[rows]
        block = ids, vectors.astype(np.float32, copy=False)
        if ref.bytes <= self._room:
            self._room -= ref.bytes
            self._held[ref.name] = block
        return block

    def _rows(self, ref: ShardRef) -> NDArray[np.int64]:
        """Row numbers of a shard that are in sight and wanted, ascending."""
        live = self._snapshot.live_rows(ref)
        rows = np.arange(ref.rows) if live is None else live
        if not self._where:
            return rows
        shard = self._snapshot.open(ref, vectors=False)
        table = shard.table([*self._where], rows)
        masks = [pc.equal(table[name].cast(pa.string()), value) for name, value in self._where.items()]
        wanted = np.logical_and.reduce([pc.fill_null(m, False).to_numpy().astype(bool) for m in masks])
        return rows[wanted]

    @cached_property
    def _spanning(self) -> NDArray[np.uint64]:
        """Hashes of the ids that come in more than one shard, ascending; 8 bytes of memory a person."""
        seen = [
            np.unique(hashes(self._snapshot.open(ref, vectors=False).text(SUBJECT_ID).take(pa.array(rows))))
            for ref in self.shards
            if len(rows := self._rows(ref))
        ]
        if not seen:
            return np.zeros(0, np.uint64)
        values, counts = np.unique(np.concatenate(seen), return_counts=True)
        several: NDArray[np.uint64] = values[counts > 1]
        return several

"""Iterate, block by block, over the templates of a gallery version to search."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.distinct import are_among, distinct
from frpipe.core.errors import GalleryError
from frpipe.gallery.catalog import ShardRef
from frpipe.gallery.hash_spill import HashSpill
from frpipe.gallery.packed import hashes
from frpipe.gallery.schema import EMBEDDING, FIXED_COLUMNS, SUBJECT_ID, canonical_where
from frpipe.gallery.snapshot import Snapshot

Score = Literal["max", "mean"]
Block = tuple[pa.StringArray, NDArray[np.float32]]
Rows = NDArray[np.int64]
Located = tuple[ShardRef, Rows | None, Block]
"""A block, the shard that it is of, and which rows of it, ascending; None: all."""


class Means:
    """Mean vectors of people: at once for people within one block, at the end for others.

    The inner product with a mean is the mean of the inner products: a mean is not made a unit vector.
    spanning: hashes of the ids that may be in several blocks, ascending. Their sums are held to the end:
    8 bytes for each number, so 4 KB for each person at 512.
    """

    def __init__(self, spanning: NDArray[np.uint64]) -> None:
        self._spanning = spanning
        self._sums: dict[str, tuple[NDArray[np.float64], int]] = {}
        self._dim = 0

    def add(self, subject_ids: pa.StringArray, vectors: NDArray[np.float32]) -> Block:
        """Add a block of templates: (n,) ids and (n, dim). Returns (people,) ids and (people, dim) means."""
        self._dim = vectors.shape[1]
        if not len(subject_ids):
            return subject_ids, vectors
        names = pc.dictionary_encode(subject_ids)
        order = np.argsort(names.indices.to_numpy(), kind="stable")
        counts = np.bincount(names.indices.to_numpy())
        starts = np.cumsum(counts) - counts
        sums = np.add.reduceat(vectors[order], starts, axis=0, dtype=np.float64)
        later = are_among(hashes(names.dictionary), self._spanning)
        for person in np.flatnonzero(later):
            self._keep(names.dictionary[int(person)].as_py(), sums[person], int(counts[person]))
        now = np.flatnonzero(~later)
        means = (sums[now] / counts[now, None]).astype(np.float32)
        return names.dictionary.take(pa.array(now)), means

    @property
    def waiting(self) -> bool:
        """Whether people with templates in several blocks are left."""
        return bool(self._sums)

    def rest(self) -> Block:
        """Means of the people with templates in several blocks."""
        means = [total / count for total, count in self._sums.values()]
        ids = pa.array(list(self._sums), pa.string())
        return ids, np.array(means, np.float32).reshape(len(ids), self._dim)

    def _keep(self, subject_id: str, total: NDArray[np.float64], count: int) -> None:
        kept, known = self._sums.get(subject_id, (np.zeros_like(total), 0))
        self._sums[subject_id] = kept + total, known + count


class SearchView:
    """Templates to search: blocks of subject ids and unit vectors, one for each shard with any of them.

    where: attributes that a template must have.  score: what a person scores: the best of their templates, or
    the mean of all; for the latter a block holds one vector a person, the mean of theirs, not of length 1.
    hold_bytes: size up to which to keep blocks of which this process has a copy anyway (fetched without a
    cache of the node, or decrypted).

    Memory: two blocks, those that are held, and 8 bytes a template where some are deleted or not wanted.
    Raises GalleryError for an attribute that no template has.
    """

    def __init__(
        self, snapshot: Snapshot, where: Mapping[str, str], score: Score = "max", hold_bytes: int = 0
    ) -> None:
        self._snapshot, self._where, self._score = snapshot, canonical_where(where), score
        self._room, self._held = hold_bytes, dict[str, Block]()
        self._known: dict[str, Rows | None] = {}
        known = {*snapshot.attributes, *FIXED_COLUMNS} - {EMBEDDING}
        unknown = sorted(self._where.keys() - known)
        if unknown and self.shards:
            raise GalleryError(
                f"no template has {', '.join(map(repr, unknown))}",
                f"attributes: {', '.join(snapshot.attributes) or 'none'}",
            )

    @property
    def shards(self) -> Sequence[ShardRef]:
        """The shards of the version."""
        return self._snapshot.version.shards

    @cached_property
    def rows(self) -> int:
        """Number of templates that are compared."""
        if not self._where:
            return self._snapshot.rows
        return sum(_count(ref, self._rows(ref)) for ref in self.shards)

    @property
    def subjects(self) -> int:
        """Number of people who are compared. Reads all ids."""
        return self._census[0]

    def blocks(self, some: slice = slice(None)) -> Iterator[Block]:
        """Iterate over the blocks of some shards, or all; the next is fetched while one is used."""
        return (block for _, block in self.named_blocks(some))

    def named_blocks(
        self, some: slice = slice(None), *, backward: bool = False
    ) -> Iterator[tuple[Hashable, Block]]:
        """Iterate over blocks with names, the same in every search of these shards; None: no name.

        backward: start with the last shard, except with means. A search that alternates starts with the
        shards that were read last, so that less is fetched again if not all is kept.
        """
        refs = self.shards[some]
        if self._score == "max":
            for ref, block in self._ahead(refs[::-1] if backward else refs):
                if block is not None:
                    yield ref.name, block
            return
        means = Means(self._census[1])
        for ref, block in self._ahead(refs):
            if block is not None:
                yield ref.name, means.add(*block)
        if means.waiting:
            yield (some.start, some.stop), means.rest()

    def located(self, refs: Sequence[ShardRef]) -> Iterator[Located]:
        """Iterate over some shards in this order, a block each; the next is fetched while one is used."""
        for ref, block in self._ahead(refs):
            if block is not None:
                yield ref, self._rows(ref), block

    @property
    def snapshot(self) -> Snapshot:
        """The version that is searched."""
        return self._snapshot

    def _ahead(self, refs: Sequence[ShardRef]) -> Iterator[tuple[ShardRef, Block | None]]:
        with ThreadPoolExecutor(1, "search_view") as pool:
            waiting = [pool.submit(self._block, ref) for ref in refs[:1]]
            for number, ref in enumerate(refs):
                block = waiting.pop().result()
                waiting += [pool.submit(self._block, ref) for ref in refs[number + 1 : number + 2]]
                yield ref, block
                self._snapshot.check_cache()

    def _block(self, ref: ShardRef) -> Block | None:
        if ref.name in self._held:
            return self._held[ref.name]
        rows = self._rows(ref)
        if not _count(ref, rows):
            return None
        shard = self._snapshot.open(ref)
        ids, stored = shard.text(SUBJECT_ID), shard.vectors()
        if rows is not None:
            ids, stored = ids.take(pa.array(rows)), stored[rows]
        vectors = stored.astype(np.float32, copy=False)
        # Check while the shard is mapped: a copy could not be checked later.
        self._snapshot.check_cache()
        # A block that is no copy of some rows is a view, which keeps the whole file in memory.
        size = ids.nbytes + vectors.nbytes if rows is not None else ref.bytes
        size += vectors.nbytes if rows is None and vectors is not stored else 0
        if shard.content.in_memory and size <= self._room:
            self._room -= size
            self._held[ref.name] = ids, vectors
        return ids, vectors

    def _rows(self, ref: ShardRef) -> Rows | None:
        """Row numbers of a shard that are visible and wanted, ascending; None: all."""
        if ref.name not in self._known:
            self._known[ref.name] = self._wanted(ref, self._snapshot.live_rows(ref))
        return self._known[ref.name]

    def _wanted(self, ref: ShardRef, live: Rows | None) -> Rows | None:
        if not self._where:
            return live
        rows = np.arange(ref.rows) if live is None else live
        table = self._snapshot.table_of(ref, [*self._where], rows, vectors=False)
        masks = [pc.equal(table[name].cast(pa.string()), value) for name, value in self._where.items()]
        return rows[np.logical_and.reduce([pc.fill_null(mask, False).to_numpy() for mask in masks])]

    @cached_property
    def _census(self) -> tuple[int, NDArray[np.uint64]]:
        """Number of people, and sorted hashes of those with templates in several shards."""
        people, spanning = 0, [np.zeros(0, np.uint64)]
        with HashSpill() as spill:
            for ref in self.shards:
                spill.add(distinct(self._snapshot.subject_hashes(ref, self._rows(ref))))
            for parts in spill.ranges():
                values, counts = np.unique(np.concatenate(parts), return_counts=True)
                people += len(values)
                spanning.append(values[counts > 1])
        return people, np.concatenate(spanning)


def _count(ref: ShardRef, rows: Rows | None) -> int:
    return ref.rows if rows is None else len(rows)

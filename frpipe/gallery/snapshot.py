"""Snapshot of a gallery: one version, which later changes do not affect."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.distinct import distinct, without
from frpipe.core.errors import GalleryError
from frpipe.core.text import canonical_text
from frpipe.gallery.byte_ranges import Guarded
from frpipe.gallery.catalog import Catalog, Purged, ShardRef, Version, VersionId
from frpipe.gallery.document import damaged
from frpipe.gallery.hash_spill import HashSpill
from frpipe.gallery.packed import hashes
from frpipe.gallery.schema import (
    EMBEDDING,
    FACE_ID,
    FIXED_COLUMNS,
    SUBJECT_ID,
    canonical_where,
    check_text,
    template_schema,
    union,
)
from frpipe.gallery.shard import Shard
from frpipe.gallery.shard_index import Kind
from frpipe.gallery.shard_store import ShardStore

# Rows of a shard to read first for a list of its first people.
_FIRST_ROWS = 128


@dataclass(frozen=True, slots=True)
class _Page:
    """What a page of a list takes: columns, and the first so many people after an id, with attributes."""

    names: Sequence[str]
    people: int
    wanted: Mapping[str, str]
    after: str


class Snapshot:
    """An immutable view of one version of a gallery. Get one from `Gallery.snapshot`.

    Memory: one shard at a time. Rows within a shard are sorted by (subject_id, face_id); a person's
    templates may lie in several shards. If a compaction removes files meanwhile, reading raises GalleryError.

    Texts are in Unicode NFC, except `image_uri`. A gallery of older code may store one id in two forms: that
    is one id here, and its rows are sorted as they are stored.
    """

    def __init__(self, catalog: Catalog, shard_store: ShardStore, gallery_id: str, version: Version) -> None:
        self._catalog, self._store, self._gallery_id = catalog, shard_store, gallery_id
        self.version = version

    @property
    def number(self) -> int:
        """Number of the version."""
        return self.version.number

    @property
    def id(self) -> VersionId:
        """Identity of the version's content."""
        return VersionId(self._gallery_id, self.version.number, self.version.commit)

    @property
    def rows(self) -> int:
        """Number of visible templates."""
        return self.version.rows

    @cached_property
    def subjects(self) -> int:
        """Number of people with visible templates. Reads all ids, or 12 bytes a template of indexes."""
        with HashSpill() as spill:
            for ref in self.version.shards:
                spill.add(distinct(self.subject_hashes(ref, self.live_rows(ref))))
            return sum(len(distinct(np.concatenate(parts))) for parts in spill.ranges())

    def subject_hashes(self, ref: ShardRef, rows: NDArray[np.int64] | None) -> NDArray[np.uint64]:
        """Read the hashes of the people of some rows of a shard; None: of all rows."""
        found = self._store.subject_hashes(ref)
        if found is None:
            found = hashes(self.open(ref, vectors=False).text(SUBJECT_ID))
        return found if rows is None else found[rows]

    @cached_property
    def attributes(self) -> list[str]:
        """Names of all attributes, sorted."""
        return union(map(canonical_text, ref.attributes) for ref in self.version.shards)

    @cached_property
    def columns(self) -> list[str]:
        """All columns but `embedding`: the fixed ones in their order, then the attributes."""
        return [name for name in FIXED_COLUMNS if name != EMBEDDING] + self.attributes

    def tables(self, columns: Sequence[str] | None = None, *, vectors: bool = True) -> Iterator[pa.Table]:
        """Iterate over visible templates, one table for each shard, with all attributes or `columns`.

        vectors: whether `embedding` comes along (float32; read as float16 where so stored). Without it the
        vectors are not read.
        """
        names = self._names(columns)
        for ref in self.version.shards:
            yield self.table_of(ref, names, vectors=vectors)

    def vectors(self) -> Iterator[tuple[pa.StringArray, NDArray[np.float32]]]:
        """Iterate over shards: subject ids, and their (n, dim) float32 unit vectors for matching.

        Vectors are a view of the mapped file if the shard has no deletions and holds float32.
        """
        for ref in self.version.shards:
            shard, rows = self.open(ref), self.live_rows(ref)
            ids, vectors = shard.text(SUBJECT_ID), shard.vectors()
            if rows is not None:
                ids, vectors = ids.take(pa.array(rows)), vectors[rows]
            yield ids, vectors.astype(np.float32, copy=False)

    def list(self, where: Mapping[str, str] | None = None) -> Iterator[pa.Table]:
        """Iterate over the templates whose attributes equal `where`: all columns except the vector.

        Raises GalleryError for a name that no template of this version has.
        """
        wanted = self._wanted(where)
        for table in self.tables(vectors=False):
            yield _filtered(table, wanted)

    def list_first(
        self,
        people: int,
        where: Mapping[str, str] | None = None,
        after: str = "",
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.Table]:
        """Iterate as `list` over rows that include those of the first so many people with ids after `after`.

        Of a shard with an index at most a few times as many rows are read, unless `where` leaves most out.
        columns: those to read, beside those of `where`.
        """
        wanted = self._wanted(where)
        names = [name for name in self.columns if columns is None or name in {*columns, *wanted}]
        page = _Page(names, people, wanted, canonical_text(after))
        last: str | None = None
        # Largest shard first: the more people it has, the fewer of the others can be among the first.
        for ref in sorted(self.version.shards, key=lambda ref: -ref.live_rows):
            index = self._store.index(ref)
            if index is None or not index.ordered:
                yield _filtered(self.table_of(ref, names, vectors=False), wanted)
                continue
            tables, ids = self._first(ref, page, last)
            yield from tables
            full = ids[people - 1] if len(ids) >= people > 0 else None
            last = min(filter(None, (last, full)), default=None)

    def _first(
        self, ref: ShardRef, page: _Page, last: str | None
    ) -> tuple[Sequence[pa.Table], Sequence[str]]:
        """Read the rows of the first people of a shard, with ids after `page.after` and up to `last`.

        Returns the rows, and the ids of these people, ascending.
        """
        shard = self.open(ref, vectors=False)
        start = shard.first_after(page.after) if page.after else 0
        hidden, seen = self.deleted_rows(ref), dict[str, None]()
        found = []
        size, beyond = max(_FIRST_ROWS, 2 * page.people), False
        # One person more than is asked for: of the last one there may be further rows.
        while start < ref.rows and not beyond and len(seen) <= page.people:
            end = min(start + size, ref.rows)
            if last is not None:
                within = bisect_right(shard.text(SUBJECT_ID, [(start, end)]).to_pylist(), last)
                beyond, end = start + within < end, start + within
            rows = np.arange(start, end, dtype=np.int64)
            rows = without(rows, hidden) if hidden.size else rows
            if rows.size:
                found.append(_filtered(shard.table(page.names, rows), page.wanted))
                seen |= dict.fromkeys(found[-1][SUBJECT_ID].to_pylist())
            start, size = end, 2 * size
        self.check_cache()
        return found, tuple(seen)

    def _wanted(self, where: Mapping[str, str] | None) -> dict[str, str]:
        """Attributes that rows must have, in NFC. Raises GalleryError for a name that no template has."""
        wanted = canonical_where(where or {})
        unknown = sorted(wanted.keys() - {*self.attributes, *FIXED_COLUMNS})
        if unknown and self.version.shards:
            raise GalleryError(
                f"no template has {', '.join(map(repr, unknown))}",
                f"attributes: {', '.join(self.attributes)}",
            )
        return wanted

    def show(self, subject_id: str, *, vectors: bool = False) -> pa.Table:
        """Read all templates of a person; a table without rows if there is none."""
        check_text([subject_id])
        subject_id = canonical_text(subject_id)
        names = self._names(None)
        found = [
            self.table_of(ref, names, rows, vectors=vectors)
            for ref, rows in self.rows_of_subjects(pa.array([subject_id]))
        ]
        return pa.concat_tables(found) if found else self._empty(vectors)

    def rows_of_subjects(self, subject_ids: pa.Array) -> Iterator[tuple[ShardRef, NDArray[np.int64]]]:
        """Find the visible rows of some people, ascending, in each shard that has any. Ids: in NFC."""
        wanted = hashes(subject_ids)
        for ref in self.version.shards:
            rows = self.candidates(ref, "subjects", wanted)
            if rows.size:
                ids = self.table_of(ref, [SUBJECT_ID], rows, vectors=False)[SUBJECT_ID]
                rows = rows[pc.is_in(ids, value_set=subject_ids).to_numpy()]
            if rows.size:
                yield ref, rows

    def candidates(self, ref: ShardRef, kind: Kind, wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Find all visible rows of a shard, ascending, of people or photos whose ids have these hashes.

        There may be others among them; without an index these are all rows.
        """
        rows = self._store.find(ref, kind, wanted)
        if rows is None:
            live = self.live_rows(ref)
            return np.arange(ref.rows, dtype=np.int64) if live is None else live
        return rows if ref.deleted is None or not rows.size else without(rows, self.deleted_rows(ref))

    def open(self, ref: ShardRef, *, vectors: bool = True) -> Shard:
        """Open a shard of this version."""
        try:
            shard = self._store.open(ref, vectors=vectors)
        except FileNotFoundError:
            raise self._gone(ref.name) from None
        return replace(shard, content=Guarded(shard.content, lambda: self._gone(ref.name)), canonical=True)

    def check_cache(self) -> None:
        """Raise StorageError if a shard in the node's cache was changed while it is in use."""
        self._store.check_cache()

    def live_rows(self, ref: ShardRef) -> NDArray[np.int64] | None:
        """Row numbers of a shard that are visible, ascending; None: all."""
        return None if ref.deleted is None else np.delete(np.arange(ref.rows), self.deleted_rows(ref))

    def table_of(
        self,
        ref: ShardRef,
        columns: Sequence[str] | None = None,
        rows: NDArray[np.int64] | None = None,
        *,
        vectors: bool,
        as_stored: bool = False,
    ) -> pa.Table:
        """Read some rows of a shard, or all visible ones. as_stored: leave texts in their Unicode form."""
        names = self._names(None) if columns is None else columns
        taken = self.live_rows(ref) if rows is None else rows
        shard = replace(self.open(ref, vectors=vectors), canonical=not as_stored)
        table = shard.table(names, taken, vectors=vectors)
        self.check_cache()
        return table

    def stored_keys(self) -> Iterator[pa.Table]:
        """Iterate over the keys of visible templates, a shard each, in their stored Unicode form."""
        for ref in self.version.shards:
            yield self.table_of(ref, [SUBJECT_ID, FACE_ID], vectors=False, as_stored=True)

    def deleted_rows(self, ref: ShardRef) -> NDArray[np.int64]:
        """Row numbers of a shard that are hidden, ascending."""
        try:
            return self._store.deleted_rows(ref)
        except FileNotFoundError:
            raise self._gone(ref.deleted.name if ref.deleted else ref.name) from None

    def _gone(self, name: str) -> GalleryError:
        """Error for a missing file: a compaction removed it, or the gallery is damaged."""
        if self._catalog.head().purged >= self.number:
            return Purged.while_read(self.number)
        return damaged(name, "it is missing")

    def _names(self, columns: Sequence[str] | None) -> Sequence[str]:
        known = self.columns
        if columns is None:
            return known
        unknown = [name for name in columns if name not in known and name != EMBEDDING]
        if unknown and self.version.shards:
            raise GalleryError(f"there is no column {unknown[0]!r}", f"columns: {', '.join(known)}")
        return [name for name in columns if name != EMBEDDING]

    def _empty(self, vectors: bool) -> pa.Table:
        return template_schema(self._store.dim, self.attributes, vectors=vectors).empty_table()


def _filtered(table: pa.Table, wanted: Mapping[str, str]) -> pa.Table:
    if not wanted:
        return table
    masks = [pc.equal(table.column(name).cast(pa.string()), value) for name, value in wanted.items()]
    mask = masks[0]
    for other in masks[1:]:
        mask = pc.and_(mask, other)
    return table.filter(mask)

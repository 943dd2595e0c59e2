"""Compact a gallery: remove deleted rows for good, join small shards, purge older versions."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.gallery.catalog import ShardRef, entry_of
from frpipe.gallery.commit import Proposal, transact
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.outcome import Outcome
from frpipe.gallery.schema import EMBEDDING, FACE_ID, SUBJECT_ID, vectors_of
from frpipe.gallery.shard_writer import ShardWriter
from frpipe.gallery.snapshot import Snapshot


def compact(gallery: Gallery, *, note: str = "") -> Outcome:
    """Rewrite shards that have deleted rows, join small ones, then purge all that the result does not need.

    After it no file of the gallery holds a byte of a deleted vector or id, and no older version can be read;
    the log keeps a receipt. Readers of older versions get a GalleryError. A writer at work loses its attempt
    and starts again. After a crash, the same call finishes.
    """
    stale: set[str] = set()
    rows = 0

    def change(snapshot: Snapshot) -> Proposal | None:
        nonlocal rows
        # The order matters: what is listed here was there before the commit below, so that a writer that
        # wrote it without naming it has a base that is older than this commit, and will write it anew.
        present = gallery.shard_store.names()
        shards, rewritten = _rewritten(gallery, snapshot)
        stale.clear()
        stale.update(present - _named(shards))
        rows = sum(ref.deleted.rows for ref in snapshot.version.shards if ref.deleted)
        older = [n for n in gallery.catalog.numbers() if n != snapshot.number]
        if not (stale or rewritten or older):
            return None
        counts = {"rows": snapshot.rows, "deleted": rows, "rewritten": rewritten, "files": len(stale)}
        return Proposal(shards, entry_of("compact", note, counts), purging=True)

    version = transact(gallery, change)
    for number in gallery.catalog.numbers():
        if number <= version.purged:
            gallery.catalog.retire(number)
    for name in sorted(stale):
        gallery.shard_store.remove(name)
    gallery.shard_store.sweep()
    return Outcome(version.number, deleted=rows, shards=len(version.shards))


def _rewritten(gallery: Gallery, snapshot: Snapshot) -> tuple[list[ShardRef], int]:
    """The shards of a compact gallery, and how many of the old ones were rewritten for it."""
    shards: list[ShardRef] = []
    futures, rewritten = [], 0
    with ShardWriter(gallery.shard_store) as sink:
        for group in _groups(snapshot.version.shards, gallery.spec.rows_per_shard):
            if len(group) == 1 and group[0].deleted is None:
                shards.append(group[0])
                continue
            futures.append(_rewrite(snapshot, group, sink))
            rewritten += len(group)
    return [*shards, *(future.result() for future in futures)], rewritten


def _groups(shards: tuple[ShardRef, ...], full: int) -> Iterator[list[ShardRef]]:
    """Group shards that become one.

    Those at least half full stay alone, smaller ones share up to a full one.
    """
    group: list[ShardRef] = []
    for ref in sorted(shards, key=lambda ref: (ref.live_rows, ref.name)):
        if group and sum(other.live_rows for other in group) + ref.live_rows > full:
            yield group
            group = []
        if 2 * ref.live_rows >= full:
            yield [ref]
        else:
            group.append(ref)
    if group:
        yield group


def _rewrite(snapshot: Snapshot, group: list[ShardRef], sink: ShardWriter) -> Future[ShardRef]:
    """Write the visible rows of some shards as one shard. The table is freed before the next."""
    table = _joined(snapshot, group)
    return sink.add(table.drop_columns([EMBEDDING]), vectors_of(table))


def _joined(snapshot: Snapshot, group: list[ShardRef]) -> pa.Table:
    names = [name for name in snapshot.columns if name not in snapshot.attributes]
    names += sorted({name for ref in group for name in ref.attributes})
    tables = [snapshot.table_of(ref, names, vectors=True, as_stored=True) for ref in group]
    if len(tables) == 1:
        return tables[0]
    table = pa.concat_tables(tables)
    keys = [(SUBJECT_ID, "ascending"), (FACE_ID, "ascending")]
    order = pc.sort_indices(table.select([SUBJECT_ID, FACE_ID]), sort_keys=keys).to_numpy().astype(np.int64)
    return table.take(pa.array(order))


def _named(shards: list[ShardRef]) -> set[str]:
    return {ref.name for ref in shards} | {ref.deleted.name for ref in shards if ref.deleted}

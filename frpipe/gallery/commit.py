"""Commit changes to a gallery: from the head to the next version, or start again. See ADR 8."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from frpipe.core.distinct import merged, without
from frpipe.core.errors import GalleryConflict, StorageError
from frpipe.gallery.catalog import LogEntry, Purged, ShardRef, Version, subject_digest
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import SUBJECT_ID
from frpipe.gallery.shard_store import DELETED, ShardStore, files_of
from frpipe.gallery.snapshot import Snapshot

_TRIES = 100
_LONGEST_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed next version: its shards and its log entry. purged, unnamed: as in `Version`."""

    shards: list[ShardRef]
    entry: LogEntry
    purged: int = 0
    unnamed: tuple[str, ...] = ()


def transact(
    gallery: Gallery, change: Callable[[Snapshot], Proposal | None], written: set[str] | None = None
) -> Version:
    """Apply a change to the newest version and commit its proposal. Returns the version that then holds.

    `change` is called again, with the newer version, each time that another writer was first, or a compaction
    has removed what it was reading or writing. None means that nothing has to be done. Raises GalleryConflict
    when others were first a hundred times.

    written: names of the files that all attempts have written, to which `change` adds. At the end, also at
    one by an error, those that the version does not name are removed: no other will name them. Lists of
    deleted rows are of one attempt, and go before the next.
    """
    written = set() if written is None else written
    named: Sequence[ShardRef] = ()
    try:
        for attempt in range(_TRIES):
            # A compaction that finds lists of lost attempts notes them, in a version, so that this one loses.
            _remove(gallery, written, {name for name in written if name.startswith(DELETED)})
            snapshot = gallery.snapshot()
            try:
                proposal = change(snapshot)
            except Purged:
                continue
            if proposal is None:
                named = snapshot.version.shards
                return snapshot.version
            following = snapshot.version.followed_by(
                proposal.shards, proposal.entry, purged=proposal.purged, unnamed=proposal.unnamed
            )
            following = replace(following, suppressed=gallery.suppressions.documents())
            # A commit that ends with an error may have been made all the same.
            named = following.shards
            if gallery.catalog.commit(following):
                return following
            named = ()
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, 0.002 * 2 ** min(attempt, 10))))
        raise GalleryConflict(
            f"other writers changed the gallery first, {_TRIES} times", "run again when it is less busy"
        )
    finally:
        _remove(gallery, written, written - files_of(named))


def _remove(gallery: Gallery, written: set[str], gone: set[str]) -> None:
    """Remove some of the files that were written, which no version will name.

    What storage refuses to remove is left for a compaction, as what a killed writer has written.
    """
    if gone:
        with suppress(StorageError):
            gallery.shard_store.remove(gone)
            written -= gone


def hide_rows(
    snapshot: Snapshot, shard_store: ShardStore, gone: Mapping[str, NDArray[np.int64]], written: set[str]
) -> list[ShardRef]:
    """Hide further rows of a snapshot; returns its shards. gone: row numbers, by the shard's name.

    A shard without a visible row is left out. written: gets the names of the files that are written.
    """
    shards = []
    for ref in snapshot.version.shards:
        rows = gone.get(ref.name)
        if rows is None or not len(rows):
            shards.append(ref)
        elif len(rows) < ref.live_rows:
            hidden = merged(snapshot.deleted_rows(ref), rows)
            deleted = shard_store.write_deleted(hidden)
            written.add(deleted.name)
            shards.append(replace(ref, deleted=deleted))
    return shards


def gone_digests(gallery_id: str, snapshot: Snapshot, after: Iterable[ShardRef]) -> set[str]:
    """Digests of the subjects with a row that is visible in the snapshot and not in the shards `after`.

    Reads the ids of the shards that differ. Rows are identified by shard and number, so all rows of a shard
    that was rewritten count as gone.
    """
    later = {ref.name: ref for ref in after}
    digests: set[str] = set()
    for ref in snapshot.version.shards:
        now = later.get(ref.name)
        if now == ref:
            continue
        hidden = np.arange(ref.rows) if now is None else snapshot.deleted_rows(now)
        rows = without(hidden, snapshot.deleted_rows(ref))
        if rows.size:
            subjects = snapshot.table_of(ref, [SUBJECT_ID], rows, vectors=False)[SUBJECT_ID]
            digests.update(subject_digest(gallery_id, subject) for subject in subjects.unique().to_pylist())
    return digests

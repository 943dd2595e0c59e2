"""Compact a gallery: remove deleted rows for good, join small shards, purge older versions."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.gallery.catalog import ShardRef, Version, entry_of
from frpipe.gallery.commit import Proposal, transact
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.outcome import Outcome
from frpipe.gallery.schema import EMBEDDING, FACE_ID, SUBJECT_ID, vectors_of
from frpipe.gallery.shard_store import is_of_a_writer
from frpipe.gallery.shard_writer import ShardWriter
from frpipe.gallery.snapshot import Snapshot

MOST_SMALL = 8
"""How many small shards are left as they are, unless another number is given."""


def compact(gallery: Gallery, *, note: str = "", grace: timedelta = timedelta(0)) -> Outcome:
    """Rewrite shards that have deleted rows, join small ones, then purge all that the result does not need.

    Without `grace`, no file of the gallery holds a byte of a deleted vector or id afterwards, and no older
    version can be read; the log keeps a receipt. Readers of older versions get a GalleryError. A writer at
    work loses its attempt and starts again. After a crash, the same call finishes.

    grace: versions that were the newest within this time stay, with all their files, so that their readers
    can finish; so do files that no version names, since a writer may be about to name them: they go with the
    version that was the newest when a compaction first saw them, and drafts when they are as old.
    `Outcome.kept_until` is when the last of all these versions is due: the same call then removes them.
    """
    stale: set[str] = set()
    written: set[str] = set()
    rows = 0
    kept_until = ""

    def change(snapshot: Snapshot) -> Proposal | None:
        nonlocal rows, kept_until
        # List before the commit below: the writer of a listed file that no version names has an older base
        # than this commit, so its own commit fails and it writes the file again.
        present = gallery.shard_store.names()
        before = _readable(gallery, snapshot.version)
        shards, rewritten = _rewritten(gallery, snapshot)
        changed = rewritten > 0
        written.update({ref.name for ref in shards} - {ref.name for ref in snapshot.version.shards})
        rows = sum(ref.deleted.rows for ref in snapshot.version.shards if ref.deleted)
        purged = snapshot.number if not grace else _outlived(before, snapshot.version, grace)
        stale.clear()
        unnamed: set[str] = set()
        if grace:
            stale.update(_stale(gallery, present, before, shards, purged))
            unnamed = _unnamed(gallery, present - stale, before, shards)
            kept_until = _due(before, snapshot.version, purged, grace, changed=changed or bool(unnamed))
        else:
            stale.update(gallery.shard_store.strays(present, shards))
        # A compaction leaves one version before its own. If that has the same files, the next one takes it.
        older = [each for each in before[:-1] if each.number <= purged]
        if grace:
            older = [each for each in older if each.shards != snapshot.version.shards]
        if not (stale or changed or older or unnamed):
            return None
        counts = {"rows": snapshot.rows, "deleted": rows, "rewritten": rewritten, "files": len(stale)}
        if grace:
            counts |= {"purged_to": purged, "grace_s": int(grace.total_seconds())}
        return Proposal(shards, entry_of("compact", note, counts), purged, tuple(sorted(unnamed)))

    version = transact(gallery, change, written)
    if grace:
        # Files first: after a crash only the versions that go still tell which files are stale.
        gallery.shard_store.remove(stale)
        gallery.shard_store.sweep(grace)
    for number in gallery.catalog.numbers():
        if number <= version.purged:
            gallery.catalog.retire(number)
    if not grace:
        gallery.shard_store.remove(stale)
        gallery.shard_store.sweep()
    return Outcome(version.number, deleted=rows, shards=len(version.shards), kept_until=kept_until)


def merge_shards(gallery: Gallery, most: int = MOST_SMALL, *, note: str = "") -> Outcome:
    """Join small shards where there are more than `most` of them; older versions stay as they are.

    Small is what is less than half full. Those of about one size become one, and so on up (see `tiers`).
    Files of older versions go with the next `compact`. Nothing is done, and no version made, where the shards
    are few enough.
    """
    written: set[str] = set()

    def change(snapshot: Snapshot) -> Proposal | None:
        groups = tiers(snapshot.version.shards, most, gallery.spec.rows_per_shard)
        if not groups:
            return None
        merged = {ref.name for group in groups for ref in group}
        with ShardWriter(gallery.shard_store) as writer:
            futures = [_rewrite(snapshot, group, writer) for group in groups]
        new = [future.result() for future in futures]
        written.update(ref.name for ref in new)
        counts = {"rows": sum(ref.rows for ref in new), "merged": len(merged), "shards": len(new)}
        stay = [ref for ref in snapshot.version.shards if ref.name not in merged]
        return Proposal([*stay, *new], entry_of("merge shards", note, counts))

    version = transact(gallery, change, written)
    return Outcome(version.number, shards=len(version.shards))


def tiers(shards: Sequence[ShardRef], most: int, full: int) -> list[list[ShardRef]]:
    """Groups of small shards to join, so that at most `most` small ones are left; none where they are few.

    The smallest are joined, as many as are most alike in size, again and again. Who joins shards of one size
    makes the most of each row that is written: so a row is written a few times in all.
    """
    small = [(ref.live_rows, [ref]) for ref in shards if 2 * ref.live_rows < full]
    small.sort(key=lambda group: (group[0], group[1][0].name))
    joined: list[list[ShardRef]] = []
    while len(small) > max(1, most):
        taken = _most_alike([rows for rows, _ in small], full)
        rows = sum(some for some, _ in small[:taken])
        group = [ref for _, refs in small[:taken] for ref in refs]
        del small[:taken]
        if 2 * rows >= full:
            joined.append(group)
        else:
            insort(small, (rows, group), key=itemgetter(0))
    return joined + [group for _, group in small if len(group) > 1]


def _most_alike(sizes: Sequence[int], full: int) -> int:
    """How many of the smallest sizes make the group whose shares have the greatest entropy; at least two.

    sizes: ascending.  full: the greatest sum of a group.
    """
    best, taken = -1.0, 2
    total, weighted = 0, 0.0
    for count, size in enumerate(sizes, start=1):
        total, weighted = total + size, weighted + size * math.log(size)
        if total > full and count > 2:
            break
        entropy = math.log(total) - weighted / total
        if count > 1 and entropy > best:
            best, taken = entropy, count
    return taken


def _readable(gallery: Gallery, head: Version) -> list[Version]:
    """Versions whose documents are there, oldest first, up to the head; also those that `purged` names.

    A document under the number of a purged version, of a writer that was killed before it withdrew it, is
    none: that writer had slept, and knew nothing of the versions behind.
    """
    found = []
    for number in gallery.catalog.numbers():
        if number < head.number:
            with suppress(FileNotFoundError):
                version = gallery.catalog.read(number)
                if number > head.purged or not gallery.catalog.is_of_no_version(version):
                    found.append(version)
    return [*found, head]


def _outlived(versions: list[Version], head: Version, grace: timedelta) -> int:
    """Number of the newest version that was followed by another at least `grace` ago, or is purged."""
    now = datetime.now(UTC)
    ends = {old.number: _created(new) for old, new in pairwise(versions)}
    return max([head.purged, *(number for number, end in ends.items() if end + grace <= now)])


def _due(versions: list[Version], head: Version, purged: int, grace: timedelta, *, changed: bool) -> str:
    """Time at which the last version that is kept may be purged; empty if none is kept."""
    ends = [_created(new) for old, new in pairwise(versions) if old.number > purged]
    if changed and head.number > 0:
        ends.append(datetime.now(UTC))
    return (max(ends) + grace).isoformat(timespec="seconds") if ends else ""


def _created(version: Version) -> datetime:
    return datetime.fromisoformat(version.entry.created)


def _stale(
    gallery: Gallery, present: set[str], versions: list[Version], shards: list[ShardRef], purged: int
) -> set[str]:
    """Files that only versions up to `purged` name, or that no version named while one of them was newest."""
    store = gallery.shard_store
    gone = [ref for version in versions if version.number <= purged for ref in version.shards]
    kept = [ref for version in versions if version.number > purged for ref in version.shards]
    seen = {name for version in versions if version.number - 1 <= purged for name in version.unnamed}
    free = store.strays(present, [*kept, *shards])
    return free - (store.strays(present, gone) - seen)


def _unnamed(
    gallery: Gallery, present: set[str], versions: list[Version], shards: list[ShardRef]
) -> set[str]:
    """Files of writers that no version names, and that no compaction has seen before.

    What else lies there is not noted: its name may be of a person, or no text.
    """
    named = [ref for version in versions for ref in version.shards]
    seen = {name for version in versions for name in version.unnamed}
    return set(filter(is_of_a_writer, gallery.shard_store.strays(present, [*named, *shards]) - seen))


def _rewritten(gallery: Gallery, snapshot: Snapshot) -> tuple[list[ShardRef], int]:
    """Rewrite shards; returns those of the compact gallery, and how many old ones were rewritten."""
    shards: list[ShardRef] = []
    futures, rewritten = [], 0
    with ShardWriter(gallery.shard_store) as writer:
        for group in _groups(snapshot.version.shards, gallery.spec.rows_per_shard):
            if len(group) == 1 and group[0].deleted is None:
                shards.append(group[0])
                gallery.shard_store.write_index(group[0])
                continue
            futures.append(_rewrite(snapshot, group, writer))
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


def _rewrite(snapshot: Snapshot, group: list[ShardRef], writer: ShardWriter) -> Future[ShardRef]:
    """Write the visible rows of some shards as one shard. The table is freed before the next."""
    table = _joined(snapshot, group)
    return writer.add(table.drop_columns([EMBEDDING]), vectors_of(table))


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

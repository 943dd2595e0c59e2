"""Templates into a gallery, any number of them, in bounded memory and one commit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.errors import GalleryError
from frpipe.gallery.catalog import Purged, ShardRef, entry_of
from frpipe.gallery.commit import Proposal, transact
from frpipe.gallery.delete import adopt_list
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.hiding import hide_rows
from frpipe.gallery.outcome import Outcome
from frpipe.gallery.packed import hashes
from frpipe.gallery.policy import Fate, Known, Policy, judge
from frpipe.gallery.receipt import gone_digests
from frpipe.gallery.schema import (
    EMBEDDING,
    INPUT_TOLERANCE,
    SUBJECT_ID,
    UNIT_TOLERANCE,
    conform,
    vectors_of,
)
from frpipe.gallery.sink import ShardSink
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.spill import Bucket, Spill, between
from frpipe.gallery.suppression import Suppressions

# A bucket of up to this many times rows_per_shard stays one shard: the hash does not deal evenly.
_SLACK = 1.25


def enroll(
    gallery: Gallery, tables: Iterable[pa.Table], policy: Policy = "skip", *, note: str = ""
) -> Outcome:
    """Add templates (see `schema`), in tables of any size and order; one new version, or none.

    policy, for a subject that is there already: `skip` leaves the subject alone; `append` adds the rows with
    new face ids and replaces those with another content; `replace` deletes what is not given anew. What is
    there already with the same content is unchanged, so to enroll twice is to enroll once. Two rows of one
    key in the same call are one: the latest. Rows that the suppression list names are left out and counted.
    Rows are put aside in temporary files (TMPDIR) without a name.

    Raises GalleryError for a table that no gallery can hold.
    """
    if policy not in get_args(Policy):
        raise GalleryError(f"unknown policy {policy!r}", f"one of {', '.join(get_args(Policy))}")
    return _enroll(gallery, tables, policy, "enroll", note)


def merge(gallery: Gallery, other: Gallery, *, note: str = "") -> Outcome:
    """Add all templates of another gallery, as with `append`, but for those that are suppressed here.

    The other's suppression list is taken over first, as `adopt_list` does.

    Raises GalleryMismatch where the other was made for another recipe, and GalleryError where the other is
    encrypted and this one is not.
    """
    gallery.spec.check_same(other.spec)
    if other.spec.encryption and not gallery.spec.encryption:
        raise GalleryError(
            "the other gallery is encrypted and this one is not: its templates would lie in the clear",
            "merge into an encrypted gallery, or export the other and enroll the export on purpose",
        )
    adopt_list(gallery, other.suppressions.read())
    # Of a gallery that stores float16 they are what rounding has left.
    return _enroll(gallery, other.snapshot().tables(), "append", "merge", note, tolerance=UNIT_TOLERANCE)


def _enroll(
    gallery: Gallery,
    tables: Iterable[pa.Table],
    policy: Policy,
    action: str,
    note: str,
    *,
    tolerance: float = INPUT_TOLERANCE,
) -> Outcome:
    spec, now = gallery.spec, datetime.now(UTC)
    with Spill(spec.dim, spec.stored_type, spec.rows_per_shard) as spill:
        spill.take(conform(table, spec.dim, now, tolerance) for table in tables)
        work = _Enrollment(gallery, spill, policy, action, note)
        version = transact(gallery, work.propose)
        work.remove_unnamed(version.shards)
    counts = {name.lower(): int(work.counts[fate]) for name, fate in Fate.__members__.items()}
    counts["suppressed"] = work.suppressed
    return Outcome(version.number, **counts, deleted=work.deleted, shards=len(version.shards))


@dataclass(frozen=True, slots=True)
class _Sighting:
    """Rows in sight of a shard whose subject's hash is among those given, sorted by that hash."""

    ref: ShardRef
    hashes: NDArray[np.uint64]
    rows: NDArray[np.int64]


class _Enrollment:
    """One call of enroll over however many attempts it takes to commit it."""

    def __init__(self, gallery: Gallery, spill: Spill, policy: Policy, action: str, note: str) -> None:
        self._gallery, self._spill, self._policy = gallery, spill, policy
        self._action, self._note = action, note
        # Shards of attempts that lost, by their content: good until a compaction takes them for orphans.
        self._written: dict[bytes, Future[ShardRef]] = {}
        self._written_at = 0
        self._names: set[str] = set()
        self.counts = np.zeros(len(Fate), np.int64)
        self.deleted = self.suppressed = 0
        self._barred = Suppressions(())

    def propose(self, snapshot: Snapshot) -> Proposal | None:
        """What the rows make of a version."""
        try:
            return self._proposal(snapshot)
        except Purged:
            self._written = {}
            raise

    def _proposal(self, snapshot: Snapshot) -> Proposal | None:
        if snapshot.version.purged >= self._written_at:
            self._written, self._written_at = {}, snapshot.number
        # After the snapshot: who is deleted in between is on the list by then, or this attempt loses.
        barred = self._gallery.suppressions.read()
        if barred.documents != self._barred.documents:
            self._written = {}
        self._barred, self.suppressed = barred, 0
        self.counts[:] = 0
        gone: dict[str, list[NDArray[np.int64]]] = {}
        with ShardSink(self._gallery.shelf) as sink:
            sightings = list(self._sightings(snapshot)) if self._spill.rows else []
            added = [
                f
                for n in range(self._spill.buckets)
                for f in self._bucket(n, snapshot, sightings, sink, gone)
            ]
        new = [future.result() for future in added]
        self._names |= {ref.name for ref in new}
        self.deleted = sum(len(rows) for some in gone.values() for rows in some)
        if not new and not gone:
            return None
        old = hide_rows(
            snapshot, self._gallery.shelf, {name: np.concatenate(rows) for name, rows in gone.items()}
        )
        counts = {name.lower(): int(self.counts[fate]) for name, fate in Fate.__members__.items()}
        counts |= {"deleted": self.deleted, "suppressed": self.suppressed}
        digests = gone_digests(self._gallery.gallery_id, snapshot, old)
        entry = entry_of(self._action, self._note, counts, policy=self._policy, digests=digests)
        return Proposal([*old, *new], entry)

    def remove_unnamed(self, shards: Iterable[ShardRef]) -> None:
        """Remove the shards of attempts that lost and were not used again."""
        for name in self._names - {ref.name for ref in shards}:
            self._gallery.shelf.remove(name)

    def _sightings(self, snapshot: Snapshot) -> Iterator[_Sighting]:
        wanted = self._spill.subject_hashes()
        for ref in snapshot.version.shards:
            seen = hashes(snapshot.open(ref, vectors=False).text(SUBJECT_ID))
            at = np.minimum(np.searchsorted(wanted, seen), len(wanted) - 1)
            hits = wanted[at] == seen
            live = snapshot.live_rows(ref)
            rows = np.flatnonzero(hits) if live is None else live[hits[live]]
            order = np.argsort(seen[rows], kind="stable")
            if rows.size:
                yield _Sighting(ref, seen[rows][order], rows[order])

    def _bucket(
        self,
        number: int,
        snapshot: Snapshot,
        sightings: list[_Sighting],
        sink: ShardSink,
        gone: dict[str, list[NDArray[np.int64]]],
    ) -> list[Future[ShardRef]]:
        bucket = self._spill.bucket(number)
        if not bucket.parts:
            return []
        bucket = self._obeying(bucket)
        known, places = self._known(number, snapshot, sightings)
        verdict = judge(bucket, known, self._policy)
        self.counts += np.bincount(verdict.fates, minlength=len(Fate))
        start = 0
        for name, rows in places:
            inside = verdict.gone[(verdict.gone >= start) & (verdict.gone < start + len(rows))]
            if inside.size:
                gone.setdefault(name, []).append(rows[inside - start])
            start += len(rows)
        return self._write(number, bucket, verdict.kept, sink)

    def _obeying(self, bucket: Bucket) -> Bucket:
        """The bucket without the rows that are suppressed."""
        suppressed = self._barred.mask(bucket.texts)
        if not suppressed.any():
            return bucket
        self.suppressed += int(suppressed.sum())
        rows = np.flatnonzero(~suppressed)
        return Bucket(bucket.texts.take(pa.array(rows)), [bucket.vectors(rows)])

    def _known(
        self, number: int, snapshot: Snapshot, sightings: list[_Sighting]
    ) -> tuple[Known | None, list[tuple[str, NDArray[np.int64]]]]:
        """What the gallery has of a bucket's subjects, and where it lies."""
        tables, places = [], []
        for seen in sightings:
            start, end = between(seen.hashes, *self._spill.bounds(number))
            if end > start:
                rows = np.sort(seen.rows[start:end])
                tables.append(snapshot.table_of(seen.ref, None, rows, vectors=True))
                places.append((seen.ref.name, rows))
        if not tables:
            return None, []
        table = pa.concat_tables(tables)
        vectors = vectors_of(table).astype(self._gallery.spec.stored_type, copy=False)
        return Known(table.drop_columns([EMBEDDING]), vectors), places

    def _write(
        self, number: int, bucket: Bucket, kept: NDArray[np.int64], sink: ShardSink
    ) -> list[Future[ShardRef]]:
        size = self._gallery.spec.rows_per_shard
        pieces = 1 if len(kept) <= _SLACK * size else -(-len(kept) // size)
        written = []
        for rows in np.array_split(kept, pieces) if len(kept) else ():
            key = hashlib.sha256(number.to_bytes(8, "little") + rows.tobytes()).digest()
            if key not in self._written:
                self._written[key] = sink.add(bucket.texts.take(pa.array(rows)), bucket.vectors(rows))
            written.append(self._written[key])
        return written

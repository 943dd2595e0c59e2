"""Judge and write the rows of some buckets of an enrollment: all at once, or pass by pass in any process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.distinct import without
from frpipe.core.errors import GalleryError
from frpipe.gallery.attributes import filled
from frpipe.gallery.catalog import Purged, ShardRef, VersionId
from frpipe.gallery.external_sort import Bucket, ExternalSort, between, bounds_of, buckets_of
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.likeness import Examination, Likeness
from frpipe.gallery.photos import Hashes
from frpipe.gallery.policy import Fate, Known, Policy, RowFates, judge
from frpipe.gallery.schema import (
    EMBEDDING,
    FACE_ID,
    SUBJECT_ID,
    URI,
    conform,
    template_schema,
    vector_array,
    vectors_of,
)
from frpipe.gallery.shard_writer import ShardWriter
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.suppression import Suppressions

# A bucket of up to this many times rows_per_shard stays one shard: the hash does not deal evenly.
_SLACK = 1.25
Written = dict[bytes, ShardRef]
"""Shards by a digest of their content."""
Heard = Callable[[int], None]
"""Told the rows of a bucket when it is judged, and again when it is written."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Visible rows of a shard whose subject's hash is among those given, or of whose photo the run speaks.

    Sorted by the hash of the subject.  told, elsewhere, lost: (n,) as `photos.Told` has them.
    """

    ref: ShardRef
    hashes: NDArray[np.uint64]
    rows: NDArray[np.int64]
    told: NDArray[np.bool_]
    elsewhere: NDArray[np.bool_]
    lost: NDArray[np.bool_]

    def between(self, low: int, high: int) -> Sighting:
        """The rows of a range of hashes."""
        some = slice(*between(self.hashes, low, high))
        masks = self.told[some], self.elsewhere[some], self.lost[some]
        return Sighting(self.ref, self.hashes[some], self.rows[some], *masks)


@dataclass(slots=True)
class Verdict:
    """Decision on the rows of some buckets.

    counts: of rows, by `Fate`.  gone: rows of the snapshot to be hidden, by shard.  apart: how many templates
    are of photos that came from another place, and an example.  looking: what is known of the new faces; None
    where they are not to be looked at.
    """

    looking: Examination | None = None
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(Fate), np.int64))
    superseded: int = 0
    incomplete: int = 0
    suppressed: int = 0
    gone: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    apart: int = 0
    example: tuple[str, str | None] = ("", None)

    def add(self, other: Verdict) -> None:
        """Take the decision on further buckets; what is known of their faces comes behind."""
        if self.looking is not None and other.looking is not None:
            self.looking.add(other.looking)
        self.counts = self.counts + other.counts
        self.superseded += other.superseded
        self.incomplete += other.incomplete
        self.suppressed += other.suppressed
        for name, rows in other.gone.items():
            self.hide(name, rows)
        if other.apart:
            self.example = self.example if self.apart else other.example
            self.apart += other.apart

    def hide(self, name: str, rows: NDArray[np.int64]) -> None:
        """Hide rows of a shard of the snapshot."""
        self.gone[name] = np.concatenate([self.gone[name], rows]) if name in self.gone else rows


class BucketWork:
    """Work on the buckets of a sort, against one version of the gallery: judged first, then written."""

    def __init__(
        self,
        gallery: Gallery,
        spill: ExternalSort,
        snapshot: Snapshot,
        barred: Suppressions,
        *,
        policy: Policy,
        sightings: Sequence[Sighting],
        held: Hashes,
        heard: Heard = lambda _: None,
    ) -> None:
        """Work with what `_Enrollment` has found out. held: as `judge` takes it."""
        self._gallery, self._spill, self._snapshot, self._barred = gallery, spill, snapshot, barred
        self._policy, self._sightings, self._held = policy, sightings, held
        self._heard = heard
        # Of each bucket: how many rows it has, which are to be written, and the gallery's rows that have
        # attributes for them.
        self._rows: dict[int, int] = {}
        self._kept: dict[int, NDArray[np.int64]] = {}
        self._filled_from: dict[int, list[tuple[Sighting, NDArray[np.int64]]]] = {}

    def judge(self, buckets: Iterable[int], verdict: Verdict) -> None:
        """Judge the rows of some buckets, and look at the new faces."""
        for number in buckets:
            known, places = self._known(number)
            given, suppressed = self._bucket(number)
            verdict.suppressed += suppressed
            bucket = self._filled(given, known.texts if known else None)
            fates = judge(bucket, known, self._policy, self._held)
            verdict.counts = verdict.counts + np.bincount(fates.fates, minlength=len(Fate))
            self._kept[number] = fates.kept
            self._filled_from[number] = places if bucket.filled else []
            _count(fates, known, places, verdict)
            if verdict.looking is not None:
                verdict.looking.take(*_faces(bucket, known, fates))
            self._rows[number] = bucket.texts.num_rows
            self._heard(self._rows[number])

    def write(self, written: Mapping[bytes, ShardRef]) -> Written:
        """Write the shards of what was judged, but for those that are there; all in the order of buckets."""
        new: dict[bytes, ShardRef | Future[ShardRef]] = {}
        with ShardWriter(self._gallery.shard_store) as sink:
            for number in self._kept:
                for key, bucket, rows in self._pieces(number):
                    new[key] = written.get(key) or sink.add(
                        bucket.texts.take(pa.array(rows)), bucket.vectors(rows)
                    )
                self._heard(self._rows[number])
        return {key: each.result() if isinstance(each, Future) else each for key, each in new.items()}

    def _pieces(self, number: int) -> Iterator[tuple[bytes, Bucket, NDArray[np.int64]]]:
        """The shards of a bucket: a digest of the content, and rows of the bucket."""
        kept = self._kept[number]
        if not len(kept):
            return
        # Judged before, and read again: a bucket is in memory at a time.
        known = [
            self._snapshot.table_of(seen.ref, None, seen.rows[at], vectors=False)
            for seen, at in self._filled_from[number]
        ]
        bucket = self._filled(self._bucket(number)[0], pa.concat_tables(known) if known else None)
        size = self._gallery.spec.rows_per_shard
        pieces = 1 if len(kept) <= _SLACK * size else -(-len(kept) // size)
        for rows in np.array_split(kept, pieces):
            key = hashlib.sha256(number.to_bytes(8, "little") + rows.tobytes() + bucket.filled).digest()
            yield key, bucket, rows

    def _bucket(self, number: int) -> tuple[Bucket, int]:
        """A bucket without the rows that are suppressed, and how many these are."""
        bucket = self._spill.bucket(number)
        suppressed = self._barred.mask(bucket.texts)
        if not suppressed.any():
            return bucket, 0
        rows = np.flatnonzero(~suppressed)
        return Bucket(bucket.texts.take(pa.array(rows)), [bucket.vectors(rows)]), int(suppressed.sum())

    def _filled(self, bucket: Bucket, known: pa.Table | None) -> Bucket:
        """The rows of a bucket, with the attributes that those of the gallery keep."""
        if known is None or self._policy == "replace" or not bucket.parts:
            return bucket
        return filled(bucket, known)

    def _known(self, number: int) -> tuple[Known | None, list[tuple[Sighting, NDArray[np.int64]]]]:
        """The gallery's rows of a bucket's subjects, and where they lie."""
        tables, places = [], []
        bounds = self._spill.bounds(number) if self._spill.buckets else (0, 1 << 64)
        for seen in self._sightings:
            start, end = between(seen.hashes, *bounds)
            if end > start:
                at = start + np.argsort(seen.rows[start:end])
                tables.append(self._snapshot.table_of(seen.ref, None, seen.rows[at], vectors=True))
                places.append((seen, at))
        if not tables:
            return None, []
        table = pa.concat_tables(tables)
        vectors = vectors_of(table).astype(self._gallery.spec.stored_type, copy=False)
        told = np.concatenate([seen.told[at] for seen, at in places])
        elsewhere = np.concatenate([seen.elsewhere[at] for seen, at in places])
        return Known(table.drop_columns([EMBEDDING]), vectors, told, elsewhere), places


@dataclass(frozen=True, slots=True)
class PassSetting:
    """What all passes of one attempt are told.

    version: of the gallery.  rows: of all passes.  now: for rows without a time.  most: templates that there
    will be at most.  held: as `judge` takes it.
    """

    gallery: Gallery
    version: VersionId
    policy: Policy
    likeness: Likeness | None
    rows: int
    most: int
    now: datetime
    tolerance: float
    held: Hashes


@dataclass(frozen=True, slots=True)
class PassTicket:
    """What one pass is told. buckets: from the first up to the second, exclusive.

    sightings: of its subjects.  written: shards of an attempt that lost.
    """

    number: int
    buckets: tuple[int, int]
    sightings: list[Sighting]
    written: Written

    def hashes(self, setting: PassSetting) -> tuple[int, int]:
        """The range of hashes of its subjects, the second exclusive."""
        buckets = max(1, buckets_of(setting.rows, setting.gallery.spec.rows_per_shard))
        first, last = self.buckets
        return bounds_of(first, buckets)[0], bounds_of(last - 1, buckets)[1]


@dataclass(frozen=True, slots=True)
class PassOutcome:
    """What a pass has done. rows: that it was given."""

    number: int
    verdict: Verdict
    shards: Written
    rows: int


class Passes(Protocol):
    """Rows that come in passes, each a range of subjects; the same rows whenever they are asked for.

    rows: of all.  ranges: of buckets, one a pass.
    """

    @property
    def rows(self) -> int: ...

    @property
    def ranges(self) -> Sequence[tuple[int, int]]: ...

    def subject_hashes(self) -> Hashes:
        """Hashes of all subjects, sorted, each once."""

    def do(self, setting: PassSetting, tickets: Sequence[PassTicket]) -> Iterator[PassOutcome]:
        """Have `enroll_pass` do each ticket, in any order and process."""


def enroll_pass(
    setting: PassSetting, ticket: PassTicket, tables: Iterable[pa.Table], heard: Heard = lambda _: None
) -> PassOutcome:
    """Sort, judge and write the rows of one pass. Nobody sees its shards before they are committed.

    tables: with all rows of its subjects.  heard: as `Heard`.
    Raises Purged where a compaction has taken what it works on.
    """
    gallery = setting.gallery
    spec = gallery.spec
    snapshot = _snapshot_of(setting)
    with ExternalSort(spec.dim, spec.stored_type, spec.rows_per_shard, setting.rows) as spill:
        spill.take(conform(table, spec.dim, setting.now, setting.tolerance) for table in tables)
        # After the snapshot: who is deleted in between is on the list by then, or this attempt loses.
        barred = gallery.suppressions.read()
        work = BucketWork(
            gallery,
            spill,
            snapshot,
            barred,
            policy=setting.policy,
            sightings=ticket.sightings,
            held=setting.held,
            heard=heard,
        )
        likeness = setting.likeness
        verdict = Verdict(None if likeness is None else Examination(likeness, spec.dim, setting.most))
        work.judge(range(*ticket.buckets), verdict)
        shards = work.write(ticket.written)
        return PassOutcome(ticket.number, verdict, shards, spill.rows)


def _snapshot_of(setting: PassSetting) -> Snapshot:
    version = setting.version
    try:
        return setting.gallery.snapshot(version.number, version.commit)
    except GalleryError:
        if setting.gallery.catalog.head().purged >= version.number > 0:
            raise Purged.while_read(version.number) from None
        raise


def _count(
    fates: RowFates, known: Known | None, places: list[tuple[Sighting, NDArray[np.int64]]], verdict: Verdict
) -> None:
    """Count the gallery's rows that are replaced or superseded, shard by shard."""
    verdict.superseded += len(fates.superseded)
    start = 0
    for seen, at in places:
        inside = fates.gone[(fates.gone >= start) & (fates.gone < start + len(at))] - start
        if inside.size:
            verdict.hide(seen.ref.name, seen.rows[at[inside]])
            verdict.incomplete += int(seen.lost[at[inside]].sum())
        start += len(at)
    if len(fates.apart) and known is not None:
        row = known.texts.select([FACE_ID, URI]).slice(int(fates.apart[0]), 1).to_pylist()[0]
        verdict.apart += len(fates.apart)
        verdict.example = row[FACE_ID], row[URI]


def _faces(bucket: Bucket, known: Known | None, fates: RowFates) -> tuple[pa.Table, pa.Table]:
    """The new rows, and the other rows that their people have afterwards: the key, and `embedding`."""
    key = [SUBJECT_ID, FACE_ID]
    if not len(fates.kept):
        empty = template_schema(1).empty_table().select([*key, EMBEDDING])
        return empty, empty
    new = bucket.texts.select(key).take(pa.array(fates.kept))
    new = new.append_column(EMBEDDING, vector_array(bucket.vectors(fates.kept)))
    if known is None:
        return new, new.slice(0, 0)
    stay = without(np.arange(known.texts.num_rows), fates.gone)
    stay = stay[
        pc.is_in(
            known.texts[SUBJECT_ID].take(pa.array(stay)), value_set=pc.unique(new[SUBJECT_ID])
        ).to_numpy()
    ]
    old = known.texts.select(key).take(pa.array(stay))
    return new, old.append_column(EMBEDDING, vector_array(known.vectors[stay]))

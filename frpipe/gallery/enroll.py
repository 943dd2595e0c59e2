"""Enroll any number of templates into a gallery, in bounded memory and one commit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.counted import counted
from frpipe.core.errors import GalleryError
from frpipe.gallery.attributes import filled
from frpipe.gallery.catalog import Purged, ShardRef, entry_of
from frpipe.gallery.commit import Proposal, gone_digests, hide_rows, transact
from frpipe.gallery.delete import adopt_list
from frpipe.gallery.external_sort import Bucket, ExternalSort, between
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.likeness import Doubts, Examination, Likeness
from frpipe.gallery.outcome import Outcome
from frpipe.gallery.packed import hashes
from frpipe.gallery.photos import (
    MADE_OF,
    Hashes,
    RunPhotos,
    among,
    canonical,
    no_rows,
    root_of,
    told_rows,
    with_source,
)
from frpipe.gallery.policy import Fate, Known, Policy, RowFates, judge
from frpipe.gallery.schema import (
    EMBEDDING,
    FACE_ID,
    INPUT_TOLERANCE,
    SUBJECT_ID,
    UNIT_TOLERANCE,
    URI,
    conform,
    template_schema,
    vector_array,
    vectors_of,
)
from frpipe.gallery.shard_writer import ShardWriter
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.suppression import Suppressions
from frpipe.gallery.weights import merged_note

# Hashes distribute unevenly: a bucket of up to this many times rows_per_shard stays one shard.
_SLACK = 1.25
# Counts that the log has even if they are 0.
_ALWAYS = frozenset({"added", "replaced", "skipped", "unchanged", "deleted"})


def enroll(
    gallery: Gallery,
    tables: Iterable[pa.Table],
    policy: Policy = "skip",
    *,
    note: str = "",
    tolerance: float = INPUT_TOLERANCE,
    photos: RunPhotos | None = None,
    same_photos: bool = False,
    likeness: Likeness | None = None,
) -> Outcome:
    """Add templates (see `schema`), in tables of any size and order; one new version, or none.

    policy, for a subject that is there already: `skip` leaves the subject alone; `append` adds rows with new
    face ids and replaces rows whose content differs; `replace` also deletes rows that are not given anew.
    Except with `replace`, a row that is replaced keeps attributes that are not given anew. Rows that are
    there already with the same content stay unchanged, so that enrolling twice equals enrolling once. Of
    several rows with one key in the same call the latest counts. Rows that the suppression list names are
    left out and counted. Rows are spilled to temporary files (TMPDIR) without a name.

    photos: the photos whose outcome this call reports; it may be filled while the tables are read. Templates
    that the gallery has of them and that are not given anew are removed, under any subject and policy; `skip`
    leaves out the other photos of known subjects.  same_photos: treat photos that lay at another place
    before, with other faces, as the same photos.  likeness: rule for doubting new faces.  tolerance: how far
    the length of a vector may be from 1; UNIT_TOLERANCE for vectors that come from a gallery.

    Raises GalleryError for a table that no gallery can hold, for photos with the ids of others (unless
    same_photos), and DoubtError where the likeness is strict. Nothing is written then.
    """
    if policy not in get_args(Policy):
        raise GalleryError(f"unknown policy {policy!r}", f"one of {', '.join(get_args(Policy))}")
    return _enroll(gallery, tables, _Wish(policy, "enroll", note, photos, same_photos, likeness, tolerance))


def merge(
    gallery: Gallery,
    other: Gallery,
    *,
    note: str = "",
    same_photos: bool = False,
    source: str = "",
    likeness: Likeness | None = None,
) -> Outcome:
    """Enroll all templates of another gallery, as with `append`, except those that are suppressed here.

    The other's suppression list is taken over first, as `adopt_list` does.

    source: prefix of the ids of its photos; same_photos, likeness: as for `enroll`.

    Raises GalleryMismatch where the other was made for another recipe, GalleryError where the other is
    encrypted and this one is not, where runs gave one weighted means and the other templates of another kind,
    and as `enroll`.
    """
    gallery.spec.check_same(other.spec)
    note = merged_note(note, gallery, other)
    if other.spec.encryption and not gallery.spec.encryption:
        raise GalleryError(
            "the other gallery is encrypted and this one is not: its templates would lie in the clear",
            "merge into an encrypted gallery, or export the other and enroll the export on purpose",
        )
    adopt_list(gallery, other.suppressions.read(), source)
    tables = (with_source(table, source) for table in other.snapshot().tables())
    # Vectors of a gallery that stores float16 are rounded.
    wish = _Wish("append", "merge", note, None, same_photos, likeness, UNIT_TOLERANCE)
    return _enroll(gallery, tables, wish)


@dataclass(frozen=True, slots=True)
class _Wish:
    """Arguments of one call of `enroll`."""

    policy: Policy
    action: str
    note: str
    photos: RunPhotos | None
    same_photos: bool
    likeness: Likeness | None
    tolerance: float = INPUT_TOLERANCE


def _enroll(gallery: Gallery, tables: Iterable[pa.Table], wish: _Wish) -> Outcome:
    spec, now = gallery.spec, datetime.now(UTC)
    with ExternalSort(spec.dim, spec.stored_type, spec.rows_per_shard) as spill:
        spill.take(conform(table, spec.dim, now, wish.tolerance) for table in tables)
        work = _Enrollment(gallery, spill, wish)
        version = transact(gallery, work.propose)
        work.remove_unnamed(version.shards)
    told: dict[str, Any] = {**work.told()}
    return Outcome(version.number, **told, shards=len(version.shards), doubts=work.doubts)


@dataclass(frozen=True, slots=True)
class _Sighting:
    """Visible rows of a shard whose subject may be among those given, or whose photo the run reports.

    Sorted by the hash of the subject.  told, elsewhere, lost: (n,) as `photos.Told` has them.
    """

    ref: ShardRef
    hashes: NDArray[np.uint64]
    rows: NDArray[np.int64]
    told: NDArray[np.bool_]
    elsewhere: NDArray[np.bool_]
    lost: NDArray[np.bool_]


@dataclass(slots=True)
class _Judged:
    """Decision on the given rows, before anything is written.

    kept: of each bucket the rows to be written; filled_from: the rows of the gallery that have attributes for
    them, none where nothing was to be filled.  gone: rows of the snapshot to be hidden, by shard.  apart: how
    many templates are of photos that came from another place, and an example.
    """

    kept: list[NDArray[np.int64]] = field(default_factory=list)
    filled_from: list[list[tuple[_Sighting, NDArray[np.int64]]]] = field(default_factory=list)
    gone: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    apart: int = 0
    example: tuple[str, str | None] = ("", None)


class _Enrollment:
    """One call of `enroll`, over as many attempts as its commit takes."""

    def __init__(self, gallery: Gallery, spill: ExternalSort, wish: _Wish) -> None:
        self._gallery, self._spill, self._wish = gallery, spill, wish
        # Shards of attempts that lost, by content: valid until a compaction removes them as orphans.
        self._written: dict[bytes, Future[ShardRef]] = {}
        self._written_at = 0
        self._names: set[str] = set()
        self._counts = np.zeros(len(Fate), np.int64)
        self._deleted = self._superseded = self._incomplete = 0
        self._barred, self._suppressed = Suppressions(()), dict[int, int]()
        self.doubts: Doubts | None = None

    def propose(self, snapshot: Snapshot) -> Proposal | None:
        """Propose the version that results from the rows."""
        try:
            return self._proposal(snapshot)
        except Purged:
            self._written = {}
            raise

    def told(self) -> dict[str, int]:
        """Counts of templates, for the outcome and the log."""
        counts = {name.lower(): int(self._counts[fate]) for name, fate in Fate.__members__.items()}
        own = {
            "deleted": self._deleted,
            "superseded": self._superseded,
            "incomplete": self._incomplete,
            "suppressed": sum(self._suppressed.values()),
        }
        return {**counts, **own}

    def _proposal(self, snapshot: Snapshot) -> Proposal | None:
        if snapshot.version.purged >= self._written_at:
            self._written, self._written_at = {}, snapshot.number
        # Read after the snapshot: whoever is deleted in between is on the list, or this attempt loses.
        barred = self._gallery.suppressions.read()
        if barred.documents != self._barred.documents:
            self._written = {}
        self._barred, self._suppressed = barred, {}
        judged = self._judged(snapshot)
        if judged.apart and not self._wish.same_photos:
            raise self._others_photos(judged)
        with ShardWriter(self._gallery.shard_store) as writer:
            added = [
                written
                for number, kept in enumerate(judged.kept)
                for written in self._write(number, kept, snapshot, judged.filled_from[number], writer)
            ]
        new = [future.result() for future in added]
        self._names |= {ref.name for ref in new}
        if not new and not judged.gone:
            return None
        old = hide_rows(snapshot, self._gallery.shard_store, judged.gone)
        counts = {name: count for name, count in self.told().items() if count or name in _ALWAYS}
        counts |= self.doubts.counts() if self.doubts else {}
        digests = gone_digests(self._gallery.gallery_id, snapshot, old)
        entry = entry_of(
            self._wish.action, self._wish.note, counts, policy=self._wish.policy, digests=digests
        )
        return Proposal([*old, *new], entry)

    def _judged(self, snapshot: Snapshot) -> _Judged:
        """Judge all rows, and examine the new faces. Raises DoubtError."""
        self._counts[:] = 0
        self._superseded = self._incomplete = 0
        found, gone = _Judged(), dict[str, list[NDArray[np.int64]]]()
        sightings, held = self._sightings(snapshot)
        looking = None
        if self._wish.likeness is not None:
            most = snapshot.rows + self._spill.rows
            looking = Examination(self._wish.likeness, self._gallery.spec.dim, most)
        for number in range(self._buckets):
            known, places = self._known(number, snapshot, sightings)
            bucket = self._filled(self._bucket(number), known.texts if known else None)
            verdict = judge(bucket, known, self._wish.policy, held)
            self._counts += np.bincount(verdict.fates, minlength=len(Fate))
            found.kept.append(verdict.kept)
            found.filled_from.append(places if bucket.filled else [])
            self._count(verdict, known, places, found, gone)
            if looking is not None:
                looking.take(*_faces(bucket, known, verdict))
        found.gone = {name: np.concatenate(rows) for name, rows in gone.items()}
        self._deleted = sum(map(len, found.gone.values()))
        self.doubts = looking.end(snapshot, found.gone) if looking is not None else None
        return found

    def _count(
        self,
        verdict: RowFates,
        known: Known | None,
        places: list[tuple[_Sighting, NDArray[np.int64]]],
        found: _Judged,
        gone: dict[str, list[NDArray[np.int64]]],
    ) -> None:
        """Count the gallery's rows that are replaced or superseded, shard by shard."""
        self._superseded += len(verdict.superseded)
        start = 0
        for seen, at in places:
            inside = verdict.gone[(verdict.gone >= start) & (verdict.gone < start + len(at))] - start
            if inside.size:
                gone.setdefault(seen.ref.name, []).append(seen.rows[at[inside]])
                self._incomplete += int(seen.lost[at[inside]].sum())
            start += len(at)
        if len(verdict.apart) and known is not None:
            found.apart += len(verdict.apart)
            row = known.texts.select([FACE_ID, URI]).slice(int(verdict.apart[0]), 1).to_pylist()[0]
            found.example = row[FACE_ID], row[URI]

    def _others_photos(self, judged: _Judged) -> GalleryError:
        face_id, place = judged.example
        image_id = face_id.rpartition("#")[0]
        there = root_of(image_id, canonical(place)) if place else None
        here = self._wish.photos.root if self._wish.photos else None
        folders = f" (the gallery's from {there}, these from {here})" if there and here else ""
        return GalleryError(
            f"{counted(judged.apart, 'templates are')} of photos that lay at another "
            f"place{folders}, and that now have "
            "other faces or none: other photos with the same ids would replace them; nothing was written",
            "if they are other photos, --source NAME puts NAME/ before their ids; if they are the same ones, "
            "moved and changed, say --same-photos",
        )

    def remove_unnamed(self, shards: Iterable[ShardRef]) -> None:
        """Remove shards of attempts that lost the race and were not used again."""
        self._gallery.shard_store.remove(self._names - {ref.name for ref in shards})

    @property
    def _buckets(self) -> int:
        """The buckets of the external sort; one where no rows are given, for those of the gallery."""
        return max(1, self._spill.buckets)

    def _bucket(self, number: int) -> Bucket:
        """A bucket without the rows that are suppressed."""
        if not self._spill.rows:
            return Bucket(pa.table({}), [])
        bucket = self._spill.bucket(number)
        suppressed = self._barred.mask(bucket.texts)
        self._suppressed[number] = int(suppressed.sum())
        if not suppressed.any():
            return bucket
        rows = np.flatnonzero(~suppressed)
        return Bucket(bucket.texts.take(pa.array(rows)), [bucket.vectors(rows)])

    def _filled(self, bucket: Bucket, known: pa.Table | None) -> Bucket:
        """The rows of a bucket, with the attributes that those of the gallery keep."""
        if known is None or self._wish.policy == "replace" or not bucket.parts:
            return bucket
        return filled(bucket, known)

    def _sightings(self, snapshot: Snapshot) -> tuple[list[_Sighting], Hashes]:
        """Find the rows that the change may concern, and hashes of the photos that have templates."""
        photos = self._wish.photos
        found: list[_Sighting] = []
        held = [np.zeros(0, np.uint64)]
        wanted = self._spill.subject_hashes() if self._spill.rows else np.zeros(0, np.uint64)
        if not len(wanted) and not photos:
            return found, held[0]
        for ref in snapshot.version.shards:
            rows = snapshot.candidates(ref, "subjects", wanted)
            if photos:
                rows = np.union1d(rows, snapshot.candidates(ref, "photos", photos.hashes))
            if not rows.size:
                continue
            names = [SUBJECT_ID, *((FACE_ID, URI) if photos else ())]
            names += [MADE_OF] if photos and MADE_OF in ref.attributes else []
            ids = snapshot.table_of(ref, names, rows, vectors=False).combine_chunks()
            seen = hashes(ids[SUBJECT_ID])
            told = no_rows(len(rows))
            if photos:
                faces, places, derived = (
                    ids[name].combine_chunks() if name in names else None for name in (FACE_ID, URI, MADE_OF)
                )
                told = told_rows(faces, places, derived, photos)
                held.append(told.photos)
            at = np.flatnonzero(among(seen, wanted) | told.rows)
            at = at[np.argsort(seen[at], kind="stable")]
            if at.size:
                masks = (mask[at] for mask in (told.rows, told.elsewhere, told.lost))
                found.append(_Sighting(ref, seen[at], rows[at], *masks))
        return found, np.unique(np.concatenate(held))

    def _known(
        self, number: int, snapshot: Snapshot, sightings: list[_Sighting]
    ) -> tuple[Known | None, list[tuple[_Sighting, NDArray[np.int64]]]]:
        """The gallery's rows of a bucket's subjects, and their positions in shards."""
        tables, places = [], []
        bounds = self._spill.bounds(number) if self._spill.rows else (0, 1 << 64)
        for seen in sightings:
            start, end = between(seen.hashes, *bounds)
            if end > start:
                at = start + np.argsort(seen.rows[start:end])
                tables.append(snapshot.table_of(seen.ref, None, seen.rows[at], vectors=True))
                places.append((seen, at))
        if not tables:
            return None, []
        table = pa.concat_tables(tables)
        vectors = vectors_of(table).astype(self._gallery.spec.stored_type, copy=False)
        told = np.concatenate([seen.told[at] for seen, at in places])
        elsewhere = np.concatenate([seen.elsewhere[at] for seen, at in places])
        return Known(table.drop_columns([EMBEDDING]), vectors, told, elsewhere), places

    def _write(
        self,
        number: int,
        kept: NDArray[np.int64],
        snapshot: Snapshot,
        filled_from: list[tuple[_Sighting, NDArray[np.int64]]],
        writer: ShardWriter,
    ) -> list[Future[ShardRef]]:
        if not len(kept):
            return []
        # The bucket was judged before and is read again: one bucket is in memory at a time.
        known = [snapshot.table_of(seen.ref, None, seen.rows[at], vectors=False) for seen, at in filled_from]
        bucket = self._filled(self._bucket(number), pa.concat_tables(known) if known else None)
        size = self._gallery.spec.rows_per_shard
        pieces = 1 if len(kept) <= _SLACK * size else -(-len(kept) // size)
        written = []
        for rows in np.array_split(kept, pieces):
            key = hashlib.sha256(number.to_bytes(8, "little") + rows.tobytes() + bucket.filled).digest()
            if key not in self._written:
                self._written[key] = writer.add(bucket.texts.take(pa.array(rows)), bucket.vectors(rows))
            written.append(self._written[key])
        return written


def _faces(bucket: Bucket, known: Known | None, verdict: RowFates) -> tuple[pa.Table, pa.Table]:
    """New rows of a bucket, and the other rows that their people will have: the key, and `embedding`."""
    key = [SUBJECT_ID, FACE_ID]
    if not len(verdict.kept):
        empty = template_schema(1).empty_table().select([*key, EMBEDDING])
        return empty, empty
    new = bucket.texts.select(key).take(pa.array(verdict.kept))
    new = new.append_column(EMBEDDING, vector_array(bucket.vectors(verdict.kept)))
    if known is None:
        return new, new.slice(0, 0)
    stay = np.setdiff1d(np.arange(known.texts.num_rows), verdict.gone)
    stay = stay[
        pc.is_in(
            known.texts[SUBJECT_ID].take(pa.array(stay)), value_set=pc.unique(new[SUBJECT_ID])
        ).to_numpy()
    ]
    old = known.texts.select(key).take(pa.array(stay))
    return new, old.append_column(EMBEDDING, vector_array(known.vectors[stay]))

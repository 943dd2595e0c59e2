"""Enroll any number of templates into a gallery, in bounded memory and one commit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from frpipe.core.counted import counted
from frpipe.core.distinct import distinct, merged
from frpipe.core.errors import GalleryError
from frpipe.gallery.catalog import Purged, ShardRef, entry_of
from frpipe.gallery.commit import Proposal, gone_digests, hide_rows, transact
from frpipe.gallery.delete import adopt_list
from frpipe.gallery.enroll_pass import (
    BucketWork,
    Passes,
    PassOutcome,
    PassSetting,
    PassTicket,
    Sighting,
    Verdict,
    Written,
)
from frpipe.gallery.external_sort import ExternalSort
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
from frpipe.gallery.policy import Fate, Policy
from frpipe.gallery.schema import FACE_ID, INPUT_TOLERANCE, SUBJECT_ID, UNIT_TOLERANCE, URI, conform
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.suppression import Suppressions
from frpipe.gallery.weights import merged_note

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
    heard: Callable[[int, int], None] | None = None,
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
    the length of a vector may be from 1; UNIT_TOLERANCE for vectors that come from a gallery.  heard: told,
    after all tables are read, of rows that are judged, and again of rows that are written; and of how many.

    Raises GalleryError for a table that no gallery can hold, for photos with the ids of others (unless
    same_photos), and DoubtError where the likeness is strict. Nothing is written then.
    """
    if policy not in get_args(Policy):
        raise GalleryError(f"unknown policy {policy!r}", f"one of {', '.join(get_args(Policy))}")
    wish = _Wish(policy, "enroll", note, photos, same_photos, likeness, tolerance, heard)
    return _enroll(gallery, tables, wish)


def enroll_in_passes(
    gallery: Gallery,
    passes: Passes,
    policy: Policy = "skip",
    *,
    note: str = "",
    photos: RunPhotos | None = None,
    same_photos: bool = False,
    likeness: Likeness | None = None,
) -> Outcome:
    """Enroll templates that come in passes, each a range of subjects that fits on a disk.

    The gallery gets the rows that `enroll` would give it, in the same shards, and one version; where others
    write meanwhile, all passes are done again, and shards that are right by then are used again. Where it is
    refused, the shards that were written are removed. The rest as `enroll`.
    """
    wish = _Wish(policy, "enroll", note, photos, same_photos, likeness)
    return _committed(gallery, _InPasses(gallery, passes, wish))


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
    heard: Callable[[int, int], None] | None = None


def _enroll(gallery: Gallery, tables: Iterable[pa.Table], wish: _Wish) -> Outcome:
    spec, now = gallery.spec, datetime.now(UTC)
    with ExternalSort(spec.dim, spec.stored_type, spec.rows_per_shard) as spill:
        spill.take(conform(table, spec.dim, now, wish.tolerance) for table in tables)
        return _committed(gallery, _AtOnce(gallery, spill, wish))


def _committed(gallery: Gallery, work: _Enrollment) -> Outcome:
    version = transact(gallery, work.propose, work.written)
    told: dict[str, Any] = {**work.told()}
    return Outcome(version.number, **told, shards=len(version.shards), doubts=work.doubts)


class _Enrollment(ABC):
    """One call of `enroll`, over as many attempts as its commit takes."""

    def __init__(self, gallery: Gallery, wish: _Wish) -> None:
        self._gallery, self._wish = gallery, wish
        # Shards of attempts that lost, by their content: good until a compaction takes them for orphans.
        self._written: Written = {}
        self._written_at = 0
        # Names of the files of all attempts.
        self.written: set[str] = set()
        self._verdict = Verdict()
        self._barred = Suppressions(())
        self.doubts: Doubts | None = None

    @property
    @abstractmethod
    def _rows(self) -> int:
        """The number of rows that are given."""

    @abstractmethod
    def _subject_hashes(self) -> Hashes:
        """Hashes of the subjects of the rows, sorted, each once."""

    @abstractmethod
    def _done(
        self, snapshot: Snapshot, sightings: list[Sighting], held: Hashes, verdict: Verdict
    ) -> list[ShardRef]:
        """Fill the verdict, see that nothing speaks against it, and write the shards."""

    def propose(self, snapshot: Snapshot) -> Proposal | None:
        """Propose the version that results from the rows."""
        try:
            return self._proposal(snapshot)
        except Purged:
            self._written = {}
            raise

    def told(self) -> dict[str, int]:
        """Counts of templates, for the outcome and the log."""
        verdict = self._verdict
        counts = {name.lower(): int(verdict.counts[fate]) for name, fate in Fate.__members__.items()}
        own = {
            "deleted": sum(map(len, verdict.gone.values())),
            "superseded": verdict.superseded,
            "incomplete": verdict.incomplete,
            "suppressed": verdict.suppressed,
        }
        return {**counts, **own}

    def _proposal(self, snapshot: Snapshot) -> Proposal | None:
        if snapshot.version.purged >= self._written_at:
            self._written, self._written_at = {}, snapshot.number
        # Read after the snapshot: whoever is deleted in between is on the list, or this attempt loses.
        barred = self._gallery.suppressions.read()
        if barred.documents != self._barred.documents:
            self._written = {}
        self._barred = barred
        sightings, held = self._sightings(snapshot)
        self._verdict = verdict = Verdict(self._examination(snapshot))
        new = self._done(snapshot, sightings, held, verdict)
        self.written |= {ref.name for ref in new}
        if not new and not verdict.gone:
            return None
        old = hide_rows(snapshot, self._gallery.shard_store, verdict.gone, self.written)
        counts = {name: count for name, count in self.told().items() if count or name in _ALWAYS}
        counts |= self.doubts.counts() if self.doubts else {}
        digests = gone_digests(self._gallery.gallery_id, snapshot, old)
        entry = entry_of(
            self._wish.action, self._wish.note, counts, policy=self._wish.policy, digests=digests
        )
        return Proposal([*old, *new], entry)

    def _examination(self, snapshot: Snapshot) -> Examination | None:
        likeness = self._wish.likeness
        if likeness is None:
            return None
        return Examination(likeness, self._gallery.spec.dim, self._most(snapshot))

    def _most(self, snapshot: Snapshot) -> int:
        """The number of templates that there will be at most."""
        return snapshot.rows + self._rows

    def _check(self, snapshot: Snapshot, verdict: Verdict) -> None:
        """Raise DoubtError, or GalleryError for photos with the ids of others."""
        looking = verdict.looking
        self.doubts = looking.end(snapshot, verdict.gone) if looking is not None else None
        if verdict.apart and not self._wish.same_photos:
            raise self._others_photos(verdict)

    def _others_photos(self, verdict: Verdict) -> GalleryError:
        face_id, place = verdict.example
        image_id = face_id.rpartition("#")[0]
        there = root_of(image_id, canonical(place)) if place else None
        here = self._wish.photos.root if self._wish.photos else None
        folders = f" (the gallery's from {there}, these from {here})" if there and here else ""
        return GalleryError(
            f"{counted(verdict.apart, 'templates are')} of photos that lay at another "
            f"place{folders}, and that now have "
            "other faces or none: other photos with the same ids would replace them; nothing was written",
            "if they are other photos, --source NAME puts NAME/ before their ids; if they are the same ones, "
            "moved and changed, say --same-photos",
        )

    def _sightings(self, snapshot: Snapshot) -> tuple[list[Sighting], Hashes]:
        """The gallery's rows that matter, and the sorted hashes of the photos it has templates of."""
        photos = self._wish.photos
        found: list[Sighting] = []
        held = [np.zeros(0, np.uint64)]
        wanted = self._subject_hashes() if self._rows else np.zeros(0, np.uint64)
        if not len(wanted) and not photos:
            return found, held[0]
        for ref in snapshot.version.shards:
            rows = snapshot.candidates(ref, "subjects", wanted)
            if photos:
                rows = merged(rows, snapshot.candidates(ref, "photos", photos.hashes))
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
                found.append(Sighting(ref, seen[at], rows[at], *masks))
        return found, distinct(np.concatenate(held))


class _AtOnce(_Enrollment):
    """An enrollment of rows that are put aside all at once."""

    def __init__(self, gallery: Gallery, spill: ExternalSort, wish: _Wish) -> None:
        super().__init__(gallery, wish)
        self._spill = spill

    @property
    def _rows(self) -> int:
        return self._spill.rows

    def _heard(self, rows: int) -> None:
        if self._wish.heard is not None:
            self._wish.heard(rows, self._rows)

    def _subject_hashes(self) -> Hashes:
        return self._spill.subject_hashes()

    def _done(
        self, snapshot: Snapshot, sightings: list[Sighting], held: Hashes, verdict: Verdict
    ) -> list[ShardRef]:
        work = BucketWork(
            self._gallery,
            self._spill,
            snapshot,
            self._barred,
            policy=self._wish.policy,
            sightings=sightings,
            held=held,
            heard=self._heard,
        )
        # One where no rows are given, for those of the gallery.
        work.judge(range(max(1, self._spill.buckets)), verdict)
        self._check(snapshot, verdict)
        found = work.write(self._written)
        self._written |= found
        return list(found.values())


class _InPasses(_Enrollment):
    """An enrollment of rows that come in passes; each has written its shards before anything is refused."""

    def __init__(self, gallery: Gallery, passes: Passes, wish: _Wish) -> None:
        super().__init__(gallery, wish)
        self._passes, self._now = passes, datetime.now(UTC)
        self._of_pass: dict[int, Written] = {}

    @property
    def _rows(self) -> int:
        return self._passes.rows

    def _subject_hashes(self) -> Hashes:
        return self._passes.subject_hashes()

    def _done(
        self, snapshot: Snapshot, sightings: list[Sighting], held: Hashes, verdict: Verdict
    ) -> list[ShardRef]:
        likeness = self._wish.likeness
        setting = PassSetting(
            self._gallery,
            snapshot.id,
            self._wish.policy,
            replace(likeness, told=None) if likeness is not None else None,
            self._rows,
            self._most(snapshot),
            self._now,
            self._wish.tolerance,
            held,
        )
        tickets = [
            PassTicket(number, buckets, [], self._of_pass.get(number, {}) if self._written else {})
            for number, buckets in enumerate(self._passes.ranges)
        ]
        tickets = [
            replace(each, sightings=[seen.between(*each.hashes(setting)) for seen in sightings])
            for each in tickets
        ]
        found: dict[int, PassOutcome] = {}
        try:
            for outcome in self._passes.do(setting, tickets):
                found[outcome.number] = outcome
                self.written |= {ref.name for ref in outcome.shards.values()}
            self._take(found, verdict)
            self._check(snapshot, verdict)
        except Purged:
            # Before all passes are done again: a disk need not hold both.
            self._gallery.shard_store.remove(self.written)
            self.written.clear()
            raise
        self._of_pass = {number: outcome.shards for number, outcome in found.items()}
        shards = [ref for number in sorted(found) for ref in found[number].shards.values()]
        self._written = {key: ref for each in self._of_pass.values() for key, ref in each.items()}
        return shards

    def _take(self, found: dict[int, PassOutcome], verdict: Verdict) -> None:
        """Take the outcomes together, in the order of the passes."""
        rows = sum(outcome.rows for outcome in found.values())
        if rows != self._rows or len(found) != len(self._passes.ranges):
            raise GalleryError(
                f"{counted(self._rows, 'templates were')} announced, and {rows:,} came: what they are made "
                "of has changed meanwhile; nothing was written",
                "run the same command again",
            )
        for number in sorted(found):
            verdict.add(found[number].verdict)

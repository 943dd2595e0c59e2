"""Erase people from all that a night configuration knows: gallery, outputs, results, reports, records.

Its order lets it be killed anywhere: write a mark that keeps nights away and holds what was found; suppress
the people, so that they do not come back meanwhile; delete them from the gallery and compact it; erase night
after night; prove it over every file; write the receipt; remove the mark.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.counted import counted
from frpipe.core.errors import OutputError
from frpipe.core.night_config import NightConfig
from frpipe.gallery import lifecycle
from frpipe.gallery.catalog import LOG, VERSIONS
from frpipe.gallery.delete import suppressed_rows
from frpipe.gallery.derived import DERIVED
from frpipe.gallery.gallery import GALLERY, Gallery
from frpipe.gallery.schema import vectors_of
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.suppression import SUPPRESSED, Names, image_of
from frpipe.io.erasure import pending as marks
from frpipe.io.erasure.erased_ids import ErasedIds, image_digest, subject_digest
from frpipe.io.erasure.needles import Haystack, Needle
from frpipe.io.erasure.pending import Pending
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.erase.columns import rows_of
from frpipe.jobs.erase.job import CopyPolicy
from frpipe.jobs.erase.known import KnownErasure
from frpipe.jobs.erase.night import NightErasure, Struck
from frpipe.jobs.erase.photos import KnownPhotos, photos_of
from frpipe.jobs.erase.proof import ErasureError, Proof, Searched
from frpipe.jobs.erase.tables import TableErasure
from frpipe.jobs.nightly import photos
from frpipe.jobs.nightly.history import NIGHTS, Past, nights
from frpipe.jobs.nightly.known_photos import STORE
from frpipe.jobs.nightly.lease import LEASES, Lease, lease
from frpipe.jobs.nightly.photo_sources import prefixes_of
from frpipe.jobs.nightly.tables import table_blocks
from frpipe.jobs.nightly.work import ENROLL, PROBES, SCAN
from frpipe.jobs.publish.root import Root

_HOLDER = "an erasure"
_OF_NIGHTS = re.compile(
    rf"{NIGHTS}/[0-9-]+|{LEASES}/[0-9]+\.json|{marks.FOLDER}/[a-z]+\.json|"
    rf"{STORE}/[0-9a-z-]+/part-\d{{6,}}\.parquet|"
    r"[0-9-]+/(?:night\.json|(?:.+/)?(?:run|files|report|erasing|erased|plan|known)\.json|"
    r"(?:.+/)?report\.(?:md|html)|(?:.+/)?_SUCCESS|(?:[a-z-]+/)*[a-z_]+(?:-\d{6,})?\.parquet|"
    r"(?:[a-z-]+/)+_plan/part-\d{6,}\.parquet)"
)


_OWN = re.compile(
    rf"{re.escape(GALLERY)}|(?:{VERSIONS}|{LOG}|{SUPPRESSED})/\d{{9}}\.json|"
    rf"shards/[0-9a-f]{{20}}\.(?:h5|index)|deleted/[0-9a-f]{{20}}\.bin|{DERIVED}"
)


@dataclass(frozen=True, slots=True)
class ErasedEverywhere:
    """Counts of an erasure.

    photos, faces: of enroll outputs.  templates: of the gallery.  results: of nights, changed.
    suppressed: new entries of the list.  shared: contents of other people's photos too, not suppressed.
    tables: rows of published tables.
    absent: ids that occur nowhere, and were never erased.  searched: the scope of the proof.
    """

    nights: int
    photos: int
    faces: int
    templates: int
    results: int
    begun: int
    suppressed: int
    shared: int
    earlier: int
    absent: int
    searched: Searched = Searched()  # noqa: RUF009 - it is frozen
    dry_run: bool = False
    tables: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The JSON form: counts, and no id."""
        return asdict(self)


@dataclass(frozen=True)
class EraseEverywhere:
    """An erasure of people from all that a night configuration knows. reason, by: for list and receipt."""

    config: NightConfig
    subjects: frozenset[str]
    images: frozenset[str] = frozenset()
    reason: str = ""
    by: str = ""
    copies: CopyPolicy = "refuse"
    say: Callable[[str], None] = lambda _: None

    def run(self) -> ErasedEverywhere:
        """Erase the people, or resume an erasure that was interrupted.

        Raises LeaseError: a night is under way; OutputError: copies, or a file is damaged; ErasureError: the
        proof fails, and the same command proves again.
        """
        with lease(self.runs, _HOLDER, self.config.lease.expires_s, self.say) as held:
            return self._run(held)

    def dry_run(self) -> ErasedEverywhere:
        """Report what would be erased; nothing is written, and no lease is held."""
        pending, known = self._gathered()
        struck = [self._of_night(night, pending, lambda: None).dry_run() for night in nights(self.runs)]
        templates = self._templates(pending) if self.gallery else 0
        done = self._ended(pending, known, struck)
        return replace(done, templates=templates, dry_run=True)

    @cached_property
    def runs(self) -> Folder:
        """The folder of all nights."""
        return Folder.at(self.config.runs)

    @cached_property
    def gallery(self) -> Gallery | None:
        """The gallery that the nights fill; None where there is none yet."""
        there = Folder.at(self.config.gallery).exists(GALLERY)
        return Gallery.open(self.config.gallery) if there else None

    def _run(self, held: Lease) -> ErasedEverywhere:
        # A mark that was half written at a kill holds ids, too.
        self.runs.child(marks.FOLDER).sweep(0)
        pending, known = self._gathered()
        for night in nights(self.runs):
            # A result that cannot be read, or copies, end it here, before anything is changed.
            self._of_night(night, pending, held.check).dry_run()
        if tables := self._tables(pending):
            tables.check()
            if self.copies != "keep":
                # Vectors of nights that were removed since stand in the tables alone.
                pending = replace(pending, needles=frozenset(tables.needles()))
        held.check()
        marks.write_pending(self.runs, pending)
        suppressed, templates = self._out_of_gallery(pending, known, held)
        KnownErasure(self.runs.child(STORE), pending.ids, held.check).run()
        struck = []
        for night in nights(self.runs):
            struck.append(self._of_night(night, pending, held.check).run())
            self.say(f"{night.date}: done")
        self.say("reading every file back")
        searched = self._prove(pending)
        rows, read = self._out_of_tables(marks.pending_in(self.runs) or pending)
        pending = replace(
            pending,
            photos=pending.photos + sum(each.photos for each in struck),
            faces=pending.faces + sum(each.faces for each in struck),
            templates=pending.templates + templates,
        )
        held.check()
        done = self._ended(pending, known, struck)
        done = replace(
            done, templates=templates, suppressed=suppressed, searched=searched + read, tables=rows
        )
        if pending.subjects or pending.images:
            marks.settle(self.runs, pending)
        self.runs.delete(marks.PENDING)
        return done

    def _out_of_tables(self, pending: Pending) -> tuple[int, Searched]:
        """Erase from the tables that the nights are published to; returns rows and the scope of the proof."""
        erasure = self._tables(pending)
        return erasure.run() if erasure else (0, Searched())

    def _tables(self, pending: Pending) -> TableErasure | None:
        uri = self.config.publish.tables
        if uri is None or Root.opened(uri) is None:
            return None
        whom = (self.subjects | pending.subjects, self.images | pending.images)
        return TableErasure.at(uri, *whom, copies=self.copies, say=self.say, known=pending.needles)

    def _gathered(self) -> tuple[Pending, KnownPhotos]:
        """Gather the ids, contents and vectors to look for.

        They are those that are named, what is known of them, and those of an interrupted erasure.
        """
        pending = marks.pending_in(self.runs) or Pending.new(self.reason, self.by)
        subjects, images = self.subjects | pending.subjects, self.images | pending.images
        known = photos_of(self._enrolled, subjects, images, needles=True)
        if known.copies and self.copies == "refuse":
            raise OutputError(
                f"{counted(len(known.copies), 'photos of the nights are')} the same as some that "
                "would go, under other "
                "ids, which are not named: the same faces would stay. Nothing was changed",
                "say --copies erase, or --copies keep where these rows are somebody else's",
            )
        if known.copies and self.copies == "erase":
            images |= known.copies
            known = photos_of(self._enrolled, subjects, images, needles=True)
        for image, who in self._listed(subjects, images):
            if who in subjects:
                names = known.by_subject.get(who, Names(frozenset({who})))
                known.by_subject[who] = names | Names(images=frozenset({image}))
            else:
                known.alone |= Names(images=frozenset({image}))
        found = frozenset(known.by_subject)
        gone = known.images
        if self.gallery:
            for who, faces in self._rows_of(self.gallery, subjects, images | gone):
                theirs = Names.of_faces(who, faces)
                if who in subjects:
                    found |= {who}
                    known.by_subject[who] = known.by_subject.get(who, Names()) | theirs
                    gone |= theirs.images
                else:
                    gone |= theirs.images & images
        return pending.with_ids(found, gone, known.needles - known.kept), known

    @property
    def _enrolled(self) -> list[Folder]:
        subs = (ENROLL, f"{PROBES}/{ENROLL}")
        found = (night.folder.child(sub) for night in nights(self.runs) for sub in subs)
        return [folder for folder in found if run.begun(folder)]

    def _listed(self, subjects: frozenset[str], images: frozenset[str]) -> Iterator[tuple[str, str | None]]:
        """Iterate over the photos of these people in the nights' lists, those never enrolled among them."""
        people, ids = (pa.array(sorted(each), pa.string()) for each in (subjects, images))
        for table in self._lists():
            theirs = pc.is_in(table["subject_id"], value_set=people)
            mine = table.filter(pc.or_(theirs, pc.is_in(table["image_id"], value_set=ids)))
            yield from zip(*(column.to_pylist() for column in mine.columns), strict=True)

    def _lists(self) -> Iterator[pa.Table]:
        """Iterate over ids and people of all photos that nights list; those known to all nights come once."""
        columns = ["image_id", "subject_id"]
        yield from KnownErasure(self.runs.child(STORE), ErasedIds("")).tables(columns)
        for night in nights(self.runs):
            for sub in (SCAN, PROBES):
                for name in (photos.LISTING, photos.VANISHED):
                    if night.folder.exists(f"{sub}/{name}"):
                        yield from table_blocks(night.folder, f"{sub}/{name}", columns)

    @staticmethod
    def _rows_of(
        gallery: Gallery, subjects: frozenset[str], images: frozenset[str]
    ) -> Iterator[tuple[str, list[str]]]:
        """Iterate over the visible face ids of these people, or of these photos, by person and shard."""
        people = pa.array(sorted(subjects), pa.string())
        for table in gallery.snapshot().tables(["subject_id", "face_id"], vectors=False):
            own = pc.is_in(table["subject_id"], value_set=people).to_pylist()
            found: dict[str, list[str]] = {}
            for who, face, is_own in zip(*(c.to_pylist() for c in table.columns), own, strict=True):
                if is_own or image_of(face) in images:
                    found.setdefault(who, []).append(face)
            yield from found.items()

    def _of_night(self, night: Past, pending: Pending, check: Callable[[], None]) -> NightErasure:
        return NightErasure(
            night,
            pending.ids,
            pending.subjects | self.subjects,
            pending.images | self.images,
            self.copies,
            self.say,
            check,
        )

    @cached_property
    def _prefixes(self) -> set[str]:
        """What the gallery has before the ids of the nights' photos, or had."""
        return {*prefixes_of(nights(self.runs)), self.config.consolidate.source or ""} - {""}

    def _templates(self, pending: Pending) -> int:
        assert self.gallery is not None
        tables = self.gallery.snapshot().tables(["subject_id", "face_id"], vectors=False)
        return sum(int(rows_of(pending.ids, table).sum()) for table in tables)

    def _out_of_gallery(self, pending: Pending, known: KnownPhotos, held: Lease) -> tuple[int, int]:
        """Suppress and delete people in the gallery, and compact it.

        Returns counts of entries and templates.
        """
        if self.gallery is None:
            self.say(
                "warning: there is no gallery, and so no list that keeps them out: take their photos away"
            )
            return 0, 0
        gallery = self.gallery
        names = [known.by_subject.get(who, Names(frozenset({who}))) for who in sorted(pending.subjects)]
        told = frozenset[str]().union(*(each.images for each in names))
        names.append(Names(images=pending.images - told) | Names(contents=known.alone.contents))
        # In the gallery the photos of the nights have, or had, these ids.
        names = [
            each | Names(images=frozenset(f"{source}/{i}" for source in self._prefixes for i in each.images))
            for each in names
        ]
        held.check()
        added = gallery.suppressions.suppress(names, pending.reason, pending.by)
        snapshot = gallery.snapshot()
        gone = suppressed_rows(snapshot, gallery.suppressions.read())
        # Deleted rows are not found any more: the proof must know their vectors before.
        needles = needles_of(snapshot, gone, gallery.spec.stored_type)
        if needles:
            marks.write_pending(self.runs, pending.with_ids((), (), needles))
        done = lifecycle.obey(gallery, note="erased")
        held.check()
        lifecycle.compact(gallery, note="erased")
        return added, done.deleted

    def _prove(self, pending: Pending) -> Searched:
        stored = marks.pending_in(self.runs) or pending
        haystack = Haystack(stored.needles)
        ids = stored.ids | ErasedIds.of(stored.key, self.subjects, self.images)
        texts = stored.subjects | stored.images | self.subjects | self.images
        searched = Proof(
            self.runs, ids, texts, haystack, own=_OF_NIGHTS, but=frozenset({marks.PENDING})
        ).prove()
        if self.gallery is not None:
            searched += GalleryProof(self.gallery, ids, texts, haystack).prove()
        return searched

    def _ended(self, pending: Pending, known: KnownPhotos, struck: list[Struck]) -> ErasedEverywhere:
        before = marks.receipts(self.runs)
        named = [("subject", each) for each in self.subjects] + [("image", each) for each in self.images]
        now = [
            each
            for kind, each in named
            if each in (pending.subjects if kind == "subject" else pending.images)
        ]
        earlier = [each for each in named if each[1] not in now and _told(before, *each)]
        return ErasedEverywhere(
            nights=len(struck),
            photos=sum(each.photos for each in struck),
            faces=sum(each.faces for each in struck),
            templates=0,
            results=sum(len(each.results) for each in struck),
            begun=sum(len(each.begun) for each in struck),
            suppressed=0,
            shared=len(known.shared),
            earlier=len(earlier),
            absent=len(named) - len(now) - len(earlier),
        )


def _told(receipts: list[dict[str, Any]], kind: str, value: str) -> bool:
    digest, name = (
        (subject_digest, "subject_digests") if kind == "subject" else (image_digest, "image_digests")
    )
    return any(digest(each["key"], value) in each[name] for each in receipts)


def needles_of(snapshot: Snapshot, rows: Mapping[str, NDArray[np.int64]], stored: str) -> set[Needle]:
    """Digest the vectors of some rows, by shard, as they are stored and as float32."""
    needles: set[Needle] = set()
    for ref in snapshot.version.shards:
        if ref.name in rows:
            vectors = vectors_of(snapshot.table_of(ref, [], rows[ref.name], vectors=True))
            needles.update(Needle.of(vectors), Needle.of(vectors, stored))
    return needles


@dataclass(frozen=True, slots=True)
class GalleryProof:
    """The proof for a gallery; see `Proof`. Shards of an encrypted gallery are decrypted and read as rows."""

    gallery: Gallery
    ids: ErasedIds
    texts: frozenset[str]
    vectors: Haystack

    def prove(self) -> Searched:
        """Read the folder of the gallery. Raises ErasureError where something is found."""
        snapshot = self.gallery.snapshot()
        store = self.gallery.shard_store
        strays = store.strays(store.names(), snapshot.version.shards)
        if strays:
            raise _failed(
                f"{counted(len(strays), 'files')} of shards that the newest version does not name are there"
            )
        # They hold no vector as it is: the shard that they were made of says whose they are.
        derived = self.gallery.shard_store.derived.strays(snapshot.version.shards)
        if derived:
            raise _failed(f"{counted(len(derived), 'files')} derived from shards that have gone are there")
        for table in snapshot.tables():
            if rows_of(self.ids, table).any():
                raise _failed("the newest version names somebody who was erased")
            if self.vectors.found_in(vectors_of(table).tobytes()):
                raise _failed("the newest version holds a vector of theirs, under another id")
        return Proof(self.gallery.folder, self.ids, self.texts, self.vectors, own=_OWN).prove()


def _failed(what: str) -> ErasureError:
    return ErasureError(
        f"after the erasure the gallery is not clean: {what}",
        "run the same command again; delete what is under another id by that id",
    )

"""Delete people: hidden at once from every reader, and removed from the files by the next compaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.distinct import without
from frpipe.core.text import canonical_text
from frpipe.gallery.catalog import ShardRef, check_readable, entry_of, subject_digest
from frpipe.gallery.commit import Proposal, gone_digests, hide_rows, transact
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.outcome import Outcome
from frpipe.gallery.packed import hashes
from frpipe.gallery.photos import image_ids
from frpipe.gallery.schema import FACE_ID, SUBJECT_ID, check_text
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.suppression import IMAGES, Names, Suppressions, digest, image_of


@dataclass(frozen=True, slots=True)
class Suppressing:
    """Option to put deleted people on the suppression list.  reason, by: recorded in the list.

    photos: what is known about each subject's photos, beside their templates. A gallery does not know the
    SHA-256 of photo files; enroll outputs do, and it also keeps out copies under other names.
    """

    reason: str = ""
    by: str = ""
    photos: Mapping[str, Names] = field(default_factory=dict)


def delete(
    gallery: Gallery,
    subject_ids: Iterable[str],
    *,
    note: str = "",
    suppress: Suppressing | None = Suppressing(),
) -> Outcome:
    """Delete all templates of some people; ids that are not there are counted as unknown.

    Readers that open the gallery from now on do not see them. They are put on the suppression list first,
    with the photos that their templates come from, so that nothing brings them back until
    `SuppressionList.allow`. The vectors stay in the files until `compact`. suppress: None leaves the list
    alone; then `rollback` and the next enrolment bring them back.
    """
    given = set(subject_ids)
    check_text(given)
    wanted = sorted(set(map(canonical_text, given)))
    found: set[str] = set()
    written: set[str] = set()
    rows = 0

    def change(snapshot: Snapshot) -> Proposal | None:
        nonlocal rows
        found.clear()
        gone = _rows_of(snapshot, wanted, found)
        rows = sum(len(some) for some in gone.values())
        if not rows:
            return None
        if suppress is not None:
            names = _names(snapshot, gone, suppress.photos)
            gallery.suppressions.suppress(names, suppress.reason, suppress.by)
        counts = {"subjects": len(found), "deleted": rows}
        digests = [subject_digest(gallery.gallery_id, subject) for subject in found]
        entry = entry_of("delete", note, counts, digests=digests)
        return Proposal(hide_rows(snapshot, gallery.shard_store, gone, written), entry)

    version = transact(gallery, change, written)
    return Outcome(
        version.number,
        deleted=rows,
        subjects=len(found),
        unknown=len(wanted) - len(found),
        shards=len(version.shards),
    )


def clear(gallery: Gallery, *, note: str = "", suppress: Suppressing | None = None) -> Outcome:
    """Delete everybody, to fill the gallery anew; nobody is suppressed unless `suppress` is given.

    As with `delete`, the files keep the vectors until `compact`.
    """
    rows = subjects = 0

    def change(snapshot: Snapshot) -> Proposal | None:
        nonlocal rows, subjects
        rows, subjects = snapshot.rows, snapshot.subjects
        counts = {"subjects": subjects, "deleted": rows}
        if not rows:
            return None
        if suppress is not None:
            gone = {ref.name: _in_sight(snapshot, ref) for ref in snapshot.version.shards}
            names = _names(snapshot, gone, suppress.photos)
            gallery.suppressions.suppress(names, suppress.reason, suppress.by)
        digests = gone_digests(gallery.gallery_id, snapshot, [])
        return Proposal([], entry_of("clear", note, counts, digests=digests))

    version = transact(gallery, change)
    return Outcome(version.number, deleted=rows, subjects=subjects)


def rollback(gallery: Gallery, version: int, *, note: str = "") -> Outcome:
    """Commit the content of an older version as a new version, so that this can be undone too.

    Its templates that have been suppressed since stay hidden, and are counted. Raises GalleryError for a
    version that has been purged or never was.
    """

    suppressed = 0
    written: set[str] = set()

    def change(snapshot: Snapshot) -> Proposal | None:
        nonlocal suppressed
        check_readable(version, snapshot.version)
        target = gallery.snapshot(version)
        barred = suppressed_rows(target, gallery.suppressions.read())
        suppressed = sum(map(len, barred.values()))
        if not suppressed and target.version.shards == snapshot.version.shards:
            return None
        shards = hide_rows(target, gallery.shard_store, barred, written)
        rows = sum(ref.live_rows for ref in shards)
        counts = {"to": version, "rows_before": snapshot.rows, "rows": rows, "suppressed": suppressed}
        digests = gone_digests(gallery.gallery_id, snapshot, shards)
        return Proposal(shards, entry_of("rollback", note, counts, digests=digests))

    done = transact(gallery, change, written)
    return Outcome(done.number, suppressed=suppressed, shards=len(done.shards))


def obey(gallery: Gallery, *, note: str = "") -> Outcome:
    """Hide the templates that the suppression list names, for example in a restored copy with a newer list.

    If there are none, a version is committed all the same unless the newest one counts the whole list:
    otherwise nobody would notice that a document was lost later.
    """
    rows = subjects = 0
    written: set[str] = set()

    def change(snapshot: Snapshot) -> Proposal | None:
        nonlocal rows, subjects
        gone = suppressed_rows(snapshot, gallery.suppressions.read())
        rows, subjects = sum(map(len, gone.values())), 0
        if not rows and snapshot.version.suppressed >= gallery.suppressions.documents():
            return None
        shards = hide_rows(snapshot, gallery.shard_store, gone, written)
        digests = gone_digests(gallery.gallery_id, snapshot, shards)
        subjects = len(digests)
        counts = {"subjects": subjects, "deleted": rows}
        return Proposal(shards, entry_of("delete", note, counts, digests=digests))

    version = transact(gallery, change, written)
    return Outcome(version.number, deleted=rows, subjects=subjects, shards=len(version.shards))


def adopt_list(gallery: Gallery, other: Suppressions, source: str = "") -> int:
    """Take over another gallery's suppression list; returns the number of new entries.

    Entries that name people or photos of this gallery are left out: another gallery may use the same ids for
    other people and photos. To take those over too, and delete the people, call `SuppressionList.adopt` and
    then `obey`.  source: prefix of the other gallery's photo ids here; ids of photos are not taken over then,
    since they would name other photos; people and contents are.
    """
    here: set[int] = set()
    named: dict[str, set[str]] = {}
    for entry in other.entries if not source else ():
        named.setdefault(entry.key, set()).update(entry.images)
    photos: dict[str, set[str]] = {key: set() for key, images in named.items() if images}
    snapshot = gallery.snapshot()
    for ref in snapshot.version.shards if other else ():
        table = snapshot.table_of(ref, [SUBJECT_ID, FACE_ID], vectors=False)
        people = table[SUBJECT_ID].unique().to_pylist()
        here |= {id(entry) for who in people for entry in other.of_subject(who)}
        images = image_ids(table[FACE_ID]).unique().to_pylist() if photos else ()
        for key, known in photos.items():
            known.update(named[key] & {digest(key, IMAGES, image) for image in images})
    entries = [entry for entry in other.entries if id(entry) not in here]
    return gallery.suppressions.adopt(
        Suppressions(
            replace(entry, images=frozenset() if source else entry.images - photos.get(entry.key, set()))
            for entry in entries
        )
    )


def names_of(gallery: Gallery, subject_ids: Iterable[str]) -> list[Names]:
    """Names of people, each with the photos that their visible templates come from.

    People without a visible template are left out.
    """
    wanted, found = sorted(set(map(canonical_text, subject_ids))), set[str]()
    snapshot = gallery.snapshot()
    there = _names(snapshot, _rows_of(snapshot, wanted, found), {})
    return [*there, *(Names(frozenset({who})) for who in wanted if who not in found)]


def suppressed_rows(snapshot: Snapshot, barred: Suppressions) -> dict[str, NDArray[np.int64]]:
    """Visible rows that are suppressed, by shard. Reads the ids of all shards if anything is suppressed."""
    gone = {}
    for ref in snapshot.version.shards if barred else ():
        rows = _in_sight(snapshot, ref)
        table = snapshot.table_of(ref, [SUBJECT_ID, FACE_ID], rows, vectors=False)
        hit = barred.mask(table)
        if hit.any():
            gone[ref.name] = rows[hit]
    return gone


def _in_sight(snapshot: Snapshot, ref: ShardRef) -> NDArray[np.int64]:
    live = snapshot.live_rows(ref)
    return np.arange(ref.rows, dtype=np.int64) if live is None else live


def _names(
    snapshot: Snapshot, gone: Mapping[str, NDArray[np.int64]], photos: Mapping[str, Names]
) -> list[Names]:
    """Names to suppress: the people of some rows, each with their photos.

    Photos that also show people who stay are left out, as those people's templates would be suppressed too.
    """
    faces: dict[str, list[str]] = {}
    for ref in snapshot.version.shards:
        if ref.name in gone:
            table = snapshot.table_of(ref, [SUBJECT_ID, FACE_ID], gone[ref.name], vectors=False)
            for subject, face in zip(*(table[n].to_pylist() for n in (SUBJECT_ID, FACE_ID)), strict=True):
                faces.setdefault(subject, []).append(face)
    shared = _shared_photos(snapshot, gone, {image_of(face) for some in faces.values() for face in some})
    faces = {who: [face for face in some if image_of(face) not in shared] for who, some in faces.items()}
    return [Names.of_faces(who, faces[who]) | photos.get(who, Names()) for who in sorted(faces)]


def _shared_photos(snapshot: Snapshot, gone: Mapping[str, NDArray[np.int64]], photos: set[str]) -> set[str]:
    """Those of the given photos that a row which stays visible comes from."""
    values, shared = pa.array(sorted(photos), pa.string()), set[str]()
    wanted = hashes(values)
    for ref in snapshot.version.shards:
        stay = without(snapshot.candidates(ref, "photos", wanted), gone.get(ref.name, np.zeros(0, np.int64)))
        if not stay.size:
            continue
        images = image_ids(snapshot.table_of(ref, [FACE_ID], stay, vectors=False)[FACE_ID])
        shared.update(images.filter(pc.is_in(images, value_set=values)).to_pylist())
    return shared


def _rows_of(snapshot: Snapshot, wanted: list[str], found: set[str]) -> dict[str, NDArray[np.int64]]:
    """Visible rows of some subjects, by shard; the subjects that have any are added to `found`."""
    gone = {}
    for ref, rows in snapshot.rows_of_subjects(pa.array(wanted, pa.string())):
        gone[ref.name] = rows
        found.update(snapshot.table_of(ref, [SUBJECT_ID], rows, vectors=False)[SUBJECT_ID].to_pylist())
    return gone

"""Compare the people of the gallery, their photos and the clusters of duplicates with last night's.

The ids are in differences/changes.parquet: `kind` (person_new, person_gone, person_without_photos,
cluster_new, cluster_grown, cluster_gone) and `id`.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import OutputError
from frpipe.gallery.catalog import ShardRef, VersionId
from frpipe.gallery.schema import SUBJECT_ID
from frpipe.gallery.snapshot import Snapshot
from frpipe.jobs.dedup.since import OldResult
from frpipe.jobs.nightly.faces import changed, gallery_version, opened
from frpipe.jobs.nightly.history import Past
from frpipe.jobs.nightly.journal import Facts, read_record
from frpipe.jobs.nightly.photos import people_without_photos
from frpipe.jobs.nightly.searches import newest_dedup
from frpipe.jobs.nightly.tables import write_table
from frpipe.jobs.nightly.work import DEDUP, SCAN, Work
from frpipe.jobs.recorded_version import RecordedVersion

CHANGES = "differences/changes.parquet"
Changes = dict[str, list[str]]


def differences(work: Work) -> Facts:
    """Count the changes, None where there is nothing to compare with, and write their ids to CHANGES."""
    people, since = _people(work)
    clusters = _clusters(work)
    changes = {**(people or {}), **(clusters or {})}
    if work.did("scan"):
        changes["person_without_photos"] = people_without_photos(work.folder.child(SCAN))
    rows = [(kind, name) for kind, names in changes.items() for name in names]
    columns = [pa.array([row[at] for row in rows], pa.string()) for at in (0, 1)]
    write_table(work.folder, CHANGES, pa.table(columns, names=["kind", "id"]))
    after = opened(work.config.gallery, _version(work))
    return {
        "people": _counts(people),
        "clusters": _counts(clusters),
        "since_version": since.number if since else None,
        "since_commit": since.commit if since else None,
        "gallery": None if after is None else _size(after),
        "gallery_changed": changed(work.config.gallery, last_gallery(work.last)),
    }


def last_gallery(last: Past | None) -> RecordedVersion | None:
    """Read the version of the gallery at the end of a night; None where it had none."""
    facts = (last.steps.get("differences", {}).get("gallery") or {}) if last else {}
    named = VersionId.read(facts)
    if last is None or named is None:
        return None
    return RecordedVersion(named, str(read_record(last.folder).get("saved") or ""), facts.get("templates"))


def people_between(before: Snapshot, after: Snapshot) -> tuple[list[str], list[str]]:
    """Find the people who are visible in only one of two versions: (added, removed), sorted.

    Only ids are read, no vectors. A shard never changes, so people of shards that both versions show alike
    are in neither list.
    """
    old, new = ({(ref.name, ref.deleted): ref for ref in each.version.shards} for each in (before, after))
    both = [ref for key, ref in new.items() if key in old]
    was = _ids(before, (ref for key, ref in old.items() if key not in new))
    now = _ids(after, (ref for key, ref in new.items() if key not in old))
    come, gone = (_without(one, other) for one, other in ((now, was), (was, now)))
    for ref in both:
        still = _ids(after, [ref])
        come, gone = _without(come, still), _without(gone, still)
    return sorted(come.to_pylist()), sorted(gone.to_pylist())


def cluster_changes(before: dict[str, list[str]], after: dict[str, list[str]]) -> Changes:
    """Find the clusters of two or more subjects that are new, have gained a subject, or are gone, by id."""
    old, new = ({name: {*who} for name, who in each.items() if len(who) > 1} for each in (before, after))
    return {
        "cluster_new": sorted(new.keys() - old.keys()),
        "cluster_grown": sorted(name for name in new.keys() & old.keys() if new[name] - old[name]),
        "cluster_gone": sorted(old.keys() - new.keys()),
    }


def _people(work: Work) -> tuple[Changes | None, VersionId | None]:
    """Compare the people of the gallery with those at the end of last night.

    Where that version was compacted away, or the gallery was restored or made anew, with those at the start
    of tonight.
    """
    after = opened(work.config.gallery, _version(work))
    for recorded in (last_gallery(work.last), work.journal.gallery):
        before = opened(work.config.gallery, recorded)
        if before is not None and after is not None:
            come, gone = people_between(before, after)
            return {"person_new": come, "person_gone": gone}, before.id
    if after is None:
        return None, None
    return {"person_new": sorted(_ids(after, after.version.shards).to_pylist()), "person_gone": []}, None


def _clusters(work: Work) -> Changes | None:
    last = newest_dedup(work.past)
    if last is None or not work.did("dedup"):
        return None
    if changed(work.config.gallery, RecordedVersion.of(last.folder.child(DEDUP))):
        work.say(f"warning: the duplicates of {last.date} are of another gallery: tonight's are not compared")
        return None
    after = OldResult.open(work.folder.child(DEDUP).uri).clusters()
    try:
        before = OldResult.open(last.folder.child(DEDUP).uri).clusters()
    except OutputError:
        # It names people, so somebody may have had to delete it.
        work.say(f"warning: the duplicates of {last.date} are gone or damaged: tonight's are not compared")
        return None
    return cluster_changes(before, after)


def _version(work: Work) -> RecordedVersion | None:
    """The version of the gallery at the end of tonight, the same in every launch."""
    facts = work.journal.facts("consolidate") or {}
    now = VersionId.read(facts) if facts.get("version") else gallery_version(work.config.gallery)
    found = work.journal.pin("end_version", now.as_dict() if now else None)
    # Nights pinned a number alone before commits were recorded.
    named = VersionId.read(found if isinstance(found, dict) else {"version": found})
    return RecordedVersion(named, str(work.journal.record.get("saved") or "")) if named else None


def _size(snapshot: Snapshot) -> Facts:
    return {**snapshot.id.as_dict(), "templates": snapshot.rows, "people": snapshot.subjects}


def _counts(changes: Changes | None) -> Facts | None:
    return None if changes is None else {kind: len(names) for kind, names in changes.items()}


def _ids(snapshot: Snapshot, refs: Iterable[ShardRef]) -> pa.Array:
    found = [snapshot.table_of(ref, [SUBJECT_ID], vectors=False)[SUBJECT_ID].unique() for ref in refs]
    return pa.chunked_array(found, pa.string()).unique()


def _without(some: pa.Array, others: pa.Array) -> pa.Array:
    return some.filter(pc.invert(pc.is_in(some, value_set=others)))

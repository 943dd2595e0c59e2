"""People out of sight: at once for every reader, and out of the files with the next compaction."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.text import canonical_text
from frpipe.gallery.catalog import check_readable, entry_of, subject_digest
from frpipe.gallery.commit import Proposal, transact
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.hiding import hide_rows
from frpipe.gallery.outcome import Outcome
from frpipe.gallery.receipt import gone_digests
from frpipe.gallery.schema import SUBJECT_ID, check_text
from frpipe.gallery.snapshot import Snapshot


def delete(gallery: Gallery, subject_ids: Iterable[str], *, note: str = "") -> Outcome:
    """Delete all templates of some people; ids that are not there are counted as unknown.

    Readers that open the gallery from now on do not see them. The vectors stay in the files, and `rollback`
    can bring them back, until `compact`.
    """
    given = set(subject_ids)
    check_text(given)
    wanted = sorted(set(map(canonical_text, given)))
    found: set[str] = set()
    rows = 0

    def change(snapshot: Snapshot) -> Proposal | None:
        nonlocal rows
        found.clear()
        gone = _rows_of(snapshot, wanted, found)
        rows = sum(len(some) for some in gone.values())
        if not rows:
            return None
        counts = {"subjects": len(found), "deleted": rows}
        digests = [subject_digest(gallery.gallery_id, subject) for subject in found]
        entry = entry_of("delete", note, counts, digests=digests)
        return Proposal(hide_rows(snapshot, gallery.shelf, gone), entry)

    version = transact(gallery, change)
    return Outcome(
        version.number,
        deleted=rows,
        subjects=len(found),
        unknown=len(wanted) - len(found),
        shards=len(version.shards),
    )


def clear(gallery: Gallery, *, note: str = "") -> Outcome:
    """Delete everybody. As with `delete`, the files keep the vectors until `compact`."""
    rows = subjects = 0

    def change(snapshot: Snapshot) -> Proposal | None:
        nonlocal rows, subjects
        rows, subjects = snapshot.rows, snapshot.subjects
        counts = {"subjects": subjects, "deleted": rows}
        if not rows:
            return None
        digests = gone_digests(gallery.gallery_id, snapshot, [])
        return Proposal([], entry_of("clear", note, counts, digests=digests))

    version = transact(gallery, change)
    return Outcome(version.number, deleted=rows, subjects=subjects)


def rollback(gallery: Gallery, version: int, *, note: str = "") -> Outcome:
    """Make the content of an older version the newest one: a new version, so that this can be undone too.

    Raises GalleryError for a version that has been purged or never was.
    """

    def change(snapshot: Snapshot) -> Proposal | None:
        check_readable(version, snapshot.version)
        target = gallery.snapshot(version).version
        if target.shards == snapshot.version.shards:
            return None
        counts = {"to": version, "rows_before": snapshot.rows, "rows": target.rows}
        digests = gone_digests(gallery.gallery_id, snapshot, target.shards)
        return Proposal(list(target.shards), entry_of("rollback", note, counts, digests=digests))

    done = transact(gallery, change)
    return Outcome(done.number, shards=len(done.shards))


def _rows_of(snapshot: Snapshot, wanted: list[str], found: set[str]) -> dict[str, NDArray[np.int64]]:
    """Rows in sight of some subjects, by shard; the subjects that have any are added to `found`."""
    gone = {}
    values = pa.array(wanted, pa.string())
    for ref in snapshot.version.shards:
        subjects = snapshot.open(ref, vectors=False).text(SUBJECT_ID)
        rows = np.flatnonzero(pc.is_in(subjects, value_set=values).to_numpy(zero_copy_only=False))
        rows = np.setdiff1d(rows, snapshot.deleted_rows(ref))
        if rows.size:
            gone[ref.name] = rows
            found.update(subjects.take(pa.array(rows)).to_pylist())
    return gone

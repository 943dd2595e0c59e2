"""Check a gallery for what earlier changes left in it. To add a check, add a function to CHECKS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.distinct import are_among, without
from frpipe.gallery.look_alikes import stored_forms
from frpipe.gallery.packed import hashes
from frpipe.gallery.photos import MADE_OF, image_ids, place_hashes
from frpipe.gallery.schema import FACE_ID, SUBJECT_ID, URI
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.weights import WEIGHED_BY
from frpipe.jobs.doctor.runs import RunOfGallery
from frpipe.jobs.doctor.superseded import superseded_rows

Rows = Mapping[str, NDArray[np.int64]]
_LISTED = [SUBJECT_ID, FACE_ID, URI]
_DERIVED = f"(^|/)({'|'.join(('mean', 'quality-mean', *WEIGHED_BY))}):[0-9a-f]{{20}}$"


@dataclass(frozen=True, slots=True)
class Finding:
    """The finding of a check.

    name: of the check.  what: in words.  rows: all templates that it is about, by
    shard.  shown: the first of them: subject_id, face_id, image_uri.  mend: whether --mend takes them out.
    """

    name: str
    what: str
    count: int
    shown: tuple[dict[str, Any], ...]
    mend: bool = False
    rows: Rows = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form of the finding."""
        return {name: getattr(self, name) for name in ("name", "what", "count", "mend", "shown")}


Check = Callable[[Snapshot, Sequence[RunOfGallery], int], Finding]
"""Looks at a version and the runs, oldest first; lists so many templates at most."""


def superseded(snapshot: Snapshot, runs: Sequence[RunOfGallery], most: int) -> Finding:
    """Find templates of photos about which a later run says something else."""
    what = "templates of photos that have become something else since, as a later run says"
    rows = superseded_rows(snapshot, runs)
    return Finding("superseded", what, _count(rows), listed(snapshot, rows, most), True, rows)


def two_places(snapshot: Snapshot, runs: Sequence[RunOfGallery], most: int) -> Finding:
    """Find photos of one id that lay at different places: they may be different photos."""
    del runs
    photos, places, where = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)], []
    for ref in snapshot.version.shards:
        table, live = snapshot.table_of(ref, [FACE_ID, URI], vectors=False), snapshot.live_rows(ref)
        photos.append(hashes(image_ids(table[FACE_ID])))
        places.append(place_hashes(table[URI]))
        where += [(ref.name, np.arange(ref.rows) if live is None else live)]
    photo, place = np.concatenate(photos), np.concatenate(places)
    known = place != 0
    pairs = np.unique(np.stack([photo[known], place[known]]), axis=1)[0]
    values, counts = np.unique(pairs, return_counts=True)
    odd = are_among(photo, values[counts > 1])
    rows, start = {}, 0
    for name, live in where:
        inside = live[odd[start : start + len(live)]]
        start += len(live)
        if inside.size:
            rows[name] = inside
    what = "templates of photos of one id that lay at different places: they may be different photos"
    return Finding("two_places", what, _count(rows), listed(snapshot, rows, most), rows=rows)


def not_traceable(snapshot: Snapshot, runs: Sequence[RunOfGallery], most: int) -> Finding:
    """Find derived templates that do not say which photos they were made of."""
    del runs
    rows = {}
    for ref in snapshot.version.shards:
        shard = snapshot.open(ref, vectors=False)
        is_derived = pc.match_substring_regex(shard.text(FACE_ID), _DERIVED).to_numpy(False)
        unsaid = shard.text(MADE_OF).is_null().to_numpy(False)
        found = without(np.flatnonzero(is_derived & unsaid), snapshot.deleted_rows(ref))
        if found.size:
            rows[ref.name] = found
    what = (
        "derived templates that do not say of which photos they were made: consolidate their run again as "
        "before, with --policy append"
    )
    return Finding("not_traceable", what, _count(rows), listed(snapshot, rows, most), rows=rows)


def looks_twice(snapshot: Snapshot, runs: Sequence[RunOfGallery], most: int) -> Finding:
    """Find people whose ids are stored in several Unicode forms: they look the same, and are read as one."""
    del runs
    ids = pa.array([each.subject_id for each in stored_forms(snapshot) if each.looks_twice], pa.string())
    rows = {}
    for ref in snapshot.version.shards if len(ids) else ():
        subjects = snapshot.open(ref, vectors=False).text(SUBJECT_ID)
        found = np.flatnonzero(pc.is_in(subjects, value_set=ids).to_numpy(False))
        found = without(found, snapshot.deleted_rows(ref))
        if found.size:
            rows[ref.name] = found
    what = (
        "templates of people whose ids are stored in several Unicode forms, which are read as one: "
        "an export into a new gallery stores one form"
    )
    return Finding("looks_twice", what, _count(rows), listed(snapshot, rows, most), rows=rows)


CHECKS: tuple[Check, ...] = (superseded, two_places, not_traceable, looks_twice)


def listed(snapshot: Snapshot, rows: Rows, most: int) -> tuple[dict[str, Any], ...]:
    """List the first so many templates of some rows."""
    found: list[dict[str, Any]] = []
    for ref in snapshot.version.shards:
        if ref.name in rows and len(found) < most:
            some = rows[ref.name][: most - len(found)]
            found += snapshot.table_of(ref, _LISTED, some, vectors=False).to_pylist()
    return tuple(found)


def _count(rows: Rows) -> int:
    return sum(map(len, rows.values()))

"""Find templates whose photo a later run reports otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.gallery.packed import hashes
from frpipe.gallery.photos import MADE_OF, RunPhotos, told_rows
from frpipe.gallery.policy import SAME_FACE
from frpipe.gallery.schema import ENROLLED, FACE_ID, SUBJECT_ID, URI, vectors_of
from frpipe.gallery.snapshot import Snapshot
from frpipe.jobs.doctor.runs import RunOfGallery


@dataclass(slots=True)
class _Rows:
    """The templates in sight of one shard.

    run, given: of each the newest run that speaks of it (-1: none), and whether that run gives it.  keys:
    hashes of subject and face.
    """

    rows: NDArray[np.int64]
    keys: NDArray[np.uint64]
    run: NDArray[np.int64]
    given: NDArray[np.bool_]


def superseded_rows(snapshot: Snapshot, runs: Sequence[RunOfGallery]) -> dict[str, NDArray[np.int64]]:
    """Find superseded rows, by shard. runs: oldest first.

    A run speaks of a template if it is not older than the template and speaks of any of its photos. It has to
    give the template: the same person and face id, and the same face. Of a run that the log does not name,
    derived templates are not judged.

    Memory: 25 bytes a template, and 16 a photo of one run.
    """
    if not runs:
        return {}
    found = {ref.name: _all(snapshot, number) for number, ref in enumerate(snapshot.version.shards)}
    for number, each in enumerate(runs):
        photos = RunPhotos()
        for _ in each.templates(photos):
            pass
        _speak(snapshot, found, each, number, photos)
    for number, each in enumerate(runs):
        for table in each.templates(RunPhotos()):
            _give(snapshot, found, number, table)
    gone = {name: seen.rows[(seen.run >= 0) & ~seen.given] for name, seen in found.items()}
    return {name: rows for name, rows in gone.items() if rows.size}


def _all(snapshot: Snapshot, number: int) -> _Rows:
    ref = snapshot.version.shards[number]
    shard, live = snapshot.open(ref, vectors=False), snapshot.live_rows(ref)
    rows = np.arange(ref.rows) if live is None else live
    names = pa.table({name: shard.text(name).take(pa.array(rows)) for name in (SUBJECT_ID, FACE_ID)})
    return _Rows(rows, _keys(names), np.full(len(rows), -1), np.zeros(len(rows), bool))


def _speak(
    snapshot: Snapshot, found: dict[str, _Rows], run: RunOfGallery, number: int, photos: RunPhotos
) -> None:
    """Note the templates whose photos a run reports."""
    created = pa.scalar(run.run.created, pa.timestamp("us", tz="UTC"))
    for ref in snapshot.version.shards:
        seen = found[ref.name]
        columns = [FACE_ID, URI, ENROLLED, *([MADE_OF] if MADE_OF in ref.attributes else [])]
        table = snapshot.table_of(ref, columns, seen.rows, vectors=False).combine_chunks()
        derived = table[MADE_OF].combine_chunks() if MADE_OF in columns else None
        if run.how is None:
            derived = None
        told = told_rows(table[FACE_ID].combine_chunks(), table[URI].combine_chunks(), derived, photos)
        older = pc.less_equal(table[ENROLLED], created).to_numpy()
        seen.run[told.rows & older] = number


def _give(snapshot: Snapshot, found: dict[str, _Rows], number: int, table: pa.Table) -> None:
    """Note the templates that a run yields, of those that it is the last to report."""
    keys, vectors = _keys(table), vectors_of(table)
    if not len(keys):
        return
    order = np.argsort(keys)
    for ref in snapshot.version.shards:
        seen = found[ref.name]
        at = np.minimum(np.searchsorted(keys[order], seen.keys), len(keys) - 1)
        hits = np.flatnonzero((keys[order][at] == seen.keys) & (seen.run == number))
        if hits.size:
            own = vectors_of(snapshot.table_of(ref, [FACE_ID], seen.rows[hits], vectors=True))
            alike = np.einsum("ij,ij->i", own, vectors[order[at[hits]]]) >= SAME_FACE
            seen.given[hits[alike]] = True


def _keys(table: pa.Table) -> NDArray[np.uint64]:
    return hashes(pc.binary_join_element_wise(table[SUBJECT_ID], table[FACE_ID], "\0"))

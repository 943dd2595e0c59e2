"""Measures of the photos of a night, for comparison with the nights before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.reasons import Reason
from frpipe.core.schema import stage_of
from frpipe.core.text_column import canonical_column
from frpipe.gallery.photos import with_source
from frpipe.gallery.schema import EMBEDDING, FACE_ID, SUBJECT_ID, vectors_of
from frpipe.gallery.snapshot import Snapshot
from frpipe.io.output.features import Features
from frpipe.io.output.units import Units
from frpipe.jobs.face_gate import FaceGate
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.nightly.distribution import NightSample
from frpipe.jobs.nightly.faces import opened
from frpipe.jobs.nightly.journal import Facts
from frpipe.jobs.nightly.searches import GALLERY, WATCH_LIST
from frpipe.jobs.nightly.work import ENROLL, IDENTIFY, Work
from frpipe.jobs.subject_faces import IMAGE_NAMES, quality, templates_of

Samples = dict[str, NightSample]
# People whose older templates are held at once: 100 MB at ten templates of 512 numbers each.
_MOST_PEOPLE = 5000
_FACE_NAMES = ["score", "eye_distance_px", "sharpness"]
_OF_STAGES = {"quality_score": "quality", "pose_yaw_deg": "quality", "pad_score": "pad"}
"""Columns of stages that are measured where a run has them. The measure `quality`, 0 to 1, is older."""


def measured(work: Work) -> Samples:
    """Sample the measures of tonight, by name: of faces, stages, similarities and failed photos."""
    facts = unsuppressed(work.journal.facts("enroll") or {})
    samples = {
        "rejected": NightSample.of_share(facts["rejected"], facts["rows"]),
        "no_face": NightSample.of_share(facts["no_face"], facts["rows"]),
        **_of_faces(work),
        **_of_stages(Features(work.folder.child(ENROLL))),
    }
    searched = work.journal.facts("identify") or {}
    for search in (GALLERY, WATCH_LIST):
        if search in searched:
            found = Units(work.folder.child(IDENTIFY).child(search), "probes").tables()
            values = [table["rank1_similarity"].drop_null().to_numpy() for table in found]
            samples[f"rank1_similarity_{search}"] = NightSample.of(np.concatenate([np.zeros(0), *values]))
    before = opened(work.config.gallery, work.journal.gallery)
    if before is not None:
        samples["mated_similarity"] = NightSample.of(list(_mated(work, before)))
    return samples


def unsuppressed(enroll: Facts) -> Facts:
    """Make the facts of the step `enroll` without suppressed photos."""
    count = enroll.get("reasons", {}).get(Reason.SUPPRESSED.value, 0)
    return {**enroll, **{name: enroll[name] - count for name in ("rows", "rejected") if name in enroll}}


def _of_faces(work: Work) -> Samples:
    scores: list[np.ndarray] = [np.zeros(0)]
    qualities: list[np.ndarray] = [np.zeros(0)]
    for faces in Features(work.folder.child(ENROLL)).all_faces(_FACE_NAMES):
        sides = [faces[name].to_numpy() for name in _FACE_NAMES]
        scores.append(sides[0])
        qualities.append(quality(*sides))
    return {
        "detection_score": NightSample.of(np.concatenate(scores)),
        "quality": NightSample.of(np.concatenate(qualities)),
    }


def _of_stages(run: Features) -> Samples:
    """Sample the columns that stages of the run have written, over all faces, also those that were held back.

    Without these a gate would cut off the part of the distribution that is to be watched.
    """
    schema = run.faces(run.some_parts()[0]).schema
    names = [
        name
        for name, stage in _OF_STAGES.items()
        if name in schema.names and stage_of(schema.field(name)) == stage
    ]
    if not names:
        return {}
    readers = [run, *([Features(run.folder, held=True)] if run.holds else ())]
    tables = pa.concat_tables(table for reader in readers for table in reader.all_faces(names))
    return {name: NightSample.of(tables[name].drop_null().to_numpy()) for name in names}


def _mated(work: Work, before: Snapshot) -> Iterator[float]:
    """Iterate over the best similarity of each new template to an older one of the same person, exactly."""
    people = _known_people(work, before)
    old = _templates_of(before, people)
    for table in _tonights(work):
        mine = table.filter(pc.is_in(table[SUBJECT_ID], value_set=people))
        rows = zip(mine[SUBJECT_ID].to_pylist(), mine[FACE_ID].to_pylist(), vectors_of(mine), strict=True)
        for subject, face, vector in rows:
            others = [template for name, template in old.get(subject, ()) if name != face]
            if others:
                yield float((np.stack(others) @ vector).max())


def _known_people(work: Work, before: Snapshot) -> pa.Array:
    """Choose people of tonight whom the gallery knew: evenly where they are many, and always the same."""
    features = Features(work.folder.child(ENROLL))
    seen = [faces[SUBJECT_ID].unique() for faces in features.all_faces([SUBJECT_ID])]
    tonight = canonical_column(pa.chunked_array(seen, pa.string())).unique().drop_null()
    known = [
        ids.filter(pc.is_in(ids, value_set=tonight))
        for table in before.tables([SUBJECT_ID], vectors=False)
        if len(ids := table[SUBJECT_ID].unique())
    ]
    names = pa.chunked_array(known, pa.string()).unique().to_pylist()
    return pa.array(sorted(names, key=lambda name: _digest(str(name)))[:_MOST_PEOPLE], pa.string())


def _templates_of(before: Snapshot, people: pa.Array) -> dict[str, list[tuple[str, np.ndarray]]]:
    found: dict[str, list[tuple[str, np.ndarray]]] = {}
    for table in before.tables([SUBJECT_ID, FACE_ID, EMBEDDING]) if len(people) else ():
        mine = table.filter(pc.is_in(table[SUBJECT_ID], value_set=people))
        rows = zip(mine[SUBJECT_ID].to_pylist(), mine[FACE_ID].to_pylist(), vectors_of(mine), strict=True)
        for subject, face, vector in rows:
            found.setdefault(subject, []).append((face, np.array(vector)))
    return found


def _tonights(work: Work) -> Iterator[pa.Table]:
    """Iterate over the templates of tonight, chosen as for the gallery."""
    source, how = FeatureRun.open(work.folder.child(ENROLL).uri), work.config.consolidate
    gate = FaceGate.of(how.gates)
    for images, faces in source.features.tables(IMAGE_NAMES):
        table = templates_of(images, faces, how.faces, source.created)[0]
        yield with_source(gate.passing(table, faces), how.source or "")


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()

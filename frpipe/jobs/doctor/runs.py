"""Open the enroll runs that a doctor consults, oldest first, with how each was put into the gallery."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from frpipe.core.errors import OutputError
from frpipe.core.text_column import canonical_column
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.photos import RunPhotos
from frpipe.gallery.schema import EMBEDDING, FACE_ID, SUBJECT_ID, URI
from frpipe.io.manifest.columns import ID
from frpipe.io.storage.folder import Folder
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.consolidate.reading import photos_and_faces, spoken_of
from frpipe.jobs.face_gate import FaceGate
from frpipe.jobs.features import FeatureRun

_NOTE = "consolidate "


@dataclass(frozen=True, slots=True)
class RunOfGallery:
    """A run, and the settings that the gallery's log has for it; None where the log does not name it."""

    uri: str
    run: FeatureRun
    how: dict[str, Any] | None

    def templates(self, photos: RunPhotos) -> Iterator[pa.Table]:
        """Iterate over templates of the run: subject_id, face_id, embedding; `photos` takes those reported.

        Of a run that the log does not name any face of a photo may be its template.
        """
        if self.how is None:
            for images, faces in photos_and_faces(self.run):
                told, _, _ = spoken_of(images)
                photos.add(canonical_column(told[ID]), told[URI])
                named = faces.filter(faces[SUBJECT_ID].is_valid())
                keys = [canonical_column(named[name]) for name in (SUBJECT_ID, FACE_ID)]
                yield pa.table([*keys, named[EMBEDDING]], names=[SUBJECT_ID, FACE_ID, EMBEDDING])
            return
        job = Consolidation(
            self.uri,
            "",
            templates=self.how["templates"],
            faces=self.how["faces"],
            source=self.how.get("source", ""),
            subject_face=self.how.get("subject_face", "rule"),
            gate=FaceGate.read(self.how.get("gate", "")),
        )
        for table in job.templates_of_run(self.run, photos):
            yield table.select([SUBJECT_ID, FACE_ID, EMBEDDING])


def runs_of(gallery: Gallery, uris: Sequence[str]) -> list[RunOfGallery]:
    """Open runs, oldest first. Raises OutputError and GalleryMismatch where one cannot be used."""
    notes = _notes(gallery)
    found = []
    for uri in uris:
        run = _of_gallery(uri, gallery)
        gallery.spec.check_same(run.spec)
        found.append(RunOfGallery(uri, run, notes.get(run.run_id)))
    return sorted(found, key=lambda each: each.run.created)


def _of_gallery(uri: str, gallery: Gallery) -> FeatureRun:
    """Choose the run's embedder that made the gallery's vectors, if it is among its further ones."""
    run = FeatureRun.open(uri)
    each_of = (FeatureRun.open(uri, reader.embedder) for reader in run.features.by_embedder())
    fitting = (each for each in each_of if each.spec.embedder_hash == gallery.spec.embedder_hash)
    return next(fitting, run)


def _notes(gallery: Gallery) -> dict[str, dict[str, Any]]:
    """Find the settings of the last time that each run was put into the gallery."""
    found = {facts["run"]: facts for facts in consolidations(gallery)}
    return {run: facts for run, facts in found.items() if {"faces", "templates"} <= facts.keys()}


def consolidations(gallery: Gallery) -> Iterator[dict[str, str]]:
    """List log entries of the runs that were put into the gallery, oldest first: `run`, settings."""
    for entry in gallery.log():
        if entry.note.startswith(_NOTE):
            try:
                facts = json.loads(entry.note.removeprefix(_NOTE))
                said = {name: str(facts[name]) for name in facts}
            except (ValueError, KeyError, TypeError):
                continue
            if "run" in said:
                yield said


def sources_of(gallery: Gallery, runs: Sequence[Folder]) -> dict[str, set[str]]:
    """Find, by address of a run, the sources that it was put into the gallery under ("": none)."""
    known: dict[str, set[str]] = {}
    for facts in consolidations(gallery):
        known.setdefault(facts["run"], set()).add(facts.get("source", ""))
    found = {}
    for run in runs:
        with suppress(OutputError):  # one that has not ended was put into no gallery
            found[run.uri] = known.get(FeatureRun.open(run.uri).run_id, set())
    return found

"""Consolidate: read a finished enroll output part by part, choose each subject's face, enroll them."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from frpipe.core.errors import ConfigError, GalleryMismatch, InvariantError, OutputError
from frpipe.flows.consolidate.grouping import grouped
from frpipe.flows.features import FeatureRun
from frpipe.flows.subject_faces import SubjectPolicy
from frpipe.flows.suppressed_faces import IMAGE_NAMES, templates_of
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import GALLERY, Gallery
from frpipe.gallery.policy import Policy
from frpipe.gallery.spec import GallerySpec
from frpipe.gallery.suppression import Suppressions
from frpipe.gallery.templates import TemplatePolicy, reduce_templates
from frpipe.io.folder import Folder
from frpipe.io.outputs import read_outputs

Say = Callable[[str], None]
_EVERY_S = 5.0
# Set by Ray for the driver of `ray job submit`.
_SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def check_gallery(uri: str, spec: GallerySpec) -> bool:
    """Whether there is a gallery; GalleryMismatch, both hashes named, if it was made for another recipe."""
    if not Folder.at(uri).exists(GALLERY):
        return False
    Gallery.open(uri).spec.check_same(spec)
    return True


@dataclass(frozen=True, slots=True)
class Consolidated:
    """What came of it. faces = used + the sum of left_out; templates were offered to the gallery.

    version: of the gallery afterwards; None of a dry run.
    """

    photos: int
    photos_without_face: int
    faces: int
    used: int
    left_out: dict[str, int]
    templates: int
    added: int
    replaced: int
    skipped: int
    unchanged: int
    suppressed: int
    version: int | None
    gallery: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        """The same for people."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        lines = [
            f"photos     {self.photos:,}, {self.photos_without_face:,} of them without a face",
            f"faces      {self.faces:,}: {self.used:,} used, {self.faces - self.used:,} left out"
            + (f" ({reasons})" if reasons else ""),
            f"templates  {self.templates:,}: {self.added:,} added, {self.replaced:,} replaced, "
            f"{self.unchanged:,} unchanged, {self.skipped:,} skipped"
            + (f", {self.suppressed:,} suppressed" if self.suppressed else ""),
        ]
        last = "dry run: nothing was written" if self.version is None else f"version {self.version}"
        return "\n".join((*lines, f"gallery    {self.gallery}: {last}"))


@dataclass(slots=True)
class _Count:
    photos: int = 0
    photos_without_face: int = 0
    faces: int = 0
    used: int = 0
    templates: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Consolidation:
    """Which output goes into which gallery, and how.

    policy: what happens to a subject that is there already.  templates: what is kept of each subject's
    vectors.  faces: which face of a photo is the subject's.
    """

    features: str
    gallery: str
    policy: Policy = "skip"
    templates: TemplatePolicy = "all"
    faces: SubjectPolicy = "centre-largest"
    say: Say = lambda _: None

    def run(self) -> Consolidated:
        """Do it. Raises OutputError: the enroll run has not ended; GalleryMismatch: another recipe."""
        self._refuse_lost()
        source = FeatureRun.open(self.features)
        try:
            gallery = Gallery.ensure(self.gallery, source.spec)
        except GalleryMismatch as error:
            raise GalleryMismatch(error.message, source.remedy(self._wanted())) from None
        count = _Count()
        tables = self._tables(source, count, gallery.suppressions.read())
        outcome = lifecycle.enroll(gallery, tables, self.policy, note=self._note(source))
        return self._result(count, outcome.version, {name: getattr(outcome, name) for name in _OUTCOMES})

    def dry_run(self) -> Consolidated:
        """Read and count everything; the gallery is checked if it is there, and nothing is written."""
        source = FeatureRun.open(self.features)
        try:
            there = check_gallery(self.gallery, source.spec)
        except GalleryMismatch as error:
            raise GalleryMismatch(error.message, source.remedy(self._wanted())) from None
        if not there:
            self.say("the gallery is not there yet: it would be made")
        count = _Count()
        barred = Gallery.open(self.gallery).suppressions.read() if there else Suppressions(())
        for _ in self._tables(source, count, barred):
            pass
        return self._result(count, None, dict.fromkeys(_OUTCOMES, 0))

    def _refuse_lost(self) -> None:
        place = Folder.at(self.gallery)
        if _SUBMITTED in os.environ and place.is_local and not Path(self.gallery).is_absolute():
            raise ConfigError(
                "a submitted job runs in a folder of Ray's, and a relative --gallery would be lost with it",
                "give an absolute path that every node sees, or s3://",
            )

    def _tables(self, source: FeatureRun, count: _Count, barred: Suppressions) -> Iterator[pa.Table]:
        chosen = self._chosen(source, count, barred)
        if self.templates != "all":
            chosen = (reduce_templates(table, self.templates) for table in grouped(chosen, source.spec.dim))
        for table in chosen:
            count.templates += table.num_rows
            yield table
        # Whoever reads to the end learns of a mismatch there: a gallery puts all aside before it commits.
        self._check(source, count)

    def _chosen(self, source: FeatureRun, count: _Count, barred: Suppressions) -> Iterator[pa.Table]:
        said = time.monotonic()
        for images, faces in read_outputs(source.folder, IMAGE_NAMES):
            table, left_out = templates_of(images, faces, self.faces, source.created, barred)
            count.photos += images.num_rows
            count.photos_without_face += images["faces"].to_pylist().count(0)
            count.faces += faces.num_rows
            count.used += table.num_rows
            count.left_out += left_out
            if time.monotonic() - said >= _EVERY_S or count.faces == source.faces:
                said = time.monotonic()
                self.say(f"{count.faces:,} of {source.faces:,} faces read")
            if table.num_rows:
                yield table

    def _check(self, source: FeatureRun, count: _Count) -> None:
        if count.faces != source.faces:
            raise OutputError(
                f"the enroll output holds {count.faces:,} faces, its report says {source.faces:,}",
                "run the enroll job again on this output",
            )
        if count.used + sum(count.left_out.values()) != count.faces:
            raise InvariantError(
                "faces in are not faces used and left out", "keep the output and report this"
            )

    def _note(self, source: FeatureRun) -> str:
        """For the log: what decided the content, and nothing personal."""
        facts = {"run": source.run_id, "faces": self.faces, "templates": self.templates}
        return "consolidate " + json.dumps(facts)

    def _wanted(self) -> str:
        return Gallery.open(self.gallery).spec.embedder_hash

    def _result(self, count: _Count, version: int | None, outcome: dict[str, int]) -> Consolidated:
        return Consolidated(
            photos=count.photos,
            photos_without_face=count.photos_without_face,
            faces=count.faces,
            used=count.used,
            left_out=dict(sorted(count.left_out.items())),
            templates=count.templates,
            version=version,
            gallery=self.gallery,
            **outcome,
        )


_OUTCOMES = ("added", "replaced", "skipped", "unchanged", "suppressed")

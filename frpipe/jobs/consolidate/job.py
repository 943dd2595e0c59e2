"""Consolidate: read a finished enroll output part by part, choose each subject's face, enroll them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import pyarrow as pa

from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, GalleryMismatch, InvariantError, OutputError
from frpipe.core.text_column import canonical_column
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import GALLERY, Gallery
from frpipe.gallery.likeness import Doubts, Likeness
from frpipe.gallery.outcome import Outcome
from frpipe.gallery.photos import RunPhotos, check_source, sourced, with_source
from frpipe.gallery.policy import Policy
from frpipe.gallery.schema import URI
from frpipe.gallery.spec import GallerySpec
from frpipe.gallery.suppression import Suppressions
from frpipe.gallery.templates import TemplatePolicy
from frpipe.io.manifest.columns import ID
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.consolidate.agreeing import AgreeingFaces, Agreement
from frpipe.jobs.consolidate.gated import GatedFaces, GateKeeper
from frpipe.jobs.consolidate.kinds import kept_kind, refuse_unweighed
from frpipe.jobs.consolidate.reading import derived, grouped, photos_and_faces, spoken_of
from frpipe.jobs.consolidate.result import Consolidated
from frpipe.jobs.face_gate import GATE, FaceGate
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.likeness import likeness_of
from frpipe.jobs.low_forms import make_forms
from frpipe.jobs.output_place import refuse_relative
from frpipe.jobs.subject_faces import BY_RULE, SubjectPolicy
from frpipe.jobs.suppressed_faces import templates_of

Say = Callable[[str], None]
SubjectFace = Literal["rule", "agreeing"]
NO_GATE = FaceGate({})
_EVERY_S = 5.0


def check_gallery(uri: str, spec: GallerySpec) -> bool:
    """Whether there is a gallery.

    Raises GalleryMismatch, both hashes named, if it is of another recipe.
    """
    if not Folder.at(uri).exists(GALLERY):
        return False
    Gallery.open(uri).spec.check_same(spec)
    return True


@dataclass(slots=True)
class _Count:
    photos: int = 0
    photos_without_face: int = 0
    faces: int = 0
    used: int = 0
    templates: int = 0
    unread: int = 0
    unnamed: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    disputed: Counter[str] = field(default_factory=Counter)
    agreement: Agreement | None = None
    gated: GatedFaces | None = None


@dataclass(frozen=True, slots=True)
class Consolidation:
    """A consolidation: which output goes into which gallery, and how.

    policy: what happens to a subject that is there already.  templates: what is kept of each subject's
    vectors; None: the weighted mean that the gallery was given last, else all.  faces: which face of a photo
    is the subject's.  source: what to put, with a slash, before the ids of the photos, so that other photos
    with the same ids live beside them.  same_photos: photos that lay elsewhere before are the same ones,
    though they have changed.  strict: refuse where a new face is
    doubted.  threshold: similarity of one person; None: the embedder card's.  vanished: image_id and
    image_uri of photos that are there no more: the gallery's templates of them go.  doubts_to: gets the new
    faces that do not fit, before the gallery is changed.  embedder: of the output; None: its first.
    subject_face: the rule's (`faces`), or the one that agrees with the person's other photos in the run
    (`frpipe.jobs.consolidate.agreeing`); differences_to: gets the photos where that is not the rule's.
    gate: what the face of a photo must meet, once it is chosen; of a photo whose face does not, the gallery
    gets no template, and keeps none.  gated_to: gets the faces that are kept out.  forms: whether templates
    are stored in the form of the kernels that search them, too, once they are committed.
    """

    features: str
    gallery: str
    policy: Policy = "skip"
    templates: TemplatePolicy | None = None
    faces: SubjectPolicy = "centre-largest"
    say: Say = lambda _: None
    source: str = ""
    same_photos: bool = False
    strict: bool = False
    threshold: float | None = None
    vanished: pa.Table | None = None
    doubts_to: Callable[[Doubts], None] | None = None
    embedder: str | None = None
    subject_face: SubjectFace = "rule"
    differences_to: Callable[[pa.Table], None] | None = None
    gate: FaceGate = NO_GATE
    gated_to: Callable[[pa.Table], None] | None = None
    forms: bool = False

    def run(self) -> Consolidated:
        """Consolidate the run into the gallery, in one commit.

        Raises OutputError: the enroll run has not ended, or has nothing to weigh by; ConfigError: it has one
        face a photo, of which none can agree, or no measures for the gate; GalleryMismatch: another recipe;
        GalleryError: the gallery has other photos of these ids, weighted means of another kind, or a new face
        is doubted (strict).
        """
        check_source(self.source)
        source = self._source()
        try:
            gallery = Gallery.ensure(self.gallery, source.spec)
        except GalleryMismatch as error:
            raise GalleryMismatch(error.message, source.remedy(self._wanted())) from None
        count = _Count()
        photos = _vanished(self.vanished, self.source)
        job = self._keeping(gallery, source)
        outcome = lifecycle.enroll(
            gallery,
            job._tables(source, count, photos, gallery.suppressions.read()),
            self.policy,
            note=job._note(source),
            photos=photos,
            same_photos=self.same_photos,
            likeness=self._likeness(gallery.spec),
        )
        # Behind the commit: what is not made now, or by the same command again, a search makes.
        forms = make_forms(gallery) if self.forms else None
        return replace(self._result(count, outcome, outcome.version), forms=forms)

    def dry_run(self) -> Consolidated:
        """Read and count everything; the gallery is checked if it is there, and nothing is written."""
        source = self._source()
        try:
            there = check_gallery(self.gallery, source.spec)
        except GalleryMismatch as error:
            raise GalleryMismatch(error.message, source.remedy(self._wanted())) from None
        if not there:
            self.say("the gallery is not there yet: it would be made")
        count = _Count()
        barred, job = Suppressions(()), self
        if there:
            gallery = Gallery.open(self.gallery)
            barred, job = gallery.suppressions.read(), self._keeping(gallery, source)
        for _ in job._tables(source, count, RunPhotos(), barred):
            pass
        return self._result(count, Outcome(0), None)

    def _likeness(self, spec: GallerySpec) -> Likeness | None:
        found = likeness_of(spec, self.threshold, self.strict)
        return replace(found, told=self.doubts_to) if found is not None else None

    def templates_of_run(self, source: FeatureRun, photos: RunPhotos) -> Iterator[pa.Table]:
        """Iterate over the templates that the run gives; `photos` takes the photos that it speaks of."""
        return self._tables(source, _Count(), photos, Suppressions(()))

    def _source(self) -> FeatureRun:
        refuse_relative("--features", self.features)
        refuse_relative("--gallery", self.gallery)
        source = FeatureRun.open(self.features, self.embedder)
        if self.subject_face == "agreeing":
            _refuse_single(source, self.faces)
        if self.gate:
            features = source.features
            self.gate.check(features.faces(features.some_parts()[0]).schema)
        refuse_unweighed(source, self.templates)
        return source

    def _keeping(self, gallery: Gallery, source: FeatureRun) -> Consolidation:
        """Set the kind of template that the gallery keeps to. Raises as `kept_kind`."""
        kind = kept_kind(gallery, self.templates, self.policy)
        if kind != self.templates:
            self.say(f"templates: {kind}, which the gallery has")
            refuse_unweighed(source, kind)
        return replace(self, templates=kind)

    def _tables(
        self, source: FeatureRun, count: _Count, photos: RunPhotos, barred: Suppressions
    ) -> Iterator[pa.Table]:
        chosen = self._chosen(source, count, photos, barred)
        agreeing, kept = self.subject_face == "agreeing", self._kind
        if agreeing or kept != "all":
            chosen = grouped(chosen, source.spec.dim)
        if agreeing:
            chosen = self._agreeing(chosen, count)
        if self.gate:
            chosen = self._let_in(chosen, count)
        if kept != "all":
            chosen = (derived(table, kept, count.disputed) for table in chosen)
        for table in chosen:
            count.templates += table.num_rows
            yield table
        # A mismatch is raised at the end: a gallery has committed nothing before it has read everything.
        self._check(source, count)

    def _agreeing(self, people: Iterator[pa.Table], count: _Count) -> Iterator[pa.Table]:
        """Choose one face of each photo, in tables that hold all faces of each of their people."""
        choice = AgreeingFaces(self.differences_to)
        yield from map(choice.of, people)
        count.agreement = choice.found

    def _let_in(self, chosen: Iterator[pa.Table], count: _Count) -> Iterator[pa.Table]:
        """Choose the faces that pass the gate, in tables with one face of each photo."""
        keeper = GateKeeper(self.gate, self.gated_to)
        yield from (table for table in map(keeper.of, chosen) if table.num_rows)
        count.gated = keeper.found
        count.used -= keeper.faces
        count.left_out += +Counter({GATE: keeper.faces})

    def _chosen(
        self, source: FeatureRun, count: _Count, photos: RunPhotos, barred: Suppressions
    ) -> Iterator[pa.Table]:
        said = time.monotonic()
        for images, faces in photos_and_faces(source):
            table, left_out = templates_of(
                images,
                faces,
                self.faces,
                source.created,
                barred,
                source=self.source,
                candidates=self.subject_face == "agreeing",
                kept_as=self._kind,
            )
            told, unread, unnamed = spoken_of(images)
            photos.add(sourced(canonical_column(told[ID]), self.source), told[URI])
            if self.gate:
                table = self.gate.marked(table, faces)
            table = with_source(table, self.source)
            count.unread += unread
            count.unnamed += unnamed
            count.photos += images.num_rows
            count.photos_without_face += images["faces"].to_pylist().count(0)
            count.faces += faces.num_rows
            count.used += len(table[BY_RULE].drop_null()) if BY_RULE in table.column_names else table.num_rows
            count.left_out += left_out
            if time.monotonic() - said >= _EVERY_S or count.faces == source.faces:
                said = time.monotonic()
                self.say(f"{count.faces:,} of {source.faces:,} faces read")
            if table.num_rows:
                yield table

    def _check(self, source: FeatureRun, count: _Count) -> None:
        if count.faces != source.faces:
            raise OutputError(
                f"the enroll output holds {counted(count.faces, 'faces')}, its report says {source.faces:,}",
                f"see what is wrong with it: frpipe check {source.folder.uri}",
            )
        if count.used + sum(count.left_out.values()) != count.faces:
            raise InvariantError(
                "faces in are not faces used and left out", "keep the output and report this"
            )

    def _note(self, source: FeatureRun) -> str:
        """Note for the log: the settings that decide the content, and nothing personal."""
        facts = {"run": source.run_id, "faces": self.faces, "templates": self._kind}
        if self.subject_face != "rule":
            facts["subject_face"] = self.subject_face
        if self.gate:
            facts["gate"] = str(self.gate)
        if self.source:
            facts["source"] = self.source
        if source.embedder is not None:
            facts["embedder"] = source.embedder
        return "consolidate " + json.dumps(facts)

    @property
    def _kind(self) -> TemplatePolicy:
        return self.templates or "all"

    def _wanted(self) -> GallerySpec:
        return Gallery.open(self.gallery).spec

    def _result(self, count: _Count, outcome: Outcome, version: int | None) -> Consolidated:
        return Consolidated(
            photos=count.photos,
            photos_without_face=count.photos_without_face,
            faces=count.faces,
            used=count.used,
            left_out=dict(sorted(count.left_out.items())),
            templates=count.templates,
            version=version,
            gallery=self.gallery,
            disputed={name: people for name, people in sorted(count.disputed.items()) if people},
            unread=count.unread,
            unnamed=count.unnamed,
            doubts=outcome.doubts,
            agreement=count.agreement,
            gated=count.gated,
            **{name: getattr(outcome, name) for name in COUNTED},
        )


def _refuse_single(source: FeatureRun, faces: SubjectPolicy) -> None:
    """Raise ConfigError where no photo can have several faces to choose among."""
    if faces == "require-one":
        raise ConfigError(
            "--faces require-one leaves out photos of several faces, among which agreeing ones are chosen",
            "leave out one of --faces require-one and --subject-face agreeing",
        )
    settings = run.begun(source.folder).get("identity", {}).get("recipe", {}).get("settings", {})
    kept = settings.get("detect", {}).get("policy", "all")
    if kept != "all":
        raise ConfigError(
            f"the output has one face a photo (detect.policy: {kept}), and none to choose among",
            f"enroll with detect.policy: all: {source.again(source.spec)}; "
            "or leave out --subject-face agreeing",
        )


def without_photos(
    gallery: Gallery, vanished: pa.Table, source: str = "", same_photos: bool = False
) -> Outcome:
    """Remove the templates of photos that no longer exist from a gallery, as a consolidation does.

    vanished: image_id and image_uri.
    """
    photos, note = _vanished(vanished, source), "consolidate " + json.dumps({"vanished": vanished.num_rows})
    return lifecycle.enroll(gallery, [], "append", note=note, photos=photos, same_photos=same_photos)


def _vanished(vanished: pa.Table | None, source: str) -> RunPhotos:
    photos = RunPhotos()
    if vanished is not None and vanished.num_rows:
        photos.add(sourced(canonical_column(vanished[ID]), source), vanished[URI])
    return photos


COUNTED = ("added", "replaced", "skipped", "unchanged", "superseded", "incomplete", "suppressed")

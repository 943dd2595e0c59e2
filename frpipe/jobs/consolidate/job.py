"""Consolidate: read a finished enroll output part by part, choose each subject's face, enroll them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from frpipe.core.counted import counted
from frpipe.core.distinct import distinct
from frpipe.core.errors import ConfigError, GalleryMismatch, InvariantError, OutputError
from frpipe.core.sizing import GalleryLoad, consolidate_bytes, spill_bytes
from frpipe.core.text_column import canonical_column
from frpipe.gallery import lifecycle
from frpipe.gallery.enroll import enroll_in_passes
from frpipe.gallery.external_sort import buckets_of
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
from frpipe.jobs.consolidate.memory import load_of, worker_bytes
from frpipe.jobs.consolidate.passes import EnrollProgress, Findings, PassMaker, RunPasses
from frpipe.jobs.consolidate.reading import (
    SubjectRange,
    derived,
    grouped,
    photos_and_faces,
    spoken_of,
    subject_hashes,
)
from frpipe.jobs.consolidate.result import Consolidated
from frpipe.jobs.consolidate.room import MOST_WORKERS, PassPlan, Room, default_limit
from frpipe.jobs.consolidate.survey import Survey
from frpipe.jobs.face_gate import GATE, GATED, FaceGate
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.likeness import likeness_of
from frpipe.jobs.low_forms import make_forms
from frpipe.jobs.output_place import refuse_relative
from frpipe.jobs.progress import Progress
from frpipe.jobs.subject_faces import BY_RULE, SubjectPolicy
from frpipe.jobs.suppressed_faces import templates_of
from frpipe.runtime.runtime import Runtime

Say = Callable[[str], None]
SubjectFace = Literal["rule", "agreeing"]
NO_GATE = FaceGate({})
ALONE_FACES = 1_000_000
"""Up to so many faces `auto` works in the process of the job alone."""
# More than the texts of a template take, but for manifests of many long columns.
_LONG_TEXTS = 2000


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
    plan: PassPlan | None = None


def _silent(_: str) -> None:
    """Say nothing."""


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

    runtime: where passes are done at the same time; None: one after the other, in this process.  workers: at
    most, and one for each CPU; None: eight.  scratch_bytes: of temporary files on one machine at once; None:
    at most four fifths of what is free. None of these changes what the gallery gets.
    """

    features: str
    gallery: str
    policy: Policy = "skip"
    templates: TemplatePolicy | None = None
    faces: SubjectPolicy = "centre-largest"
    say: Say = _silent
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
    runtime: Runtime | None = None
    workers: int | None = None
    scratch_bytes: int | None = None

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
        job = self._keeping(gallery, source)
        done = job._put(gallery, source)
        # Behind the commit: what is not made now, or by the same command again, a search makes.
        return replace(done, forms=make_forms(gallery) if self.forms else None)

    def dry_run(self) -> Consolidated:
        """Read and count everything; the gallery is checked if it is there, and nothing is written."""
        source = self._source()
        try:
            there = check_gallery(self.gallery, source.spec)
        except GalleryMismatch as error:
            raise GalleryMismatch(error.message, source.remedy(self._wanted())) from None
        if not there:
            self.say("the gallery is not there yet: it would be made")
        barred, job, spec = Suppressions(()), self, source.spec
        if there:
            gallery = Gallery.open(self.gallery)
            barred, job, spec = gallery.suppressions.read(), self._keeping(gallery, source), gallery.spec
        count = _Count()
        with job._room(source, spec, barred, dry=True) as room:
            if room is None:
                for _ in job._tables(source, count, RunPhotos(), barred):
                    pass
            else:
                passes = job._passes(source, spec, count, RunPhotos(), barred, room)
                for _ in passes.read():
                    pass
                job._take(passes, count)
        plan = job._plan(source, spec, count) if room is None else count.plan
        return self._result(count, Outcome(0), None, plan)

    def _likeness(self, spec: GallerySpec) -> Likeness | None:
        found = likeness_of(spec, self.threshold, self.strict)
        return replace(found, told=self.doubts_to) if found is not None else None

    def templates_of_run(self, source: FeatureRun, photos: RunPhotos) -> Iterator[pa.Table]:
        """Iterate over the templates that the run gives; `photos` takes the photos that it speaks of."""
        return self._tables(source, _Count(), photos, Suppressions(()))

    def _put(self, gallery: Gallery, source: FeatureRun) -> Consolidated:
        count, photos = _Count(), _vanished(self.vanished, self.source)
        barred, spec = gallery.suppressions.read(), gallery.spec
        note, likeness = self._note(source), self._likeness(spec)
        with self._room(source, spec, barred) as room:
            if room is None:
                outcome = lifecycle.enroll(
                    gallery,
                    self._tables(source, count, photos, barred),
                    self.policy,
                    note=note,
                    photos=photos,
                    same_photos=self.same_photos,
                    likeness=likeness,
                    heard=EnrollProgress(self.say),
                )
                return self._result(count, outcome, outcome.version)
            passes = self._passes(source, spec, count, photos, barred, room)
            outcome = enroll_in_passes(
                gallery,
                passes,
                self.policy,
                note=note,
                photos=photos,
                same_photos=self.same_photos,
                likeness=likeness,
            )
            self._take(passes, count)
            return self._result(count, outcome, outcome.version, count.plan)

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
        found = Findings(
            AgreeingFaces(self.differences_to), GateKeeper(self.gate, self.gated_to), count.disputed
        )
        chosen = (table for table in self._chosen(source, count, photos, barred) if table.num_rows)
        for table in self._reduced(source, chosen, found):
            count.templates += table.num_rows
            yield table
        self._count_found(found, count)
        # A mismatch is raised at the end: a gallery has committed nothing before it has read everything.
        self._check(source, count)

    def templates_of_people(
        self, source: FeatureRun, barred: Suppressions, of: SubjectRange, found: Findings
    ) -> Iterator[pa.Table]:
        """Iterate over the templates that the run gives of some people."""
        chosen = (self._made(source, *both, barred)[0] for both in photos_and_faces(source, of))
        return self._reduced(source, (table for table in chosen if table.num_rows), found)

    @property
    def _agrees(self) -> bool:
        return self.subject_face == "agreeing"

    @property
    def _grouped(self) -> bool:
        """Whether a person's faces are looked at together."""
        return self._agrees or self._kind != "all"

    def _reduced(self, source: FeatureRun, chosen: Iterator[pa.Table], found: Findings) -> Iterator[pa.Table]:
        """Make the templates of faces that were chosen photo by photo, all of each of their people."""
        kept = self._kind
        if self._grouped:
            chosen = grouped(chosen, source.spec.dim)
        if self._agrees:
            chosen = map(found.choice.of, chosen)
        if self.gate:
            chosen = (table for table in map(found.keeper.of, chosen) if table.num_rows)
        if kept != "all":
            chosen = (derived(table, kept, found.disputed) for table in chosen)
        return chosen

    def _count_found(self, found: Findings, count: _Count) -> None:
        if self._agrees:
            count.agreement = found.choice.found
        if self.gate:
            count.gated = found.keeper.found
            count.used -= found.keeper.faces
            count.left_out += +Counter({GATE: found.keeper.faces})

    def _chosen(
        self,
        source: FeatureRun,
        count: _Count,
        photos: RunPhotos,
        barred: Suppressions,
        *,
        vectors: bool = True,
    ) -> Iterator[pa.Table]:
        """Choose faces photo by photo: a table of each part. vectors: as `photos_and_faces`."""
        with Progress(source.faces, "faces read", self.say) as progress:
            for images, faces in photos_and_faces(source, vectors=vectors):
                table, left_out = self._made(source, images, faces, barred)
                told, unread, unnamed = spoken_of(images)
                photos.add(sourced(canonical_column(told[ID]), self.source), told[URI])
                count.unread += unread
                count.unnamed += unnamed
                count.photos += images.num_rows
                count.photos_without_face += images["faces"].to_pylist().count(0)
                count.faces += faces.num_rows
                count.used += (
                    len(table[BY_RULE].drop_null()) if BY_RULE in table.column_names else table.num_rows
                )
                count.left_out += left_out
                progress.add(faces.num_rows)
                yield table

    def _made(
        self, source: FeatureRun, images: pa.Table, faces: pa.Table, barred: Suppressions
    ) -> tuple[pa.Table, Counter[str]]:
        """Make templates of some photos, and count the faces that are left out."""
        table, left_out = templates_of(
            images,
            faces,
            self.faces,
            source.created,
            barred,
            source=self.source,
            candidates=self._agrees,
            kept_as=self._kind,
        )
        if self.gate:
            table = self.gate.marked(table, faces)
        return with_source(table, self.source), left_out

    @property
    def _limit(self) -> int:
        return default_limit() if self.scratch_bytes is None else self.scratch_bytes

    @contextmanager
    def _room(
        self, source: FeatureRun, spec: GallerySpec, barred: Suppressions, *, dry: bool = False
    ) -> Iterator[Room | None]:
        """Find the room for passes; None: all goes at once, in this process."""
        limit, runtime = self._limit, self.runtime
        most = min(buckets_of(source.faces, spec.rows_per_shard), self.workers or MOST_WORKERS)
        is_large = source.faces > ALONE_FACES or (runtime is not None and runtime.choice != "auto")
        with ExitStack() as stack:
            room = None
            if runtime is not None and is_large and most > 1:
                # Forked processes of this machine, unless there is a cluster already.
                executor = None if dry else stack.enter_context(runtime.open(small=True))
                nodes = executor.nodes if executor is not None else runtime.nodes(small=True)
                room = Room.spread(limit, most, nodes, executor)
                if room is not None:
                    room.forked = runtime.is_local(small=True)
            if room is None and self._most_bytes(source, spec, barred, limit) > limit:
                room = Room.alone(limit)
            yield room

    def _most_bytes(self, source: FeatureRun, spec: GallerySpec, barred: Suppressions, limit: int) -> float:
        """Bytes that all faces take in temporary files at most, about."""
        survey = self._empty_survey(spec)
        most = source.faces * (survey.vector_bytes + _LONG_TEXTS)
        if most <= limit:
            return most
        for part in source.features.some_parts():
            (both,) = photos_and_faces(source, SubjectRange(0, 1 << 64, [part]), vectors=False)
            table, _ = self._made(source, *both, barred)
            if table.num_rows:
                return source.faces * survey.row_bytes(table)
        return 0.0

    def _empty_survey(self, spec: GallerySpec) -> Survey:
        return Survey(spec.dim, np.dtype(spec.stored_type).itemsize, self._grouped)

    def _passes(  # noqa: PLR0917
        self,
        source: FeatureRun,
        spec: GallerySpec,
        count: _Count,
        photos: RunPhotos,
        barred: Suppressions,
        room: Room,
    ) -> RunPasses:
        """Look at all faces without their vectors, and cut what they give into passes."""
        survey, rows, people = self._empty_survey(spec), 0, [np.zeros(0, np.uint64)]
        tables = self._chosen(source, count, photos, barred, vectors=False)
        for part, table in zip(source.features.some_parts(), tables, strict=True):
            passing = table.filter(table[GATED].is_null()) if self.gate else table
            given = passing.filter(passing[BY_RULE].is_valid()) if self._agrees else passing
            if self._grouped:
                survey.take(part, table)
            else:
                survey.take(part, given, table.filter(table[GATED].is_valid()) if self.gate else None)
            rows += given.num_rows
            if self._kind != "all":
                people.append(distinct(subject_hashes(given)))
        self._check(source, count)
        if self._kind != "all":
            rows = len(distinct(np.concatenate(people)))
        plain = replace(
            self,
            say=_silent,
            vanished=None,
            doubts_to=None,
            differences_to=None,
            gated_to=None,
            runtime=None,
        )
        told = self.differences_to is not None, self.gated_to is not None
        maker = PassMaker(plain, source, barred, *told)
        passes = RunPasses(
            maker, survey, survey.rows, spec.rows_per_shard, [], self.say, room.executor, room.pool
        )
        if self._agrees and self.gate:
            # Which face a photo has depends on vectors, and so does whether it passes the gate.
            self.say("the faces that agree and pass the gate are counted first, pass by pass")
            passes.ranges, _ = survey.ranges(survey.rows, spec.rows_per_shard, room.pass_bytes)
            rows = sum(table.num_rows for table in passes.read())
        passes.rows = rows
        passes.ranges, most = survey.ranges(rows, spec.rows_per_shard, room.pass_bytes, room.workers)
        memory = worker_bytes(self._load(source, spec, (count.photos, rows)), len(passes.ranges), room)
        count.plan = PassPlan(len(passes.ranges), room.workers, most, room.limit, memory)
        self.say(f"passes: {count.plan.line()}")
        return passes

    def _plan(self, source: FeatureRun, spec: GallerySpec, count: _Count) -> PassPlan:
        """The plan of a consolidation that goes at once."""
        load, limit = self._load(source, spec, (count.photos, count.templates)), self._limit
        return PassPlan(1, 1, min(limit, spill_bytes(load)), limit, consolidate_bytes(load))

    def _load(self, source: FeatureRun, spec: GallerySpec, counts: tuple[int, int]) -> GalleryLoad:
        examined = self._likeness(spec) is not None
        return load_of(source, self.gallery, spec, counts, self._kind, agrees=self._agrees, examined=examined)

    def _take(self, passes: RunPasses, count: _Count) -> None:
        """Take what the passes have found out."""
        found = passes.found
        count.templates, count.disputed = passes.rows, found.disputed
        self._count_found(found, count)
        for tables, to in ((found.differences, self.differences_to), (found.gated, self.gated_to)):
            for table in tables or ():
                if to is not None:
                    to(table)

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

    def _result(
        self, count: _Count, outcome: Outcome, version: int | None, plan: PassPlan | None = None
    ) -> Consolidated:
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
            plan=plan,
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

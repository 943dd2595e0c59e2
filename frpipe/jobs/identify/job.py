"""Identify in bulk: search every face of an enroll output in a version of a gallery, exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from frpipe.core.calibration import CalibrationCard
from frpipe.core.config import Config
from frpipe.core.errors import ConfigError, InvariantError
from frpipe.core.kernel_names import Wish
from frpipe.core.threshold import ThresholdCard
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.search_view import Score
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.contract import ReportResult, Startable, planned
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.going_on import for_gallery
from frpipe.jobs.identify.plan import IdentifyPlan, search_pool
from frpipe.jobs.identify.probe_source import FEATURES, check_recipe, is_manifest
from frpipe.jobs.identify.report import report_text
from frpipe.jobs.identify.search_plan import JOB, SearchPlan, columns_of, identity_of, pinned, similarity_of
from frpipe.jobs.identify.worker import SearchSpec
from frpipe.jobs.node_cache import DEFAULT_CACHE, NodeCache
from frpipe.jobs.output_place import output_place, refuse_relative
from frpipe.jobs.photo import check_config
from frpipe.jobs.ratios import calibration_for
from frpipe.jobs.recorded_version import RecordedVersion, purged
from frpipe.runtime.runtime import Runtime

Say = Callable[[str], None]
_COMPLETE = "this run is complete already: nothing to do"


@dataclass(frozen=True, slots=True)
class SearchExecution:
    """Settings of execution: how fast and where, never what.

    workers: None takes one for each CPU (or GPU) of the cluster.  probe_rows: probes that a worker searches
    at once, fixed by the first run on an output.  hold_mb: memory in which a worker keeps what it has fetched
    or decrypted of a gallery, and its rows in the form of the kernel.  cache: of the shards of an object
    store, on each node.  forms: whether rows in the form of the kernel are stored beside the gallery's
    shards, and stored ones used.
    """

    workers: int | None = None
    kernel: Wish = "auto"
    probe_rows: int = 4096
    hold_mb: int = 1024
    cache: NodeCache = DEFAULT_CACHE
    forms: bool = True


@dataclass(frozen=True)
class Identifying(Startable[ReportResult]):
    """An identification: which probes, in which gallery, and how it is decided.

    probes: the output of an enroll run, or a manifest, which is then enrolled into `OUTPUT/features` with
    `config`.  closed: the nearest is always named; otherwise a probe below the threshold is a stranger.
    embedder: of an enroll run; None: its first.  min_similarity: candidates below it are not listed, which
    makes the search faster; None: all of the k best are listed.  calibration: for the ratios beside
    similarities; None takes the threshold card's, where it has one.
    """

    probes: str
    gallery: str
    output: str
    version: int | None = None
    k: int = 10
    closed: bool = False
    score: Score = "max"
    where: Mapping[str, str] = field(default_factory=dict)
    threshold: float | None = None
    card: ThresholdCard | None = None
    config: Config = field(default_factory=Config)
    execution: SearchExecution = SearchExecution()
    runtime: Runtime = field(default_factory=Runtime)
    say: Say = lambda _: None
    embedder: str | None = None
    min_similarity: float | None = None
    calibration: CalibrationCard | None = None

    def dry_run(self) -> DryRun:
        """Plan the search without writing; a manifest of probes is checked and not enrolled."""
        if not self._from_manifest:
            return planned(self)
        out = self.place()
        self._check_recipe()
        search_plan, enrollment = self._search_plan(out), self._enrollment(out).dry_run()
        nodes = self.runtime.nodes(small=False)
        pool = search_pool(search_plan, self.execution.workers, nodes)
        lines = ["first the manifest is enrolled:", *enrollment.lines, "then its faces are searched:"]
        lines += [*search_plan.lines(), f"pool       {pool}", *search_plan.remarks()]
        facts = {"job": "identify", **search_plan.facts(), "enroll": dict(enrollment.facts)}
        facts |= {name: enrollment.facts[name] for name in ("executor", "estimate")}
        facts |= {"pool": str(pool), "remarks": search_plan.remarks(), "output": self.output}
        return DryRun(lines, facts)

    def ended(self, out: Folder) -> ReportResult | None:
        """The report of a finished run whose gallery version a compaction has removed since."""
        self._check_recipe()
        gallery, begun = Gallery.open(self.gallery), RecordedVersion.of(out, JOB)
        stored = run.complete(out)
        if stored is None or begun is None or not purged(gallery, self.version, begun):
            return None
        probes = self.probes
        if self._from_manifest:
            if run.complete(out.child(FEATURES)) is None:
                return None
            enrollment = self._enrollment(out)
            enrollment.run()
            probes = enrollment.output
        similarity = similarity_of(gallery.spec, self.threshold, self.card, closed=self.closed)
        digest = FeatureRun.open(probes, self.embedder).digest
        ratios = calibration_for(gallery.spec, self.calibration, self.card)
        columns = columns_of(out)
        run.check_claim(out, identity_of(begun.id, self._spec, similarity, digest, ratios, columns=columns))
        self.say(_COMPLETE)
        return ReportResult(stored, report_text)

    def plan(self, out: Folder, *, dry: bool = False) -> IdentifyPlan:
        """Plan the search. A manifest of probes is enrolled first, so it has no dry plan."""
        if dry and self._from_manifest:
            raise InvariantError("a manifest of probes is planned by `dry_run`")
        self._check_recipe()
        search_plan, probes = self._search_plan(out), self.probes
        if self._from_manifest:
            enrollment = self._enrollment(out)
            enrollment.run()
            # Enrolling takes time, and the gallery may have a newer version by now.
            probes, search_plan = enrollment.output, self._search_plan(out)
        probe_rows = int(run.begun(out).get("probe_rows", self.execution.probe_rows))
        source, workers = FeatureRun.open(probes, self.embedder), self.execution.workers
        cache = self.execution.cache
        return IdentifyPlan(source, search_plan, probe_rows, self.say, self.probes, workers, cache)

    @cached_property
    def _from_manifest(self) -> bool:
        return is_manifest(self.probes)

    @cached_property
    def _settings(self) -> Config:
        """Settings to enroll a manifest of probes: the gallery's recipe, unless told otherwise."""
        return for_gallery(self.config, Gallery.open(self.gallery).spec, self.say)

    def place(self) -> Folder:
        """The output folder. Raises ConfigError for settings that contradict each other."""
        if min(self.k, self.execution.probe_rows, self.execution.workers or 1) < 1:
            raise ConfigError("candidates, probe rows and workers are counts from 1 up", "give larger ones")
        if self.closed and (self.threshold is not None or self.card is not None):
            raise ConfigError("a closed set has no threshold", "leave the threshold away, or --closed")
        if self.min_similarity is not None:
            if self.closed:
                raise ConfigError(
                    "a closed set always names the nearest, so that none may be left out",
                    "leave --min-similarity away, or --closed",
                )
            if not -1 <= self.min_similarity <= 1:
                raise ConfigError("--min-similarity is a similarity, from -1 to 1", "give such a one")
        refuse_relative("--gallery", self.gallery)
        self.execution.cache.check()
        out = output_place(self.output, f"{FEATURES}/")
        if not self._from_manifest:
            refuse_relative("--probes", self.probes)
        elif self.embedder is not None:
            raise ConfigError(
                "--embedder chooses among the embedders of an enroll output, and the probes are a manifest",
                f"choose the embedder that they are enrolled with: --set embed.model={self.embedder}",
            )
        return out

    def _search_plan(self, out: Folder) -> SearchPlan:
        version, spec = pinned(self._spec, self.version, out)
        search_plan = SearchPlan.of(
            version, spec, self.threshold, self.card, closed=self.closed, calibration=self.calibration
        )
        search_plan = replace(search_plan, columns=columns_of(out))
        limit = search_plan.limit
        if limit is not None and spec.at_least > limit.similarity:
            raise ConfigError(
                f"--min-similarity {spec.at_least:g} is above the threshold {limit.similarity:g}: people who "
                "are accepted would not be listed",
                "give one up to the threshold",
            )
        return search_plan

    @property
    def _spec(self) -> SearchSpec:
        """The specification without the version."""
        gallery, how = Folder.at(self.gallery).uri, self.execution
        least = -1.0 if self.min_similarity is None else self.min_similarity
        return SearchSpec(
            gallery,
            0,
            self.k,
            self.score,
            how.kernel,
            dict(self.where),
            how.hold_mb,
            at_least=least,
            forms=how.forms,
        )

    def _check_recipe(self) -> None:
        gallery = Gallery.open(self.gallery).spec
        if self._from_manifest:
            check_config(self._settings, gallery)
        else:
            check_recipe(FeatureRun.open(self.probes, self.embedder), gallery)

    def _enrollment(self, out: Folder) -> Enrollment:
        features = out.child(FEATURES).uri
        return Enrollment(self.probes, features, self._settings, self.runtime, self.say)

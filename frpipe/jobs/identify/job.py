"""Bulk identification: every face of an enroll output against a version of a gallery, exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any

from frpipe.core.config import Config
from frpipe.core.errors import ConfigError
from frpipe.core.threshold import ThresholdCard
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.search_view import Score
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.going_on import for_gallery
from frpipe.jobs.identify.plan import Plan
from frpipe.jobs.identify.probe_source import FEATURES, check_recipe, is_manifest
from frpipe.jobs.identify.search_plan import JOB, SearchPlan, identity_of, pinned, similarity_of
from frpipe.jobs.identify.worker import SearchSpec
from frpipe.jobs.output_place import output_place, refuse_relative
from frpipe.jobs.photo import check_config
from frpipe.jobs.recorded_version import RecordedVersion, purged
from frpipe.matching.kernels import Name
from frpipe.runtime.allocation import Node, Pool, allocate_one
from frpipe.runtime.session import cluster

Say = Callable[[str], None]
_COMPLETE = "this run is complete already: nothing to do"


@dataclass(frozen=True, slots=True)
class Execution:
    """How fast and where, never what.

    workers: None takes one for each CPU (or GPU) of the cluster.  probe_rows: probes that a worker searches
    at once, fixed by the first run on an output.  hold_mb: what a worker keeps of a gallery that is remote
    or encrypted, so as not to fetch it again.
    """

    address: str | None = None
    workers: int | None = None
    kernel: Name = "fp32"
    probe_rows: int = 4096
    hold_mb: int = 1024


@dataclass(frozen=True)
class Identifying:
    """Which probes, which gallery, and what makes a decision.

    probes: the output of an enroll run, or a manifest, which is then enrolled into `OUTPUT/features` with
    `config`.  closed: always name the nearest; else below the threshold is a stranger.
    embedder: of an enroll run; None: its first.
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
    execution: Execution = Execution()
    say: Say = lambda _: None
    embedder: str | None = None

    def run(self) -> dict[str, Any]:
        """Do it, or what is left of it; the report. Raises a FrpipeError with a remedy."""
        out = self._place()
        self._check_recipe()
        ended = self._ended(out)
        if ended is not None:
            return ended
        search_plan = self._goal(out)
        with ExitStack() as stack:
            joined = cache(lambda: stack.enter_context(cluster(self.execution.address, self.say)))
            plan = self._plan(out, search_plan, joined)
            stored = run.complete(out) if run.check_claim(out, plan.identity) else None
            if stored is not None:
                self.say(_COMPLETE)
                return stored
            plan.check()
            for remark in plan.search_plan.remarks():
                self.say(remark)
            pool = self._pool(joined())
            plan = self._claim(out, plan)
            run.reopen(out)
            out.sweep()
            return plan.carry_out(out, pool)

    def dry_run(self) -> DryRun:
        """The plan. Nothing is written; a manifest of probes is checked, and not enrolled."""
        out = self._place()
        self._check_recipe()
        search_plan = self._goal(out)
        with cluster(self.execution.address, self.say) as nodes:
            facts = {"job": "identify", **search_plan.facts()}
            if self._from_manifest:
                enrollment = self._enrollment(out).dry_run()
                lines = ["first the manifest is enrolled:", *enrollment.lines, "then its faces are searched:"]
                lines += search_plan.lines()
                facts["enroll"] = dict(enrollment.facts)
            else:
                plan = self._search(self.probes, search_plan, out)
                run.check_claim(out, plan.identity)
                plan.check()
                lines = plan.lines()
                facts |= {"probes": plan.source.faces, "units": len(plan.units)}
            lines += [f"pool       {self._pool(nodes)}", *search_plan.remarks()]
            facts |= {"pool": str(self._pool(nodes)), "remarks": search_plan.remarks(), "output": self.output}
        return DryRun(lines, facts)

    @cached_property
    def _from_manifest(self) -> bool:
        return is_manifest(self.probes)

    @cached_property
    def _settings(self) -> Config:
        """Of a manifest of probes: with the recipe that the gallery was made with, unless told otherwise."""
        return for_gallery(self.config, Gallery.open(self.gallery).spec, self.say)

    def _place(self) -> Folder:
        if min(self.k, self.execution.probe_rows, self.execution.workers or 1) < 1:
            raise ConfigError("candidates, probe rows and workers are counts from 1 up", "give larger ones")
        if self.closed and (self.threshold is not None or self.card is not None):
            raise ConfigError("a closed set has no threshold", "leave the threshold away, or --closed")
        refuse_relative("--gallery", self.gallery)
        out = output_place(self.output, f"{FEATURES}/")
        if not self._from_manifest:
            refuse_relative("--probes", self.probes)
        elif self.embedder is not None:
            raise ConfigError(
                "--embedder chooses among the embedders of an enroll output, and the probes are a manifest",
                f"choose the embedder that they are enrolled with: --set embed.model={self.embedder}",
            )
        return out

    def _goal(self, out: Folder) -> SearchPlan:
        version, spec = pinned(self._spec, self.version, out)
        return SearchPlan.of(version, spec, self.threshold, self.card, closed=self.closed)

    @property
    def _spec(self) -> SearchSpec:
        """But for the version."""
        gallery, how = Folder.at(self.gallery).uri, self.execution
        return SearchSpec(gallery, 0, self.k, self.score, how.kernel, dict(self.where), how.hold_mb)

    def _ended(self, out: Folder) -> dict[str, Any] | None:
        """The report of a finished run of which a compaction has taken the gallery's version since."""
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
        run.check_claim(out, identity_of(begun.id, self._spec, similarity, digest))
        self.say(_COMPLETE)
        return stored

    def _check_recipe(self) -> None:
        gallery = Gallery.open(self.gallery).spec
        if self._from_manifest:
            check_config(self._settings, gallery)
        else:
            check_recipe(FeatureRun.open(self.probes, self.embedder), gallery)

    def _plan(self, out: Folder, search_plan: SearchPlan, joined: Callable[[], list[Node]]) -> Plan:
        probes = self.probes
        if self._from_manifest:
            if run.complete(out.child(FEATURES)) is None:
                joined()
            enrollment = self._enrollment(out)
            enrollment.run()
            # To enroll takes its time, and the gallery may have moved on.
            probes, search_plan = enrollment.output, self._goal(out)
        return self._search(probes, search_plan, out)

    def _search(self, probes: str, search_plan: SearchPlan, out: Folder) -> Plan:
        """In the units that the output was begun with, if it was."""
        probe_rows = int(run.begun(out).get("probe_rows", self.execution.probe_rows))
        return Plan(FeatureRun.open(probes, self.embedder), search_plan, probe_rows, self.say)

    def _claim(self, out: Folder, plan: Plan) -> Plan:
        """Make the output this search's; the plan, with the units that it was begun with."""
        facts = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "probes": self.probes,
            "gallery": plan.search_plan.gallery.uri,
            "probe_rows": plan.probe_rows,
        }
        claimed = run.claim(out, plan.identity, facts)
        return replace(plan, probe_rows=int(claimed["probe_rows"]))

    def _enrollment(self, out: Folder) -> Enrollment:
        features = out.child(FEATURES).uri
        return Enrollment(self.probes, features, self._settings, self.execution.address, self.say)

    def _pool(self, nodes: list[Node]) -> Pool:
        gpu = self.execution.kernel == "cuda"
        return allocate_one("search", self.execution.workers, nodes, gpu=gpu)

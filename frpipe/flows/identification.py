"""Bulk identification: every face of an enroll output against a version of a gallery, exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from frpipe.core.config import Config
from frpipe.core.threshold import ThresholdCard
from frpipe.flows.enroll import Enrollment
from frpipe.flows.features import FeatureRun, card_name
from frpipe.flows.identify_plan import Plan
from frpipe.flows.output_place import output_place
from frpipe.flows.probe_source import FEATURES, feature_run
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.lineup import Score
from frpipe.io import run
from frpipe.io.folder import Folder
from frpipe.matching.kernels import Name
from frpipe.matching.limit import Limit, limit_of
from frpipe.models.registry import Registry
from frpipe.stages.allocation import allocate_one
from frpipe.stages.cluster import cluster
from frpipe.stages.search import SearchSpec

Say = Callable[[str], None]


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

    def run(self) -> dict[str, Any]:
        """Do it, or what is left of it; the report. Raises a FrpipeError with a remedy."""
        out = output_place(self.output, f"{FEATURES}/")
        with cluster(self.execution.address, self.say) as nodes:
            features = out.child(FEATURES).uri
            enrollment = Enrollment(self.probes, features, self.config, self.execution.address, self.say)
            plan = self._pinned(out)._plan(feature_run(self.probes, self.gallery, enrollment))
            claimed = run.claim(out, plan.identity, {"probe_rows": plan.probe_rows})
            plan = replace(plan, probe_rows=int(claimed["probe_rows"]))
            stored = run.complete(out)
            if stored is not None:
                self.say("this run is complete already: nothing to do")
                return stored
            run.reopen(out)
            out.sweep()
            gpu = self.execution.kernel == "cuda"
            pool = allocate_one("search", self.execution.workers, nodes, gpu=gpu)
            return plan.carry_out(out, pool)

    def dry_run(self) -> str:
        """The plan, in words. Nothing is written; a manifest of probes is not enrolled for it."""
        out = output_place(self.output, f"{FEATURES}/")
        source = FeatureRun.open(self.probes)
        plan = self._pinned(out)._plan(source)
        run.check_claim(out, plan.identity)
        return plan.text()

    def _pinned(self, out: Folder) -> Identifying:
        """With the version that the output was begun with, where none is asked for."""
        if self.version is not None:
            return self
        version = run.begun(out).get("identity", {}).get("version")
        return self if version is None else replace(self, version=int(version))

    def _plan(self, source: FeatureRun) -> Plan:
        gallery = Gallery.open(self.gallery)
        gallery.spec.check_same(source.spec)
        snapshot = gallery.snapshot(self.version)
        spec = SearchSpec(
            probes=source.folder.uri,
            gallery=gallery.uri,
            version=snapshot.number,
            k=self.k,
            score=self.score,
            kernel=self.execution.kernel,
            where=dict(self.where),
            hold_mb=self.execution.hold_mb,
        )
        lineup = spec.lineup()
        limit = None if self.closed else self._limit(source, lineup.rows)
        if limit and limit.warning:
            self.say(f"threshold {limit.similarity:g}: {limit.warning}")
        rows, shards = lineup.rows, len(lineup.shards)
        return Plan(source, gallery, spec, limit, rows, shards, self.execution.probe_rows, self.say)

    def _limit(self, source: FeatureRun, searched: int) -> Limit:
        name = card_name(source.spec.embedder_hash)
        return limit_of(
            source.spec.embedder_hash,
            given=self.threshold,
            card=self.card,
            embedder_card=Registry.default().card(name) if name else None,
            searched=max(2, searched),
            preprocessing_hash=source.spec.preprocessing_hash,
        )

"""Find duplicates: all pairs of a gallery, or of an enroll run, that are alike, and their clusters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from frpipe.core.dedup_schema import DEDUP_VERSION
from frpipe.core.errors import ConfigError, GalleryDamaged, GalleryError
from frpipe.core.threshold import ThresholdCard
from frpipe.flows.dedup.plan import Plan
from frpipe.flows.dedup.since import OldResult, with_fresh
from frpipe.flows.dedup.source import FeatureSource, GallerySource
from frpipe.flows.dry_run import DryRun
from frpipe.flows.features import FeatureRun, card_name
from frpipe.flows.output_place import output_place, refuse_relative
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.spec import GallerySpec
from frpipe.io import run
from frpipe.io.folder import Folder
from frpipe.matching.kernels import Name
from frpipe.matching.limit import Limit, limit_of
from frpipe.models.registry import Registry
from frpipe.stages.allocation import Node, Pool, allocate_one
from frpipe.stages.cluster import cluster

Say = Callable[[str], None]
MAX_PAIRS = 10_000_000
# Two blocks of 512 numbers a vector are 256 MB in a worker, and a minute's work of a core.
BLOCK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Execution:
    """How fast and where, never what.

    workers: None takes one for each CPU (or GPU) of the cluster.  block_rows: templates of a block, unless a
    shard has more; fixed by the first run on an output.
    """

    address: str | None = None
    workers: int | None = None
    kernel: Name = "fp32"
    block_rows: int = BLOCK_ROWS
    max_pairs: int = MAX_PAIRS


@dataclass(frozen=True)
class Dedup:
    """Which gallery or which features, and from where on two templates are alike.

    since: the result of another night, to be brought up to date; since_version: only pairs with a template
    that this version of the gallery does not have.
    """

    output: str
    gallery: str | None = None
    features: str | None = None
    version: int | None = None
    threshold: float | None = None
    card: ThresholdCard | None = None
    since: str | None = None
    since_version: int | None = None
    execution: Execution = Execution()
    say: Say = lambda _: None

    def run(self) -> dict[str, Any]:
        """Do it, or what is left of it; the report.

        Raises OutputError: the output is another run's, the enroll run or `since` has not ended, or more
        pairs than `max_pairs` are found; GalleryError; ConfigError: no threshold.
        """
        out = output_place(self.output)
        plan = self._plan(out)
        stored = run.complete(out) if run.check_claim(out, plan.identity) else None
        if stored is not None:
            self.say("this run is complete already: nothing to do")
            return stored
        with cluster(self.execution.address, self.say) as nodes:
            pool = self._pool(nodes)
            claimed = run.claim(out, plan.identity, self._facts(plan))
            run.reopen(out)
            out.sweep()
            # Another driver may have been first, and numbered the units by blocks of its own.
            return plan.cut_as(int(claimed["block_rows"])).carry_out(out, pool)

    def dry_run(self) -> DryRun:
        """The plan; nothing is written."""
        out = output_place(self.output)
        plan = self._plan(out)
        run.check_claim(out, plan.identity)
        with cluster(self.execution.address, self.say) as nodes:
            return plan.described(self._pool(nodes))

    def _pool(self, nodes: Sequence[Node]) -> Pool:
        gpu = self.execution.kernel == "cuda"
        return allocate_one("dedup", self.execution.workers, nodes, gpu=gpu)

    def _facts(self, plan: Plan) -> dict[str, Any]:
        return {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "block_rows": plan.source.block_rows,
            **plan.facts,
        }

    def _plan(self, out: Folder) -> Plan:
        self._check()
        begun = run.begun(out)
        block_rows = int(begun.get("block_rows", self.execution.block_rows))
        if self.features is not None:
            return self._feature_plan(self.features, block_rows)
        return self._gallery_plan(str(self.gallery), begun.get("identity", {}), block_rows)

    def _check(self) -> None:
        if (self.gallery is None) == (self.features is None):
            raise ConfigError("what is to be searched?", "give either --gallery or --features")
        places = {"--gallery": self.gallery, "--features": self.features, "--since": self.since}
        for flag, uri in places.items():
            if uri is not None:
                refuse_relative(flag, uri)
        if self.since is not None and self.since_version is not None:
            raise ConfigError("--since and --since-version say the same", "give one of them")
        versions = (self.version, self.since, self.since_version)
        if self.features is not None and any(value is not None for value in versions):
            raise ConfigError(
                "an enroll run has no versions", "leave --version, --since and --since-version out"
            )

    def _feature_plan(self, uri: str, block_rows: int) -> Plan:
        found = FeatureRun.open(uri)
        source = FeatureSource(found.folder.uri, found.created, block_rows)
        digest = run.digest(found.folder)
        facts = {"features": uri, "run_id": found.run_id}
        return self._of(source, found.spec, {"features": digest}, facts)

    def _gallery_plan(self, uri: str, begun: dict[str, Any], block_rows: int) -> Plan:
        gallery = Gallery.open(uri)
        snapshot = self._snapshot(gallery, begun)
        newest = gallery.catalog.head().number
        if self.version is None and snapshot.number < newest:
            self.say(f"the gallery is at version {newest}; this output was begun with {snapshot.number}")
        source = GallerySource(gallery.uri, snapshot.number, block_rows)
        name = {"gallery_id": gallery.gallery_id, "version": snapshot.number}
        before = OldResult.open(self.since) if self.since is not None else None
        since = None
        if before is not None:
            since = {"version": before.version, "result": before.digest}
        elif self.since_version is not None:
            since = {"version": self.since_version}
        plan = self._of(
            source, gallery.spec, name, {"gallery": gallery.uri, **name}, since=since, before=before
        )
        return plan if since is None else replace(plan, source=self._since(source, gallery, since["version"]))

    def _snapshot(self, gallery: Gallery, begun: dict[str, Any]) -> Snapshot:
        """Of the version asked for, else of the one that the output was begun with, else the newest."""
        named = begun.get("source", {})
        ours = (begun.get("job"), named.get("gallery_id")) == ("dedup", gallery.gallery_id)
        if self.version is not None or not ours:
            return gallery.snapshot(self.version)
        try:
            return gallery.snapshot(named["version"])
        except GalleryDamaged:
            raise
        except GalleryError as error:
            raise GalleryError(
                f"{error.message}, and the output was begun with it",
                "use a new --output: it takes the newest",
            ) from None

    def _since(self, source: GallerySource, gallery: Gallery, version: Any) -> GallerySource:
        if version > source.version:
            raise ConfigError(
                f"version {version} is newer than version {source.version}, which is searched",
                "give an older one as --since or --since-version",
            )
        try:
            before = gallery.snapshot(version)
        except GalleryDamaged:
            raise
        except GalleryError as error:
            raise GalleryError(error.message, "run without --since: all pairs are compared then") from None
        return with_fresh(source, before)

    def _of(
        self,
        source: GallerySource | FeatureSource,
        spec: GallerySpec,
        name: dict[str, Any],
        facts: dict[str, Any],
        *,
        since: dict[str, Any] | None = None,
        before: OldResult | None = None,
    ) -> Plan:
        limit = self._limit(spec, source)
        identity = {
            "job": "dedup",
            "schema_version": DEDUP_VERSION,
            "source": name,
            "threshold_similarity": limit.similarity,
            "kind": limit.kind,
            "since": since,
        }
        if before is not None:
            before.check(identity)
        more = None if since is None else {"result": None, **since}
        hashes = {key: getattr(spec, key) for key in ("embedder_hash", "preprocessing_hash", "detector_hash")}
        return Plan(
            source=source,
            spec=spec,
            limit=limit,
            identity=identity,
            facts={"source": facts, "since": more, **hashes},
            before=before,
            kernel=self.execution.kernel,
            most=self.execution.max_pairs,
            say=self.say,
        )

    def _limit(self, spec: GallerySpec, source: GallerySource | FeatureSource) -> Limit:
        name = card_name(spec.embedder_hash)
        limit = limit_of(
            spec.embedder_hash,
            given=self.threshold,
            card=self.card,
            embedder_card=Registry.default().card(name) if name else None,
            searched=max(2, source.rows),
            subjects=self._subjects(source),
            preprocessing_hash=spec.preprocessing_hash,
        )
        if limit.warning:
            self.say(f"threshold {limit.similarity:g}: {limit.warning}")
        return limit

    def _subjects(self, source: GallerySource | FeatureSource) -> int | None:
        """People, where a card says for how many it is; None: not wanted, or not known."""
        wanted = self.card is not None and self.card.purpose == "identification"
        return source.snapshot.subjects if wanted and isinstance(source, GallerySource) else None

"""Find duplicates: all pairs of a gallery, or of an enroll run, that are alike, and their clusters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from frpipe.core.calibration import CalibrationCard
from frpipe.core.errors import ConfigError, GalleryDamaged, GalleryError, OutputError
from frpipe.core.kernel_names import Wish
from frpipe.core.threshold import Threshold, ThresholdCard
from frpipe.gallery.catalog import OtherVersion, VersionId
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.spec import GallerySpec
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.contract import ReportResult, Startable
from frpipe.jobs.dedup.plan import DedupPlan
from frpipe.jobs.dedup.report import report_text
from frpipe.jobs.dedup.schema import DEDUP_VERSION
from frpipe.jobs.dedup.since import REMEDY, OldResult, with_fresh
from frpipe.jobs.dedup.source import FeatureSource, GallerySource
from frpipe.jobs.features import FeatureRun, card_name
from frpipe.jobs.node_cache import DEFAULT_CACHE, NodeCache
from frpipe.jobs.output_place import output_place, refuse_relative
from frpipe.jobs.ratios import calibration_fact, calibration_for
from frpipe.jobs.recorded_version import RecordedVersion, pinned, purged
from frpipe.matching.threshold import threshold_of
from frpipe.models.registry import Registry
from frpipe.runtime.runtime import Runtime

Say = Callable[[str], None]
JOB = "dedup"
_COMPLETE = "this run is complete already: nothing to do"
MAX_PAIRS = 10_000_000
# Two blocks of 512 numbers a vector take 256 MB of a worker, and a minute of a core.
BLOCK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class DedupExecution:
    """Settings of execution: how fast and where, never what.

    workers: None takes one for each CPU (or GPU) of the cluster.  block_rows: templates of a block, unless a
    shard has more; fixed by the first run on an output.  forms: whether rows in the form of the kernel are
    stored beside the gallery's shards, and stored ones used.
    """

    workers: int | None = None
    kernel: Wish = "auto"
    block_rows: int = BLOCK_ROWS
    max_pairs: int = MAX_PAIRS
    cache: NodeCache = DEFAULT_CACHE
    forms: bool = True


@dataclass(frozen=True)
class Dedup(Startable[ReportResult]):
    """A search for duplicates: in which gallery or features, and at which threshold.

    since: an older result to bring up to date.  since_version: only pairs with a template that this version
    of the gallery does not have.  embedder: of the features; None: their first.  calibration: for the ratios
    beside similarities; None takes the threshold card's, where it has one.

    `run` raises OutputError: the output is another run's, the enroll run or `since` has not ended, or more
    pairs than `max_pairs` are found; GalleryError; ConfigError: no threshold.
    """

    output: str
    gallery: str | None = None
    features: str | None = None
    version: int | None = None
    threshold: float | None = None
    card: ThresholdCard | None = None
    since: str | None = None
    since_version: int | None = None
    execution: DedupExecution = DedupExecution()
    runtime: Runtime = field(default_factory=Runtime)
    say: Say = lambda _: None
    embedder: str | None = None
    calibration: CalibrationCard | None = None

    def place(self) -> Folder:
        """The output folder. Raises ConfigError for settings that contradict each other."""
        out = output_place(self.output)
        self._check()
        return out

    def ended(self, out: Folder) -> ReportResult | None:
        """The report of a finished run whose gallery version a compaction has removed since."""
        stored, begun = run.complete(out), RecordedVersion.of(out, JOB)
        if self.gallery is None or stored is None or begun is None:
            return None
        gallery = Gallery.open(self.gallery)
        if not purged(gallery, self.version, begun):
            return None
        before = OldResult.open(self.since) if self.since is not None else None
        limit = self._limit(gallery.spec)
        identity = _identity(begun.id.as_dict(), limit, self._since_name(gallery, begun.id, before))
        ratios = calibration_for(gallery.spec, self.calibration, self.card)
        run.check_claim(out, {**identity, **calibration_fact(ratios)})
        self.say(_COMPLETE)
        return ReportResult(stored, report_text)

    def plan(self, out: Folder, *, dry: bool = False) -> DedupPlan:
        """Plan the search, in the blocks and of the version that the output was begun with."""
        begun = run.begun(out)
        block_rows = int(begun.get("block_rows", self.execution.block_rows))
        if self.features is not None:
            return self._feature_plan(self.features, block_rows)
        return self._gallery_plan(str(self.gallery), RecordedVersion.of(out, JOB), block_rows)

    def _check(self) -> None:
        if (self.gallery is None) == (self.features is None):
            raise ConfigError("what is to be searched?", "give either --gallery or --features")
        places = {"--gallery": self.gallery, "--features": self.features, "--since": self.since}
        for flag, uri in places.items():
            if uri is not None:
                refuse_relative(flag, uri)
        if self.since is not None and self.since_version is not None:
            raise ConfigError("--since and --since-version say the same", "give one of them")
        self.execution.cache.check()
        versions = (self.version, self.since, self.since_version)
        if self.features is None and self.embedder is not None:
            raise ConfigError("a gallery is of one embedder", "leave --embedder out, or give --features")
        if self.features is not None and any(value is not None for value in versions):
            raise ConfigError(
                "an enroll run has no versions", "leave --version, --since and --since-version out"
            )

    def _feature_plan(self, uri: str, block_rows: int) -> DedupPlan:
        found = FeatureRun.open(uri, self.embedder)
        source = FeatureSource(found.folder.uri, found.created, block_rows, found.embedder)
        facts = {"features": uri, "run_id": found.run_id}
        return self._of(source, found.spec, {"features": found.digest}, facts)

    def _gallery_plan(self, uri: str, begun: RecordedVersion | None, block_rows: int) -> DedupPlan:
        gallery = Gallery.open(uri)
        snapshot, named = pinned(gallery, self.version, begun)
        newest = gallery.catalog.head().number
        if self.version is None and snapshot.number < newest:
            self.say(f"the gallery is at version {newest}; this output was begun with {snapshot.number}")
        source = GallerySource(gallery.uri, snapshot.number, block_rows, commit=snapshot.version.commit)
        before = OldResult.open(self.since) if self.since is not None else None
        older = self._older(gallery, before)
        if older is not None and older.number > snapshot.number:
            raise ConfigError(
                f"version {older.number} is newer than version {snapshot.number}, which is searched",
                "give an older one as --since or --since-version",
            )
        plan = self._of(
            source,
            gallery.spec,
            named.as_dict(),
            {"gallery": gallery.uri, **snapshot.id.as_dict()},
            since=self._since_name(gallery, named, before),
            before=before,
        )
        unsure = [RecordedVersion(named).warning, before.version.warning if before else None]
        plan = replace(plan, remarks=[*plan.remarks, *(each for each in unsure if each)])
        if older is None:
            return plan
        searched = {**plan.searched, "since": {**plan.searched["since"], **older.id.as_dict()}}
        return replace(plan, source=with_fresh(source, older), searched=searched)

    def _older(self, gallery: Gallery, before: OldResult | None) -> Snapshot | None:
        """The older version, whose templates are not fresh; None: all are fresh."""
        if before is None and self.since_version is None:
            return None
        try:
            return before.version.find(gallery) if before else gallery.snapshot(self.since_version)
        except GalleryDamaged:
            raise
        except OtherVersion as error:
            raise OutputError(
                f"the result given as --since is of a gallery that is not this one any more: {error.message}",
                REMEDY,
            ) from None
        except GalleryError as error:
            raise GalleryError(error.message, "run without --since: all pairs are compared then") from None

    def _since_name(
        self, gallery: Gallery, named: VersionId, before: OldResult | None
    ) -> dict[str, Any] | None:
        """The older version or result as the output names it. named: the version that is searched."""
        if before is not None:
            return {"version": before.version.id.number, "result": before.digest}
        if self.since_version is None:
            return None
        trace = gallery.catalog.trace(self.since_version)
        commit = {} if named.commit is None or trace is None else {"commit": trace[0]}
        return {"version": self.since_version, **commit}

    def _of(
        self,
        source: GallerySource | FeatureSource,
        spec: GallerySpec,
        name: dict[str, Any],
        facts: dict[str, Any],
        *,
        since: dict[str, Any] | None = None,
        before: OldResult | None = None,
    ) -> DedupPlan:
        limit, ratios = self._limit(spec, source), calibration_for(spec, self.calibration, self.card)
        identity = {**_identity(name, limit, since), **calibration_fact(ratios)}
        if before is not None:
            before.check(identity)
        more = None if since is None else {"result": None, **since}
        return DedupPlan(
            source=source,
            spec=spec,
            limit=limit,
            content=identity,
            searched={"source": facts, "since": more, **spec.hashes},
            workers=self.execution.workers,
            before=before,
            kernel=self.execution.kernel,
            most=self.execution.max_pairs,
            cache=self.execution.cache,
            forms=self.execution.forms,
            say=self.say,
            ratios=ratios,
            remarks=[f"threshold {limit.similarity:g}: {limit.warning}"] if limit.warning else [],
        )

    def _limit(self, spec: GallerySpec, source: GallerySource | FeatureSource | None = None) -> Threshold:
        """The threshold. source: None where nobody asks whether it suits the size of the search."""
        name = card_name(spec.embedder_hash)
        return threshold_of(
            spec.embedder_hash,
            given=self.threshold,
            card=self.card,
            embedder_card=Registry.default().card(name) if name else None,
            searched=max(2, source.rows) if source else 2,
            subjects=self._subjects(source) if source else None,
            preprocessing=spec.preprocessing_hashes,
        )

    def _subjects(self, source: GallerySource | FeatureSource) -> int | None:
        """The number of people, if the card is for a number of them; None: not needed, or not known."""
        wanted = self.card is not None and self.card.purpose == "identification"
        return source.snapshot.subjects if wanted and isinstance(source, GallerySource) else None


def _identity(source: dict[str, Any], limit: Threshold, since: dict[str, Any] | None) -> dict[str, Any]:
    """The facts that decide the content of an output."""
    return {
        "job": JOB,
        "schema_version": DEDUP_VERSION,
        "source": source,
        "threshold_similarity": limit.similarity,
        "kind": limit.kind,
        "since": since,
    }

"""Evaluate all pairs: score every template of known people with every other, counted and not kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from frpipe.core.errors import ConfigError
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import FIXED_COLUMNS
from frpipe.gallery.spec import GallerySpec
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.contract import Startable
from frpipe.jobs.evaluate.all_pairs.plan import AllPairsPlan
from frpipe.jobs.evaluate.all_pairs.report import AllPairsResult
from frpipe.jobs.evaluate.all_pairs.source import LabelledFeatures, LabelledGallery
from frpipe.jobs.features import FeatureRun, card_name
from frpipe.jobs.node_cache import DEFAULT_CACHE, NodeCache
from frpipe.jobs.output_place import output_place, refuse_relative
from frpipe.jobs.recorded_version import RecordedVersion, pinned, purged
from frpipe.jobs.subject_faces import SubjectPolicy
from frpipe.metrics.streaming import BINS
from frpipe.models.registry import Registry
from frpipe.runtime.runtime import Runtime

# Two blocks of 32,768 vectors of 512 numbers are 134 MB in a worker, and a quarter of a minute's work of a
# core. Of fewer templates the blocks are smaller, so that there are some units for each worker.
BLOCK_ROWS, _LEAST_BLOCK_ROWS, _BLOCKS = 32_768, 4096, 8
TARGETS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
_VERSION = 1
_JOB = "all-pairs"


@dataclass(frozen=True)
class AllPairs(Startable[AllPairsResult]):
    """A comparison of all templates with all: of which gallery or enroll run, and in which cohorts.

    version: of the gallery; None: the newest.  by: attribute, or manifest's column, of the cohorts.
    faces: which face of a photo is its subject's, in an enroll run.  thresholds: similarities at which errors
    are counted by person; none: the embedder's card's.  targets: FMRs at which the TAR is bounded; on one
    output they may change from run to run.  workers: None takes one for each CPU of the cluster.
    block_rows: templates of a block, None: as suits their number; fixed by the first run on an output.
    cache: of the shards of an object store, on each node.  embedder: of an enroll run; None: its first.

    `run` raises OutputError: the output is another run's, or the enroll run has not ended; GalleryError;
    ConfigError: nobody to compare, more than 50 cohorts, a threshold that is no similarity.
    """

    output: str
    gallery: str | None = None
    features: str | None = None
    version: int | None = None
    by: str | None = None
    faces: SubjectPolicy = "centre-largest"
    thresholds: tuple[float, ...] = ()
    targets: tuple[float, ...] = TARGETS
    name: str = "all pairs"
    workers: int | None = None
    block_rows: int | None = None
    cache: NodeCache = DEFAULT_CACHE
    runtime: Runtime = field(default_factory=Runtime)
    say: Callable[[str], None] = lambda _: None
    embedder: str | None = None

    def place(self) -> Folder:
        """The output folder. Raises ConfigError for settings that contradict each other."""
        out = output_place(self.output)
        self._check()
        return out

    def ended(self, out: Folder) -> AllPairsResult | None:
        """The stored result of a finished run whose gallery version a compaction has removed since.

        Without curves, and at the targets that it was sealed with.
        """
        stored, begun = run.complete(out), RecordedVersion.of(out, _JOB)
        if self.gallery is None or stored is None or begun is None:
            return None
        gallery = Gallery.open(self.gallery)
        if not purged(gallery, self.version, begun):
            return None
        run.check_claim(out, self._identity(begun.id.as_dict(), self._thresholds(gallery.spec)))
        self.say(f"this run is complete already, and its {begun.id} was compacted: this is the stored report")
        return AllPairsResult.stored(stored)

    def plan(self, out: Folder, *, dry: bool = False) -> AllPairsPlan:
        """The comparison, in the blocks that the output was begun with."""
        begun = run.begun(out)
        block_rows = begun.get("block_rows", self.block_rows)
        if self.features is not None:
            return self._of_features(self.features, block_rows)
        return self._of_gallery(str(self.gallery), RecordedVersion.of(out, _JOB), block_rows)

    def _check(self) -> None:
        if (self.gallery is None) == (self.features is None):
            raise ConfigError("what is to be compared?", "give either --gallery or --features")
        for flag, uri in (("--gallery", self.gallery), ("--features", self.features)):
            if uri is not None:
                refuse_relative(flag, uri)
        if self.features is None and self.embedder is not None:
            raise ConfigError("a gallery is of one embedder", "leave --embedder out, or give --features")
        if self.features is not None and self.version is not None:
            raise ConfigError("an enroll run has no versions", "leave --version out")
        if any(not -1 <= threshold <= 1 for threshold in self.thresholds):
            raise ConfigError("--threshold is a similarity, from -1 to 1", "for a distance say --distance")
        if any(not 0 < target <= 1 for target in self.targets):
            raise ConfigError("a target is a rate above 0 and at most 1", "for example 0.001")
        self.cache.check()
        if self.by in FIXED_COLUMNS:
            raise ConfigError(f"{self.by!r} makes no cohorts", "name an attribute of the people")

    def _of_features(self, uri: str, block_rows: int | None) -> AllPairsPlan:
        found = FeatureRun.open(uri, self.embedder)
        source = LabelledFeatures.of(found, block_rows or _fitting(found.faces), self.by, self.faces)
        facts = {"features": uri, "run_id": found.run_id}
        return self._of(source, found.spec, {"features": found.digest, "faces": self.faces}, facts)

    def _of_gallery(self, uri: str, begun: RecordedVersion | None, block_rows: int | None) -> AllPairsPlan:
        gallery = Gallery.open(uri)
        snapshot, named = pinned(gallery, self.version, begun)
        if unsure := RecordedVersion(named).warning:
            self.say(unsure)
        if self.by is not None and self.by not in snapshot.attributes:
            raise ConfigError(
                f"no template has {self.by!r}", f"attributes: {', '.join(snapshot.attributes) or 'none'}"
            )
        block_rows = block_rows or _fitting(snapshot.rows)
        source = LabelledGallery(gallery.uri, snapshot.number, block_rows, self.by, snapshot.version.commit)
        facts = {"gallery": gallery.uri, **snapshot.id.as_dict()}
        return self._of(source, gallery.spec, named.as_dict(), facts)

    def _of(
        self,
        source: LabelledFeatures | LabelledGallery,
        spec: GallerySpec,
        name: dict[str, Any],
        facts: dict[str, Any],
    ) -> AllPairsPlan:
        thresholds = self._thresholds(spec)
        return AllPairsPlan(
            source,
            spec,
            thresholds,
            content=self._identity(name, thresholds),
            compared=facts,
            say=self.say,
            name=self.name,
            targets=self.targets,
            workers=self.workers,
            cache=self.cache,
        )

    def _thresholds(self, spec: GallerySpec) -> tuple[float, ...]:
        return tuple(sorted(set(self.thresholds or _of_card(spec.embedder_hash))))

    def _identity(self, name: dict[str, Any], thresholds: Sequence[float]) -> dict[str, Any]:
        """The settings that decide the content of an output. name: of what is compared."""
        return {
            "job": _JOB,
            "version": _VERSION,
            "source": name,
            "by": self.by,
            "thresholds": list(thresholds),
            "bins": BINS,
        }


def _fitting(rows: int) -> int:
    """The number of templates of a block, of so many in all."""
    return min(max(rows // _BLOCKS, _LEAST_BLOCK_ROWS), BLOCK_ROWS)


def _of_card(embedder_hash: str) -> tuple[float, ...]:
    """The threshold of the embedder's card, if there is one."""
    name = card_name(embedder_hash)
    embedder = Registry.default().card(name).embedder if name else None
    return (embedder.threshold.similarity,) if embedder and embedder.threshold else ()

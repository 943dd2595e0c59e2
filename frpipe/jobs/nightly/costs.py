"""Estimate what a night would take, step by step: time, memory, bytes read, and disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from frpipe.core.counted import counted
from frpipe.core.errors import PlanError
from frpipe.core.night_config import NightConfig
from frpipe.core.pulse import clock
from frpipe.core.sizing import GalleryLoad, consolidate_bytes, spill_bytes
from frpipe.gallery.gallery import GALLERY, Gallery
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.spec import GallerySpec
from frpipe.io.manifest.columns import URI
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.jobs.block_memory import BlockMemory
from frpipe.jobs.enroll.job import estimate_of, run_spec
from frpipe.jobs.estimate import WORKER_MB, Comparing, product_ns
from frpipe.jobs.identify.memory import SearchMemory
from frpipe.jobs.nightly.photos import PhotoScan
from frpipe.jobs.node_cache import NodeCache
from frpipe.runtime.allocation import allocate, most_workers
from frpipe.runtime.local import LocalExecutor
from frpipe.stages.run_spec import RunSpec

# Bytes of a face and of a photo in an enroll output, and of a template, beside vectors (docs/operations.md).
_FACE_BYTES, _PHOTO_BYTES = 170, 130
_UNIT_PROBES = 4096
_HOLD_MB = 1024


@dataclass(frozen=True, slots=True)
class StepCost:
    """What a step would take, in seconds, MB at its peak and bytes. None: not known here."""

    seconds: float | None
    memory_mb: float
    read_bytes: int | None = None

    def text(self) -> str:
        """The cost for people."""
        took = "time not known" if self.seconds is None else f"about {clock(self.seconds)}"
        read = "" if self.read_bytes is None else f", {self.read_bytes / 1e6:,.1f} MB read"
        return f"{took}, {self.memory_mb / 1000:,.1f} GB of memory{read}"


@dataclass(frozen=True, slots=True)
class NightCost:
    """What a night would take on this machine.

    written_bytes: faces and templates of tonight.  temporary_bytes: at most, in TMPDIR.
    unknown: further steps, of which nothing is known here.
    """

    workers: int
    steps: Mapping[str, StepCost]
    written_bytes: int
    temporary_bytes: int
    unknown: Sequence[str] = ()

    def lines(self) -> list[str]:
        """The cost for people."""
        if not self.steps and not self.unknown:
            return []
        known = [each.seconds for each in self.steps.values() if each.seconds is not None]
        memory = max((each.memory_mb for each in self.steps.values()), default=0.0)
        read = sum(each.read_bytes or 0 for each in self.steps.values())
        unknown = [*self.unknown, *(name for name, each in self.steps.items() if each.seconds is None)]
        beside = f" beside {' and '.join(unknown)}" if unknown and known else ""
        took = f"about {clock(sum(known))}{beside}" if known else "time not known"
        return [
            f"takes        {took} on {counted(self.workers, 'CPUs')} of this machine, "
            f"{memory / 1000:,.1f} GB of memory, {read / 1e6:,.1f} MB read, "
            f"{self.written_bytes / 1e6:,.1f} MB written, "
            f"{self.temporary_bytes / 1e6:,.1f} MB of temporary files",
            *(f"  {name:<12} not known here" for name in self.unknown),
            *(f"  {name:<12} {step.text()}" for name, step in self.steps.items()),
        ]

    def as_dict(self) -> dict[str, Any]:
        """The cost for programs."""
        return asdict(self)


@dataclass(frozen=True)
class NightCosts:
    """Estimates for a night of this machine, from what the scan has found.

    carried: whether pairs of last night's duplicates are carried on.  faces: of a photo, in the mean.
    left: steps that are not done yet.
    """

    config: NightConfig
    scan: PhotoScan
    carried: bool
    left: Sequence[str]
    faces: float = 1.0
    cpus: int = field(default_factory=lambda: max(1, math.floor(LocalExecutor().nodes[0].cpus)))

    def cost(self) -> NightCost:
        """Estimate each step that is switched on and has something to do."""
        photos = self.scan.counts.new + self.scan.counts.changed
        if not photos:
            return NightCost(self.cpus, {}, 0, 0)
        spec, gallery = run_spec(self.config.settings, ""), _snapshot_of(self.config.gallery)
        found, dim = max(1, round(photos * self.faces)), _dim_of(spec)
        load = self._load(photos, found, dim, gallery)
        steps: dict[str, Callable[[], StepCost | None]] = {
            "enroll": lambda: self._enroll(spec, photos),
            "consolidate": lambda: StepCost(None, consolidate_bytes(load) / 1e6),
            "dedup": lambda: self._dedup(found, dim, gallery),
            "identify": lambda: self._identify(found, dim, gallery),
        }
        costs = {name: step() for name, step in steps.items() if self._is_left(name)}
        put = self._is_left("consolidate")
        kept = self._is_left("enroll") + put
        written = found * (4 * dim + _FACE_BYTES) * kept + photos * _PHOTO_BYTES * self._is_left("enroll")
        known = {name: cost for name, cost in costs.items() if cost is not None}
        unknown = [name for name, cost in costs.items() if cost is None and self._has_work(name)]
        return NightCost(self.cpus, known, written, spill_bytes(load) if put else 0, unknown)

    def _is_left(self, step: str) -> bool:
        return step in self.left and self.config.on(step)

    def _has_work(self, step: str) -> bool:
        how = self.config.identify
        return step != "identify" or how.gallery.enabled or bool(how.watch_list.uri)

    def _load(self, photos: int, found: int, dim: int, gallery: Snapshot | None) -> GalleryLoad:
        kind = self.config.consolidate.templates
        is_local, spec = uris.is_local(self.config.gallery), _spec_of(self.config.gallery)
        return GalleryLoad(
            photos,
            found,
            dim,
            stored=2 if spec is not None and spec.dtype == "float16" else 4,
            reduced="mean" if kind.endswith("mean") else "chosen" if kind == "medoid" else "no",
            image="encrypted" if spec is not None and spec.encryption else "file" if is_local else "memory",
            there=gallery.rows if gallery is not None else 0,
        )

    def _enroll(self, spec: RunSpec, photos: int) -> StepCost | None:
        try:
            pools = allocate(self.config.settings.resources, LocalExecutor().nodes)
        except PlanError:
            # It asks for what this machine has not, such as GPUs.
            return None
        some = [table[URI].to_pylist() for table in islice(self.scan.todo.tables(), 1)]
        found = estimate_of(spec, some[0] if some else [], photos, pools)
        workers = min(most_workers(pools), photos)
        return StepCost(found.seconds, WORKER_MB + workers * (found.memory_mb or 0.0), found.read_bytes)

    def _dedup(self, found: int, dim: int, gallery: Snapshot | None) -> StepCost:
        there = gallery.rows if gallery is not None else 0
        rows = there + found
        block = min(rows, 65_536)
        blocks = -(-rows // block)
        pairs = found * (found - 1) // 2 + found * there if self.carried else rows * (rows - 1) // 2
        units = blocks if self.carried else blocks * (blocks + 1) // 2
        size = rows * (4 * dim + _FACE_BYTES)
        memory = BlockMemory(
            block,
            4 * dim * block,
            _FACE_BYTES * block,
            mapped=size if self._is_mapped(self.config.gallery, size) else 0,
        )
        work = Comparing(
            pairs,
            dim,
            lambda _: units,
            memory.held_mb,
            lambda _: size,
            mapped_mb=memory.mapped_mb,
        )
        return self._compared(work)

    def _identify(self, found: int, dim: int, gallery: Snapshot | None) -> StepCost | None:
        how = self.config.identify
        found_in = {self.config.gallery: gallery if how.gallery.enabled else None}
        if how.watch_list.uri:
            found_in[how.watch_list.uri] = _snapshot_of(how.watch_list.uri)
        searched = {uri: each for uri, each in found_in.items() if each is not None}
        rows = [each.rows for each in searched.values()]
        if how.probes is not None or not sum(rows):
            # Probes of their own are listed when the step begins.
            return None
        shards = tuple(ref.bytes for each in searched.values() for ref in each.version.shards)
        size = sum(shards)
        memory = SearchMemory(
            min(found, _UNIT_PROBES),
            dim,
            min(how.top, max(rows)),
            shards,
            0,
            copied=not all(self._is_mapped(uri, size) for uri in searched),
            stored=False,
            hold=_HOLD_MB << 20,
        )
        units = -(-found // _UNIT_PROBES)
        work = Comparing(
            found * sum(rows),
            dim,
            lambda workers: units * max(1, min(len(shards), workers // units)),
            lambda _: memory.held_mb(1.0, sum(rows)),
            lambda _: size,
            mapped_mb=memory.mapped_mb,
        )
        return self._compared(work)

    def _compared(self, work: Comparing) -> StepCost:
        workers = self.config.execution.workers or self.cpus
        scale = work.scale(workers, product_ns(work.dim))
        return StepCost(scale.seconds, scale.memory_mb, scale.read_bytes)

    def _is_mapped(self, uri: str, size: int) -> bool:
        spec = _spec_of(uri)
        kept = NodeCache(self.config.execution.cache_mb).bytes_of(uri)
        return (spec is None or spec.encryption is None) and (uris.is_local(uri) or size <= kept)


def _dim_of(spec: RunSpec) -> int:
    assert spec.embedder.embedder is not None
    return spec.embedder.embedder.dim


def _opened(uri: str) -> Gallery | None:
    return Gallery.open(uri) if Folder.at(uri).exists(GALLERY) else None


def _snapshot_of(uri: str) -> Snapshot | None:
    gallery = _opened(uri)
    return None if gallery is None else gallery.snapshot()


def _spec_of(uri: str) -> GallerySpec | None:
    gallery = _opened(uri)
    return None if gallery is None else gallery.spec

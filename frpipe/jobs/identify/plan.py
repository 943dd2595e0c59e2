"""Plan a search of a gallery, and carry it out unit by unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError
from frpipe.gallery.shard_cache import CacheSpec
from frpipe.gallery.spec import SAME_VECTORS
from frpipe.io.output import run
from frpipe.io.output.features import Features, PartRows
from frpipe.io.output.units import Units
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.jobs.contract import Launch, Plan, ReportResult
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.estimate import Comparing, Estimate, bytes_below
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.identify.kernel_choice import Shape, chosen, tried
from frpipe.jobs.identify.memory import SearchMemory
from frpipe.jobs.identify.probe_source import Parts, probe_units
from frpipe.jobs.identify.report import ProbeCounts, report_text
from frpipe.jobs.identify.rows import Verdicts
from frpipe.jobs.identify.search_plan import SearchPlan
from frpipe.jobs.identify.worker import PROBES, Publication, Searched, search
from frpipe.jobs.low_forms import LOW, store_basis, stored_forms, typical_shards
from frpipe.jobs.node_cache import DEFAULT_CACHE, NodeCache
from frpipe.jobs.progress import Progress
from frpipe.jobs.ratios import calibration_metadata
from frpipe.jobs.reading_back import UnitsRead, read_units
from frpipe.matching.choice import Choice, Stored
from frpipe.matching.kernels import kernel_of
from frpipe.matching.sieve import Sieve
from frpipe.runtime.allocation import Node, Pool, allocate_one
from frpipe.runtime.executor import Executor
from frpipe.runtime.runtime import LOCAL_COMPARISONS

Say = Callable[[str], None]
# Candidates of a unit, which its worker holds.
MOST_CANDIDATES = 50_000_000
# What it takes the driver to join a candidate of one slice of the gallery with those of the others.
_JOIN_S = 5e-7


@dataclass
class IdentifyPlan(Plan[UnitsRead[ProbeCounts]]):
    """The plan of a search, in units of at least `probe_rows` probes.

    probes: their URI, as it was given.  workers: None takes one for each CPU (or GPU).
    """

    source: FeatureRun
    search_plan: SearchPlan
    probe_rows: int
    say: Say
    probes: str = ""
    workers: int | None = None
    cache: NodeCache = DEFAULT_CACHE
    pool: Pool = field(init=False)
    choice: Choice = field(init=False)

    @property
    def identity(self) -> dict[str, Any]:
        """The facts that decide the content."""
        return self.search_plan.identity(self.source.digest)

    @property
    def small(self) -> bool:
        pairs = self.source.faces * self.search_plan.search_view.rows
        return pairs <= LOCAL_COMPARISONS and self.search_plan.spec.kernel != "cuda"

    @property
    def remarks(self) -> list[str]:
        return self.search_plan.remarks()

    @cached_property
    def parts(self) -> dict[int, PartRows]:
        """The parts of the probes."""
        return Features(self.source.folder).rows()

    @cached_property
    def units(self) -> list[Parts]:
        """The units: bundles of parts of the probes."""
        return probe_units(self.parts, self.probe_rows)

    def check(self) -> None:
        """Raise ConfigError where a unit has more candidates than a worker should hold."""
        faces = max((sum(self.parts[part].faces for part in unit) for unit in self.units), default=0)
        # Counting the people reads all ids.
        if faces * self.search_plan.spec.k <= MOST_CANDIDATES:
            return
        listed = min(self.search_plan.spec.k, self.search_plan.search_view.subjects)
        if faces * listed > MOST_CANDIDATES:
            raise ConfigError(
                f"a unit of {counted(faces, 'probes')} with {listed:,} candidates each is "
                f"{faces * listed:,}: a worker "
                f"holds {MOST_CANDIDATES:,} at most",
                f"give --top {MOST_CANDIDATES // faces} or less, or a smaller --probe-rows on a new --output",
            )

    def settle(self, nodes: Sequence[Node]) -> None:
        self.pool = search_pool(self.search_plan, self.workers, nodes)
        self.choice = self._chosen().beside(sum(node.gpus for node in nodes))
        spec = replace(self.search_plan.spec, kernel=self.choice.name, basis=self.choice.basis)
        self.search_plan = replace(self.search_plan, spec=spec)

    def facts(self) -> dict[str, Any]:
        spec, probes = self.search_plan.gallery.spec, self.source.spec
        return {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "probes": self.probes,
            "gallery": self.search_plan.gallery.uri,
            "probe_rows": self.probe_rows,
            **spec.hashes,
            # Either may know hashes that the other does not: an older gallery knows its own alone.
            SAME_VECTORS: sorted(spec.preprocessing_hashes | probes.preprocessing_hashes),
        }

    def claimed(self, out: Folder, facts: Mapping[str, Any]) -> None:
        self.probe_rows = int(facts["probe_rows"])
        self.__dict__.pop("units", None)

    def work(self, out: Folder, executor: Executor) -> int:
        done = Units(out, PROBES)
        published = done.done()
        pending = {number: parts for number, parts in enumerate(self.units) if number not in published}
        if not pending:
            return 0
        if published:
            self.say(f"{len(published):,} of {len(self.units):,} units are done already")
        self._store_basis()
        probes = sum(self.parts[part].faces for parts in pending.values() for part in parts)
        publication = Publication(self.source.features, out, self._verdicts(), self._metadata())
        kept = self.cache.opened(self.search_plan.gallery.uri, executor)
        comparisons = probes * self.search_plan.search_view.rows
        with Progress(probes, "probes", self.say, comparisons) as progress, kept as cache:
            for searched in self._searched(publication, pending, executor, cache):
                progress.add(searched.probes, work=searched.comparisons)
        return probes

    def read_back(self, out: Folder, executor: Executor) -> tuple[UnitsRead[ProbeCounts], int]:
        return read_units(Units(out, PROBES), ProbeCounts(), ProbeCounts.of_file, executor, self.say)

    def publish(self, out: Folder, found: UnitsRead[ProbeCounts], launch: Launch) -> ReportResult:
        found.counts.check(self.source.folder)
        report = found.counts.report(
            self.search_plan,
            probes_from=self.source.folder.uri,
            output=out.uri,
            units=len(self.units),
            pool=str(self.pool),
            kernel_reason=self.choice.why,
            launch_probes=launch.rows,
            wall_s=round(launch.wall_s, 3),
            probes_per_s=round(launch.rows_per_s, 1),
        )
        run.seal(out, [*found.files.values()], report, report_text(report))
        return self.stored(out, report)

    def stored(self, out: Folder, report: dict[str, Any]) -> ReportResult:
        return ReportResult(report, report_text)

    def describe(self) -> DryRun:
        pool, remarks = self.pool, self.remarks
        facts = {"job": "identify", **self.search_plan.facts(), "probes": self.source.faces}
        facts |= {"units": len(self.units), "pool": str(pool), "remarks": remarks}
        facts |= {"kernel": self.choice.name, "kernel_reason": self.choice.why}
        kernel = f"kernel     {self.choice.name}: {self.choice.why}"
        probes = f"probes     {counted(self.source.faces, 'faces')} in {counted(len(self.units), 'units')}"
        return DryRun([probes, *self.search_plan.lines(), kernel, f"pool       {pool}", *remarks], facts)

    def _searched(
        self,
        publication: Publication,
        pending: dict[int, Parts],
        executor: Executor,
        cache: CacheSpec | None,
    ) -> Iterator[Searched]:
        spec = replace(self.search_plan.spec, cache=cache)
        slices = self._slices(len(pending), self.pool.workers)
        return search(spec, publication, pending, slices, pool=self.pool, executor=executor)

    def estimate(self) -> Estimate:
        view, spec, faces = self.search_plan.search_view, self.search_plan.spec, self.source.faces
        largest = max((sum(self.parts[part].faces for part in unit) for unit in self.units), default=0)
        dim = self.search_plan.gallery.spec.dim
        listed = min(spec.k, view.subjects)
        size = sum(shard.bytes for shard in view.shards)
        gallery, units = self.search_plan.gallery, max(1, len(self.units))
        # Of an encrypted gallery the driver reads all, to count the people.
        own = bytes_below(self.source.folder, "faces") + (size if gallery.spec.encryption else 0)

        def slices(workers: int) -> int:
            return len(self._slices(units, workers))

        def joined(workers: int) -> int:
            return slices(workers) if slices(workers) > 1 else 0

        def held_mb(workers: int) -> float:
            # Of few tickets a worker goes through some slices alone.
            cut, tickets = slices(workers), units * slices(workers)
            return memory.held_mb(min(1.0, tickets / min(workers, tickets) / cut), view.rows // cut)

        memory = self._memory(largest, listed)
        work = Comparing(
            faces * view.rows,
            dim,
            lambda workers: units * slices(workers),
            held_mb,
            lambda workers: (
                own + self.cache.read_by_units(gallery.uri, size, units, workers, spec.hold_mb << 20)
            ),
            lambda workers: _JOIN_S * faces * listed * joined(workers),
            memory.mapped_mb,
            forked=self.forked,
        )
        if self.choice.ns is None:
            return work.estimate(self.pool.workers, replace(self.choice, ns=self._sampled().ns))
        return work.estimate(self.pool.workers, self.choice)

    def _memory(self, probes: int, listed: int) -> SearchMemory:
        gallery, spec, choice = self.search_plan.gallery, self.search_plan.spec, self.choice
        kernel = None if choice.name in ("fp32", "cuda") else kernel_of(choice.name, choice.basis)
        row_bytes = kernel.row_bytes(gallery.spec.dim) if isinstance(kernel, Sieve) else 0
        shards = tuple(shard.bytes for shard in self.search_plan.search_view.shards)
        is_mapped = uris.is_local(gallery.uri) or sum(shards) <= self.cache.bytes_of(gallery.uri)
        return SearchMemory(
            probes,
            gallery.spec.dim,
            listed,
            shards,
            self.search_plan.search_view.rows * row_bytes,
            copied=gallery.spec.encryption is not None or not is_mapped,
            stored=choice.name in LOW and self._stored() is not None,
            hold=spec.hold_mb << 20,
        )

    def _sampled(self) -> Choice:
        """The kernel that was named, with its time on a sample."""
        parts = [part for unit in self.units for part in unit]
        shape = Shape(self.search_plan.search_view.rows, self.source.faces, self.source.faces)
        return tried(self.search_plan.spec, self.choice, (self.source.features, parts), shape)

    def _chosen(self) -> Choice:
        """Choose the kernel on a sample.

        The cost of bringing a row into the form of a kernel is shared by the units of a worker.
        """
        faces, workers = self.source.faces, self.pool.workers
        rows = self.search_plan.search_view.rows
        uses = math.ceil(faces / min(max(1, len(self.units)), workers))
        parts = [part for unit in self.units for part in unit]
        probes, shape = (self.source.features, parts), Shape(rows, faces, uses)
        return chosen(self.search_plan.spec, probes, shape, self._stored())

    def _stored(self) -> Stored | None:
        """The forms of the gallery that are stored, or can be; None: this search makes its own."""
        gallery, spec = self.search_plan.gallery, self.search_plan.spec
        if not spec.forms or spec.score == "mean":
            return None
        found = stored_forms(gallery, self.search_plan.search_view.snapshot)
        # A basis that is measured on a part of the people does not suit all of them.
        return None if found is not None and found.basis is None and spec.where else found

    def _store_basis(self) -> None:
        """Store the basis with the gallery, if forms may be, and tell workers whether it is there."""
        spec, refs = self.search_plan.spec, typical_shards(self.search_plan.search_view.shards)
        there = store_basis(self.search_plan.gallery, self.choice, self._stored(), refs)
        self.search_plan = replace(self.search_plan, spec=replace(spec, forms=there))

    def _slices(self, units: int, workers: int) -> list[slice]:
        """Slices of the gallery's shards, several where there are fewer units than workers.

        Means of people need all shards at once.
        """
        shards = len(self.search_plan.search_view.shards)
        shares = 1 if self.search_plan.spec.score == "mean" else math.ceil(workers / units)
        step = max(1, math.ceil(shards / shares))
        return [slice(first, first + step) for first in range(0, max(1, shards), step)]

    def _verdicts(self) -> Verdicts:
        gallery, limit = self.search_plan.gallery, self.search_plan.limit
        facts = {
            "gallery_id": gallery.gallery_id,
            "gallery_version": self.search_plan.spec.version,
            "embedder_hash": gallery.spec.embedder_hash,
            "preprocessing_hash": gallery.spec.preprocessing_hash,
        }
        plan = self.search_plan
        return Verdicts(limit.similarity if limit else None, facts, plan.calibration, plan.columns)

    def _metadata(self) -> dict[str, str]:
        limit = self.search_plan.limit
        return {
            "frpipe.job": "identify",
            **self.search_plan.searched.as_metadata(),
            "frpipe.threshold_kind": limit.kind if limit else "",
            "frpipe.threshold_source": limit.source if limit else "closed set: none",
            **calibration_metadata(self.search_plan.calibration),
        }


def search_pool(search_plan: SearchPlan, workers: int | None, nodes: Sequence[Node]) -> Pool:
    """Allocate the workers of a search on the nodes. workers: None takes one for each CPU, or GPU."""
    return allocate_one("search", workers, nodes, gpu=search_plan.spec.kernel == "cuda")

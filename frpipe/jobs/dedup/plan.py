"""Plan a search for duplicates, and carry it out unit by unit."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

import pyarrow as pa

from frpipe.core.calibration import CalibrationMap
from frpipe.core.counted import counted
from frpipe.core.errors import InvariantError
from frpipe.core.kernel_names import Wish
from frpipe.core.threshold import Threshold, both_forms
from frpipe.gallery.catalog import VersionId
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.search_view import SearchView
from frpipe.gallery.spec import SAME_VECTORS, GallerySpec
from frpipe.io.output import run
from frpipe.io.output.parts import PartFile, to_parquet
from frpipe.io.output.units import Units
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.jobs.block_memory import BlockMemory
from frpipe.jobs.contract import Launch, Plan, ReportResult
from frpipe.jobs.dedup.blocks import Counts, Rule, too_many
from frpipe.jobs.dedup.clusters import Subjects, clusters_of, links_in, subjects_in
from frpipe.jobs.dedup.report import report_of, report_text, since_text, source_text
from frpipe.jobs.dedup.schema import PAIR_SCHEMA, SAME_PERSON, SAME_PHOTO
from frpipe.jobs.dedup.since import CLUSTERS, Carried, OldResult
from frpipe.jobs.dedup.source import FeatureSource, GallerySource
from frpipe.jobs.dedup.worker import PAIRS, DedupSpec, dedup
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.estimate import Comparing, Estimate
from frpipe.jobs.low_forms import LOW, evenly, store_basis, stored_forms, typical_rows, typical_shards
from frpipe.jobs.node_cache import DEFAULT_CACHE, NodeCache
from frpipe.jobs.progress import Progress
from frpipe.jobs.ratios import calibration_metadata, with_ratios
from frpipe.jobs.reading_back import UnitsRead, read_units
from frpipe.matching.choice import (
    SAMPLE_PROBES,
    SAMPLE_ROWS,
    Choice,
    Sample,
    Stored,
    Task,
    choose,
    named,
    spread,
    timed,
    worth_a_look,
)
from frpipe.matching.clusters import BestLinks, Links
from frpipe.matching.kernel import Floats
from frpipe.matching.kernels import kernel_of
from frpipe.matching.sieve import Sieve
from frpipe.runtime.allocation import Node, Pool, allocate_one
from frpipe.runtime.executor import Executor
from frpipe.runtime.runtime import LOCAL_COMPARISONS

Say = Callable[[str], None]
# Of a template, beside its vector: ids and the address of its photo.
_TEXT_BYTES = 120


@dataclass
class DedupPlan(Plan[UnitsRead[Counts]]):
    """The plan of a search for duplicates.

    searched: facts of the source and of `since`, for the report.  before: an older result whose pairs are
    carried over; None: none.  content: the facts that decide the content.  most: pairs, beyond which the job
    ends.  workers: None takes one for each CPU (or GPU).  forms: whether rows in the form of the kernel may
    be stored with the gallery.  ratios: beside similarities; None: none.
    """

    source: GallerySource | FeatureSource
    spec: GallerySpec
    limit: Threshold
    content: dict[str, Any]
    searched: dict[str, Any]
    before: OldResult | None
    kernel: Wish
    most: int
    say: Say
    remarks: Sequence[str] = ()
    workers: int | None = None
    cache: NodeCache = DEFAULT_CACHE
    forms: bool = False
    ratios: CalibrationMap | None = None
    pool: Pool = field(init=False)
    choice: Choice = field(init=False)

    @cached_property
    def units(self) -> dict[int, tuple[int, int]]:
        """Pairs of blocks with a fresh template in at least one, in order."""
        numbers = range(len(self.source.blocks))
        fresh = [self.source.has_fresh(number) for number in numbers]
        pairs = ((i, j) for i in numbers for j in numbers[i:] if fresh[i] or fresh[j])
        return dict(enumerate(pairs))

    @property
    def products(self) -> int:
        """The number of comparisons: pairs of templates with a fresh one."""
        rows, fresh = self.source.rows, self.source.fresh_rows
        return fresh * (fresh - 1) // 2 + fresh * (rows - fresh)

    def _products_of(self, unit: tuple[int, int]) -> int:
        """The number of comparisons of two blocks, or within one."""
        (rows, fresh), (others, fresh_others) = (self._sizes[number] for number in unit)
        if unit[0] == unit[1]:
            return fresh * (fresh - 1) // 2 + fresh * (rows - fresh)
        return fresh * others + (rows - fresh) * fresh_others

    @cached_property
    def _sizes(self) -> list[tuple[int, int]]:
        """The numbers of templates of each block, and of fresh ones."""
        return [self.source.size(number) for number in range(len(self.source.blocks))]

    @property
    def identity(self) -> dict[str, Any]:
        return self.content

    @property
    def small(self) -> bool:
        return self.products <= LOCAL_COMPARISONS and self.kernel != "cuda"

    def settle(self, nodes: Sequence[Node]) -> None:
        self.pool = allocate_one("dedup", self.workers, nodes, gpu=self.kernel == "cuda")
        self.choice = self._chosen().beside(sum(node.gpus for node in nodes))

    def facts(self) -> dict[str, Any]:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        same = {SAME_VECTORS: [*self.spec.same_vectors]}
        return {"created": created, "block_rows": self.source.block_rows, **self.searched, **same}

    def claimed(self, out: Folder, facts: Mapping[str, Any]) -> None:
        """Take the blocks of the first launch, by which units are numbered."""
        self.source = replace(self.source, block_rows=int(facts["block_rows"]))
        for name in ("units", "_sizes"):
            self.__dict__.pop(name, None)

    def work(self, out: Folder, executor: Executor) -> int:
        units = Units(out, PAIRS)
        whole, _ = read_units(units, Counts(), Counts.of_file, executor, self.say)
        done = {unit: file.rows for unit, file in whole.files.items()}
        pending = {unit: blocks for unit, blocks in self.units.items() if unit not in done}
        if done and pending:
            self.say(f"{len(self.units) - len(pending):,} of {len(self.units):,} units are done already")
        self._carry_over(units, done)
        pairs = sum(done.values())
        if pairs > self.most:
            raise too_many(self.most)
        if not pending:
            return 0
        work = {unit: self._products_of(blocks) for unit, blocks in pending.items()}
        progress = Progress(len(pending), "units", self.say, sum(work.values()))
        rule, ordered = Rule(self.limit.similarity, self.most), self.cache.ordered(pending, self.source)
        with progress, self.cache.opened(self.source.gallery, executor) as cache:
            spec = DedupSpec(
                self.source.with_cache(cache),
                out.uri,
                rule,
                self.choice.name,
                self.choice.basis,
                self._metadata,
                forms=self._are_stored(),
                ratios=self.ratios,
            )
            # Ray complains at length of a stream that is abandoned and not closed.
            with closing(dedup(spec, ordered, self.pool, executor)) as receipts:
                for receipt in receipts:
                    pairs += receipt["pairs"]
                    if pairs > self.most:
                        raise too_many(self.most)
                    progress.add(1, {"pairs": receipt["pairs"]}, work[receipt["unit"]])
        return len(pending)

    def read_back(self, out: Folder, executor: Executor) -> tuple[UnitsRead[Counts], int]:
        """Read back what all units found; a damaged unit is done again."""
        return read_units(Units(out, PAIRS), Counts(), Counts.of_file, executor, self.say)

    def publish(self, out: Folder, found: UnitsRead[Counts], launch: Launch) -> ReportResult:
        _check(found, self.products)
        carried = sum(file.rows for unit, file in found.files.items() if unit not in self.units)
        facts = {**self._facts, "carried_pairs": carried, "output": out.uri}
        before = self.before.clusters() if self.before else {}
        subjects, links = _linked(Units(out, PAIRS), [*found.files])
        clusters = clusters_of(subjects, links, self.source.facts(), self.limit.similarity, before)
        listed = [*found.files.values(), self._write(out, clusters)]
        facts |= {
            "kernel": self.choice.name,
            "kernel_reason": self.choice.why,
            "units": len(self.units),
            "pool": str(self.pool),
        }
        facts["wall_s"] = round(launch.wall_s, 3)
        report = report_of(found.counts, clusters, self.limit, **facts)
        run.seal(out, listed, report, report_text(report) + "\n")
        return self.stored(out, report)

    def stored(self, out: Folder, report: dict[str, Any]) -> ReportResult:
        return ReportResult(report, report_text)

    def describe(self) -> DryRun:
        facts = {
            "job": "dedup",
            **self._facts,
            "pairs_compared": self.products,
            "units": len(self.units),
            "blocks": len(self.source.blocks),
            "threshold": self.limit.as_dict(),
            "pool": str(self.pool),
            "kernel": self.choice.name,
            "kernel_reason": self.choice.why,
        }
        return DryRun(tuple(self._lines()), facts)

    def _chosen(self) -> Choice:
        """Choose the kernel on a sample."""
        if not worth_a_look(self.kernel, self.products):
            return named(self.kernel)
        return choose(self.kernel, *self._trial(), stored=self._stored())

    def estimate(self) -> Estimate:
        block = 4 * self.spec.dim * self.source.rows // max(1, len(self.source.blocks))
        units, memory = max(1, len(self.units)), self._memory()
        work = Comparing(
            self.products,
            self.spec.dim,
            lambda _: units,
            memory.held_mb,
            lambda workers: self.cache.read_by_pairs(self.source, units, workers, block),
            mapped_mb=memory.mapped_mb,
            forked=self.forked,
        )
        choice = self.choice
        if choice.ns is None and worth_a_look("auto", self.products):
            choice = timed(choice, *self._trial())
        return work.estimate(self.pool.workers, choice)

    def _memory(self) -> BlockMemory:
        source, choice = self.source, self.choice
        kernel = None if choice.name in ("fp32", "cuda") else kernel_of(choice.name, choice.basis)
        rows = max((size for size, _ in self._sizes), default=0)
        forms = rows * kernel.row_bytes(self.spec.dim) if isinstance(kernel, Sieve) else 0
        vectors = 4 * self.spec.dim * rows
        if not isinstance(source, GallerySource):
            return BlockMemory(rows, vectors, _TEXT_BYTES * rows, forms)
        size, kept = sum(source.sizes), self.cache.bytes_of(source.uri)
        mapped = size if source.has_views and (uris.is_local(source.uri) or size <= kept) else 0
        texts = max(_TEXT_BYTES * rows, max(source.sizes, default=0) - vectors)
        stored = choice.name in LOW and self._stored() is not None
        return BlockMemory(rows, vectors, texts, forms, mapped, stored)

    def _trial(self) -> tuple[Sample, Task]:
        """The sample and the task of a trial of kernels."""
        rows = self._sampled()
        largest = max((size for size, _ in self._sizes), default=0)
        task = Task(self.source.rows, None, self.limit.similarity, largest)
        return Sample(rows, spread(rows[1::2], SAMPLE_PROBES)), task

    def _sampled(self) -> Floats:
        """Sample the templates of typical shards, or the faces of the first block and the last."""
        if isinstance(self.source, GallerySource):
            return typical_rows(SearchView(self.source.snapshot, {}))
        numbers = range(len(self.source.blocks))
        ends = sorted({*numbers[:1], *numbers[-1:]})
        return evenly([self.source.block(number).vectors for number in ends], SAMPLE_ROWS)

    def _stored(self) -> Stored | None:
        """The forms of the gallery that are stored, or can be; None: this search makes its own."""
        if not self.forms or not isinstance(self.source, GallerySource):
            return None
        return stored_forms(Gallery.open(self.source.uri), self.source.snapshot)

    def _are_stored(self) -> bool:
        """Store the basis of the choice, if forms may be; whether workers use stored forms."""
        if not isinstance(self.source, GallerySource):
            return False
        refs = typical_shards(self.source.snapshot.version.shards)
        return store_basis(Gallery.open(self.source.uri), self.choice, self._stored(), refs)

    @property
    def _facts(self) -> dict[str, Any]:
        return {
            **self.searched,
            "templates": self.source.rows,
            "fresh_templates": self.source.fresh_rows,
            "carried_pairs": 0,
        }

    @cached_property
    def _metadata(self) -> dict[str, str]:
        searched = VersionId.read(self.searched["source"])
        return {
            "frpipe.job": "dedup",
            **(searched.as_metadata() if searched else {}),
            "frpipe.threshold_similarity": repr(self.limit.similarity),
            **{f"frpipe.{name}": value for name, value in self.spec.hashes.items()},
            **calibration_metadata(self.ratios),
        }

    def _carry_over(self, units: Units, done: dict[int, int]) -> None:
        """Publish the pairs of the older result that still hold, file by file, numbered behind the units."""
        if self.before is None or not isinstance(self.source, GallerySource):
            return
        carried = Carried(self.before, self.source)
        for number, old in enumerate(self.before.pairs(), len(self.units)):
            if number not in done:
                # Its ratios, if it has any, may be of another calibration.
                table = with_ratios(carried.table(old).select(PAIR_SCHEMA.names), self.ratios)
                kinds = Counter(table["kind"].to_pylist())
                counts = Counts(same_photo=kinds[SAME_PHOTO], same_person=kinds[SAME_PERSON])
                units.publish(number, table, {**self._metadata, **counts.metadata()})
                done[number] = table.num_rows

    def _write(self, out: Folder, clusters: pa.Table) -> PartFile:
        data = to_parquet(clusters, self._metadata)
        out.write(CLUSTERS, data)
        return PartFile(CLUSTERS, clusters.num_rows, len(data), hashlib.sha256(data).hexdigest())

    def _lines(self) -> Iterator[str]:
        yield f"searched   {source_text(self._facts)}"
        yield f"compared   {counted(self.products, 'pairs')}{since_text(self._facts)}"
        yield f"units      {counted(len(self.units), 'pairs')} of {len(self.source.blocks):,} blocks"
        yield f"threshold  {both_forms(self.limit.similarity)}, {self.limit.source}"
        yield f"kernel     {self.choice.name}: {self.choice.why}"
        yield f"pool       {self.pool}"


def _check(found: UnitsRead[Counts], products: int) -> None:
    """Raise InvariantError unless each pair was compared once, and each pair found is published."""
    counts = found.counts
    if (counts.compared, counts.pairs) != (products, found.rows):
        raise InvariantError(
            f"{counted(counts.compared, 'pairs were')} compared and {products:,} should be",
            "keep the output and report this",
        )


def _linked(units: Units, done: Sequence[int]) -> tuple[pa.StringArray, Links]:
    """Collect the subjects of all pairs, sorted, and the best links between them, by their numbers."""
    found = Subjects()
    for unit in done:
        found.add(units.use(unit, subjects_in))
    subjects = found.sorted()
    links = BestLinks(len(subjects))
    for unit in done:
        some = units.use(unit, partial(links_in, subjects=subjects))
        links.add(some.a, some.b, some.similarity)
    return subjects, links.links()

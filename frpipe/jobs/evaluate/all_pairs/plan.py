"""Plan a comparison of all with all, and carry it out unit by unit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa

from frpipe.core.counted import counted
from frpipe.core.errors import FileDamaged
from frpipe.evaluation.evaluation import Evaluation
from frpipe.gallery.catalog import VersionId
from frpipe.gallery.spec import GallerySpec
from frpipe.io.output import run
from frpipe.io.output.parts import PartFile
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import as_table
from frpipe.jobs.block_memory import BlockMemory
from frpipe.jobs.contract import Launch, Plan
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.estimate import Comparing, Estimate
from frpipe.jobs.evaluate.all_pairs.blocks import Counting, measured_ns
from frpipe.jobs.evaluate.all_pairs.comparison_counts import ComparisonCounts
from frpipe.jobs.evaluate.all_pairs.evaluation import evaluation_of
from frpipe.jobs.evaluate.all_pairs.report import AllPairsResult
from frpipe.jobs.evaluate.all_pairs.source import LabelledSource
from frpipe.jobs.evaluate.all_pairs.totals import Totals
from frpipe.jobs.evaluate.all_pairs.worker import ERRORS, HISTOGRAMS, ScoreSpec, count_scores
from frpipe.jobs.evaluate.output import MetricsOutput
from frpipe.jobs.node_cache import DEFAULT_CACHE, NodeCache
from frpipe.jobs.progress import Progress
from frpipe.jobs.reading_back import ReadingBack
from frpipe.matching.blas import Blas
from frpipe.runtime.allocation import Node, Pool, allocate_one
from frpipe.runtime.executor import Executor
from frpipe.runtime.runtime import LOCAL_COMPARISONS

_HASHES = ("embedder_hash", "preprocessing_hash", "detector_hash")
_TABLES = (HISTOGRAMS, ERRORS)


@dataclass(frozen=True, slots=True)
class Gathered:
    """The sum of what all units counted, and their files."""

    totals: Totals
    files: Sequence[PartFile]


@dataclass
class AllPairsPlan(Plan[Gathered]):
    """A comparison of all with all, ready to be carried out.

    thresholds: similarities, ascending.  content: what decides the content.  compared: what of the source the
    report says.  name, targets: of the evaluation.  workers: None takes one for each CPU.
    """

    source: LabelledSource
    spec: GallerySpec
    thresholds: tuple[float, ...]
    content: dict[str, Any]
    compared: dict[str, Any]
    say: Callable[[str], None]
    name: str
    targets: tuple[float, ...]
    workers: int | None
    cache: NodeCache = DEFAULT_CACHE
    pool: Pool = field(init=False)

    @cached_property
    def counts(self) -> ComparisonCounts:
        """The counts of who is compared. Reads all of the source once."""
        return ComparisonCounts.of(self.source, self.say)

    @cached_property
    def units(self) -> dict[int, tuple[int, int]]:
        """Pairs of blocks, and each block with itself, row by row."""
        numbers = range(len(self.source.blocks))
        return dict(enumerate((i, j) for i in numbers for j in numbers[i:]))

    @property
    def comparisons(self) -> int:
        """The number of pairs of templates."""
        return self.counts.templates * (self.counts.templates - 1) // 2

    @property
    def error(self) -> float:
        """The bound of error: no score that is counted is farther than this from the similarity."""
        zero = np.zeros((1, self.spec.dim), np.float32)
        return float(Blas().error(zero, zero)[0])

    @property
    def identity(self) -> dict[str, Any]:
        return self.content

    @property
    def small(self) -> bool:
        return self.comparisons <= LOCAL_COMPARISONS

    def check(self) -> None:
        """Refuse too many cohorts, and too few templates."""
        self.say(f"{counted(self.counts.templates, 'templates')}, {counted(self.comparisons, 'comparisons')}")

    def settle(self, nodes: Sequence[Node]) -> None:
        self.pool = allocate_one("all-pairs", self.workers, nodes)

    def facts(self) -> dict[str, Any]:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        return {"created": created, "block_rows": self.source.block_rows, **self.compared}

    def claimed(self, out: Folder, facts: Mapping[str, Any]) -> None:
        """Take the blocks of the first launch, by which units are numbered."""
        if self.source.block_rows != facts["block_rows"]:
            self.source = self.source.in_blocks(int(facts["block_rows"]))
            for name in ("units", "counts"):
                self.__dict__.pop(name, None)

    def work(self, out: Folder, executor: Executor) -> int:
        done = set.intersection(*(Units(out, sub).done() for sub in _TABLES))
        pending = {unit: blocks for unit, blocks in self.units.items() if unit not in done}
        if not pending:
            return 0
        if done:
            self.say(f"{len(done):,} of {len(self.units):,} units are done already")
        counting = Counting(self.thresholds, self.counts.labels)
        progress = Progress(sum(map(self._scores, pending.values())), "comparisons", self.say)
        ordered = self.cache.ordered(pending, self.source)
        with progress, self.cache.opened(self.source.gallery, executor) as cache:
            spec = ScoreSpec(self.source.with_cache(cache), out.uri, counting, self._metadata)
            # Ray complains at length of a stream that is abandoned and not closed.
            with closing(count_scores(spec, ordered, self.pool, executor)) as receipts:
                for receipt in receipts:
                    progress.add(receipt["scores"])
        return len(pending)

    def _scores(self, unit: tuple[int, int]) -> int:
        """The number of scores that two blocks have with each other, or one with itself."""
        first, second = (int(self.counts.edges[each + 1] - self.counts.edges[each]) for each in unit)
        return first * (first - 1) // 2 if unit[0] == unit[1] else first * second

    def read_back(self, out: Folder, executor: Executor) -> tuple[Gathered, int]:
        """Read back what all units counted; a unit of which one file is damaged is done again.

        In this process alone: what it adds up is all that the files hold.
        """
        done = set.intersection(*(Units(out, sub).done() for sub in _TABLES)) & self.units.keys()
        totals, damaged = Totals(self.counts, {}, {}), list[tuple[str, int]]()
        files: dict[str, list[PartFile]] = {sub: [] for sub in _TABLES}
        reading = ReadingBack(sorted(done), partial(_read, out), 0, self.say)
        with closing(reading.results(None)) as results:
            for unit, found in results:
                whole = found or {}
                damaged += [(sub, unit) for sub in _TABLES if sub not in whole]
                if len(whole) == len(_TABLES):
                    for sub, (file, _) in whole.items():
                        files[sub].append(file)
                    totals.add(whole[HISTOGRAMS][1], whole[ERRORS][1], self.units[unit])
        if damaged:
            run.refuse_sealed(out)
        for sub, unit in damaged:
            Units(out, sub).withdraw(unit)
        lacking = len(self.units) - len(files[HISTOGRAMS])
        return Gathered(totals, [file for sub in _TABLES for file in files[sub]]), lacking

    def publish(self, out: Folder, found: Gathered, launch: Launch) -> AllPairsResult:
        """Check that each pair was counted once, and report."""
        return self._sealed(out, self._evaluated(out, found.totals), found.files)

    def stored(self, out: Folder, report: dict[str, Any]) -> AllPairsResult:
        """The stored result, with a new report where it is asked for other targets, or by another name."""
        found = Totals(self.counts, {}, {})
        for unit, blocks in self.units.items():
            histograms, errors = (Units(out, sub).read(unit) for sub in _TABLES)
            found.add(histograms, errors, blocks)
        result = AllPairsResult(self._evaluated(out, found))
        if json.loads(json.dumps(result.as_dict(), default=str)) == report:
            return result
        self.say("its report was for other targets, or by another name: it is written anew")
        run.reopen(out)
        files = [file for sub in _TABLES for file in Units(out, sub).files()]
        return self._sealed(out, result.evaluation, files)

    def _evaluated(self, out: Folder, found: Totals) -> Evaluation:
        found.check(self.comparisons)
        provenance = {**self.compared, **{key: getattr(self.spec, key) for key in _HASHES}, "output": out.uri}
        provenance |= {"by": self.content["by"], "block_rows": self.source.block_rows}
        return evaluation_of(
            found,
            name=self.name,
            thresholds=self.thresholds,
            targets=self.targets,
            error=self.error,
            provenance=provenance,
        )

    def _sealed(self, out: Folder, evaluation: Evaluation, files: Sequence[PartFile]) -> AllPairsResult:
        created = datetime.fromisoformat(run.begun(out)["created"])
        own = MetricsOutput(out, [evaluation], (), created).write({})
        result = AllPairsResult(evaluation)
        run.seal(out, [*files, *own], result.as_dict(), result.text() + "\n")
        return result

    def describe(self) -> DryRun:
        facts = {
            "job": "all-pairs",
            **self.compared,
            "templates": self.counts.templates,
            "comparisons": self.comparisons,
            "units": len(self.units),
            "blocks": len(self.source.blocks),
            "cohorts": [*self.counts.labels],
            "thresholds": [*self.thresholds],
        }
        return DryRun(tuple(self._lines()), facts)

    def estimate(self) -> Estimate:
        block = 4 * self.spec.dim * self.counts.templates // max(1, len(self.source.blocks))
        units = max(1, len(self.units))
        work = Comparing(
            self.comparisons,
            self.spec.dim,
            lambda _: units,
            BlockMemory(block // (4 * self.spec.dim), block, 0).held_mb,
            lambda workers: self.cache.read_by_pairs(self.source, units, workers, block),
            forked=self.forked,
        )
        ns = measured_ns(self.spec.dim, Counting(self.thresholds, self.counts.labels))
        return work.at(self.pool.workers, ns, "measured on random vectors")

    @property
    def _metadata(self) -> dict[str, str]:
        compared = VersionId.read(self.compared)
        return {
            "frpipe.job": "all-pairs",
            **(compared.as_metadata() if compared else {}),
            **{f"frpipe.{key}": str(getattr(self.spec, key)) for key in _HASHES},
        }

    def _lines(self) -> Iterator[str]:
        gallery = f"{VersionId.read(self.compared)} of {self.compared.get('gallery')}"
        source = self.compared.get("features") or gallery
        yield (
            f"compared   {counted(self.counts.templates, 'templates')} of {source}: "
            f"{counted(self.comparisons, 'pairs')}"
        )
        yield f"units      {counted(len(self.units), 'pairs')} of {len(self.source.blocks):,} blocks"
        yield f"cohorts    {', '.join(self.counts.labels) or 'none'}"
        yield f"thresholds {', '.join(f'{each:g}' for each in self.thresholds) or 'none'} (similarity)"


def _read(out: Folder, unit: int) -> dict[str, tuple[PartFile, pa.Table]]:
    """Read the files of a unit that are whole, by their folder."""
    whole = {}
    for sub in _TABLES:
        with suppress(FileDamaged):
            whole[sub] = Units(out, sub).counted(unit, as_table)
    return whole

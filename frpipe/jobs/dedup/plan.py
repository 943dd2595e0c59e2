"""A search for duplicates, worked out, and carried out unit by unit."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from frpipe.core.errors import InvariantError
from frpipe.core.threshold import Threshold
from frpipe.gallery.catalog import VersionId
from frpipe.gallery.spec import GallerySpec
from frpipe.io.output import run
from frpipe.io.output.parts import PartFile, to_parquet
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dedup.blocks import Counts, Rule, too_many
from frpipe.jobs.dedup.clusters import clusters_of
from frpipe.jobs.dedup.report import report_of, report_text, since_text, source_text
from frpipe.jobs.dedup.schema import SAME_PERSON, SAME_PHOTO
from frpipe.jobs.dedup.since import CLUSTERS, Carried, OldResult
from frpipe.jobs.dedup.source import FeatureSource, GallerySource
from frpipe.jobs.dedup.worker import PAIRS, DedupSpec, dedup
from frpipe.jobs.dry_run import DryRun
from frpipe.matching.kernels import Name
from frpipe.runtime.allocation import Pool

Say = Callable[[str], None]
_EVERY_S = 5.0


@dataclass(frozen=True)
class Plan:
    """A search, worked out. facts: what of the source and of `since` the report says.

    before: the result of another night whose pairs are carried over, if it is to be complete.
    remarks: what an operator should know before the work.
    """

    source: GallerySource | FeatureSource
    spec: GallerySpec
    limit: Threshold
    identity: dict[str, Any]
    facts: dict[str, Any]
    before: OldResult | None
    kernel: Name
    most: int
    say: Say
    remarks: Sequence[str] = ()

    def cut_as(self, block_rows: int) -> Plan:
        """The same search in blocks of another size."""
        return replace(self, source=replace(self.source, block_rows=block_rows))

    @cached_property
    def units(self) -> dict[int, tuple[int, int]]:
        """Pairs of blocks that have a fresh template in one of them, in order."""
        numbers = range(len(self.source.blocks))
        fresh = [self.source.has_fresh(number) for number in numbers]
        pairs = ((i, j) for i in numbers for j in numbers[i:] if fresh[i] or fresh[j])
        return dict(enumerate(pairs))

    @property
    def products(self) -> int:
        """Pairs of templates that have to be compared: those with a fresh one."""
        rows, fresh = self.source.rows, self.source.fresh_rows
        return fresh * (fresh - 1) // 2 + fresh * (rows - fresh)

    def carry_out(self, out: Folder, pool: Pool) -> dict[str, Any]:
        """Compare what is not compared yet, publish, cluster, check, report."""
        start, units = time.monotonic(), Units(out, PAIRS)
        done = self._done(units)
        pending = {unit: blocks for unit, blocks in self.units.items() if unit not in done}
        if done and pending:
            self.say(f"{len(self.units) - len(pending):,} of {len(self.units):,} units are done already")
        self._carry_over(units, done)
        rule = Rule(self.limit.similarity, self.most)
        spec = DedupSpec(self.source, out.uri, rule, self.kernel, self._metadata)
        self._compare(spec, pending, done, pool)
        counts, carried, tables = self._read(units)
        facts = {**self._facts, "carried_pairs": carried, "output": out.uri}
        before = self.before.clusters() if self.before else {}
        clusters = clusters_of(tables, self.source.facts(), self.limit.similarity, before)
        listed = [*units.files(), self._write(out, clusters)]
        facts |= {"kernel": self.kernel, "units": len(self.units), "pool": str(pool)}
        facts["wall_s"] = round(time.monotonic() - start, 3)
        report = report_of(counts, clusters, self.limit, **facts)
        run.seal(out, listed, report, report_text(report) + "\n")
        return report

    @property
    def _facts(self) -> dict[str, Any]:
        return {
            **self.facts,
            "templates": self.source.rows,
            "fresh_templates": self.source.fresh_rows,
            "carried_pairs": 0,
        }

    @cached_property
    def _metadata(self) -> dict[str, str]:
        names = ("embedder_hash", "preprocessing_hash", "detector_hash")
        searched = VersionId.read(self.facts["source"])
        return {
            "frpipe.job": "dedup",
            **(searched.as_metadata() if searched else {}),
            "frpipe.threshold_similarity": repr(self.limit.similarity),
            **{f"frpipe.{name}": getattr(self.spec, name) for name in names},
        }

    def _done(self, units: Units) -> dict[int, int]:
        """Pairs of each unit that is published; one that is damaged is withdrawn, and done again."""
        found = {}
        for unit in units.done():
            table = units.read_own(unit)
            if table is None:
                self.say(f"unit {unit} is damaged and will be done again")
            else:
                found[unit] = table.num_rows
        return found

    def _carry_over(self, units: Units, done: dict[int, int]) -> None:
        """Publish what of the older result still holds, file by file, behind the units."""
        if self.before is None or not isinstance(self.source, GallerySource):
            return
        carried = Carried(self.before, self.source)
        for number, old in enumerate(self.before.pairs(), len(self.units)):
            if number not in done:
                table = carried.table(old)
                kinds = Counter(table["kind"].to_pylist())
                counts = Counts(same_photo=kinds[SAME_PHOTO], same_person=kinds[SAME_PERSON])
                units.publish(number, table, {**self._metadata, **counts.metadata()})
                done[number] = table.num_rows

    def _compare(
        self, spec: DedupSpec, pending: dict[int, tuple[int, int]], done: dict[int, int], pool: Pool
    ) -> None:
        if sum(done.values()) > self.most:
            raise too_many(self.most)
        if pending:
            # Ray complains at length of a flow that is given up and not closed.
            with closing(dedup(spec, pending, pool)) as receipts:
                self._count(receipts, len(pending), sum(done.values()))

    def _count(self, receipts: Iterable[dict[str, Any]], units: int, pairs: int) -> None:
        said = time.monotonic()
        for number, receipt in enumerate(receipts, 1):
            pairs += receipt["pairs"]
            if pairs > self.most:
                raise too_many(self.most)
            if time.monotonic() - said >= _EVERY_S or number == units:
                said = time.monotonic()
                self.say(f"{number:,} of {units:,} units compared, {pairs:,} pairs")

    def _read(self, units: Units) -> tuple[Counts, int, list[pa.Table]]:
        """All counts, how many pairs were carried over, and of all pairs what clusters are made of."""
        counts, carried, tables = Counts(), 0, []
        for unit in sorted(units.done()):
            table = units.read(unit)
            counts.add(Counts.of(table))
            carried += table.num_rows if unit not in self.units else 0
            tables.append(table.select(["subject_a", "subject_b", "similarity"]))
        if (counts.compared, counts.pairs) != (self.products, sum(table.num_rows for table in tables)):
            raise InvariantError(
                f"{counts.compared:,} pairs were compared and {self.products:,} should be",
                "keep the output and report this",
            )
        return counts, carried, tables

    def _write(self, out: Folder, clusters: pa.Table) -> PartFile:
        data = to_parquet(clusters, self._metadata)
        out.write(CLUSTERS, data)
        return PartFile(CLUSTERS, clusters.num_rows, len(data), hashlib.sha256(data).hexdigest())

    def described(self, pool: Pool) -> DryRun:
        """What would be done."""
        facts = {
            "job": "dedup",
            **self._facts,
            "pairs_compared": self.products,
            "units": len(self.units),
            "blocks": len(self.source.blocks),
            "threshold": self.limit.as_dict(),
            "pool": str(pool),
        }
        return DryRun(tuple(self._lines(pool)), facts)

    def _lines(self, pool: Pool) -> Iterator[str]:
        yield f"searched   {source_text(self._facts)}"
        yield f"compared   {self.products:,} pairs{since_text(self._facts)}"
        yield f"units      {len(self.units):,} pairs of {len(self.source.blocks):,} blocks"
        yield (
            f"threshold  similarity >= {self.limit.similarity:.6g} (distance <= {self.limit.distance:.6g}), "
            f"{self.limit.source}"
        )
        yield f"pool       {pool}"

"""A comparison of all with all, worked out, and carried out unit by unit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np

from frpipe.evaluation.evaluation import Evaluation
from frpipe.gallery.catalog import VersionId
from frpipe.gallery.spec import GallerySpec
from frpipe.io.output import run
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.evaluate.all_pairs.blocks import Counting
from frpipe.jobs.evaluate.all_pairs.comparison_counts import ComparisonCounts
from frpipe.jobs.evaluate.all_pairs.evaluation import evaluation_of
from frpipe.jobs.evaluate.all_pairs.report import report_of, report_text
from frpipe.jobs.evaluate.all_pairs.source import LabelledSource
from frpipe.jobs.evaluate.all_pairs.totals import ScoreTotals
from frpipe.jobs.evaluate.all_pairs.worker import ERRORS, HISTOGRAMS, ScoreSpec, count_scores
from frpipe.jobs.evaluate.output import MetricsOutput
from frpipe.matching.blas import Blas
from frpipe.runtime.allocation import Pool, allocate_one
from frpipe.runtime.session import cluster

_HASHES = ("embedder_hash", "preprocessing_hash", "detector_hash")
_EVERY_S = 5.0


@dataclass(frozen=True)
class Plan:
    """thresholds: similarities, ascending.  facts: what of the source the report says."""

    source: LabelledSource
    spec: GallerySpec
    thresholds: tuple[float, ...]
    identity: dict[str, Any]
    facts: dict[str, Any]
    say: Callable[[str], None]

    @cached_property
    def counts(self) -> ComparisonCounts:
        """Who is compared. Reads all of the source once."""
        return ComparisonCounts.of(self.source)

    @cached_property
    def units(self) -> dict[int, tuple[int, int]]:
        """Pairs of blocks, and each block with itself, row by row."""
        numbers = range(len(self.source.blocks))
        return dict(enumerate((i, j) for i in numbers for j in numbers[i:]))

    @property
    def comparisons(self) -> int:
        """Pairs of templates."""
        return self.counts.templates * (self.counts.templates - 1) // 2

    @property
    def error(self) -> float:
        """No score that is counted is farther than this from the similarity."""
        zero = np.zeros((1, self.spec.dim), np.float32)
        return float(Blas().error(zero, zero)[0])

    def carry_out(self, out: Folder, address: str | None, workers: int | None) -> None:
        """Compare what is not compared yet."""
        done = self._done(out)
        pending = {unit: blocks for unit, blocks in self.units.items() if unit not in done}
        if done and pending:
            self.say(f"{len(done):,} of {len(self.units):,} units are done already")
        if pending:
            counting = Counting(self.thresholds, self.counts.labels)
            spec = ScoreSpec(self.source, out.uri, counting, self._metadata)
            with cluster(address, self.say) as nodes:
                self._count(spec, pending, allocate_one("all-pairs", workers, nodes))

    def seal(self, out: Folder, name: str, targets: tuple[float, ...]) -> Evaluation:
        """Add up what the units counted, check it, and report."""
        units = Units(out, HISTOGRAMS), Units(out, ERRORS)
        tally = ScoreTotals.read(*units, self.units, self.counts)
        tally.check(self.comparisons)
        provenance = {**self.facts, **{key: getattr(self.spec, key) for key in _HASHES}, "output": out.uri}
        provenance |= {"by": self.identity["by"], "block_rows": self.source.block_rows}
        found = evaluation_of(
            tally,
            name=name,
            thresholds=self.thresholds,
            targets=targets,
            error=self.error,
            provenance=provenance,
        )
        created = datetime.fromisoformat(run.begun(out)["created"])
        files = [file for each in units for file in each.files()]
        files += MetricsOutput(out, [found], (), created).write({})
        run.seal(out, files, report_of(found), report_text(found) + "\n")
        return found

    def described(self) -> DryRun:
        """What would be done."""
        facts = {
            "job": "all-pairs",
            **self.facts,
            "templates": self.counts.templates,
            "comparisons": self.comparisons,
            "units": len(self.units),
            "blocks": len(self.source.blocks),
            "cohorts": [*self.counts.labels],
            "thresholds": [*self.thresholds],
        }
        return DryRun(tuple(self._lines()), facts)

    @property
    def _metadata(self) -> dict[str, str]:
        compared = VersionId.read(self.facts)
        return {
            "frpipe.job": "all-pairs",
            **(compared.as_metadata() if compared else {}),
            **{f"frpipe.{key}": str(getattr(self.spec, key)) for key in _HASHES},
        }

    def _done(self, out: Folder) -> set[int]:
        """Units of which both files are there and can be read; what is damaged is withdrawn."""
        done = set.intersection(*(Units(out, sub).done() for sub in (HISTOGRAMS, ERRORS)))
        return {unit for unit in done if all(self._whole(out, sub, unit) for sub in (HISTOGRAMS, ERRORS))}

    def _whole(self, out: Folder, sub: str, unit: int) -> bool:
        if Units(out, sub).read_own(unit) is not None:
            return True
        self.say(f"unit {unit} is damaged and will be done again")
        return False

    def _count(self, spec: ScoreSpec, pending: dict[int, tuple[int, int]], pool: Pool) -> None:
        start = said = time.monotonic()
        scores = 0
        # Ray complains at length of a flow that is given up and not closed.
        with closing(count_scores(spec, pending, pool)) as receipts:
            for number, receipt in enumerate(receipts, 1):
                scores += receipt["scores"]
                now = time.monotonic()
                if now - said >= _EVERY_S or number == len(pending):
                    said = now
                    rate = scores / max(now - start, 1e-9) / 1e6
                    self.say(
                        f"{number:,} of {len(pending):,} units, {scores:,} scores, {rate:,.0f} million/s"
                    )

    def _lines(self) -> Iterator[str]:
        source = self.facts.get("features") or f"{VersionId.read(self.facts)} of {self.facts['gallery']}"
        yield f"compared   {self.counts.templates:,} templates of {source}: {self.comparisons:,} pairs"
        yield f"units      {len(self.units):,} pairs of {len(self.source.blocks):,} blocks"
        yield f"cohorts    {', '.join(self.counts.labels) or 'none'}"
        yield f"thresholds {', '.join(f'{each:g}' for each in self.thresholds) or 'none'} (similarity)"

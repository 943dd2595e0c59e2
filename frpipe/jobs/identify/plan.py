"""A search of a gallery, worked out, and carried out unit by unit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from frpipe.core.errors import ConfigError, OutputError
from frpipe.io.output import run
from frpipe.io.output.features import Features, PartRows
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.identify.probe_source import Parts, probe_units
from frpipe.jobs.identify.progress import SearchProgress
from frpipe.jobs.identify.report import ProbeCounts, report_text
from frpipe.jobs.identify.rows import Verdicts
from frpipe.jobs.identify.search_plan import SearchPlan
from frpipe.jobs.identify.worker import PROBES, Publication, search
from frpipe.runtime.allocation import Pool

Say = Callable[[str], None]
_ROUNDS = 3
# Of a unit, about 300 bytes each in its worker.
MOST_CANDIDATES = 50_000_000


@dataclass(frozen=True)
class Plan:
    """Which probes meet which gallery, in units of at least `probe_rows` probes."""

    source: FeatureRun
    search_plan: SearchPlan
    probe_rows: int
    say: Say

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the content."""
        return self.search_plan.identity(run.digest(self.source.folder))

    @cached_property
    def parts(self) -> dict[int, PartRows]:
        """The parts of the probes."""
        return Features(self.source.folder).rows()

    @cached_property
    def units(self) -> list[Parts]:
        """The parts of the probes, in bundles."""
        return probe_units(self.parts, self.probe_rows)

    def check(self) -> None:
        """Raise ConfigError, with the arithmetic, where no worker should hold the candidates of a unit."""
        faces = max((sum(self.parts[part].faces for part in unit) for unit in self.units), default=0)
        # To count the people takes a look at all ids.
        if faces * self.search_plan.spec.k <= MOST_CANDIDATES:
            return
        listed = min(self.search_plan.spec.k, self.search_plan.search_view.subjects)
        if faces * listed > MOST_CANDIDATES:
            raise ConfigError(
                f"a unit of {faces:,} probes with {listed:,} candidates each is {faces * listed:,}: a worker "
                f"holds {MOST_CANDIDATES:,} at most",
                f"give --top {MOST_CANDIDATES // faces} or less, or a smaller --probe-rows on a new --output",
            )

    def carry_out(self, out: Folder, pool: Pool) -> dict[str, Any]:
        """Search what is not done yet, publish, check, report. A damaged unit is done again."""
        start, done, launched = time.monotonic(), Units(out, PROBES), 0
        for _ in range(_ROUNDS):
            launched += self._work(done, pool)
            tally = ProbeCounts.of(done)
            if not tally.damaged:
                break
            self.say(f"{tally.damaged} units are damaged and will be done again")
        else:
            raise OutputError("units come out damaged again and again", "check the output's storage")
        files, wall_s = done.files(), time.monotonic() - start
        tally.check(self.source.folder)
        report = tally.report(
            self.search_plan,
            probes_from=self.source.folder.uri,
            output=out.uri,
            units=len(self.units),
            pool=str(pool),
            launch_probes=launched,
            wall_s=round(wall_s, 3),
            probes_per_s=round(launched / max(wall_s, 1e-9), 1),
        )
        run.seal(out, files, report, report_text(report))
        return report

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"probes     {self.source.faces:,} faces in {len(self.units):,} units",
            *self.search_plan.lines(),
        ]

    def _work(self, done: Units, pool: Pool) -> int:
        """Search and publish the units that are not there; how many probes they hold."""
        published = done.done()
        pending = {number: parts for number, parts in enumerate(self.units) if number not in published}
        if pending and published:
            self.say(f"{len(published):,} of {len(self.units):,} units are done already")
        probes = sum(self.parts[part].faces for parts in pending.values() for part in parts)
        progress = SearchProgress(probes, self.say)
        publication = Publication(self.source.folder, done.folder, self._verdicts(), self._metadata())
        for searched in self._searched(publication, pending, pool):
            progress.add(searched)
        return probes

    def _searched(self, publication: Publication, pending: dict[int, Parts], pool: Pool) -> Iterator[int]:
        if not pending:
            return iter(())
        # Few probes and many workers: each takes a share of the gallery. A mean needs all of it.
        shards = len(self.search_plan.search_view.shards)
        shares = 1 if self.search_plan.spec.score == "mean" else math.ceil(pool.workers / len(pending))
        step = max(1, math.ceil(shards / shares))
        slices = [slice(first, first + step) for first in range(0, max(1, shards), step)]
        return search(self.search_plan.spec, publication, pending, slices, pool)

    def _verdicts(self) -> Verdicts:
        gallery, limit = self.search_plan.gallery, self.search_plan.limit
        facts = {
            "gallery_id": gallery.gallery_id,
            "gallery_version": self.search_plan.spec.version,
            "embedder_hash": gallery.spec.embedder_hash,
            "preprocessing_hash": gallery.spec.preprocessing_hash,
        }
        return Verdicts(limit.similarity if limit else None, facts)

    def _metadata(self) -> dict[str, str]:
        limit = self.search_plan.limit
        return {
            "frpipe.job": "identify",
            **self.search_plan.searched.as_metadata(),
            "frpipe.threshold_kind": limit.kind if limit else "",
            "frpipe.threshold_source": limit.source if limit else "closed set: none",
        }

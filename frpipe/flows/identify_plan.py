"""A search of a gallery, worked out, and carried out unit by unit."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from frpipe.core.identify_schema import IDENTIFY_VERSION
from frpipe.flows.features import FeatureRun
from frpipe.flows.identify_report import report_of, report_text
from frpipe.flows.probe_table import FACE_NAMES, IMAGE_NAMES, Verdicts
from frpipe.gallery.gallery import Gallery
from frpipe.io import run
from frpipe.io.folder import Folder
from frpipe.io.probes import Parts, probe_rows, probe_units
from frpipe.io.units import Units
from frpipe.matching.limit import Limit
from frpipe.matching.ranking import Ranking
from frpipe.stages.allocation import Pool
from frpipe.stages.search import SearchSpec, search

Say = Callable[[str], None]
PROBES = "probes"
"""Where the result lies under the output."""


@dataclass(frozen=True)
class Plan:
    """A search, worked out: `searched` templates in `shards` files, and where strangers begin."""

    source: FeatureRun
    gallery: Gallery
    spec: SearchSpec
    limit: Limit | None
    searched: int
    shards: int
    probe_rows: int
    say: Say

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the content."""
        return {
            "job": "identify",
            "schema_version": IDENTIFY_VERSION,
            "probes": hashlib.sha256(self.source.folder.read(run.FILES)).hexdigest(),
            "gallery_id": self.gallery.gallery_id,
            "version": self.spec.version,
            "candidates": self.spec.k,
            "score": self.spec.score,
            "where": self.spec.where,
            "threshold_similarity": self.limit.similarity if self.limit else None,
        }

    @cached_property
    def units(self) -> list[Parts]:
        """The parts of the probes, in bundles."""
        return probe_units(self.source.folder, self.probe_rows)

    def carry_out(self, out: Folder, pool: Pool) -> dict[str, Any]:
        """Search what is not done yet, publish, check, report."""
        start, done = time.monotonic(), Units(out, PROBES)
        pending = {n: parts for n, parts in enumerate(self.units) if n not in done.done()}
        if pending and len(pending) < len(self.units):
            self.say(f"{len(self.units) - len(pending):,} of {len(self.units):,} units are done already")
        facts = {"gallery_id": self.gallery.gallery_id, "gallery_version": self.spec.version} | {
            name: getattr(self.gallery.spec, name) for name in ("embedder_hash", "preprocessing_hash")
        }
        verdicts = Verdicts(self.limit.similarity if self.limit else None, facts)
        for number, (unit, ranking) in enumerate(self._searched(pending, pool), 1):
            images, faces = probe_rows(self.source.folder, self.units[unit], IMAGE_NAMES, FACE_NAMES)
            done.publish(unit, verdicts.table(images, faces, ranking), self._metadata())
            self.say(f"{number:,} of {len(pending):,} units searched")
        report = self._report(done, wall_s=round(time.monotonic() - start, 3), pool=str(pool))
        run.seal(out, done.files(), report, report_text(report))
        return report

    def _searched(self, pending: dict[int, Parts], pool: Pool) -> Iterator[tuple[int, Ranking]]:
        if not pending:
            return iter(())
        # Few probes and many workers: each takes a share of the gallery. A mean needs all of it.
        shares = 1 if self.spec.score == "mean" else math.ceil(pool.workers / len(pending))
        step = max(1, math.ceil(self.shards / shares))
        slices = [slice(first, first + step) for first in range(0, max(1, self.shards), step)]
        return search(self.spec, pending, slices, pool)

    def _metadata(self) -> dict[str, str]:
        limit = self.limit
        return {
            "frpipe.job": "identify",
            "frpipe.threshold_kind": limit.kind if limit else "",
            "frpipe.threshold_source": limit.source if limit else "closed set: none",
        }

    def _report(self, done: Units, **facts: Any) -> dict[str, Any]:
        facts |= {
            "templates": self.searched,
            "gallery": self.gallery.uri,
            "gallery_version": self.spec.version,
            "candidates": self.spec.k,
            "score": self.spec.score,
            "kernel": self.spec.kernel,
        }
        return report_of(done, self.source.folder, self.units, self.limit, facts)

    def text(self) -> str:
        """The plan, for people."""
        where = " and ".join(f"{name} = {value}" for name, value in self.spec.where.items())
        line = (
            "closed set: always the nearest"
            if self.limit is None
            else (f"similarity >= {self.limit.similarity:g} ({self.limit.source})")
        )
        return "\n".join(
            (
                f"probes     {self.source.faces:,} faces in {len(self.units):,} units",
                f"gallery    version {self.spec.version}, {self.searched:,} templates"
                + (f" where {where}" if where else ""),
                f"candidates {self.spec.k} a probe, a person scores the {self.spec.score} of their templates",
                f"accepted   {line}",
                "dry run: nothing was written",
            )
        )

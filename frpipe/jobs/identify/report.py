"""The report of an identification, counted from its published rows and not from what workers said."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.core.errors import InvariantError
from frpipe.core.threshold import both_forms
from frpipe.gallery.catalog import VersionId
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import batches
from frpipe.jobs.identify.search_plan import SearchPlan, least_fact, least_text


@dataclass(slots=True)
class ProbeCounts:
    """Counts over published units."""

    rows: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of_file(cls, data: bytes) -> ProbeCounts:
        """Count the rows of a unit's file, every page read."""
        tally = cls()
        for batch in batches(data):
            tally.add(pa.Table.from_batches([batch]))
        return tally

    def add(self, table: pa.Table) -> None:
        """Add the rows of a unit."""
        self.rows += table.num_rows
        self.statuses.update(_counts(table["status"]))
        self.decisions.update(_counts(table["decision"]))

    def merge(self, other: ProbeCounts) -> None:
        """Add the counts of further units."""
        self.rows += other.rows
        self.statuses.update(other.statuses)
        self.decisions.update(other.decisions)

    def check(self, probes: Folder) -> None:
        """Raise InvariantError unless each face of the output, and each photo without one, has a row."""
        enrolled = run.complete(probes) or {}
        faces, *without = (enrolled.get(name, 0) for name in ("faces", "no_face", "rejected"))
        expected = faces + sum(without)
        if (self.rows, self.statuses["ok"]) != (expected, faces):
            raise InvariantError(
                f"{self.rows} rows came out, not {expected}", "keep the output and report this"
            )

    def report(self, search_plan: SearchPlan, **facts: Any) -> dict[str, Any]:
        """Make the report: counts, threshold, gallery, and further facts."""
        own = search_plan.gallery.spec
        return {
            "rows": self.rows,
            "probes": self.statuses["ok"],
            "photos_without_probe": self.rows - self.statuses["ok"],
            "identified": self.decisions["identified"],
            "strangers": self.decisions["stranger"],
            "no_decision": self.decisions["none"],
            "threshold": search_plan.limit.as_dict() if search_plan.limit else None,
            "templates": search_plan.search_view.rows,
            "subjects": search_plan.search_view.subjects,
            "gallery": search_plan.gallery.uri,
            **search_plan.searched.as_dict("gallery_"),
            "candidates": search_plan.spec.k,
            "score": search_plan.spec.score,
            "where": search_plan.spec.where,
            **least_fact(search_plan.spec.at_least),
            "kernel": search_plan.spec.kernel,
            "embedder_hash": own.embedder_hash,
            "preprocessing_hash": own.preprocessing_hash,
            **facts,
        }


def report_text(report: dict[str, Any]) -> str:
    """The report as text for people."""
    limit = report["threshold"]
    accepted = f"{both_forms(limit['similarity'])}: {limit['source']}" if limit else "always the nearest"
    warned = f"warning    {limit['warning']}\n" if limit and limit["warning"] else ""
    least = report.get("min_similarity")
    listed = "" if least is None else f"listed     {least_text(least)}\n"
    version = VersionId.read(report, "gallery_")
    return (
        f"rows       {report['rows']:,}: {counted(report['probes'], 'probes')}, "
        f"{counted(report['photos_without_probe'], 'photos')} without one\n"
        f"decisions  {report['identified']:,} identified, {counted(report['strangers'], 'strangers')}\n"
        f"gallery    {version}, {counted(report['templates'], 'templates')} of "
        f"{counted(report['subjects'], 'people')}\n"
        f"accepted   {accepted}\n{listed}{warned}"
        f"time       {report['wall_s']:,.1f} s for {counted(report['launch_probes'], 'probes')}\n"
    )


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    counted = pc.value_counts(pc.fill_null(column, "none"))
    return {each["values"]: each["counts"] for each in counted.to_pylist()}

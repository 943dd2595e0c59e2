"""The result of a verification job, as data and as text."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.core.errors import NothingCompared, OutputError
from frpipe.core.threshold import Threshold, threshold_lines
from frpipe.io.storage.whole_file import batches
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.verify.schema import STATUSES


@dataclass(slots=True)
class PairCounts:
    """Counts over result tables. reasons: of both sides together."""

    status: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, table: pa.Table) -> None:
        """Count the rows of a published unit."""
        self.status += _counts(table["status"])
        self.reasons += _counts(table["reason_a"]) + _counts(table["reason_b"])
        accepted = pc.sum(table["decision"], min_count=0).as_py()
        self.accepted += accepted
        self.rejected += table.num_rows - table["decision"].null_count - accepted

    @classmethod
    def of_file(cls, data: bytes) -> PairCounts:
        """Count the rows of a unit's file, every page read."""
        tally = cls()
        for batch in batches(data):
            tally.add(pa.Table.from_batches([batch]))
        return tally

    def merge(self, other: PairCounts) -> None:
        """Add the counts of further units."""
        self.status += other.status
        self.reasons += other.reasons
        self.accepted += other.accepted
        self.rejected += other.rejected


@dataclass(frozen=True, slots=True)
class Verified:
    """The result. pairs = the sum of status; accepted + rejected = status["compared"].

    threshold: see `Threshold`.  photos: names of photos or faces in the list.  feature_run: its short id.
    """

    pairs: int
    status: dict[str, int]
    accepted: int
    rejected: int
    reasons: dict[str, int]
    threshold: dict[str, Any]
    faces: str
    photos: int
    features: str
    feature_run: str
    embedder_hash: str
    preprocessing_hash: str
    output: str

    @classmethod
    def of(cls, tally: PairCounts, threshold: Threshold, **facts: Any) -> Verified:
        """Make a result from the counts and what else is known."""
        return cls(
            pairs=tally.status.total(),
            status={name: tally.status[name] for name in STATUSES},
            accepted=tally.accepted,
            rejected=tally.rejected,
            reasons=dict(sorted(tally.reasons.items())),
            threshold=threshold.as_dict(),
            **facts,
        )

    @classmethod
    def stored(cls, data: dict[str, Any]) -> Verified:
        """Read a result from what `as_dict` made. Raises OutputError: this version writes other fields."""
        try:
            return cls(**data)
        except TypeError:
            raise OutputError(
                "the output's report was written by another version of frpipe", "read its report.md"
            ) from None

    def raise_if_nothing(self) -> None:
        """Raise NothingCompared where each pair lacks a side: the list hardly names photos of this run."""
        if not self.status["compared"]:
            raise NothingCompared(
                f"the run is complete, but of {counted(self.pairs, 'pairs')} none could be compared: each "
                f"lacks a side{_listed(self.reasons)}",
                "name photos as the enroll output does, by image_id, image_uri or face_id: see its images/",
            )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        """Write the result as text for people."""
        missing = {name: count for name, count in self.status.items() if name != "compared" and count}
        lines = [
            f"pairs      {self.pairs:,}: {self.status['compared']:,} compared, "
            f"{sum(missing.values()):,} with a side missing{_listed(missing)}",
            f"decisions  {self.accepted:,} accepted, {self.rejected:,} rejected",
            f"faces      {self.faces}, of {self.photos:,} named photos{_listed(self.reasons)}",
            *threshold_lines(self.threshold),
            f"features   {self.features} (run {self.feature_run})",
            f"output     {self.output}",
        ]
        return "\n".join(lines)


def dry_run_of(**facts: Any) -> DryRun:
    """Describe what would be done.

    facts: `photos_mb` is the memory for the embeddings of all named photos.
    """
    faces = f"{facts['faces']}, of {facts['photos']:,} named photos: {facts['photos_mb']:,.0f} MB of memory"
    lines = [
        f"pairs      {facts['pairs']:,}, in {counted(facts['files'], 'files')}",
        f"columns    {', '.join(facts['columns'])}",
        f"faces      {faces}",
        *threshold_lines(facts["threshold"]),
        f"features   {facts['features']} (run {facts['feature_run']})",
        f"output     {facts['output']}",
    ]
    return DryRun(lines, {"job": "verify", **facts})


def _counts(column: pa.ChunkedArray) -> Counter[str]:
    pairs = pc.value_counts(column.drop_null()).to_pylist()
    return Counter({pair["values"]: pair["counts"] for pair in pairs})


def _listed(counts: dict[str, int]) -> str:
    text = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    return f" ({text})" if text else ""

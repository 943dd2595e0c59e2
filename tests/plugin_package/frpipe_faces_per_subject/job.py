"""The job: one unit for each part of an enroll output, which is a table of subjects and their faces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import pyarrow as pa

from frpipe.core.errors import InvariantError
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.contract import Launch, Plan, ReportResult, Startable
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.output_place import output_place, refuse_relative
from frpipe.jobs.progress import Progress
from frpipe.runtime.allocation import Node, Pool, allocate_one
from frpipe.runtime.executor import Executor, Step
from frpipe.runtime.host import Host
from frpipe.runtime.runtime import Runtime

Say = Callable[[str], None]
COUNTS = "counts"


@dataclass(frozen=True, slots=True)
class FacesPerSubject(Startable[ReportResult]):
    """What is counted, and where to."""

    features: str
    output: str
    runtime: Runtime = field(default_factory=Runtime)
    say: Say = lambda _: None

    def place(self) -> Folder:
        refuse_relative("--features", self.features)
        return output_place(self.output)

    def plan(self, out: Folder, *, dry: bool = False) -> CountPlan:
        return CountPlan(FeatureRun.open(self.features), self.say)


@dataclass
class CountPlan(Plan[Counter[str]]):
    """The parts of an enroll output, and who counts them."""

    source: FeatureRun
    say: Say
    pool: Pool | None = None

    @cached_property
    def parts(self) -> list[int]:
        return self.source.features.parts()

    @property
    def identity(self) -> dict[str, Any]:
        return {"job": "faces_per_subject", "version": 1, "features": run.digest(self.source.folder)}

    @property
    def small(self) -> bool:
        return self.source.faces <= 1_000_000

    def settle(self, nodes: list[Node]) -> None:
        self.pool = allocate_one("count", None, nodes)

    def facts(self) -> dict[str, Any]:
        return {"features": self.source.folder.uri}

    def work(self, out: Folder, executor: Executor) -> int:
        done, rows = Units(out, COUNTS).done(), 0
        pending = [{"unit": part} for part in self.parts if part not in done]
        progress = Progress(len(pending), "parts", self.say)
        make = partial(PartCounter, self.source.folder.uri, out.uri)
        for receipt in executor.stream(pending, [Step("count", self.pool, make)]):
            rows += receipt["faces"]
            progress.add(1)
        return rows

    def read_back(self, out: Folder, executor: Executor) -> tuple[Counter[str], int]:
        units, counts, damaged = Units(out, COUNTS), Counter(), 0
        for unit in sorted(units.done()):
            table = units.read_own(unit)
            if table is None:
                damaged += 1
            else:
                counts.update({row["subject_id"]: row["faces"] for row in table.to_pylist()})
        return counts, damaged

    def publish(self, out: Folder, found: Counter[str], launch: Launch) -> ReportResult:
        if found.total() != self.source.faces:
            raise InvariantError("faces in are not faces out", "keep the output and report this")
        report = {"faces": found.total(), "subjects": {who: found[who] for who in sorted(found)}}
        run.seal(out, Units(out, COUNTS).files(), report, as_text(report) + "\n")
        return ReportResult(report, as_text)

    def stored(self, out: Folder, report: dict[str, Any]) -> ReportResult:
        return ReportResult(report, as_text)

    def describe(self) -> DryRun:
        parts, faces = len(self.parts), self.source.faces
        facts = {"job": "faces_per_subject", "parts": parts, "faces": faces}
        return DryRun([f"count      {faces:,} faces of {parts:,} parts"], facts)


class PartCounter:
    """Counts one part after another."""

    def __init__(self, features: str, output: str, _host: Host) -> None:
        self._features, self._units = Features.at(features), Units(Folder.at(output), COUNTS)

    def __call__(self, ticket: pa.Table) -> pa.Table:
        unit = ticket["unit"][0].as_py()
        faces = self._features.faces(unit, ["subject_id"])
        counts = Counter(subject or "" for subject in faces["subject_id"].to_pylist())
        rows = {"subject_id": list(counts), "faces": list(counts.values())}
        self._units.publish(unit, pa.table(rows), {})
        return pa.table({"unit": [unit], "faces": [faces.num_rows]})


def as_text(report: dict[str, Any]) -> str:
    """A line for each subject; faces of nobody in particular are of `-`."""
    return "\n".join(f"{who or '-'}  {faces}" for who, faces in report["subjects"].items())

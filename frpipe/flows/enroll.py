"""Enroll: read the manifest, locate the faces, embed them, publish, check, report."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from frpipe.core.config import Config
from frpipe.core.errors import InvariantError, OutputError
from frpipe.core.report import Report, Tally
from frpipe.core.schema import SCHEMA_VERSION, reserved_names
from frpipe.flows.progress import Progress
from frpipe.io import run
from frpipe.io.folder import Folder
from frpipe.io.partition import Plan, plan
from frpipe.io.parts import PartFile, check_part, done_parts, withdraw_part
from frpipe.models.registry import Registry
from frpipe.stages.allocation import Allocation, allocate
from frpipe.stages.attempts import AttemptLog
from frpipe.stages.bridge import cluster, stream
from frpipe.stages.spec import RunSpec

Say = Callable[[str], None]
_ROUNDS = 3
_CHECK_THREADS = 8


@dataclass(frozen=True, slots=True)
class Enrollment:
    """What to enroll, where to, and how. Everything but `say` and `address` decides the outcome."""

    manifest: str
    output: str
    config: Config
    address: str | None = None
    say: Say = lambda _: None

    def run(self) -> Report:
        """Do it, or what is left of it. Raises a FrpipeError with a remedy if it cannot be done."""
        spec = self._spec()
        out = Folder.at(self.output)
        run.refuse_foreign(out)
        rows = self._plan(out)
        run.claim(
            out,
            _identity(spec, rows),
            {"manifest": self.manifest, "config": self.config.model_dump(mode="json")},
        )
        stored = run.complete(out)
        if stored is not None:
            self.say("this run is complete already: nothing to do")
            return Report(**stored)
        out.sweep()
        with cluster(self.address) as nodes:
            return self._finish(out, spec, rows, allocate(self.config.resources, nodes))

    def dry_run(self) -> str:
        """The plan, in words; the manifest is checked in full, and nothing is written to the output."""
        spec = self._spec()
        with tempfile.TemporaryDirectory() as scratch:
            rows = self._plan(Folder.at(scratch))
        with cluster(self.address) as nodes:
            return _describe(self, spec, rows, allocate(self.config.resources, nodes))

    def _spec(self) -> RunSpec:
        registry = Registry.default()
        detector = registry.card_for("detector", self.config.detect.model)
        embedder = registry.card_for("embedder", self.config.embed.model)
        for card in (detector, embedder):
            registry.find(card)
        return RunSpec(
            output=self.output,
            launch=uuid.uuid4().hex[:12],
            config=self.config,
            detector=detector,
            embedder=embedder,
        )

    def _plan(self, out: Folder) -> Plan:
        return plan(
            self.manifest, out, self.config.resources.part_rows, self.config.storage.roots, reserved_names()
        )

    def _finish(self, out: Folder, spec: RunSpec, rows: Plan, allocation: Allocation) -> Report:
        start = time.monotonic()
        launched = 0
        for _ in range(_ROUNDS):
            pending = sorted(set(range(rows.parts)) - done_parts(out))
            launched += self._work(spec, rows, pending, allocation)
            tally, files, damaged = _check(out, rows)
            if not damaged:
                break
            self.say(f"{len(damaged)} parts are damaged and will be done again")
            for part in damaged:
                withdraw_part(out, part)
        else:
            raise OutputError(
                f"{len(damaged)} parts come out damaged again and again", "check the output's storage"
            )
        wall_s = time.monotonic() - start
        report = Report.of(
            tally,
            pools=[str(allocation.locate), str(allocation.embed)],
            models={card.role: f"{card.name} {card.sha256[:12]}" for card in (spec.detector, spec.embedder)},
            parts=rows.parts,
            launch_rows=launched,
            wall_s=round(wall_s, 3),
            rows_per_s=round(launched / max(wall_s, 1e-9), 2),
            output=self.output,
        )
        run.seal(out, files, report.as_dict(), report.text())
        AttemptLog(out, spec.launch).clear()
        return report

    def _work(self, spec: RunSpec, rows: Plan, pending: Sequence[int], allocation: Allocation) -> int:
        if not pending:
            return 0
        todo = sum(rows.rows_of(part) for part in pending)
        if todo < rows.rows:
            self.say(f"{rows.rows - todo:,} of {rows.rows:,} photos are done already")
        progress = Progress(todo, self.say)
        for receipt in stream(spec, pending, allocation):
            progress.add(receipt)
        return progress.done


def _identity(spec: RunSpec, rows: Plan) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "manifest": rows.fingerprint, "recipe": spec.recipe.as_dict()}


def _check(out: Folder, rows: Plan) -> tuple[Tally, list[PartFile], list[int]]:
    """Read every part back: a tally of all images, the list of all files, the parts that are damaged."""
    tally, files, damaged = Tally(), list[PartFile](), list[int]()
    for part, checked in _checked(out, range(rows.parts)):
        if checked is None:
            damaged.append(part)
            continue
        images_file, faces_file, images = checked
        before = tally.faces
        tally.add(images)
        if images_file.rows != rows.rows_of(part) or faces_file.rows != tally.faces - before:
            raise InvariantError(f"part {part}: rows in are not rows out", "keep the output and report this")
        files += (images_file, faces_file)
    if not damaged and tally.rows != rows.rows:
        raise InvariantError("rows in are not rows out", "keep the output and report this")
    return tally, files, damaged


def _checked(out: Folder, parts: Sequence[int]) -> Iterator[tuple[int, Any]]:
    def check(part: int) -> tuple[int, Any]:
        try:
            return part, check_part(out, part)
        except (OutputError, FileNotFoundError):
            return part, None

    with ThreadPoolExecutor(_CHECK_THREADS) as threads:
        yield from threads.map(check, parts)


def _describe(job: Enrollment, spec: RunSpec, rows: Plan, allocation: Allocation) -> str:
    policy = job.config.detect.policy
    return "\n".join(
        (
            f"manifest  {rows.rows:,} photos in {rows.parts:,} parts of {rows.part_rows:,}",
            f"columns   {', '.join(rows.extra.names) or 'none'} travel through",
            f"detector  {spec.detector.name} ({spec.detector.licence}), faces kept: {policy}",
            f"embedder  {spec.embedder.name} ({spec.embedder.licence})",
            f"pools     {allocation.locate}",
            f"          {allocation.embed}",
            f"output    {job.output}: images/ and faces/, {rows.parts:,} files each",
            "dry run: nothing was written",
        )
    )

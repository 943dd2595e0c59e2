"""Replay: do some rows of a finished run again, and write run and outcome together to a new output.

They are the rejected ones; or, of a run of before photos were looked at again, those that this may change.

The new output is an enroll output like any other. Under its `_replay/` the chosen rows are enrolled as a run
of their own, with all that this brings; then each part of the old run is copied, or merged with its rows
done again; then the whole is audited as every run is (docs/adr/0012).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from frpipe.core.config import Config
from frpipe.core.errors import ConfigError
from frpipe.core.recipe import Recipe
from frpipe.core.report import Report
from frpipe.io.output import run
from frpipe.io.output.plan import Plan
from frpipe.io.output.run import ListedFiles
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.enroll.audit import Audit, until_whole
from frpipe.jobs.enroll.job import Say, enroll_parts, report_facts, run_spec
from frpipe.jobs.going_on import going_on
from frpipe.jobs.output_place import output_place, refuse_relative
from frpipe.jobs.rejects import Choice
from frpipe.jobs.replay.merge import Merge
from frpipe.jobs.replay.plan import copy_plan, cut, spans_of
from frpipe.jobs.replay.report import ReplayRecord, ReplayReport
from frpipe.jobs.replay.selection import Selection
from frpipe.jobs.replay.source import ReplaySource
from frpipe.jobs.rescan.affected import Affected, Carry
from frpipe.jobs.rescan.criteria import Scope
from frpipe.runtime.allocation import allocate, most_workers
from frpipe.runtime.session import cluster
from frpipe.stages.obeyed import NOBODY, Obeyed
from frpipe.stages.run_spec import RunSpec

_REPLAYED = "_replay"


@dataclass(frozen=True, slots=True)
class Rescan:
    """Wish to look again at the photos of a run of a single look that this may change."""

    scope: Scope = "all"


@dataclass(frozen=True, slots=True)
class Replay:
    """Which rows of which run are done again, how, and where to. source: the output of a finished run.

    obeyed: as of an `Enrollment`, for the rows that are done again.
    """

    source: str
    choice: Choice | Rescan
    output: str
    config: Config
    address: str | None = None
    say: Say = lambda _: None
    obeyed: Obeyed = NOBODY

    def run(self) -> Report:
        """Do it, or what is left of it. Raises a FrpipeError with a remedy if it cannot be done."""
        task = self._task()
        stored = run.complete(task.out) if run.check_claim(task.out, task.identity) else None
        if stored is not None:
            self.say("this replay is complete already: nothing to do")
            task.out.clear(_REPLAYED)
            return ReplayReport.stored(stored)
        hits = self._hits(task)
        facts = run.claim(task.out, task.identity, self._facts(task))
        run.reopen(task.out)
        task.out.sweep()
        copy_plan(task.source.files.folder, task.out, task.source.plan)
        return self._finish(task, hits, facts)

    def dry_run(self) -> DryRun:
        """What would be done; nothing is written."""
        task = self._task()
        run.check_claim(task.out, task.identity)
        hits = self._hits(task)
        with cluster(self.address, self.say) as nodes:
            pools = allocate(self.config.resources, nodes)
        changed = ", ".join(f"{name}={value}" for name, value in task.changes.items())
        plan = task.source.plan
        return DryRun(
            (
                f"again     {sum(hits.values()):,} of {plan.rows:,} photos: {task.selection}",
                f"parts     {_parts(task, hits)}",
                f"changed   {changed or 'nothing of the recipe'}",
                *(f"{'pools' if pool is pools[0] else '':<10}{pool}" for pool in pools),
                f"output    {self.output}",
            ),
            {
                "job": "replay",
                "rows": plan.rows,
                "rows_again": sum(hits.values()),
                "choice": str(task.selection),
                "parts": plan.parts,
                "parts_merged": len(hits),
                "changed": task.changes,
                "pools": [str(pool) for pool in pools],
                "output": self.output,
            },
        )

    def _task(self) -> _Task:
        refuse_relative("--replay", self.source)
        out = output_place(self.output)
        source = ReplaySource.open(self.source)
        if uris.inside(out.uri, source.files.folder.uri):
            raise ConfigError(
                "a replay writes a new output and leaves its run as it is", "name another --output"
            )
        replayed = out.child(_REPLAYED)
        if isinstance(self.choice, Rescan):
            return self._rescan(self.choice, source, out, replayed)
        spec = run_spec(going_on(self.config, source.identity["recipe"], self.say), replayed.uri, self.obeyed)
        changes = source.changes(spec.recipe)
        replay = {"files": source.digest, "causes": sorted(self.choice.causes), "settings": changes}
        identity = {**source.identity, "replay": replay}
        return _Task(source, out, replayed, spec, changes, identity, self.choice, source.recipe)

    def _rescan(self, wish: Rescan, source: ReplaySource, out: Folder, replayed: Folder) -> _Task:
        """The output is of the recipe that looks again: what is carried over is what it would have found."""
        affected = Affected.of(source.identity["recipe"], self.config, wish.scope)
        spec = run_spec(self.config, replayed.uri, self.obeyed)
        recipe, known = spec.recipe, source.identity["schema_version"]
        changes = affected.changes(source.recipe, known, recipe, source.plan.extra)
        identity = {
            **source.identity,
            "schema_version": recipe.schema_version,
            "recipe": recipe.as_dict(),
            "replay": {
                "files": source.digest,
                "causes": sorted(affected.causes),
                "settings": changes,
                "carried_from": source.recipe.metadata()["frpipe.recipe_hash"],
            },
        }
        carry = Carry(affected.criteria, recipe)
        return _Task(source, out, replayed, spec, changes, identity, affected, recipe, carry)

    def _hits(self, task: _Task) -> dict[int, int]:
        hits = task.source.hits(task.selection)
        if not hits and task.carry is not None:
            raise ConfigError(
                "no photo of the run is affected: there is nothing to look at again",
                "keep the run; jobs go on with its recipe (docs/replay.md)",
            )
        if not hits:
            raise ConfigError(
                f"no photo of the run was rejected for {task.selection}: there is nothing to do again",
                f"see its reasons with: frpipe rejects {self.source}",
            )
        return hits

    def _facts(self, task: _Task) -> dict[str, Any]:
        """For run.json. created: when the run began, since most of its vectors are of that time."""
        return {
            "created": task.source.created.isoformat(timespec="seconds"),
            "replayed": datetime.now(UTC).isoformat(timespec="seconds"),
            "replay_of": task.source.files.folder.uri,
            "part_rows": task.source.plan.part_rows,
            "manifest": task.source.manifest,
            "config": task.spec.config.model_dump(mode="json"),
        }

    def _finish(self, task: _Task, hits: dict[int, int], facts: dict[str, Any]) -> Report:
        start = time.monotonic()
        resources = self.config.resources
        with cluster(self.address, self.say) as nodes:
            pools = allocate(resources, nodes)
            size, workers = resources.part_rows, most_workers(pools)
            plan = cut(task.source, task.selection, hits, size, task.replayed, workers=workers)
            again, launched = until_whole(
                task.replayed,
                plan,
                lambda parts: enroll_parts(task.spec, plan, parts, pools, self.say),
                self.say,
            )
        found = self._merge(task, plan, hits, again)
        wall_s = time.monotonic() - start
        shown = report_facts(task.spec, task.source.plan, pools, launched=launched, wall_s=wall_s)
        shown |= {"output": task.out.uri, "replays": self._records(task, facts, again, found)}
        report = ReplayReport.of(found.tally, **shown)
        run.seal(task.out, found.files, report.as_dict(), report.text())
        task.out.clear(_REPLAYED)
        return report

    def _merge(self, task: _Task, plan: Plan, hits: dict[int, int], again: Audit) -> Audit:
        source = task.source
        replayed, spans = ListedFiles.checked(task.replayed, again.files), spans_of(hits, plan.part_rows)
        merge = Merge(source.files, replayed, task.selection, spans, task.recipe, task.out, task.carry)
        self.say(f"parts: {_parts(task, hits)}")

        def work(parts: Sequence[int]) -> int:
            merge.write(parts)
            return len(parts)

        return until_whole(task.out, source.plan, work, self.say)[0]

    def _records(
        self, task: _Task, facts: dict[str, Any], again: Audit, found: Audit
    ) -> list[dict[str, Any]]:
        record = ReplayRecord.of(
            again.tally,
            source=facts["replay_of"],
            when=facts["replayed"],
            choice=str(task.selection),
            settings=task.changes,
            carried=_carried(task, again, found),
        )
        return [*task.source.replays, asdict(record)]


@dataclass(frozen=True, slots=True)
class _Task:
    """spec: orders for the workers, whose output is `replayed`.  identity, recipe: of the new output.
    carry: where the recipe is not that of the run."""

    source: ReplaySource
    out: Folder
    replayed: Folder
    spec: RunSpec
    changes: dict[str, Any]
    identity: dict[str, Any]
    selection: Selection
    recipe: Recipe
    carry: Carry | None = None


def _parts(task: _Task, hits: dict[int, int]) -> str:
    """What becomes of the parts of the run, in words."""
    left = task.source.plan.parts - len(hits)
    return f"{len(hits):,} are merged, {left:,} {'carried over' if task.carry else 'copied as they are'}"


def _carried(task: _Task, again: Audit, found: Audit) -> dict[str, Any] | None:
    """What stands in the output as another recipe made it."""
    if task.carry is None:
        return None
    return {
        "photos": found.tally.rows - again.tally.rows,
        "faces": found.tally.faces - again.tally.faces,
        "recipe_hash": task.source.recipe.metadata()["frpipe.recipe_hash"],
        "preprocessing_hash": task.source.recipe.preprocessing_hash,
    }

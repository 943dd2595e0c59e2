"""Replay: do some rows of a finished run again, and write run and outcome together to a new output.

They are the rejected ones; or, of a run of before photos were looked at again, those that this may change.

The new output is an enroll output like any other. Under its `_replay/` the chosen rows are enrolled as a run
of their own, with all that this brings; then each part of the old run is copied, or merged with its rows
done again; then the whole is audited as every run is (docs/adr/0012).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from frpipe.core.config import Config
from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, InvariantError
from frpipe.core.recipe import Recipe
from frpipe.core.report import Report
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.output.plan import ManifestPlan, read_part, worth_while
from frpipe.io.output.run import ListedFiles
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.jobs.contract import Launch, Plan, Startable, until_whole
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.enroll.audit import Audit, PartWork
from frpipe.jobs.enroll.job import (
    Say,
    enroll_parts,
    estimate_of,
    is_small,
    report_facts,
    run_spec,
)
from frpipe.jobs.estimate import Estimate
from frpipe.jobs.going_on import columns_of, going_on, with_detector_of
from frpipe.jobs.output_place import output_place, refuse_relative
from frpipe.jobs.rejects import Choice, held_without_colour
from frpipe.jobs.replay.merge import Merge
from frpipe.jobs.replay.plan import copy_plan, cut, spans_of
from frpipe.jobs.replay.rejudged import Rejudged
from frpipe.jobs.replay.report import ReplayRecord, ReplayReport
from frpipe.jobs.replay.source import ReplaySource, Selection
from frpipe.jobs.rescan.affected import Affected, Carry
from frpipe.jobs.rescan.criteria import Scope
from frpipe.runtime.allocation import Node, Pools, allocate, most_workers
from frpipe.runtime.executor import Executor
from frpipe.runtime.runtime import Runtime
from frpipe.stages.obeyed import NOBODY, Obeyed
from frpipe.stages.run_spec import RunSpec

_REPLAYED = "_replay"


@dataclass(frozen=True, slots=True)
class Rescan:
    """The choice of all photos of a run of a single look that a second look may change."""

    scope: Scope = "all"


@dataclass(frozen=True, slots=True)
class Replay(Startable[Report]):
    """A replay: which rows of which run, how, and where to. source: the output of a finished run.

    obeyed: as of an `Enrollment`, for the rows that are done again.
    """

    source: str
    choice: Choice | Rescan
    output: str
    config: Config
    runtime: Runtime = field(default_factory=Runtime)
    say: Say = lambda _: None
    obeyed: Obeyed = NOBODY

    def __post_init__(self) -> None:
        object.__setattr__(self, "runtime", self.runtime.choosing(self.config.run.executor))

    def place(self) -> Folder:
        """The output folder. Refuses what makes no sense."""
        refuse_relative("--replay", self.source)
        return output_place(self.output)

    def plan(self, out: Folder, *, dry: bool = False) -> ReplayPlan:
        """Plan which rows are done again, and with what."""
        return ReplayPlan(self, self._task(out))

    def _task(self, out: Folder) -> _Task:
        source = ReplaySource.open(self.source)
        if uris.inside(out.uri, source.files.folder.uri):
            raise ConfigError(
                "a replay writes a new output and leaves its run as it is", "name another --output"
            )
        replayed = out.child(_REPLAYED)
        if isinstance(self.choice, Rescan):
            return self._rescan(self.choice, source, out, replayed)
        config = going_on(self.config, source.identity["recipe"], self.say)
        columns = columns_of(source.identity["recipe"])
        spec = run_spec(config, replayed.uri, self.obeyed, columns=columns)
        changes = source.changes(spec.recipe)
        selection = self._selection(self.choice, source, out, spec, changes)
        replay = {"files": source.digest, "causes": sorted(self.choice.causes), "settings": changes}
        if isinstance(selection, Rejudged):
            replay["judged"] = selection.stages
        identity = {**source.identity, "replay": replay}
        return _Task(source, out, replayed, spec, changes, identity, selection, source.recipe)

    def _selection(
        self, choice: Choice, source: ReplaySource, out: Folder, spec: RunSpec, changes: Mapping[str, Any]
    ) -> Selection:
        """Make the selection of rows: where gates change, or have, accepted photos are judged again, too.

        Not where reasons are named: those that stay as they were are counted. A replay that was begun
        before accepted photos were judged goes on without them.
        """
        # A gate that is as it was at first may differ from that of a replay since.
        rejudged = Rejudged.of(choice, spec, {*changes, *source.changed_before})
        begun = run.begun(out).get("identity", {}).get("replay")
        if not rejudged.gates or (begun is not None and "judged" not in begun):
            return choice
        if choice.is_any:
            return rejudged
        if others := rejudged.accepted(Features(source.files.folder)):
            self.say(
                f"{counted(others, 'photos were')} accepted with other gates, and stay as they were: "
                "without --replay-reasons the new ones judge them, too"
            )
        return choice

    def _rescan(self, wish: Rescan, source: ReplaySource, out: Folder, replayed: Folder) -> _Task:
        """Make the task of a rescan.

        The output is of the recipe that looks again: what is carried over is what it would have found.
        """
        config = with_detector_of(source.identity["recipe"], self.config, self.say)
        affected = Affected.of(source.identity["recipe"], config, wish.scope)
        columns = columns_of(run.begun(out).get("identity", {}).get("recipe"))
        spec = run_spec(config, replayed.uri, self.obeyed, columns=columns)
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


@dataclass(frozen=True, slots=True)
class _Task:
    """The task of a replay.

    spec: orders for the workers, whose output is `replayed`.  identity, recipe: of the new output. carry:
    where the recipe is not that of the run.
    """

    source: ReplaySource
    out: Folder
    replayed: Folder
    spec: RunSpec
    changes: dict[str, Any]
    identity: dict[str, Any]
    selection: Selection
    recipe: Recipe
    carry: Carry | None = None


@dataclass
class ReplayPlan(PartWork, Plan[Audit]):
    """Rows of a run that are done again in a run of their own, and parts that are merged from both."""

    job: Replay
    task: _Task
    facts_of_run: Mapping[str, Any] = field(default_factory=dict, init=False)
    pools: Pools = field(default=(), init=False)
    again: Audit | None = field(default=None, init=False)

    @property
    def told(self) -> Say:
        return self.job.say

    @property
    def stall_timeout_s(self) -> float | None:
        return self.task.spec.config.run.stall_timeout_s

    @property
    def identity(self) -> dict[str, Any]:
        return self.task.identity

    @property
    def small(self) -> bool:
        return is_small(self.task.spec, sum(self.hits.values()))

    @property
    def cut(self) -> ManifestPlan:
        return self.task.source.plan

    @cached_property
    def hits(self) -> dict[int, int]:
        """The number of rows of each part to do again. Raises ConfigError where there are none."""
        task = self.task
        hits = task.source.hits(task.selection, self.job.say)
        if not hits and task.carry is not None:
            raise ConfigError(
                "no photo of the run is affected: there is nothing to look at again",
                "keep the run; jobs go on with its recipe (docs/replay.md)",
            )
        if not hits:
            raise ConfigError(
                f"no photo of the run was rejected for {task.selection}: there is nothing to do again",
                f"see its reasons with: frpipe rejects {self.job.source}",
            )
        return hits

    def check(self) -> None:
        """Refuse where there is nothing to do again."""
        _ = self.hits

    def settle(self, nodes: Sequence[Node]) -> None:
        self.pools = allocate(self.job.config.resources, nodes)

    def facts(self) -> dict[str, Any]:
        """Facts for run.json. created: when the run began, since most of its vectors are of that time."""
        source = self.task.source
        return {
            "created": source.created.isoformat(timespec="seconds"),
            "replayed": datetime.now(UTC).isoformat(timespec="seconds"),
            "replay_of": source.files.folder.uri,
            "part_rows": source.plan.part_rows,
            "manifest": source.manifest,
            "config": self.task.spec.config.model_dump(mode="json"),
        }

    def claimed(self, out: Folder, facts: Mapping[str, Any]) -> None:
        self.facts_of_run = facts

    def do(self, out: Folder, parts: Sequence[int], executor: Executor) -> int:
        """Do the rows again first; then merge."""
        task, source = self.task, self.task.source
        copy_plan(source.files.folder, out, source.plan, self.job.say)
        resources = self.job.config.resources
        workers = min(most_workers(self.pools), worth_while(sum(self.hits.values())))
        size, replayed = resources.part_rows, task.replayed
        cut_again = cut(source, task.selection, self.hits, size, replayed, workers=workers)
        again, launch = until_whole(_Again(self, cut_again), replayed, executor, self.job.say)
        self.again = again
        files, spans = ListedFiles.checked(replayed, again.files), spans_of(self.hits, cut_again.part_rows)
        merge = Merge(source.files, files, task.selection, spans, task.recipe, out, task.carry)
        self.job.say(f"parts: {_parts(task, self.hits)}")
        merge.write(parts, self.job.say)
        return launch.rows

    def publish(self, out: Folder, found: Audit, launch: Launch) -> Report:
        if self.again is None:
            raise InvariantError("the replay was not read back")
        facts = report_facts(self.task.spec, self.cut, self.pools, launch)
        facts |= {"output": out.uri, "replays": self._records(self.again, found)}
        facts["held_without_colour"] = held_without_colour(Features(out))
        report = ReplayReport.of(found.tally, **facts)
        run.seal(out, found.files, report.as_dict(), report.text())
        out.clear(_REPLAYED)
        return report

    def stored(self, out: Folder, report: dict[str, Any]) -> Report:
        # A driver may have died between its last two steps.
        out.clear(_REPLAYED)
        return ReplayReport.stored(report)

    def describe(self) -> DryRun:
        task, hits, plan = self.task, self.hits, self.cut
        pools = self.pools
        changed = ", ".join(f"{name}={value}" for name, value in task.changes.items())
        return DryRun(
            (
                f"again     {sum(hits.values()):,} of {plan.rows:,} photos: {task.selection}",
                f"parts     {_parts(task, hits)}",
                f"changed   {changed or 'nothing of the recipe'}",
                *(f"{'pools' if pool is pools[0] else '':<10}{pool}" for pool in pools),
                f"output    {self.job.output}",
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
                "output": self.job.output,
            },
        )

    def estimate(self) -> Estimate:
        source, rows = self.task.source, sum(self.hits.values())
        some = read_part(source.files.folder, next(iter(self.hits)))["location"].to_pylist()
        return estimate_of(self.task.spec, some, rows, self.pools)

    def _records(self, again: Audit, found: Audit) -> list[dict[str, Any]]:
        record = ReplayRecord.of(
            again.tally,
            source=self.facts_of_run["replay_of"],
            when=self.facts_of_run["replayed"],
            choice=str(self.task.selection),
            settings=self.task.changes,
            carried=_carried(self.task, again, found),
        )
        return [*self.task.source.replays, asdict(record)]


@dataclass
class _Again(PartWork):
    """The rows that are done again, in a folder of their own that nobody claims."""

    replay: ReplayPlan
    partition: ManifestPlan

    @property
    def cut(self) -> ManifestPlan:
        return self.partition

    @property
    def told(self) -> Say:
        return self.replay.job.say

    @property
    def stall_timeout_s(self) -> float | None:
        return self.replay.stall_timeout_s

    def do(self, out: Folder, parts: Sequence[int], executor: Executor) -> int:
        job, pools = self.replay.job, self.replay.pools
        return enroll_parts(self.replay.task.spec, self.cut, parts, pools, executor, say=job.say)


def _parts(task: _Task, hits: dict[int, int]) -> str:
    """Say what becomes of the parts of the run."""
    left = task.source.plan.parts - len(hits)
    return f"{len(hits):,} are merged, {left:,} {'carried over' if task.carry else 'copied as they are'}"


def _carried(task: _Task, again: Audit, found: Audit) -> dict[str, Any] | None:
    """Facts of what another recipe made in the output."""
    if task.carry is None:
        return None
    return {
        "photos": found.tally.rows - again.tally.rows,
        "faces": found.tally.faces - again.tally.faces,
        "recipe_hash": task.source.recipe.metadata()["frpipe.recipe_hash"],
        "preprocessing_hash": task.source.recipe.preprocessing_hash,
    }

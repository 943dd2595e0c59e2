"""The contract of a bulk job, and the one order in which every job is carried out.

A `Job` knows what it was asked. Its `Plan` knows what follows from that: what decides the content of the
output, the units of work, how they are done, read back and reported. `carry_out` owns the order: claim,
resume, retry of damaged units, sealing. An interrupted job goes on when it is carried out again.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from frpipe.core.counted import counted
from frpipe.core.errors import OutputError
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.estimate import Estimate
from frpipe.runtime.allocation import Node
from frpipe.runtime.executor import Executor
from frpipe.runtime.runtime import Runtime

Say = Callable[[str], None]
G = TypeVar("G")
R = TypeVar("R")
P_co = TypeVar("P_co", bound="Plan[Any]", covariant=True)
_ROUNDS = 3


class Result(Protocol):
    """The result of a job: for people, and for programs."""

    def text(self) -> str: ...

    def as_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class ReportResult(Mapping[str, Any]):
    """A stored report, read by its keys. render: makes the text for people."""

    report: Mapping[str, Any]
    render: Callable[[dict[str, Any]], str]

    def text(self) -> str:
        """The text for people."""
        return self.render(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The report for programs; JSON can hold it."""
        return dict(self.report)

    def __getitem__(self, key: str) -> Any:
        return self.report[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.report)

    def __len__(self) -> int:
        return len(self.report)


@dataclass(frozen=True, slots=True)
class Launch:
    """The work of this launch, of what may have taken several.

    rows: what units held that were done.  wall_s: from the first unit to the end of the reading back.
    """

    rows: int
    wall_s: float

    @property
    def rows_per_s(self) -> float:
        return self.rows / max(self.wall_s, 1e-9)


class UnitWork(ABC, Generic[G]):
    """Units of work in an output folder. G: the result of reading them back."""

    unit: str = "units"
    """The name of the units in messages."""

    @abstractmethod
    def work(self, out: Folder, executor: Executor) -> int:
        """Do and publish the units that are not there; return how many rows they hold."""

    @abstractmethod
    def read_back(self, out: Folder, executor: Executor) -> tuple[G, int]:
        """Read every published unit, and take back the damaged ones; the result, and how many these were.

        executor: whose workers may read, where there is much of it (`frpipe.jobs.reading_back`).
        """


class Plan(UnitWork[G]):
    """The plan of a job, worked out."""

    forked: bool = False
    """Whether workers will be forked from this process; known before `estimate` is called."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """The settings that decide the content of the output, as JSON can hold them."""

    @property
    def small(self) -> bool:
        """Whether there is so little to do that no cluster is worth its start."""
        return False

    @property
    def remarks(self) -> Sequence[str]:
        """Remarks for an operator, before the work."""
        return ()

    def check(self) -> None:
        """Raise an error where something speaks against the work. Called in a dry run too."""

    def before_claim(self) -> None:
        """Do work that may refuse the output before it is claimed, and takes too long for a dry run."""

    def settle(self, nodes: Sequence[Node]) -> None:
        """Place the workers on the machines. Raises PlanError where they do not fit."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """The facts that run.json holds beside the identity."""

    def claimed(self, out: Folder, facts: Mapping[str, Any]) -> None:
        """Take over what the first launch on an output has fixed. facts: of its run.json."""

    @abstractmethod
    def publish(self, out: Folder, found: G, launch: Launch) -> Result:
        """Check that nothing is lost or doubled, and seal the output with its report."""

    @abstractmethod
    def stored(self, out: Folder, report: dict[str, Any]) -> Result:
        """The result of a run that had ended before."""

    @abstractmethod
    def describe(self) -> DryRun:
        """Describe what would be done."""

    def estimate(self) -> Estimate:
        """Estimate what the work would take, for a dry run."""
        return Estimate()


class Job(Protocol[P_co]):
    """A job, as it was asked for. say: told of progress, line by line."""

    @property
    def say(self) -> Say: ...

    @property
    def runtime(self) -> Runtime: ...

    def place(self) -> Folder:
        """The output folder. Refuses what can be refused without a look at the sources."""

    def ended(self, out: Folder) -> Result | None:
        """The result of a finished run that cannot be planned any more, as its sources have moved on."""

    def plan(self, out: Folder, *, dry: bool = False) -> P_co:
        """Plan the work. Where `dry`, nothing is written."""


class Startable(Generic[R]):
    """The two ways to start a `Job`, for its class to inherit. R: the type of its result."""

    __slots__ = ()

    def run(self) -> R:
        """Run the job, resuming it if it was interrupted. Raises FrpipeError, with a remedy."""
        job: Any = self
        result: R = carry_out(job)
        return result

    def dry_run(self) -> DryRun:
        """Describe what the job would do. Nothing is written."""
        job: Any = self
        return planned(job)

    def ended(self, _out: Folder) -> R | None:
        """Nothing, where the sources of a job stay as they are; see `Job`."""
        return None


def carry_out(job: Job[Any]) -> Any:
    """Carry a job out, resuming it if it was interrupted; its result.

    Raises OutputError where the output is another run's, or units come out damaged again and again; and the
    errors of the plan and of the workers.
    """
    out = job.place()
    ended = job.ended(out)
    if ended is not None:
        return ended
    with job.runtime.kept():
        plan = job.plan(out)
        stored = run.complete(out) if run.check_claim(out, plan.identity) else None
        if stored is not None:
            return _stored(job, plan, out, stored)
        plan.check()
        for remark in plan.remarks:
            job.say(remark)
        plan.before_claim()
        with job.runtime.open(small=plan.small) as executor:
            plan.settle(executor.nodes)
            plan.claimed(out, run.claim(out, plan.identity, plan.facts()))
            # Meanwhile another process may have been faster, and readers be at its result.
            stored = run.complete(out)
            if stored is not None:
                return _stored(job, plan, out, stored)
            run.reopen(out)
            out.sweep()
            found, launch = until_whole(plan, out, executor, job.say)
        return plan.publish(out, found, launch)


def _stored(job: Job[Any], plan: Plan[Any], out: Folder, report: dict[str, Any]) -> Result:
    job.say("this run is complete already: nothing to do")
    return plan.stored(out, report)


def until_whole(units: UnitWork[G], out: Folder, executor: Executor, say: Say) -> tuple[G, Launch]:
    """Do the units that are missing, read all back, and do damaged ones again, a few times."""
    start, rows = time.monotonic(), 0
    for _ in range(_ROUNDS):
        run.refuse_sealed(out)
        rows += units.work(out, executor)
        found, damaged = units.read_back(out, executor)
        if not damaged:
            return found, Launch(rows, time.monotonic() - start)
        say(f"{counted(damaged, f'{units.unit} are')} damaged and will be done again")
    raise OutputError(f"{units.unit} come out damaged again and again", "check the output's storage")


def planned(job: Job[Any]) -> DryRun:
    """Describe what a job would do, with the executor that it would choose. Nothing is written."""
    out = job.place()
    plan = job.plan(out, dry=True)
    run.check_claim(out, plan.identity)
    plan.check()
    for remark in plan.remarks:
        job.say(remark)
    plan.settle(job.runtime.nodes(small=plan.small))
    plan.forked = job.runtime.is_local(small=plan.small)
    return _with_costs(plan.describe(), plan.estimate(), job.runtime, small=plan.small)


def _with_costs(dry: DryRun, estimate: Estimate, runtime: Runtime, *, small: bool) -> DryRun:
    """Add the executor's name, and what the job would take, to a dry run."""
    executor = "local" if runtime.is_local(small=small) else "ray"
    lines = (*dry.lines, f"executor   {runtime.described(small=small)}", *estimate.lines())
    return DryRun(lines, {**dry.facts, "executor": executor, "estimate": estimate.as_dict()})

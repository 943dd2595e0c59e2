"""Kill a job at a point, run the same command again, and hold what is there against an undisturbed run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faulty_jobs import Job
from injection import Injector, Point
from nodes import Nodes

WORKERS = 2


@dataclass(frozen=True)
class Outcome:
    """A line of the table."""

    job: str
    point: Point
    ended: int
    redone: int
    wall_s: float

    def __str__(self) -> str:
        where = f"{self.point.when} event {self.point.at} of a {self.point.role}"
        return (
            f"{self.job:12}{self.point.victim:8}{where:38}{self.ended:>5}{self.redone:>8}{self.wall_s:>8.1f}"
        )


HEADING = f"{'job':12}{'victim':8}{'killed':38}{'exit':>5}{'redone':>8}{'s':>8}"


@dataclass(frozen=True)
class Bench:
    """Where jobs run and are killed. clean: outputs of undisturbed runs, and their events by role."""

    nodes: Nodes
    injector: Injector
    outcomes: list[Outcome]

    @property
    def environment(self) -> dict[str, str]:
        return {**self.nodes.environment, "RAY_ADDRESS": self.nodes.address}

    def ready(self) -> None:
        """All nodes there, and nothing planned. A node that is lost is missed until then."""
        self.nodes.mend(WORKERS)
        self.injector.clear()

    def undisturbed(self, job: Job, output: Path) -> dict[str, int]:
        """Run a job to its end; how many events each role had."""
        self.ready()
        done = job.run(output, self.environment)
        assert done.returncode == 0, done.stderr
        return {role: self.injector.count(role) for role in ("driver", "worker")}

    def kill(self, job: Job, point: Point, output: Path, clean: Path) -> Outcome:
        """Everything that must hold after a kill, held."""
        self.ready()
        start = time.monotonic()
        self.injector.arm(point)
        killed = job.run(output, self.environment)
        self.injector.disarm()
        assert self.injector.count(point.role) >= point.at, "the kill did not meet the job"
        assert "Traceback" not in killed.stderr, killed.stderr
        published = states(output)
        again = job.run(output, self.environment)
        assert again.returncode == 0, again.stderr
        outcome = Outcome(
            job.name, point, killed.returncode, self.injector.redone(), time.monotonic() - start
        )
        self.outcomes.append(outcome)
        assert published.items() <= states(output).items(), "what was published did not stay"
        job.check(output)
        same(job.content(output), job.content(clean))
        return outcome


def states(output: Path) -> dict[Path, int]:
    """Every published shard, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in output.glob("[ip]*/part-*.parquet")}


def same(found: Any, expected: Any) -> None:
    """The same rows, none twice and none missing."""
    if isinstance(expected, list):
        for one, other in zip(found, expected, strict=True):
            same(one, other)
        return
    assert found.num_rows == expected.num_rows
    assert found.equals(expected)

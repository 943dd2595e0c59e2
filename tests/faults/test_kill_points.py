"""Drivers, workers and nodes are killed at points all over every job: nothing is lost, nothing is doubled."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from clean_runs import Clean
from faulty_jobs import Job
from injection import Point, Role, Victim, spread
from kill_points import WORKERS, Bench

SEED = 20_26
# (job, whose event, who is killed, how many points)
SPREAD: list[tuple[str, Role, Victim, int]] = [
    ("enroll", "driver", "driver", 3),
    ("enroll", "worker", "driver", 2),
    ("enroll", "worker", "worker", 2),
    ("enroll", "worker", "node", 2),
    ("consolidate", "driver", "driver", 3),
    ("identify", "driver", "driver", 2),
    ("identify", "worker", "worker", 2),
    ("identify", "worker", "node", 1),
    ("dedup", "driver", "driver", 2),
    ("dedup", "worker", "driver", 1),
    ("dedup", "worker", "worker", 1),
    ("dedup", "worker", "node", 1),
    ("verify", "driver", "driver", 2),
    ("metrics", "driver", "driver", 2),
]


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "out"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "role", "victim", "share"),
    [("enroll", "worker", "node", 0.5), ("consolidate", "driver", "driver", 0.7)],
)
def test_a_kill_in_the_midst_of_a_job_costs_nothing(
    name: str,
    role: Role,
    victim: Victim,
    share: float,
    bench: Bench,
    clean: Clean,
    disturbed: dict[str, Job],
    output: Path,
) -> None:
    point = Point(role, int(share * clean.events(name)[role]), "during", victim)
    assert bench.kill(disturbed[name], point, output, clean.output(name)).redone <= WORKERS
    assert not bench.injector.searched(), "a photo was looked for though a node or driver was lost"


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.4, 0.5, 0.6])
def test_a_part_is_searched_where_its_worker_left_a_mark_and_its_node_stays_up(
    share: float, bench: Bench, clean: Clean, disturbed: dict[str, Job], output: Path
) -> None:
    point = Point("worker", int(share * clean.events("enroll")["worker"]), "during", "worker")
    bench.kill(disturbed["enroll"], point, output, clean.output("enroll"))
    second = re.compile(r"create .*/_attempts/locate/(\d+)/0002\.")
    marked = [found[1] for _, what in bench.injector.events() if (found := second.match(what))]
    assert bench.injector.searched() == [str(int(part)) for part in marked]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "role", "victim", "number", "count"),
    [(name, role, victim, number, count) for name, role, victim, count in SPREAD for number in range(count)],
)
def test_a_kill_anywhere_costs_nothing(
    name: str,
    role: Role,
    victim: Victim,
    number: int,
    count: int,
    bench: Bench,
    clean: Clean,
    disturbed: dict[str, Job],
    output: Path,
) -> None:
    points = list(spread(role, victim, clean.events(name)[role], count, SEED))
    outcome = bench.kill(disturbed[name], points[number], output, clean.output(name))
    assert outcome.redone <= WORKERS

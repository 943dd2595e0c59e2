"""What the fault tests share: the modules of the flow tests, a cluster of nodes, and the jobs' inputs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
FLOW = TESTS / "flow"
sys.path[:0] = [str(FLOW), str(TESTS / "attacks")]
os.environ["RAY_AUTH_MODE"] = "disabled"

from clean_runs import Clean  # noqa: E402
from faulty_jobs import Job, jobs, people, write_inputs  # noqa: E402
from injection import INJECTED, Injector  # noqa: E402
from kill_points import HEADING, WORKERS, Bench, Outcome  # noqa: E402
from nodes import ray_nodes  # noqa: E402

_OUTCOMES: list[Outcome] = []


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A cluster of a head and two workers that can be killed."""
    injector = Injector(tmp_path_factory.mktemp("faults"))
    injector.clear()
    with ray_nodes(WORKERS, injector.folder, [INJECTED, FLOW]) as nodes:
        yield Bench(nodes, injector, _OUTCOMES)


@pytest.fixture(scope="session")
def photos(shared: Path) -> list[Path]:
    return people(shared)


@pytest.fixture(scope="session")
def inputs(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the jobs read."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder, photos)
    return folder


@pytest.fixture(scope="session")
def disturbed(inputs: Path) -> dict[str, Job]:
    """The jobs, by name."""
    return jobs(inputs)


@pytest.fixture(scope="session")
def clean(bench: Bench, disturbed: dict[str, Job], inputs: Path) -> Clean:
    return Clean(bench, disturbed, inputs)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of kill points."""
    if _OUTCOMES:
        terminalreporter.write_sep("-", "kill points")
        for line in (HEADING, *map(str, _OUTCOMES)):
            terminalreporter.write_line(line)

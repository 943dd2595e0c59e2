"""Jobs as a user runs them, stopped by a signal: a short form of `tests/faults/test_signals.py`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import frozen
import pytest
from stopped import Command, Stop, commands, disturbed


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Command]]:
    with frozen.copied(tmp_path_factory.mktemp("stopped") / "copy") as home:
        yield commands(home)


@pytest.fixture(scope="module")
def whole(jobs: dict[str, Command], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The content of an undisturbed run."""
    place = tmp_path_factory.mktemp("whole")
    jobs["enroll"].finish(place / "out", place / "log")
    return jobs["enroll"].content(place / "out")


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(Stop(signal.SIGINT, "claimed", 0.0, group=True), marks=pytest.mark.slow),
        pytest.param(Stop(signal.SIGTERM, "first part", 0.0, group=True), marks=pytest.mark.slow),
        Stop(signal.SIGTERM, "midway", 0.0, again_s=0.02),
    ],
    ids=str,
)
def test_a_stopped_enroll_goes_on_to_the_same_rows(
    stop: Stop, jobs: dict[str, Command], whole: Any, tmp_path: Path
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    disturbed(jobs["enroll"], stop, out, log)
    jobs["enroll"].finish(out, log)
    assert jobs["enroll"].content(out) == whole


@pytest.mark.slow
def test_a_signal_while_a_private_ray_starts_leaves_nothing(jobs: dict[str, Command], tmp_path: Path) -> None:
    stop = Stop(signal.SIGINT, "start of Ray", 0.2, group=True)
    disturbed(jobs["enroll on Ray"], stop, tmp_path / "out", tmp_path / "log")

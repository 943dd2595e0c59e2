"""Jobs as a user runs them, stopped by a signal: a short form of `tests/faults/test_signals.py`."""

from __future__ import annotations

import signal
from pathlib import Path

import frozen
import pytest
from stopped import Stop, commands, disturbed


@pytest.mark.parametrize(
    "stop",
    [
        Stop(signal.SIGINT, "claimed", 0.0, group=True),
        Stop(signal.SIGTERM, "first part", 0.0, group=True),
        Stop(signal.SIGTERM, "midway", 0.0, again_s=0.02),
    ],
    ids=str,
)
def test_a_stopped_enroll_goes_on_to_the_same_rows(stop: Stop, tmp_path: Path) -> None:
    with frozen.copied(tmp_path / "copy") as home:
        command = commands(home)["enroll"]
        out, log = tmp_path / "out", tmp_path / "log"
        disturbed(command, stop, out, log)
        command.finish(out, log)
        command.finish(tmp_path / "whole", log)
        assert command.content(out) == command.content(tmp_path / "whole")


def test_a_signal_while_a_private_ray_starts_leaves_nothing(tmp_path: Path) -> None:
    with frozen.copied(tmp_path / "copy") as home:
        stop = Stop(signal.SIGINT, "start of Ray", 0.2, group=True)
        disturbed(commands(home)["enroll on Ray"], stop, tmp_path / "out", tmp_path / "log")

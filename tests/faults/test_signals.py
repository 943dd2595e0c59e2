"""Signals at any moment of a job: its exit code, its word, nothing left, and the same rows in the end.

SIGNALS says how many; they are spread over the phases of the job.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import frozen
import pytest
from frozen import Frozen
from stopped import PHASES, Stop, commands, disturbed, prepare

SIGNALS = int(os.environ.get("SIGNALS", "40"))
# Of all signals, how many each gets.
_SHARES = {"enroll": 0.3, "identify": 0.2, "dedup": 0.2, "nightly": 0.2, "enroll on Ray": 0.1}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    with frozen.copied(tmp_path_factory.mktemp("frozen") / "copy") as found:
        prepare(found)
        yield found


@pytest.mark.parametrize("name", _SHARES)
def test_a_signal_at_any_moment_ends_a_job_in_order(
    name: str, home: Frozen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, count = commands(home)[name], max(4, round(SIGNALS * _SHARES[name]))
    command.finish(tmp_path / "whole", tmp_path / "whole.log")
    wanted, hit = command.content(tmp_path / "whole"), Counter[str]()
    for number, stop in enumerate(_stops(count, name)):
        out, log = tmp_path / str(number), tmp_path / f"{number}.log"
        hit[disturbed(command, stop, out, log)] += 1
        command.finish(out, log)
        assert command.content(out) == wanted, stop
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {count} signals, {dict(hit)}\n")


def _stops(count: int, name: str) -> Iterator[Stop]:
    """Signals of both kinds, to the driver and to its group, in all phases; one in five comes twice."""
    chance = random.Random(name)
    phases = [phase for phase in PHASES if "Ray" in name or phase != "start of Ray"]
    for turn in range(count):
        number = (signal.SIGINT, signal.SIGTERM)[turn % 2]
        phase = phases[turn // 2 % len(phases)]
        longest_s = {"start": 2.0, "start of Ray": 3.0}.get(phase, 0.3)
        again = chance.choice((0.02, 1.2)) if turn % 5 == 4 else None
        yield Stop(number, phase, longest_s * chance.random(), chance.random() < 0.5, again)

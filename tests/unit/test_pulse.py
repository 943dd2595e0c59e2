"""Lines on how far work is: early, seldom, and none for what is over soon."""

from __future__ import annotations

import pytest

from frpipe.core import pulse
from frpipe.core.pulse import Pulse


def test_a_line_comes_in_the_first_seconds_and_then_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = [0.0], list[str]()
    monkeypatch.setattr(pulse.time, "monotonic", lambda: clock[0])
    told = Pulse(said.append)
    for second in range(13):
        clock[0] = float(second)
        told.beat(100_000 * second, "{} rows")
    assert said == ["100,000 rows", "600,000 rows", "1,100,000 rows"]


def test_what_is_small_is_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(pulse.time, "monotonic", lambda: clock[0])
    told = Pulse(lambda _: pytest.fail("said"))
    clock[0] = 100.0
    told.beat(10, "{} rows")

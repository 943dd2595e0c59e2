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


def test_what_is_small_and_quick_is_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = [0.0], list[str]()
    monkeypatch.setattr(pulse.time, "monotonic", lambda: clock[0])
    told = Pulse(said.append)
    clock[0] = 20.0
    told.beat(10, "{} rows")
    assert not said
    clock[0] = 40.0
    told.beat(20, "{} rows")
    assert said == ["20 rows"]


def test_where_the_end_is_known_the_time_left_is_told_by_the_rate_of_this_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, said = [0.0], list[str]()
    monkeypatch.setattr(pulse.time, "monotonic", lambda: clock[0])
    told = Pulse(said.append)
    clock[0] = 25.0
    told.beat(0, "{} of 400,000 rows", 400_000)
    clock[0] = 35.0
    told.beat(100_000, "{} of 400,000 rows", 400_000)
    clock[0] = 45.0
    told.beat(400_000, "{} of 400,000 rows", 400_000)
    assert said == ["100,000 of 400,000 rows  0:30 left", "400,000 of 400,000 rows"]

"""Lines of progress, every few seconds, for work whose end is not known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Say = Callable[[str], None]
T = TypeVar("T")
_EVERY_S, _FIRST_S = 5.0, 1.0
# Less is over before anybody wonders, unless it has taken a while already.
_LEAST, _LONG_S = 20_000, 30.0


class Pulse:
    """Say how far work is: for the first time in its first seconds, then every few seconds."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._begun = time.monotonic()
        self._next = self._begun + _FIRST_S
        # By line, when work of its kind began, and how much was done by then.
        self._starts: dict[str, tuple[float, int]] = {}

    def beat(self, done: int, line: str, total: int = 0) -> None:
        """Say that so many are done, if it is time to.

        line: with {} for their number.  total: how many there will be, for the time left; 0: nobody knows.
        """
        now = time.monotonic()
        start, before = self._starts.setdefault(line, (now, done))
        if now >= self._next and (done >= _LEAST or now >= self._begun + _LONG_S):
            self._next = now + _EVERY_S
            left = ""
            if total > done > before:
                left = f"  {clock((total - done) * (now - start) / (done - before))} left"
            self._say(f"{line.format(f'{done:,}')}{left}")


def told(things: Iterable[T], total: int, line: str, say: Say) -> Iterator[T]:
    """Pass things on, and say how many of `total` have passed, as `Pulse` does. line: with {}."""
    pulse = Pulse(say)
    for number, thing in enumerate(things, 1):
        yield thing
        pulse.beat(number, line, total)


def silent(_: str) -> None:
    """Say nothing."""


def clock(seconds: float) -> str:
    """Write minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

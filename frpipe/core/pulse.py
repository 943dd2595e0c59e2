"""Lines of progress, every few seconds, for work whose end is not known."""

from __future__ import annotations

import time
from collections.abc import Callable

_EVERY_S, _FIRST_S = 5.0, 1.0
# Less is over before anybody wonders.
_LEAST = 20_000


class Pulse:
    """Say how far work is: for the first time in its first second or so, then every few seconds."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._next = time.monotonic() + _FIRST_S

    def beat(self, done: int, line: str) -> None:
        """Say that so many are done, if it is time to. line: with {} for their number."""
        now = time.monotonic()
        if now >= self._next and done >= _LEAST:
            self._next = now + _EVERY_S
            self._say(line.format(f"{done:,}"))

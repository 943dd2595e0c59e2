"""A line now and then on how far a search is."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

_EVERY_S = 5.0


class SearchProgress:
    """Counts probes and says so, at most every few seconds and at the end."""

    def __init__(self, probes: int, say: Callable[[str], None]) -> None:
        self._probes, self._say = probes, say
        self._done = 0
        self._start = self._said = time.monotonic()

    def add(self, probes: int) -> None:
        """Count a published unit."""
        self._done += probes
        now = time.monotonic()
        if now - self._said >= _EVERY_S or self._done >= self._probes:
            self._said = now
            self._say(self._line(now - self._start))

    def _line(self, seconds: float) -> str:
        rate = self._done / max(seconds, 1e-9)
        left = timedelta(seconds=round((self._probes - self._done) / max(rate, 1e-9)))
        return f"{self._done:,} of {self._probes:,} probes  {rate:,.0f}/s  {left} left"

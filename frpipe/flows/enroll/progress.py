"""A line now and then on how far a long job is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

from frpipe.core.reasons import Status

_EVERY_S = 5.0


class Progress:
    """Counts receipts and says so, at most every few seconds and at the end."""

    def __init__(self, rows: int, say: Callable[[str], None]) -> None:
        self._rows = rows
        self._say = say
        self._counts: Counter[str] = Counter()
        self._start = self._said = time.monotonic()

    @property
    def done(self) -> int:
        """Rows done so far."""
        return sum(self._counts[status.value] for status in Status)

    @property
    def seconds(self) -> float:
        """Time since the first row could have started."""
        return time.monotonic() - self._start

    def add(self, receipt: Mapping[str, int]) -> None:
        """Count a published part."""
        self._counts.update({name: int(count) for name, count in receipt.items() if name != "part"})
        now = time.monotonic()
        if now - self._said >= _EVERY_S or self.done >= self._rows:
            self._said = now
            self._say(self._line())

    def _line(self) -> str:
        rate = self.done / max(self.seconds, 1e-9)
        left = (self._rows - self.done) / max(rate, 1e-9)
        statuses = "  ".join(f"{status.value} {self._counts[status.value]:,}" for status in Status)
        return (
            f"{self.done:,} of {self._rows:,} photos  {rate:,.1f}/s  {statuses}  "
            f"faces {self._counts['faces']:,}  {_clock(left)} left"
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

"""Keep what is known of one web server, and decide how patient to be with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

# A photo that takes longer holds up no other host's.
LATE_S = 0.25
# So many photos in a row may come too late before the next ones are given less time.
_TRUSTED = 3
_LESS, _LEAST = 10, 40


def host_of(location: str) -> str:
    """The host of a web address, with its port."""
    return location.partition("://")[2].partition("/")[0].lower()


class Host:
    """A web server as the photos fetched from it make it known.

    at_once: photos that may be fetched from it at the same time.
    """

    def __init__(self, at_once: int) -> None:
        self.lane = asyncio.Semaphore(at_once)
        self.strikes = 0
        self._late = 0
        self._at_once = at_once
        self._longest_s = 0.0
        self._resumes, self._asked = 0.0, ""

    def is_slow(self) -> bool:
        """Whether others should not wait for the server's photos. May be asked in any thread."""
        return bool(self._late or self.strikes or self.rest_s)

    @property
    def rest_s(self) -> float:
        """The time for which the server still wants to be left alone."""
        return max(0.0, self._resumes - time.monotonic())

    @property
    def is_doubted(self) -> bool:
        """Whether the next photos are given less time: some came too late, or one did and others will."""
        return bool(self.strikes) and self.strikes + self._late >= _TRUSTED

    def patience_s(self, whole_s: float) -> float:
        """The time that the next photo is given: all of it, or less where the last ones came too late.

        Of a host that is slow but answers, that is more than its slowest photo took.
        """
        if not self.is_doubted:
            return whole_s
        share = _LESS if self.strikes < _TRUSTED + self._at_once else _LEAST
        return max(whole_s / share, min(whole_s / 2, 2 * self._longest_s))

    @contextmanager
    def late_photo(self) -> Iterator[None]:
        """Count a photo that is under way and late."""
        self._late += 1
        try:
            yield
        finally:
            self._late -= 1

    @property
    def said(self) -> str:
        """The reason to leave the server alone now; empty where there is none."""
        return f"{self._asked}, and a longer wait asked for" if self.rest_s else ""

    def rest(self, time_s: float, said: str) -> None:
        """Leave the server alone for a while, as it asked. said: by which reply."""
        self._resumes = max(self._resumes, time.monotonic() + time_s)
        self._asked = said

    def came(self, time_s: float) -> None:
        """Note a photo that came, or an answer that says that there is none."""
        self.strikes = 0
        self._longest_s = max(time_s, 0.9 * self._longest_s)

    def strike(self) -> None:
        """Note a photo that did not come in time."""
        self.strikes += 1

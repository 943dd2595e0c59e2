"""End a worker that makes no progress, so that its part is done again and the photo to blame is found."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")
STALLED_EXIT = 75


class Watchdog:
    """End this process if nothing happens for `timeout_s` between `with` and its end.

    Native code that loops can be ended in no other way. Ray then starts the worker anew (see `attempts`).
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._fed = time.monotonic()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.feed()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def feed(self) -> None:
        """Note that something has happened."""
        self._fed = time.monotonic()

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Pass items on, and note each as something that has happened."""
        for item in items:
            self.feed()
            yield item
        self.feed()

    def _watch(self) -> None:
        while not self._over.wait(max(0.0, self._fed + self._timeout_s - time.monotonic())):
            if time.monotonic() - self._fed >= self._timeout_s:
                os._exit(STALLED_EXIT)

"""Hand on fetched photos in the order of the manifest, but for those of slow web servers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from frpipe.core.reasons import Reject

# What is held up is looked at again after so long.
_LOOK_S = 0.1
Answer = bytes | Reject


class Arrivals:
    """Answers with their numbers, as they come.

    count: of photos.  start: begins to fetch one.  holds_up: whether one comes from where answers are slow:
    it is yielded whenever it is there, and the others do not wait for it.
    ahead: photos under way or held, of either kind.  most_bytes: while those held take so much, no more are
    asked for.
    """

    def __init__(
        self,
        count: int,
        start: Callable[[int], Future[Answer]],
        holds_up: Callable[[int], bool],
        ahead: int,
        most_bytes: int,
    ) -> None:
        self._start, self._holds_up = start, holds_up
        self._ahead, self._most_bytes = ahead, most_bytes
        self._left = deque(range(count))
        self._waiting: deque[int] = deque()
        self._put_off: deque[int] = deque()
        self._aside: set[int] = set()
        self._futures: dict[int, Future[Answer]] = {}
        self._done: SimpleQueue[int] = SimpleQueue()
        self._ready: dict[int, Answer] = {}
        self._late: deque[int] = deque()

    def __iter__(self) -> Iterator[tuple[int, Answer]]:
        try:
            self._ask()
            while self._futures or self._ready:
                number = self._next()
                if number is not None:
                    yield number, self._ready.pop(number)
                self._ask()
        finally:
            for future in self._futures.values():
                future.cancel()

    def _next(self) -> int | None:
        """The number of an answer that is there; None where there is none yet."""
        self._collect(0)
        if self._late:
            return self._late.popleft()
        if self._waiting and self._waiting[0] in self._ready:
            return self._waiting.popleft()
        if self._waiting and self._holds_up(self._waiting[0]):
            self._aside.add(self._waiting.popleft())
        else:
            self._collect(_LOOK_S)
        return None

    def _collect(self, patience_s: float) -> None:
        """Take in the answers that have come; wait for the first of them, for a while."""
        while True:
            try:
                number = self._done.get(timeout=patience_s) if patience_s else self._done.get_nowait()
            except Empty:
                return
            patience_s = 0
            self._ready[number] = self._futures.pop(number).result()
            if number in self._aside:
                self._aside.remove(number)
                self._late.append(number)

    def _ask(self) -> None:
        """Ask for as many more as may be under way."""
        held = sum(len(answer) for answer in self._ready.values() if isinstance(answer, bytes))
        if held >= self._most_bytes:
            return
        while self._left and len(self._waiting) < self._ahead:
            number = self._left.popleft()
            if self._holds_up(number):
                self._put_off.append(number)
            else:
                self._begin(number)
                self._waiting.append(number)
        while self._put_off and len(self._aside) + len(self._late) < self._ahead:
            number = self._put_off.popleft()
            self._aside.add(number)
            self._begin(number)

    def _begin(self, number: int) -> None:
        self._futures[number] = future = self._start(number)
        future.add_done_callback(lambda _: self._done.put(number))

"""Hand on fetched photos in the order of the manifest, but for those of slow web servers."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from frpipe.core.reasons import Reject

# Seconds after which photos that are held up are looked at again.
_LOOK_S = 0.1
Answer = bytes | Reject


class Arrivals:
    """Arrivals of answers with their numbers, as they come.

    hosts: of each photo.  start: begins to fetch one.  is_slow: whether the photos of a host are yielded as
    they come: no others wait for them.
    ahead: photos under way or held, those of slow hosts apart, which are `of_slow` of each.
    most_bytes: while those held take so much, no more are asked for.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        start: Callable[[int], Future[Answer]],
        is_slow: Callable[[str], bool],
        *,
        ahead: int,
        of_slow: int,
        most_bytes: int,
    ) -> None:
        self._hosts, self._start, self._is_slow = hosts, start, is_slow
        self._ahead, self._of_slow, self._most_bytes = ahead, of_slow, most_bytes
        self._left = deque(range(len(hosts)))
        self._waiting: deque[int] = deque()
        self._put_off: defaultdict[str, deque[int]] = defaultdict(deque)
        self._aside: Counter[str] = Counter()
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
            number = self._late.popleft()
            self._aside[self._hosts[number]] -= 1
            return number
        if self._waiting and self._waiting[0] in self._ready:
            return self._waiting.popleft()
        if self._waiting and self._is_slow(self._hosts[self._waiting[0]]):
            self._aside[self._hosts[self._waiting.popleft()]] += 1
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
            if number not in self._waiting:
                self._late.append(number)

    def _ask(self) -> None:
        """Ask for as many more photos as may be under way."""
        held = sum(len(answer) for answer in self._ready.values() if isinstance(answer, bytes))
        if held >= self._most_bytes:
            return
        while self._left and len(self._waiting) < self._ahead:
            number = self._left.popleft()
            if self._is_slow(self._hosts[number]):
                self._put_off[self._hosts[number]].append(number)
            else:
                self._begin(number)
                self._waiting.append(number)
        for host, numbers in self._put_off.items():
            while numbers and self._aside[host] < self._of_slow:
                self._aside[host] += 1
                self._begin(numbers.popleft())

    def _begin(self, number: int) -> None:
        self._futures[number] = future = self._start(number)
        future.add_done_callback(lambda _: self._done.put(number))

"""Threads that take pieces of a search in turn, so that none waits for the slowest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Workers:
    """A pool of threads; the caller's own thread where one is asked for."""

    def __init__(self, threads: int) -> None:
        """Start the pool. threads: pieces done at once."""
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def over(self, work: Callable[[Piece], Result], pieces: Iterable[Piece]) -> Iterator[Result]:
        """Iterate over results in the order of the pieces.

        One piece more than there are threads is taken ahead.
        """
        if self._pool is None:
            yield from map(work, pieces)
            return
        waiting: deque[Future[Result]] = deque()
        try:
            for piece in pieces:
                waiting.append(self._pool.submit(work, piece))
                if len(waiting) > self._threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for unfinished in waiting:
                unfinished.cancel()

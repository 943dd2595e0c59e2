"""Do the same work for many files in threads, with results in order: stores are slow to answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")
_THREADS = 8
_AHEAD = 16


def in_order(
    work: Callable[[S], T], items: Iterable[S], ahead: int = _AHEAD, threads: int = _THREADS
) -> Iterator[T]:
    """Iterate over the results of `work` for each item, in the order of the items.

    ahead: results that are worked on or held at a time, which bounds the memory.
    Raises what `work` raises, for the first item in order that it fails for.
    """
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(min(threads, ahead), "in-order") as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

"""Write shards one after the other: while one is hashed and made durable, the next is written."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.errors import StorageError
from frpipe.gallery.catalog import ShardRef
from frpipe.gallery.shard_store import ShardStore

# Shards that are hashed or wait for the disk at once: with two, the disk was idle a tenth of the time.
_FINISHERS = 3


class ShardWriter:
    """Writer of shards in the background. Leaving its context waits for all shards.

    If one of them fails, or the context ends with an error, all are removed: no version will name them.
    """

    def __init__(self, shard_store: ShardStore) -> None:
        self._store = shard_store
        self._created = datetime.now(UTC).isoformat(timespec="seconds")
        self._pool = ThreadPoolExecutor(_FINISHERS, "shard")
        self._waiting: deque[Future[ShardRef]] = deque()
        self._added: list[Future[ShardRef]] = []

    def add(self, texts: pa.Table, vectors: NDArray[np.floating]) -> Future[ShardRef]:
        """Write the rows as one shard. texts: sorted by key, without `embedding`; vectors: (n, dim)."""
        while len(self._waiting) >= _FINISHERS:
            self._waiting.popleft().result()
        future = self._pool.submit(self._store.begin(texts, vectors, self._created))
        self._waiting.append(future)
        self._added.append(future)
        return future

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        failures = [failure for future in self._added if (failure := future.exception()) is not None]
        if error is None and not failures:
            return
        with suppress(StorageError):
            self._store.remove(f.result().name for f in self._added if f.exception() is None)
        if error is None:
            raise failures[0]

"""Write small Parquet files several at a time: a PUT takes longer than making the file."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.io.storage.folder import Folder

_THREADS = 8
_HELD = 16


class PartWriter:
    """Write Parquet files in threads.

    Leaving its context waits for all files, or raises the first failure.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="part-writer")
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            for future in self._pending:
                future.result()

    def write(self, name: str, table: pa.Table) -> None:
        """Write a table as a file, at some time before the end."""
        if len(self._pending) >= _HELD:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._put, name, table))

    def _put(self, name: str, table: pa.Table) -> None:
        self._folder.write(name, _parquet(table))


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())

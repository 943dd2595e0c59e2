"""Spill hashes of any number of rows to disk, and compare them range by range, in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
# Hashes in one range at most, if they are spread evenly: 32 MB.
_MOST = 1 << 22


class HashSpill:
    """Arrays of hashes in a temporary file without a name, to be read in ranges."""

    def __init__(self, most: int = _MOST) -> None:
        self._file = tempfile.TemporaryFile(prefix="frpipe-")  # noqa: SIM115 - closed by __exit__
        self._counts: list[int] = []
        self._most = most

    def add(self, hashes: Hashes) -> None:
        """Add an array. Memory: twice its size."""
        self._file.write(np.sort(hashes).astype("<u8", copy=False).data)
        self._counts.append(len(hashes))

    def ranges(self) -> Iterator[list[Hashes]]:
        """Iterate over ranges of hashes: for each range, the part of each array that is in it, sorted."""
        self._file.flush()
        ranges = -(-sum(self._counts) // self._most)
        for number in range(ranges):
            low, high = (bound * (1 << 64) // ranges for bound in (number, number + 1))
            yield [self._part(array, low, high) for array in range(len(self._counts))]

    def _part(self, array: int, low: int, high: int) -> Hashes:
        count = self._counts[array]
        if not count:
            return np.zeros(0, np.uint64)
        view = np.memmap(self._file, "<u8", "r", 8 * sum(self._counts[:array]), (count,))
        start = np.searchsorted(view, np.uint64(low))
        end = count if high >> 64 else np.searchsorted(view, np.uint64(high))
        return np.array(view[start:end], np.uint64)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

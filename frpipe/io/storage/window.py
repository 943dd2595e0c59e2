"""Read a file by ranges, a window at a time: for the directories of files that lie in stores."""

from __future__ import annotations

import os
from collections.abc import Callable

ReadRange = Callable[[int, int], bytes]
"""The bytes from a start up to an end."""


class WindowedFile:
    """A file for reading with `seek`. Short reads near each other cost one range.

    most: longest single read that is obeyed; a longer one is ValueError, as damaged files ask for.
    """

    def __init__(self, read_range: ReadRange, size: int, window: int, most: int = 1 << 26) -> None:
        self._read_range = read_range
        self._size = size
        self._window = window
        self._most = most
        self._at = self._start = 0
        self._held = b""

    def read(self, count: int = -1) -> bytes:
        left = max(self._size - self._at, 0)
        count = left if count < 0 else min(count, left)
        if count > self._most:
            raise ValueError("a read of more than is reasonable")
        if not (self._start <= self._at and self._at + count <= self._start + len(self._held)):
            end = min(self._at + max(count, self._window), self._size)
            self._start, self._held = self._at, self._read_range(self._at, end)
        found = self._held[self._at - self._start : self._at - self._start + count]
        self._at += len(found)
        return found

    def range(self, start: int, end: int) -> bytes:
        """Read the bytes from `start` up to `end`."""
        self.seek(start)
        return self.read(max(end - start, 0))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a place before the file")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

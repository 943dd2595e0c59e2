"""Byte ranges of a shard file, wherever it is: mapped from a disk, in memory, or in an object store."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol


class Bytes(Protocol):
    """A file that is read by byte range. in_memory: whether this process holds a copy of it."""

    @property
    def in_memory(self) -> bool: ...
    def read(self, offset: int, count: int) -> memoryview | bytes: ...


class Mapped:
    """Byte ranges of a memory-mapped file: views, which stay valid after this object is gone."""

    in_memory = False

    def __init__(self, file: Path | mmap.mmap) -> None:
        """Map a file, or take a map of it."""
        if isinstance(file, Path):
            with file.open("rb") as opened:
                file = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        self._view = memoryview(file)

    def read(self, offset: int, count: int) -> memoryview:
        return self._view[offset : offset + count]


class Held:
    """Byte ranges of a buffer in memory."""

    in_memory = True

    def __init__(self, data: bytes | bytearray) -> None:
        self._view = memoryview(data).toreadonly()

    def read(self, offset: int, count: int) -> memoryview:
        return self._view[offset : offset + count]


class Ranged:
    """An open file that is read by range; little more is transferred than what is asked for."""

    in_memory = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, offset: int, count: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(count)


class Guarded:
    """Byte ranges of a file that may be removed meanwhile: `gone` makes the error to raise then."""

    def __init__(self, content: Bytes, gone: Callable[[], Exception]) -> None:
        self._content, self._gone = content, gone

    @property
    def in_memory(self) -> bool:
        return self._content.in_memory

    def read(self, offset: int, count: int) -> memoryview | bytes:
        try:
            return self._content.read(offset, count)
        except FileNotFoundError:
            raise self._gone() from None

"""Byte ranges of a shard file, wherever it is: mapped from a disk, in memory, or in an object store."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from frpipe.io.storage.failure import Explained

# Up to so many bytes are copied: the fault of a page takes as long as copying thousands of bytes.
_SMALL = 1 << 14


class Bytes(Protocol):
    """A file that is read by byte range. in_memory: whether this process holds a copy of it."""

    @property
    def in_memory(self) -> bool: ...
    def read(self, offset: int, count: int) -> memoryview | bytes: ...


class Mapped:
    """Byte ranges of a file on a disk: views, which stay valid after this object is gone.

    Few bytes are copied. The file is mapped when many are first asked for.
    """

    in_memory = False

    def __init__(self, file: Path | str | mmap.mmap) -> None:
        """Open a file, or take a map of it. Raises FileNotFoundError, StorageError."""
        self._handle: int | None = None
        self._view: memoryview | None = None
        if isinstance(file, mmap.mmap):
            self._view = memoryview(file)
            return
        self._uri = str(file)
        with Explained(self._uri):
            self._handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)

    def status(self) -> os.stat_result:
        """Status of the file that was opened."""
        if self._handle is None:
            raise ValueError("a map has no status")
        with Explained(self._uri):
            return os.fstat(self._handle)

    def read(self, offset: int, count: int) -> memoryview | bytes:
        if self._view is None and self._handle is not None:
            with Explained(self._uri):
                if count <= _SMALL:
                    return os.pread(self._handle, count, offset)
                self._view = memoryview(mmap.mmap(self._handle, 0, access=mmap.ACCESS_READ))
        if self._view is None:
            raise ValueError("a file that was not opened is not read")
        return self._view[offset : offset + count]

    def __del__(self) -> None:
        if self._handle is not None:
            os.close(self._handle)


class Held:
    """Byte ranges of a buffer in memory."""

    in_memory = True

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
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

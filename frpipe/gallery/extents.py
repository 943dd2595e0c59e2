"""The bytes of a shard file, wherever they are: mapped from a disk, in memory, or in an object store."""

from __future__ import annotations

import io
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from frpipe.io.failure import explained


class Bytes(Protocol):
    """A file of known size that gives its bytes by range."""

    def read(self, offset: int, count: int) -> memoryview | bytes: ...


class Mapped:
    """A file on a mounted file system; what it gives are views that stay valid when this is gone."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def read(self, offset: int, count: int) -> memoryview:
        return self._view[offset : offset + count]


class Held:
    """Bytes in memory."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._view = memoryview(data).toreadonly()

    def read(self, offset: int, count: int) -> memoryview:
        return self._view[offset : offset + count]


class Ranged:
    """An open file that is read by range; only what is asked for is transferred."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, offset: int, count: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(count)


class Explained(io.RawIOBase):
    """An open file of a folder whose storage errors are StorageError with a remedy, also while it is read."""

    def __init__(self, file: BinaryIO, uri: str) -> None:
        self._file, self._uri = file, uri

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        with explained(self._uri):
            data = self._file.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, count: int = -1) -> bytes:
        with explained(self._uri):
            return self._file.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        with explained(self._uri):
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


class Guarded:
    """Bytes of which the file may go while they are read: `gone` says which error that is."""

    def __init__(self, content: Bytes, gone: Callable[[], Exception]) -> None:
        self._content, self._gone = content, gone

    def read(self, offset: int, count: int) -> memoryview | bytes:
        try:
            return self._content.read(offset, count)
        except FileNotFoundError:
            raise self._gone() from None

"""An open remote file whose storage errors are StorageError with a remedy, also while it is read."""

from __future__ import annotations

import io
from typing import BinaryIO

from frpipe.io.storage.failure import explained


class ExplainedFile(io.RawIOBase):
    """Reads another file. uri: what the errors name."""

    def __init__(self, file: BinaryIO, uri: str) -> None:
        self._file, self._uri = file, uri

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(memoryview(buffer).cast("B")))
        memoryview(buffer).cast("B")[: len(data)] = data
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
        if not self.closed:
            self._file.close()
        super().close()

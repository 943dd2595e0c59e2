"""Tell the HDF5 library's errors about a file's content from those about access or storage."""

from __future__ import annotations

import errno
from pathlib import Path

from frpipe.core.errors import FrpipeError, GalleryError
from frpipe.io.storage.failure import storage_error
from frpipe.io.storage.whole_file import out_of_memory

_IN_USE = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK, errno.EBUSY, errno.ETXTBSY})
# Other errors, such as EINVAL for an offset out of bounds, may come from a damaged file.
_OF_STORAGE = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.EINTR,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENODEV,
        errno.ENOLCK,
        errno.ENXIO,
        errno.EREMOTEIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
    }
)
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# A superblock of version 2 or 3: signature, version, two sizes, flags. The first flag says "writing".
_VERSION, _FLAGS = 8, 11
_IN_USE_REMEDY = "close it there, then run the same command again: nothing was changed"


def not_of_content(error: Exception, name: str, file: Path | None) -> FrpipeError | None:
    """Error for a failure that the content of a file did not cause; None if the content may have caused it.

    name: of the file, for messages.  file: its path, if it is on a disk.
    """
    if isinstance(error, MemoryError):
        return out_of_memory(name)
    number = error.errno if isinstance(error, OSError) else None
    if number in _IN_USE:
        return GalleryError(f"{name} is locked: another program has it open", _IN_USE_REMEDY)
    if number in _OF_STORAGE:
        return storage_error(error, name)
    if number == errno.EISDIR:
        return GalleryError(f"{name} is a folder, and no file", "check the path")
    return in_writing(name) if file is not None and is_open_for_writing(file) else None


def in_writing(name: str) -> GalleryError:
    """The error for a file that another program writes to."""
    return GalleryError(
        f"{name} is open for writing in another program, or was when that program died",
        f"{_IN_USE_REMEDY}; if no program has it open, restore it from a copy",
    )


def is_open_for_writing(file: Path) -> bool:
    """Whether an HDF5 file is marked as open for writing. Older forms of HDF5 have no such mark."""
    try:
        with file.open("rb") as opened:
            head = opened.read(_FLAGS + 1)
    except OSError:
        return False
    known = head.startswith(_SIGNATURE) and len(head) > _FLAGS and head[_VERSION] in {2, 3}
    return known and bool(head[_FLAGS] & 1)

"""Folders of private Rays: each for its own user alone, and gone when its Ray ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import socket
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from frpipe.core.errors import PlanError

_SOCKET_PATH_LIMIT = 107
"""Bytes in the path of a Unix socket (sockaddr_un, less its closing zero)."""
_BELOW = "/r/session_YYYY-MM-DD_HH-MM-SS_ffffff_4194304/sockets/plasma_store"
"""The longest path that Ray puts a socket at, below the folder."""
_FALLBACK = "/tmp"
_TOKEN_BYTES = 32


@dataclass(frozen=True)
class RayFolder:
    """The folder in which a private Ray keeps its sessions, its spilled objects and its token.

    Ray gives its own folders mode 0777: they lie in folders of mode 0700, made for this process alone.
    """

    private: Path
    spilled: Path
    """The folder of spilled objects: `private`, or the one asked for, if its name is too long for sockets."""

    @property
    def sessions(self) -> Path:
        return self.private / "r"

    @property
    def objects(self) -> Path:
        return self.spilled / "s"

    @property
    def token_file(self) -> Path:
        return self.private / "token"


@contextlib.contextmanager
def ray_folder(keep: bool = False) -> Iterator[RayFolder]:
    """Make a folder with a new token below RAY_TMPDIR, TMPDIR or /tmp; remove it at the end, unless `keep`.

    Folders that dead processes of this user left there are removed first.
    Raises PlanError where none can be made, or all names are too long for sockets.
    """
    asked = _asked_for()
    place = asked if _fits(asked) else Path(_FALLBACK)
    with contextlib.ExitStack() as held:
        private = held.enter_context(_private_folder(place, keep))
        spilled = private if place == asked else held.enter_context(_private_folder(asked, keep))
        folder = RayFolder(private, spilled)
        _write_token(folder.token_file)
        yield folder


def _asked_for() -> Path:
    name = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or _FALLBACK
    return Path(name).absolute()


def _fits(place: Path) -> bool:
    random = "x" * 8
    return len(os.fsencode(f"{place}/{_prefix()}{random}{_BELOW}")) <= _SOCKET_PATH_LIMIT


def _prefix() -> str:
    """The prefix of folders of this machine's processes: others may share the disk, but not the locks."""
    return f"frpipe-{zlib.crc32(socket.gethostname().encode()) & 0xFFFF:04x}-"


@contextlib.contextmanager
def _private_folder(place: Path, keep: bool) -> Iterator[Path]:
    try:
        place.mkdir(parents=True, exist_ok=True)
        _sweep(place)
        path, lock = _locked_folder(place)
    except OSError as error:
        raise PlanError(
            f"Ray's folder cannot be made in {place} ({error.strerror or type(error).__name__})",
            "set RAY_TMPDIR to a folder that can be written, with a short name",
        ) from error
    try:
        yield path
    finally:
        if not keep:
            shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _locked_folder(place: Path) -> tuple[Path, int]:
    """A new folder of mode 0700, and the lock that says its process lives."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_prefix(), dir=place))
        with contextlib.suppress(FileNotFoundError):  # a sweep was between the two
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # a sweep has it, and removes it
                os.close(lock)
                continue
            except OSError:  # a file system without locks: nobody sweeps there either
                pass
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock), path.stat()):
                    return path, lock
            os.close(lock)


def _sweep(place: Path) -> None:
    """Remove folders whose process is dead: its lock is free."""
    for path in place.glob(f"{_prefix()}*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if found.st_uid != os.geteuid():
                continue
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _write_token(path: Path) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(secrets.token_hex(_TOKEN_BYTES), encoding="ascii")

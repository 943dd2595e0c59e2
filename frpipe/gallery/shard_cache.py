"""Cache of a remote gallery's shard files on a node's disk: fetched once, mapped by all workers of the node.

There is a folder for each run on each node, private to its owner. A file is named by the SHA-256 of the shard
as it is stored: an encrypted shard stays encrypted. Files are always whole: they are written under a hidden
name and moved. See ADR 45.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
import shutil
import socket
import stat
import tempfile
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from frpipe.core.errors import StorageError

_FREE_SHARE = 0.1
"""Share of the disk to leave free."""
_PATIENCE_S, _KNOCK_S = 300.0, 0.05
"""How long a process waits for another that fetches the same shard, before it fetches it for itself."""
_LOCK = ".lock"
_ROOM = "room"
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Fetch = Callable[[], bytes]
Stored = bytes | mmap.mmap
"""A shard file's bytes: in memory, or mapped."""


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """Specification of a run's caches. run: its name.  most_bytes: size of all files on a node.

    place: parent folder; empty: TMPDIR of the node, or /tmp.
    """

    run: str
    most_bytes: int
    place: str = ""

    @classmethod
    def new(cls, most_bytes: int, place: str = "") -> CacheSpec:
        """Make the specification for a new run."""
        return cls(secrets.token_hex(8), most_bytes, place)

    @property
    def folder(self) -> Path:
        """Folder of the cache on this node."""
        return self._place / f"{_prefix()}{self.run}"

    def remove(self) -> None:
        """Remove the cache from this node, and those that killed runs left. Mapped files stay mapped."""
        shutil.rmtree(self.folder, ignore_errors=True)
        _sweep(self._place)

    def opened(self) -> ShardCache | None:
        """Open the cache of this node; None if no private folder can be made."""
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            _sweep(self._place, self.folder)
            return ShardCache(self.folder, _locked(self.folder), self.most_bytes)
        except OSError:
            return None

    @property
    def _place(self) -> Path:
        return Path(self.place or tempfile.gettempdir()).absolute()


class ShardCache:
    """The shard files of one run on this node; any number of processes use it at once.

    While it is open it holds a shared lock on its folder, which the kernel releases when the process dies in
    any way: a folder without a lock is a leftover.
    """

    def __init__(self, folder: Path, lock: int, most_bytes: int) -> None:
        """Take over a folder. lock: the folder, open and locked; it is closed with this object."""
        self._folder, self._most = folder, most_bytes
        self._mapped: weakref.WeakSet[_Map] = weakref.WeakSet()
        self._close = weakref.finalize(self, os.close, lock)

    def close(self) -> None:
        """Release the lock; the end of the process does it too."""
        self._close()

    def file(self, sha256: str, size: int, fetch: Fetch) -> Stored:
        """Map a shard file; if it is not cached, fetch it first, and keep it if there is room.

        If several processes ask at once, one fetches and the others wait. fetch: returns bytes of this digest
        and size.
        """
        known = self.found(sha256, size)
        if known is not None:
            return known
        with ExitStack() as held:
            try:
                lock = held.enter_context(self._alone(sha256))
            except OSError:
                # For example, the folder was removed: the gallery can be read without it.
                lock = None
            if lock is None:
                return fetch()
            known = self.found(sha256, size)
            if known is not None:
                return known
            data = fetch()
            return self._kept(sha256, data, lock) or data

    def check(self) -> None:
        """Raise StorageError where a file that this process has mapped was changed since."""
        if any(each.has_changed() for each in list(self._mapped)):
            raise StorageError(
                "a file of the node's cache of shards was changed while it was read",
                "see what else writes to that folder (--cache-dir), then run the same command again: the "
                "shard is fetched anew, and nothing that was read is published",
            )

    def found(self, sha256: str, size: int) -> mmap.mmap | None:
        """Map a file if it is cached and unchanged since it was written; else None."""
        path, lock = self._folder / sha256, self._folder / f"{sha256}{_LOCK}"
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            found = os.fstat(file)
            if found.st_size != size or not size or _stamp(found) != lock.read_text(encoding="ascii"):
                return None
            mapped = _Map(file, size, access=mmap.ACCESS_READ)
            mapped.watch(os.dup(file), found)
            # The lock's time is that of the last use; the file's own times tell whether it was changed.
            os.utime(lock)
        except (OSError, ValueError):
            return None
        finally:
            os.close(file)
        self._mapped.add(mapped)
        return mapped

    def _kept(self, sha256: str, data: bytes, lock: int) -> mmap.mmap | None:
        """Write a file, whose lock this process has, and map it; None if there is no room."""
        path, draft = self._folder / sha256, self._folder / f".{sha256}"
        try:
            for each in (draft, path):
                each.unlink(missing_ok=True)
            os.ftruncate(lock, 0)
            file = self._reserved(draft, len(data))
            if file is None:
                return None
            with os.fdopen(file, "wb") as target:
                target.write(data)
            draft.chmod(0o400)
            draft.rename(path)
            # Last: a file without a stamp is not used.
            os.pwrite(lock, _stamp(path.lstat()).encode(), 0)
        except OSError:
            for each in (draft, path):
                with suppress(OSError):
                    each.unlink(missing_ok=True)
            return None
        return self.found(sha256, len(data))

    def _reserved(self, draft: Path, size: int) -> int | None:
        """Make a private file with its space allocated; None if there is no room."""
        with self._locked(_ROOM):
            if not self._make_room(size):
                return None
            file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                _allocate(file, size)
            except OSError:
                os.close(file)
                raise
            return file

    def _make_room(self, size: int) -> bool:
        """Remove the files that were used longest ago until so much more fits."""
        if size > self._most:
            return False
        files = list(self._files())
        held = sum(each.bytes for each in files)
        for each in sorted(files, key=lambda each: each.used):
            if held + size <= self._most and self._has_free(size):
                return True
            if each.is_removed():
                held -= each.bytes
        return held + size <= self._most and self._has_free(size)

    def _has_free(self, size: int) -> bool:
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize - size >= _FREE_SHARE * disk.f_blocks * disk.f_frsize

    def _files(self) -> Iterator[_File]:
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name == _ROOM or entry.name.endswith(_LOCK):
                    continue
                with suppress(FileNotFoundError):
                    lock = self._folder / f"{entry.name.removeprefix('.')}{_LOCK}"
                    used = lock.stat().st_mtime_ns
                    yield _File(Path(entry.path), entry.stat(follow_symlinks=False).st_size, used, lock)

    @contextmanager
    def _alone(self, sha256: str) -> Iterator[int | None]:
        """Hold the lock of a shard; None if another process has it for too long."""
        lock = os.open(self._folder / f"{sha256}{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield lock if _waited(lock, _PATIENCE_S) else None
        finally:
            os.close(lock)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        lock = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


class _Map(mmap.mmap):
    """A mapped file that can tell whether it was changed, even after it was unlinked."""

    _file: int
    _was: os.stat_result

    def watch(self, file: int, was: os.stat_result) -> None:
        """Watch a file that is open for this map alone, and is closed with it."""
        self._file, self._was = file, was
        weakref.finalize(self, os.close, file)

    def has_changed(self) -> bool:
        """Whether the file was changed, other than by being unlinked."""
        now = os.fstat(self._file)
        return now.st_size != self._was.st_size or now.st_mtime_ns != self._was.st_mtime_ns


@dataclass(frozen=True, slots=True)
class _File:
    """A cached file. used: time of its last use, in ns."""

    path: Path
    bytes: int
    used: int
    lock: Path

    def is_removed(self) -> bool:
        """Remove the file; False if its writer is at work. Processes that have mapped it keep its pages."""
        if self.path.name.startswith("."):
            lock = os.open(self.lock, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            finally:
                os.close(lock)
        self.path.unlink(missing_ok=True)
        return True


def _stamp(found: os.stat_result) -> str:
    """Stamp of a file that every write changes, even if the writer sets its times back."""
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _waited(lock: int, patience_s: float) -> bool:
    """Wait for a lock; returns whether it was acquired."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_KNOCK_S)
        else:
            return True


def _allocate(file: int, size: int) -> None:
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.ftruncate(file, size)


def _prefix() -> str:
    """Prefix of this machine's folders: other machines may share the disk, but not the locks."""
    return f"frpipe-shards-{zlib.crc32(socket.gethostname().encode()):08x}-{os.geteuid()}-"


def _locked(folder: Path) -> int:
    """Open a folder that is private to this user, made if need be, with a shared lock. Raises OSError."""
    while True:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        try:
            lock = os.open(folder, _FOLDER_FLAGS)
        except FileNotFoundError:  # a sweep came in between
            continue
        try:
            found = _own(lock)
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.path.samestat(found, folder.lstat()):
                return lock
        except (BlockingIOError, FileNotFoundError):  # a sweep holds it, and removes it
            time.sleep(_KNOCK_S)
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _own(folder: int) -> os.stat_result:
    """Status of an open folder. Raises OSError unless it is this user's and private."""
    found = os.fstat(folder)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise PermissionError(errno.EPERM, "the folder is not this user's own")
    return found


def _sweep(place: Path, own: Path | None = None) -> None:
    """Remove folders of this user's dead runs, which nobody has locked. own: folder to leave."""
    for path in set(place.glob(f"{_prefix()}*")) - {own}:
        with suppress(OSError):
            lock = os.open(path, _FOLDER_FLAGS)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)

"""Store files on a mounted file system. They are private (0600), and seen whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from frpipe.core.errors import StorageError
from frpipe.io.storage.failure import Failure

if TYPE_CHECKING:
    import pyarrow as pa

_SUFFIX = ".tmp"
# What link(2) gives where the file system has no hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


class LocalStore:
    """Files below `root`, by names relative to it."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def read(self, name: str) -> bytes:
        try:
            return (self._root / name).read_bytes()
        except IsADirectoryError:  # no file, as in an object store
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from None

    def write(self, name: str, data: bytes) -> None:
        with self._finished(name, lambda file: file.write(data)) as (temporary, target):
            temporary.replace(target)

    def publish(self, name: str, source: Path) -> None:
        with (
            source.open("rb") as origin,
            self._finished(name, lambda file: shutil.copyfileobj(origin, file)) as (temporary, target),
        ):
            temporary.replace(target)

    def draft(self, name: str) -> Path:
        handle, path = self._temporary(self._root / name)
        os.close(handle)
        return path

    def adopt(self, name: str, source: Path) -> None:
        target = self._root / name
        _make(target.parent)
        source.chmod(0o600)
        handle = os.open(source, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        try:
            source.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self.publish(name, source)
            source.unlink()
        for folder in {target.parent, source.parent}:
            _sync(folder)

    def create(self, name: str, data: bytes) -> bool:
        with self._finished(name, lambda file: file.write(data)) as (temporary, target):
            try:
                os.link(temporary, target)
            except FileExistsError:
                if target.is_dir():
                    what, remedy = Failure.FOLDER.value
                    raise StorageError(f"{target}: {what}", remedy) from None
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                raise StorageError(*Failure.NO_LINKS.value) from error
        return True

    def exists(self, name: str) -> bool:
        try:
            return (self._root / name).is_file()
        except PermissionError:
            raise
        except OSError:
            return False

    def delete(self, names: Iterable[str]) -> None:
        folders = set()
        try:
            for name in names:
                target = self._root / name
                with suppress(FileNotFoundError):
                    target.unlink()
                    folders.add(target.parent)
        finally:
            for folder in folders:
                # Another process that empties the same folders may have removed this one.
                with suppress(FileNotFoundError):
                    _sync(folder)

    def open(self, name: str, _ahead: int | None = None) -> BinaryIO:
        return (self._root / name).open("rb")

    def read_range(self, name: str, start: int, end: int) -> bytes:
        # Not by a file object: look-ups read a few pieces of each index.
        handle = os.open(f"{self._root}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(handle, max(0, end - start), start)
        finally:
            os.close(handle)

    def names(self, sub: str, hidden: bool = False) -> Iterator[str]:
        folder = self._root / sub
        if folder.is_dir():
            yield from _walk(str(folder), f"{sub}/" if sub else "", hidden)

    def children(self, sub: str) -> list[str]:
        try:
            with os.scandir(self._root / sub) as found:
                return [e.name for e in found if e.is_file(follow_symlinks=False) or e.is_symlink()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def entries(self, sub: str, hidden: bool = False) -> Iterator[tuple[str, int, str]]:
        for name in self.names(sub, hidden):
            try:
                stat = (self._root / name).stat()
            except FileNotFoundError:
                continue
            yield name, stat.st_size, str(stat.st_mtime_ns)

    def blocks(self, _guesses: Sequence[str] | None) -> Iterator[pa.Table]:
        from frpipe.io.storage.listed import in_blocks  # noqa: PLC0415 - takes Arrow with it

        yield from in_blocks(self.entries("", hidden=True))

    def stat(self, name: str) -> tuple[int, str]:
        stat = (self._root / name).stat()
        return stat.st_size, str(stat.st_mtime_ns)

    def sweep(self, older_than_s: float, of: Callable[[str], bool]) -> int:
        limit = time.time() - older_than_s
        removed = 0
        for path in list(self._root.rglob(f".*{_SUFFIX}")):
            with suppress(FileNotFoundError):
                if of(self._target_name(path)) and path.stat().st_mtime <= limit:
                    path.unlink()
                    removed += 1
        return removed

    def prune(self, sub: str) -> None:
        for folder, _, _ in os.walk(self._root / sub, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()
                _sync(Path(folder).parent)

    def everything(self) -> Iterator[tuple[str, bool]]:
        def refuse(error: OSError) -> None:
            raise error

        for place, folders, names in os.walk(self._root, onerror=refuse) if self._root.is_dir() else ():
            folder = Path(place)
            for name in sorted(folders):
                if (folder / name).is_symlink():
                    yield str((folder / name).relative_to(self._root)), False
            for name in sorted(names):
                yield str((folder / name).relative_to(self._root)), (folder / name).is_file()

    def _temporary(self, target: Path) -> tuple[int, Path]:
        _make(target.parent)
        handle, path = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=_SUFFIX, dir=target.parent)
        return handle, Path(path)

    def _target_name(self, temporary: Path) -> str:
        """What a temporary file was to become; a name of more than 100 characters is cut."""
        name = temporary.name[1:].removesuffix(_SUFFIX).rpartition(".")[0]
        return (temporary.parent.relative_to(self._root) / name).as_posix()

    @contextmanager
    def _finished(self, name: str, fill: Callable[[BinaryIO], object]) -> Iterator[tuple[Path, Path]]:
        """Make a complete, synchronised temporary file beside the target.

        The folder is synchronised after.
        """
        target = self._root / name
        handle, temporary = self._temporary(target)
        try:
            with os.fdopen(handle, "wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            yield temporary, target
            temporary.unlink(missing_ok=True)
            _sync(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _make(folder: Path) -> None:
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(mode=0o700, exist_ok=True)
        _sync(new.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _walk(folder: str, prefix: str, hidden: bool) -> Iterator[str]:
    """Iterate over names of all files below, hidden ones if asked for, in an object store's order.

    Links to files are followed, links to folders are not: they could lead in circles.
    """
    with os.scandir(folder) as found:
        visible = [entry for entry in found if hidden or not entry.name.startswith(".")]
    keyed = sorted((f"{e.name}/" if e.is_dir(follow_symlinks=False) else e.name, e) for e in visible)
    for key, entry in keyed:
        if key.endswith("/"):
            yield from _walk(entry.path, prefix + key, hidden)
        elif _is_file(entry):
            yield prefix + key


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether a path is a file, links to files included; a link that leads in a circle is none."""
    try:
        return entry.is_file()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False

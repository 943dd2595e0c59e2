"""Folders, local or remote, behind one interface: every file is seen whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from frpipe.io.storage import uri as uris
from frpipe.io.storage.failure import Explained, ExplainedFile
from frpipe.io.storage.local_store import LocalStore

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A file in a folder. `version` changes when the content does: an ETag, or the time of change in ns."""

    name: str
    bytes: int
    version: str = ""


class _Store(Protocol):
    def read(self, name: str) -> bytes: ...
    def write(self, name: str, data: bytes) -> None: ...
    def publish(self, name: str, source: Path) -> None: ...
    def adopt(self, name: str, source: Path) -> None: ...
    def create(self, name: str, data: bytes) -> bool: ...
    def exists(self, name: str) -> bool: ...
    def delete(self, names: Iterable[str]) -> None: ...
    def open(self, name: str, ahead: int | None) -> BinaryIO: ...
    def read_range(self, name: str, start: int, end: int) -> bytes: ...
    def names(self, sub: str, hidden: bool) -> Iterator[str]: ...
    def children(self, sub: str) -> list[str]: ...
    def entries(self, sub: str, hidden: bool) -> Iterator[tuple[str, int, str]]: ...
    def stat(self, name: str) -> tuple[int, str]: ...
    def sweep(self, older_than_s: float, of: Callable[[str], bool]) -> int: ...
    def prune(self, sub: str) -> None: ...
    def blocks(self, guesses: Sequence[str] | None) -> Iterator[pa.Table]: ...
    def everything(self) -> Iterator[tuple[str, bool]]: ...


@dataclass(frozen=True)
class Folder:
    """A folder of a local file system or of an object store. Make one with `Folder.at`.

    Names are relative, with `/` between segments. Folders come into being with their first file. Files are
    private to their owner (0600, in folders of mode 0700 where we make them).

    A file that is not there is FileNotFoundError. All else that storage may refuse is StorageError with a
    remedy: no permission, no credentials, no answer, no space, no driver.
    """

    uri: str

    @classmethod
    def at(cls, uri: str) -> Folder:
        """Make the folder at a local path or any fsspec URI; nothing is touched yet."""
        return cls(uris.canonical(uri))

    def __reduce__(self) -> tuple[type[Folder], tuple[str]]:
        return Folder, (self.uri,)

    @property
    def is_local(self) -> bool:
        """Whether the folder is on a mounted file system."""
        return uris.is_local(self.uri)

    def read(self, name: str) -> bytes:
        """Read all bytes of a file."""
        with Explained(self.uri):
            return self._store.read(_checked(name))

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place, over an older one if there is one, and make it durable."""
        with Explained(self.uri):
            self._store.write(_checked(name), data)

    def publish(self, name: str, source: Path) -> None:
        """Put a finished local file in place, as `write` does; it stays where it is."""
        with Explained(self.uri):
            self._store.publish(_checked(name), source)

    def draft(self, name: str) -> Path | None:
        """Make an empty private file on this folder's disk, to fill and `adopt`; None where it is remote.

        It is hidden from `list`. What a killed writer leaves is removed by `sweep`.
        """
        with Explained(self.uri):
            return LocalStore(self.uri).draft(_checked(name)) if self.is_local else None

    def adopt(self, name: str, source: Path) -> None:
        """Put a local file in place, as `publish` does, but moved where it can be; it is gone afterwards."""
        with Explained(self.uri):
            self._store.adopt(_checked(name), source)

    def create(self, name: str, data: bytes) -> bool:
        """Put a file in place only if there is none. Of any number of writers exactly one gets True.

        An object store that loses its answer to us may say False although the object is ours. One that does
        not keep the promise is refused by name, before anything is written: StorageError.
        """
        with Explained(self.uri):
            return self._store.create(_checked(name), data)

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        with Explained(self.uri):
            return self._store.exists(_checked(name))

    def delete(self, name: str) -> None:
        """Remove a file for good: no loss of power brings it back. A file that is not there is no error."""
        with Explained(self.uri):
            self._store.delete([_checked(name)])

    def delete_all(self, names: Iterable[str]) -> None:
        """Remove many files, as `delete`."""
        with Explained(self.uri):
            self._store.delete(map(_checked, names))

    def clear(self, sub: str) -> None:
        """Remove all files below a folder inside, and the folders that are then empty, itself included."""
        self.delete_all(entry.name for entry in self.list(sub))
        with Explained(self.uri):
            self._store.prune(_checked(sub))

    def open(self, name: str, ahead: int | None = None) -> BinaryIO:
        """Open a file for reading, with `seek`.

        ahead: bytes that a store is asked for beyond those that are read; None: many, for a reader of all.
        """
        with Explained(self.uri):
            file = self._store.open(_checked(name), ahead)
        return file if self.is_local else cast(BinaryIO, ExplainedFile(file, self.uri))

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Read the bytes of a file from `start` up to `end`, which lie in it."""
        with Explained(self.uri):
            return self._store.read_range(_checked(name), start, end)

    def list(self, sub: str = "", *, hidden: bool = False) -> list[Entry]:
        """List every file below, sorted by name; hidden and temporary ones (`.name`) only with `hidden`.

        Names are relative to this folder, also where `sub` is given. A folder that is not there is empty.
        """
        with Explained(self.uri):
            found = self._store.entries(_checked(sub) if sub else "", hidden)
            return sorted(Entry(*each) for each in found)

    def walk(self, sub: str = "", *, hidden: bool = False) -> Iterator[str]:
        """Iterate over the names of `list` in the order of the store: mostly sorted, and nothing is held.

        Local files are not asked for their sizes, which takes most of the time of `list`.
        """
        with Explained(self.uri):
            yield from self._store.names(_checked(sub) if sub else "", hidden)

    def walk_blocks(self, guesses: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Iterate as `walk`, hidden files too, over blocks of `LISTED`: names, sizes and versions.

        guesses: sorted names, such as were there before, from which a store may be asked for names while
        those before them are read; None: none are known. They change nothing about what comes, nor its order.
        """
        with Explained(self.uri):
            yield from self._store.blocks(guesses)

    def children(self, sub: str) -> Sequence[str]:
        """List the names of the files directly in a folder inside, in no order; none where it is not there.

        They are relative to that folder, hidden ones among them. No file is asked for its size. Links are
        listed wherever they lead, so that a lost file is not taken for one that never was.
        """
        with Explained(self.uri):
            return self._store.children(_checked(sub))

    def everything(self) -> Iterator[tuple[str, bool]]:
        """Iterate over every name below, hidden too, and whether it can be read as a file of this folder.

        False: a link to a folder, which is not followed, or what is no file (a broken link, a socket).
        """
        with Explained(self.uri):
            yield from self._store.everything()

    def entry(self, name: str) -> Entry:
        """Read size and version of one file."""
        with Explained(self.uri):
            return Entry(name, *self._store.stat(_checked(name)))

    def child(self, sub: str) -> Folder:
        """The folder of this name inside."""
        return Folder(f"{self.uri.rstrip('/')}/{_checked(sub)}")

    def sweep(self, older_than_s: float = 3600.0, of: Callable[[str], bool] = lambda _: True) -> int:
        """Remove temporary files that a killed writer left; return how many there were.

        of: whether those of a file of this name go.
        """
        with Explained(self.uri):
            return self._store.sweep(older_than_s, of)

    @cached_property
    def _store(self) -> _Store:
        if self.is_local:
            return LocalStore(self.uri)
        # It takes Arrow with it, which local photos do without.
        from frpipe.io.storage.remote_store import RemoteStore  # noqa: PLC0415

        return RemoteStore(self.uri)


def _checked(name: str) -> str:
    if not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise ValueError("names in a folder are relative and have no empty, '.' or '..' segments")
    return name

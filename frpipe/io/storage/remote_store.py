"""Store files below a prefix of an object store, or read them from any file system that fsspec knows."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import StorageError
from frpipe.io.storage import uri as uris
from frpipe.io.storage.failure import Failure, classify, codes_of, says_present
from frpipe.io.storage.filesystem import connect
from frpipe.io.storage.listed import NAME, in_blocks, joined
from frpipe.io.storage.s3_listing import S3Listing
from frpipe.io.storage.s3_page import version_of

PROBE_PREFIX = ".frpipe-probe-"
REMEDY = (
    "use a store that honours If-None-Match: * on PUT (an update of this one may), or a local or NFS folder; "
    "`frpipe storage check URI` tries it"
)
_UNKNOWN_CODES = frozenset({"NotImplemented", "501"})
_proven: set[Hashable] = set()


_CONFLICT_TRIES = 5


class Conditional(Protocol):
    """A store whose exclusive create is to be tried.

    try_create: whether the file was created; False: it was there.
    """

    @property
    def address(self) -> str: ...
    def try_create(self, name: str, data: bytes) -> bool: ...
    def delete(self, names: Iterable[str]) -> None: ...


def refuse_unconditional(place: Hashable, store: Conditional) -> None:
    """Raise StorageError, the store named, unless it refuses to create a file that is there.

    place: what names the store in this process; of one that has proven itself nothing is asked again.
    """
    if place in _proven:
        return
    if not is_conditional(store):
        raise StorageError(
            f"{store.address} creates a file that is there already: it does not honour If-None-Match, so "
            "that of two writers at once one would lose its work unnoticed",
            REMEDY,
        )
    _proven.add(place)


def is_conditional(store: Conditional) -> bool:
    """Whether the store refuses the second of two creates. The files of the trial are removed again.

    A first create that is refused is proof, too: its answer was lost, and the store was asked once more.
    Raises StorageError where the store does not know the condition, and what storage raises otherwise.
    """
    name = f"{PROBE_PREFIX}{uuid.uuid4().hex}"
    try:
        return not (store.try_create(name, b"1") and store.try_create(name, b"2"))
    except Exception as error:
        if codes_of(error).isdisjoint(_UNKNOWN_CODES):
            raise
        raise StorageError(f"{store.address} does not know If-None-Match on PUT", REMEDY) from error
    finally:
        # Without the right to delete, a byte stays under a hidden name: no reason to refuse the store.
        with suppress(Exception):
            store.delete([name])


class RemoteStore:
    """Objects below a URI, by names relative to it."""

    def __init__(self, uri: str) -> None:
        self._fs = connect(uri)
        self._scheme, _ = uris.split(uri)
        self._root = str(self._fs._strip_protocol(uri)).rstrip("/")

    def read(self, name: str) -> bytes:
        return bytes(self._fs.cat_file(self._path(name)))

    def write(self, name: str, data: bytes) -> None:
        self._fs.pipe_file(self._writable(name), data)

    def publish(self, name: str, source: Path) -> None:
        self._fs.put_file(str(source), self._writable(name))

    def adopt(self, name: str, source: Path) -> None:
        self.publish(name, source)
        source.unlink()

    def create(self, name: str, data: bytes) -> bool:
        """Create an object on S3 with one PUT and `If-None-Match.

        *`, which the store has first proven to obey.

        Raises StorageError, and writes nothing, where the store takes a second create for the first.
        """
        path = self._writable(name)
        refuse_unconditional(self._place, self)
        return self._create(path, data)

    def try_create(self, name: str, data: bytes) -> bool:
        """Create an object as `create`, in a store that has proven nothing."""
        return self._create(self._writable(name), data)

    @property
    def address(self) -> str:
        """Name of the store for people: its scheme and bucket, and the endpoint where there is one."""
        scheme, bucket, endpoint = self._place
        return f"{scheme}://{bucket}{f' at {endpoint}' if endpoint else ''}"

    def _create(self, path: str, data: bytes) -> bool:
        """Create an object; on 409 (another writer is at it) ask again."""
        for remaining in reversed(range(_CONFLICT_TRIES)):
            try:
                self._fs.pipe_file(path, data, mode="create")
            except Exception as error:
                if says_present(error):
                    return False
                if classify(error) is Failure.CONFLICT and remaining:
                    continue
                raise
            return True
        return False

    def exists(self, name: str) -> bool:
        try:
            return bool(self._fs.info(self._path(name))["type"] == "file")
        except FileNotFoundError:
            return False

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError):
                self._fs.rm_file(self._writable(name))

    def open(self, name: str, ahead: int | None = None) -> BinaryIO:
        return cast(BinaryIO, self._fs.open(self._path(name), "rb", block_size=ahead))

    def read_range(self, name: str, start: int, end: int) -> bytes:
        try:
            return bytes(self._fs.cat_file(self._path(name), start=start, end=end))
        except FileNotFoundError:
            raise
        except Exception:
            # A store refuses a range that begins where the file has ended; a disk gives nothing.
            if self.stat(name)[0] <= start:
                return b""
            raise

    def names(self, sub: str, hidden: bool = False) -> Iterator[str]:
        for name, _, _ in self.entries(sub, hidden):
            yield name

    def entries(self, sub: str, hidden: bool = False) -> Iterator[tuple[str, int, str]]:
        for name, size, version in self._found(sub):
            if hidden or not any(segment.startswith(".") for segment in name.split("/")):
                yield name, size, version

    def blocks(self, guesses: Sequence[str] | None) -> Iterator[pa.Table]:
        if self._scheme != "s3":
            yield from in_blocks(self._found(""))
            return
        yield from joined(self._below_root(each) for each in self._listing("").at_once(guesses))

    def children(self, sub: str) -> list[str]:
        start = len(sub) + 1
        return [name[start:] for name in self.names(sub, hidden=True) if "/" not in name[start:]]

    def everything(self) -> Iterator[tuple[str, bool]]:
        for name, _, _ in self._found(""):
            yield name, True

    def stat(self, name: str) -> tuple[int, str]:
        info = self._fs.info(self._path(name))
        if info["type"] != "file":
            raise FileNotFoundError(name)
        return int(info["size"] or 0), version_of(info)

    def sweep(self, older_than_s: float, of: Callable[[str], bool]) -> int:
        return 0

    def prune(self, sub: str) -> None:
        """Do nothing: object stores have no folders."""

    @cached_property
    def _place(self) -> tuple[str, str, str]:
        """The store that one proof holds for: its scheme, bucket and endpoint."""
        endpoint = str(self._fs.s3.meta.endpoint_url) if self._scheme == "s3" else ""
        return self._scheme, self._root.partition("/")[0], endpoint

    def _found(self, sub: str) -> Iterator[tuple[str, int, str]]:
        """Iterate over files: name, size, version."""
        if self._scheme == "s3":
            for page in self._listing(sub).one_by_one():
                files = self._below_root(page)
                yield from zip(*(column.to_pylist() for column in files.columns), strict=True)
            return
        folder, start = self._path(sub) if sub else self._root, len(self._root) + 1
        try:
            found = self._fs.find(folder, detail=True)
        except FileNotFoundError:
            return
        for path, info in sorted((path, info) for path, info in found.items() if path != folder):
            if path[start:] and not path.endswith("/"):
                yield path[start:], int(info["size"] or 0), version_of(info)

    def _listing(self, sub: str) -> S3Listing:
        bucket, _, key = (self._path(sub) if sub else self._root).partition("/")
        return S3Listing(self._fs, bucket, f"{key}/" if key else "")

    def _below_root(self, files: pa.Table) -> pa.Table:
        """Name files of a bucket from the root on; objects that stand for folders are left out."""
        key = self._root.partition("/")[2]
        names = pc.utf8_slice_codeunits(files[NAME], len(key) + 1) if key else files[NAME]
        files = files.set_column(0, NAME, names)
        is_none = pc.or_(pc.equal(names, ""), pc.ends_with(names, "/"))
        return files.filter(pc.invert(is_none)) if pc.any(is_none, min_count=0).as_py() else files

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _writable(self, name: str) -> str:
        if self._scheme not in uris.WRITABLE:
            raise StorageError(
                f"cannot write to {self._scheme}://: that one of two writers wins there is not proven",
                "write to a local or NFS folder, or to s3://",
            )
        return self._path(name)

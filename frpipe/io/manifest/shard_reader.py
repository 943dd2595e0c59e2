"""Fetch members of shards: by ranges from a .tar or .zip that is indexed once, in one pass from a .tar.gz."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from threading import Lock
from typing import Any, BinaryIO, Protocol, TypeVar

from frpipe.core.reasons import Reject
from frpipe.io.manifest.shard_ref import ShardRef
from frpipe.io.manifest.shards import ShardIndex, extract, photos_of_stream
from frpipe.io.storage import uri as uris
from frpipe.io.storage.window import ReadRange

T = TypeVar("T")
# Headers of a .tar in a store: a request takes as long as reading so much.
_LOCAL_WINDOW, _REMOTE_WINDOW = 4096, 256 << 10
_STREAM_BLOCK = 8 << 20


class _Tried(Protocol):
    def __call__(self, location: str, read: Callable[[], T], /) -> T: ...


class ShardReader:
    """Read members of shards; each shard is indexed once in the reader's life.

    opened: a local file, inside what bounds it.  remote: the file system of a location.  tried: gives what a
    function reads of a location, or raises Reject.  most_held: bytes of photos that wait for their turn.
    """

    def __init__(
        self,
        opened: Callable[[str, str | None], AbstractContextManager[BinaryIO]],
        remote: Callable[[str], Any],
        tried: _Tried,
        max_bytes: int,
        most_held: int,
    ) -> None:
        self._opened, self._remote, self._tried = opened, remote, tried
        self._max_bytes, self._most_held = max_bytes, most_held
        self._indexes: dict[str, ShardIndex] = {}
        self._sizes: dict[str, int] = {}
        self._indexing = Lock()

    def member(self, ref: ShardRef, folder: str | None) -> bytes:
        """Read a member of a .tar or .zip. folder: what bounds a local shard, as in `Fetcher.fetch`."""
        return self._tried(ref.file, partial(self._member, ref, folder))

    def _member(self, ref: ShardRef, folder: str | None) -> bytes:
        with self._ranges(ref.file, folder) as (read, size):
            with self._indexing:
                if ref.file not in self._indexes:
                    window = _LOCAL_WINDOW if uris.is_local(ref.file) else _REMOTE_WINDOW
                    self._indexes[ref.file] = ShardIndex.of(ref.file, read, size, window)
            member = self._indexes[ref.file].find(ref.member)
            return extract(member, read, self._max_bytes)

    def stream(self, refs: Sequence[ShardRef], folder: str | None) -> Iterator[bytes | Reject]:
        """Iterate over members of one .tar.gz, in the order of `refs`.

        That is one pass where the shard has them in the same order, or all of them may be held.
        """
        shard = refs[0].file
        left = Counter(ref.member for ref in refs)
        held: dict[str, bytes | Reject] = {}
        current, passing = "", None

        def wants(name: str) -> bool:
            few = sum(len(each) for each in held.values() if isinstance(each, bytes)) < self._most_held
            return name == current or (few and name in left)

        def step() -> tuple[str, bytes | Reject] | None:
            nonlocal passing
            going, passing = passing or self._pass(shard, folder, {*left} - {*held}, wants), None
            found = next(going, None)
            passing = going if found else None
            return found

        for ref in refs:
            current = ref.member
            while current not in held:
                try:
                    found = self._tried(shard, step)
                except Reject as why:
                    found = current, why
                held.update([found] if found else [])
            yield held[current]
            left[current] -= 1
            if not left[current]:
                del left[current], held[current]

    def _pass(
        self, shard: str, folder: str | None, names: set[str], wants: Callable[[str], bool]
    ) -> Iterator[tuple[str, bytes | Reject]]:
        if uris.is_local(shard):
            with self._opened(shard, folder) as file:
                size = os.fstat(file.fileno()).st_size
                yield from photos_of_stream(file, size, names, wants, self._max_bytes)
            return
        with self._remote(shard).open(shard, "rb", block_size=_STREAM_BLOCK) as file:
            yield from photos_of_stream(file, file.size, names, wants, self._max_bytes)

    @contextmanager
    def _ranges(self, location: str, folder: str | None) -> Iterator[tuple[ReadRange, int]]:
        """Open a file: a function that reads ranges of it, and its size."""
        if uris.is_local(location):
            with self._opened(location, folder) as file:
                handle, size = file.fileno(), os.fstat(file.fileno()).st_size
                yield lambda start, end: os.pread(handle, max(min(end, size) - start, 0), start), size
            return
        store = self._remote(location)
        if location not in self._sizes:
            self._sizes[location] = int(store.info(location)["size"])
        size = self._sizes[location]

        def read(start: int, end: int) -> bytes:
            return bytes(store.cat_file(location, start=start, end=min(end, size))) if start < size else b""

        yield read, size

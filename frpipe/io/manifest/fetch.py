"""Fetch encoded photos from where they lie: one at a time, or many in order with some fetched ahead."""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar

from frpipe.core.config import Config
from frpipe.core.reasons import Reason, Reject
from frpipe.io.manifest.arrivals import Arrivals
from frpipe.io.manifest.roots import BAD, Roots
from frpipe.io.manifest.row_ref import RowRef, embedded_photos
from frpipe.io.manifest.shard_ref import ShardRef
from frpipe.io.storage import uri as uris
from frpipe.io.storage.failure import Failure, classify, codes_of, describe, storage_error
from frpipe.io.storage.filesystem import connect

if TYPE_CHECKING:
    from frpipe.io.manifest.shard_reader import ShardReader
    from frpipe.io.manifest.web.client import WebClient

T = TypeVar("T")
# These stop the job: they are the operator's to mend, and would reject every photo that is left.
_FATAL = frozenset({Failure.CREDENTIALS, Failure.UNREACHABLE})
_AHEAD_BYTES = 256 << 20
# A hand-over between threads takes longer than reading a small local file: 0.2 ms against 0.02 ms.
_LOCAL_CHUNK = 8
# Its location, and the folder that bounds it.
_Photo = tuple[str, str | None]
_FINAL = {Failure.MISSING: Reason.NOT_FOUND, Failure.DENIED: Reason.ACCESS_DENIED}


class Fetcher:
    """Reader of photos by their location in the plan.

    roots: as in the configuration; checked again here, as links may have changed since the plan, on the file
    that is open.
    attempts: tries of a photo whose reading fails.  max_bytes: larger photos are not read.
    pause_s: wait before the second try, doubled for each further one.
    web_timeout_s, at_once, networks: of web servers, as in `WebLimits`.
    """

    def __init__(
        self,
        roots: tuple[str, ...],
        attempts: int,
        max_bytes: int,
        *,
        pause_s: float = 0.2,
        web_timeout_s: float = 20.0,
        at_once: int = 16,
        networks: tuple[str, ...] = (),
        any_format: bool = True,
    ) -> None:
        self._roots = Roots(roots)
        self._folders: dict[str, Roots] = {}
        self._attempts = attempts
        self._max_bytes = max_bytes
        self._pause_s = pause_s
        self._remotes: dict[str, Any] = {}
        self._of_web: dict[str, Any] = {
            "timeout_s": web_timeout_s,
            "at_once": at_once,
            "networks": networks,
            "any_format": any_format,
        }
        self._client: WebClient | None = None
        self._lock = Lock()

    @classmethod
    def of(cls, config: Config) -> Self:
        """Make a fetcher, as a configuration says."""
        storage, resources = config.storage, config.resources
        return cls(
            storage.roots,
            storage.fetch_attempts,
            config.decode.max_bytes,
            # A worker that waits longer for the last photos of a part would be taken for stalled.
            web_timeout_s=min(storage.http_timeout_s, resources.stall_timeout_s / 2),
            at_once=resources.fetch_threads,
            networks=storage.private_networks,
            any_format=bool(config.decode.plugins),
        )

    def fetch(self, location: str, folder: str | None = None) -> bytes:
        """Fetch all bytes of a photo.

        folder: what bounds a local photo where there are no roots; None: nothing. Raises Reject: NOT_FOUND,
        ACCESS_DENIED, FETCH_FAILED, OUTSIDE_ROOT, BAD_ADDRESS, EMPTY, TOO_MANY_BYTES, BAD_MEMBER; and
        StorageError where an object store has no credentials for us or cannot be reached.
        """
        if location.startswith(BAD):
            raise Reject(Reason.BAD_ADDRESS, location.removeprefix(BAD))
        ref = RowRef.parse(location)
        if ref is not None:
            return _photo_of(next(self._bounded(embedded_photos([ref]))))
        shard = ShardRef.parse(location)
        if shard is None and uris.is_web(location):
            return _photo_of(self._web.fetch(self._allowed(location)).result())
        if shard is None:
            return self._tried(location, partial(self._once, location, folder))
        if shard.is_streamed:
            return _photo_of(next(self._bounded(self._shards.stream([shard], folder))))
        return self._sized(self._shards.member(shard, folder))

    def _tried(self, location: str, read: Callable[[], T]) -> T:
        """Call `read` until it does not fail. location: of the file that it reads."""
        if uris.is_web(self._allowed(location)):
            raise Reject(Reason.FETCH_FAILED, "shards are not read from web servers")
        for attempt in range(1, self._attempts + 1):
            try:
                return read()
            except Reject:
                raise
            except Exception as error:  # noqa: BLE001 - libraries of stores share no base class
                self._judge(error, location, last=attempt == self._attempts)
            time.sleep(self._pause_s * 2 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")

    def _allowed(self, location: str) -> str:
        """Check a location, and return it. Raises Reject: OUTSIDE_ROOT."""
        if not uris.is_local(location) and not self._roots.allows(location):
            raise Reject(Reason.OUTSIDE_ROOT, "not in storage.roots")
        return location

    def stream(
        self,
        locations: Iterable[str],
        threads: int,
        ahead: int,
        folders: Sequence[str | None] | None = None,
    ) -> Iterator[bytes | Reject]:
        """Iterate over photos, or why there is none, in the order of the locations.

        At most `ahead` are held, and no more are asked for while those take 256 MiB. folders: of each photo,
        as in `fetch`. Embedded photos of a file, and members of a .tar.gz, are read in one pass, whatever
        lies between them.
        """
        listed = list(locations)
        photos = list(zip(listed, folders or [None] * len(listed), strict=True))
        kinds = [_kind(location) for location in listed]
        together: dict[str, list[_Photo]] = {}
        for kind, photo in zip(kinds, photos, strict=True):
            together.setdefault(kind, []).append(photo)
        with ExitStack() as stack:
            answers = {
                kind: stack.enter_context(closing(self._of_kind(kind, some, threads, max(ahead, 1))))
                for kind, some in together.items()
            }
            for kind in kinds:
                yield next(answers[kind])

    def _of_kind(
        self, kind: str, photos: Sequence[_Photo], threads: int, ahead: int
    ) -> Generator[bytes | Reject, None, None]:
        """Iterate over photos of one kind (see `_kind`), in order."""
        places = [location for location, _ in photos]
        if kind.startswith("row "):
            yield from self._bounded(embedded_photos([ref for at in places if (ref := RowRef.parse(at))]))
        elif kind:
            members = [member for at in places if (member := ShardRef.parse(at))]
            yield from self._bounded(self._shards.stream(members, photos[0][1]))
        else:
            yield from self._threaded(photos, threads, ahead)

    @cached_property
    def _shards(self) -> ShardReader:
        from frpipe.io.manifest.shard_reader import ShardReader  # noqa: PLC0415 - archives take long to import

        return ShardReader(self._opened, self._remote, self._tried, self._max_bytes, _AHEAD_BYTES)

    def arrivals(
        self,
        locations: Sequence[str],
        threads: int,
        ahead: int,
        folders: Sequence[str | None] | None = None,
    ) -> Iterator[tuple[int, bytes | Reject]]:
        """Iterate over photos with their numbers, as `stream`, in order but for those of slow web servers.

        They come when they are there, and the others do not wait for them; but where photos are read in one
        pass, too, all come in order.
        """
        if not any(map(_is_web_photo, locations)) or any(map(_kind, locations)):
            yield from enumerate(self.stream(locations, threads, ahead, folders))
            return
        from frpipe.io.manifest.web.host import host_of  # noqa: PLC0415

        pool = ThreadPoolExecutor(threads, thread_name_prefix="fetch")

        def start(number: int) -> Future[bytes | Reject]:
            location = locations[number]
            if _is_web_photo(location) and self._roots.allows(location):
                return self._web.fetch(location)
            return pool.submit(self._answer, location, folders[number] if folders else None)

        hosts = [host_of(location) if _is_web_photo(location) else "" for location in locations]
        try:
            yield from Arrivals(
                hosts,
                start,
                lambda host: bool(host) and self._web.is_slow(host),
                ahead=max(ahead, 1),
                of_slow=threads,
                most_bytes=_AHEAD_BYTES,
            )
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    @property
    def _web(self) -> WebClient:
        from frpipe.io.manifest.web.client import WebClient, WebLimits  # noqa: PLC0415 - takes asyncio with it

        with self._lock:
            if self._client is None:
                limits = WebLimits(self._max_bytes, self._attempts, self._pause_s, **self._of_web)
                self._client = WebClient(self._roots, limits)
            return self._client

    def _threaded(self, photos: Sequence[_Photo], threads: int, ahead: int) -> Iterator[bytes | Reject]:
        size = min(_LOCAL_CHUNK, ahead) if all(uris.is_local(location) for location, _ in photos) else 1
        todo = (photos[start : start + size] for start in range(0, len(photos), size))
        most = max(ahead // size, 1)
        pool = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
        try:
            pending: deque[Future[list[bytes | Reject]]] = deque(
                pool.submit(self._answers, chunk) for chunk in islice(todo, most)
            )
            while pending:
                yield from pending.popleft().result()
                if not pending or _held(pending) < _AHEAD_BYTES:
                    more = islice(todo, most - len(pending))
                    pending.extend(pool.submit(self._answers, chunk) for chunk in more)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _answers(self, photos: Sequence[_Photo]) -> list[bytes | Reject]:
        return [self._answer(*photo) for photo in photos]

    def _answer(self, location: str, folder: str | None) -> bytes | Reject:
        try:
            return self.fetch(location, folder)
        except Reject as why:
            return why

    @contextmanager
    def _opened(self, location: str, folder: str | None) -> Iterator[BinaryIO]:
        """Open a local file inside the roots, or else inside its folder."""
        bounds, why = self._roots, "not in storage.roots"
        if not self._roots and folder is not None:
            with self._lock:
                bounds = self._folders.setdefault(folder, Roots((folder,)))
            why = "a link out of the folder"
        with _open_inside(bounds, location, why) if bounds else _open_local(location) as file:
            yield file

    def _bounded(self, photos: Iterator[bytes | Reject]) -> Iterator[bytes | Reject]:
        for photo in photos:
            try:
                yield photo if isinstance(photo, Reject) else self._sized(photo)
            except Reject as why:
                yield why

    def _once(self, location: str, folder: str | None) -> bytes:
        if not uris.is_local(location):
            return self._sized(self._read_remote(location))
        with self._opened(location, folder) as file:
            return self._sized(_read_whole(file, self._max_bytes))

    def _read_remote(self, location: str) -> bytes:
        """Read a photo with one ranged GET.

        One byte too many shows that it is too large, without asking for its size.
        """
        try:
            return bytes(self._remote(location).cat_file(location, start=0, end=self._max_bytes + 1))
        except Exception as error:
            # An empty object has no first byte, which stores answer with 416 (InvalidRange).
            if not codes_of(error).isdisjoint({"InvalidRange", "416"}):
                return b""
            raise

    def _remote(self, location: str) -> Any:
        """The file system of a host or bucket; all threads share it, as a client is costly to make."""
        scheme, rest = uris.split(location)
        key = f"{scheme}://{rest.split('/', 1)[0]}"
        with self._lock:
            if key not in self._remotes:
                self._remotes[key] = connect(location)
            return self._remotes[key]

    def _judge(self, error: Exception, location: str, last: bool) -> None:
        """Raise what a failure means, unless another try may help."""
        kind = classify(error)
        scheme, _ = uris.split(location)
        if kind in _FINAL:
            raise Reject(_FINAL[kind], describe(error)) from error
        if scheme in uris.OBJECT_STORES and kind in _FATAL:
            raise storage_error(error, f"{scheme}://") from error
        if last:
            raise Reject(Reason.FETCH_FAILED, describe(error)) from error

    def _sized(self, photo: bytes) -> bytes:
        return sized(photo, self._max_bytes)


def _is_web_photo(location: str) -> bool:
    return uris.is_web(location) and ShardRef.parse(location) is None


def _photo_of(answer: bytes | Reject) -> bytes:
    if isinstance(answer, Reject):
        raise answer
    return answer


def sized(photo: bytes, max_bytes: int) -> bytes:
    """Check the size of a photo, and return it. Raises Reject: EMPTY, TOO_MANY_BYTES."""
    if not photo:
        raise Reject(Reason.EMPTY, "no bytes")
    if len(photo) > max_bytes:
        raise Reject(Reason.TOO_MANY_BYTES, f"more than {max_bytes} bytes")
    return photo


def _held(pending: Iterable[Future[list[bytes | Reject]]]) -> int:
    """Count the bytes of the photos that are fetched and wait to be used."""
    photos = (photo for future in pending if future.done() for photo in future.result())
    return sum(len(photo) for photo in photos if isinstance(photo, bytes))


def _kind(location: str) -> str:
    """The source that photos share if they are read in one pass: a file of rows, a .tar.gz; empty: none."""
    if ref := RowRef.parse(location):
        return f"row {ref.file}"
    shard = ShardRef.parse(location)
    return shard.file if shard is not None and shard.is_streamed else ""


def _open_inside(bounds: Roots, location: str, why: str) -> BinaryIO:
    """Open a file that is inside the bounds once it is open, whatever becomes of links meanwhile."""

    def check(path: str) -> None:
        if not bounds.hold_real(path):
            raise Reject(Reason.OUTSIDE_ROOT, why)

    real = bounds.real(location)
    check(real)
    return _open_local(real, os.O_NOFOLLOW, lambda handle: check(_path_of(handle, real)))


def _path_of(handle: int, path: str) -> str:
    """Real path of an open file.

    Where the system does not say: where `path` leads now, if it is that file.
    """
    try:
        return str(Path(f"/proc/self/fd/{handle}").readlink())
    except FileNotFoundError:
        real = os.path.realpath(path)
        return real if os.path.samestat(os.fstat(handle), os.lstat(real)) else ""


def _open_local(path: str, flags: int = 0, check: Callable[[int], None] = lambda _: None) -> BinaryIO:
    """Open a regular file only: a pipe would block for ever, a device would not end.

    check: of the open file.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags), "rb", buffering=0)
    try:
        check(file.fileno())
        _check_regular(file)
    except BaseException:
        file.close()
        raise
    return file


def _check_regular(file: BinaryIO) -> None:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise Reject(Reason.FETCH_FAILED, "not a regular file")


def _read_whole(file: BinaryIO, max_bytes: int) -> bytes:
    size = os.fstat(file.fileno()).st_size
    if size > max_bytes:
        raise Reject(Reason.TOO_MANY_BYTES, f"{size} bytes, limit {max_bytes}")
    return file.read()

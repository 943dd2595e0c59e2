"""Fetch encoded photos from where they lie: one at a time, or many in order with some fetched ahead."""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

from frpipe.core.config import Config
from frpipe.core.reasons import Reason, Reject
from frpipe.io.manifest.arrivals import Arrivals
from frpipe.io.manifest.roots import Roots
from frpipe.io.manifest.row_ref import RowRef, embedded_photos
from frpipe.io.storage import uri as uris
from frpipe.io.storage.failure import Failure, classify, codes_of, describe, storage_error
from frpipe.io.storage.filesystem import connect

if TYPE_CHECKING:
    from frpipe.io.manifest.web.client import WebClient

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
    ) -> None:
        self._roots = Roots(roots)
        self._folders: dict[str, Roots] = {}
        self._attempts = attempts
        self._max_bytes = max_bytes
        self._pause_s = pause_s
        self._remotes: dict[str, Any] = {}
        self._of_web: dict[str, Any] = {"timeout_s": web_timeout_s, "at_once": at_once, "networks": networks}
        self._client: WebClient | None = None
        self._lock = Lock()

    @classmethod
    def of(cls, config: Config) -> Self:
        """A fetcher, as a configuration says."""
        storage, resources = config.storage, config.resources
        return cls(
            storage.roots,
            storage.fetch_attempts,
            config.decode.max_bytes,
            # A worker that waits longer for the last photos of a part would be taken for stalled.
            web_timeout_s=min(storage.http_timeout_s, resources.stall_timeout_s / 2),
            at_once=resources.fetch_threads,
            networks=storage.private_networks,
        )

    def fetch(self, location: str, folder: str | None = None) -> bytes:
        """All bytes of a photo. folder: what bounds a local photo where there are no roots; None: nothing.

        Raises Reject: NOT_FOUND, ACCESS_DENIED, FETCH_FAILED, OUTSIDE_ROOT, EMPTY, TOO_MANY_BYTES; and
        StorageError where an object store has no credentials for us or cannot be reached at all.
        """
        ref = RowRef.parse(location)
        if ref is not None:
            return self._embedded(ref)
        if not uris.is_local(location) and not self._roots.allows(location):
            raise Reject(Reason.OUTSIDE_ROOT, "not in storage.roots")
        if uris.is_web(location):
            return _photo_of(self._web.fetch(location).result())
        for attempt in range(1, self._attempts + 1):
            try:
                return self._once(location, folder)
            except Reject:
                raise
            except Exception as error:  # noqa: BLE001 - libraries of stores share no base class
                self._judge(error, location, last=attempt == self._attempts)
            time.sleep(self._pause_s * 2 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")

    def stream(
        self,
        locations: Iterable[str],
        threads: int,
        ahead: int,
        folders: Sequence[str | None] | None = None,
    ) -> Iterator[bytes | Reject]:
        """Photos, or why there is none, in the order of the locations; at most `ahead` are held, and no
        more are asked for while those take 256 MiB. folders: of each photo, as in `fetch`.

        Embedded photos of one file are read in one pass, not one by one.
        """
        listed = list(locations)
        refs = [RowRef.parse(location) for location in listed]
        if refs and all(refs):
            return self._bounded(embedded_photos([ref for ref in refs if ref]))
        photos = list(zip(listed, folders or [None] * len(listed), strict=True))
        return self._threaded(photos, threads, max(ahead, 1))

    def arrivals(
        self,
        locations: Sequence[str],
        threads: int,
        ahead: int,
        folders: Sequence[str | None] | None = None,
    ) -> Iterator[tuple[int, bytes | Reject]]:
        """The same with their numbers, in order but for photos of slow web servers.

        They come when they are there, and the others do not wait for them.
        """
        if not any(map(uris.is_web, locations)):
            yield from enumerate(self.stream(locations, threads, ahead, folders))
            return
        from frpipe.io.manifest.web.host import host_of  # noqa: PLC0415

        pool = ThreadPoolExecutor(threads, thread_name_prefix="fetch")

        def start(number: int) -> Future[bytes | Reject]:
            location = locations[number]
            if uris.is_web(location) and self._roots.allows(location):
                return self._web.fetch(location)
            return pool.submit(self._answer, location, folders[number] if folders else None)

        hosts = [host_of(location) if uris.is_web(location) else "" for location in locations]
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

    def _embedded(self, ref: RowRef) -> bytes:
        return _photo_of(next(self._bounded(embedded_photos([ref]))))

    def _bounded(self, photos: Iterator[bytes | Reject]) -> Iterator[bytes | Reject]:
        for photo in photos:
            try:
                yield photo if isinstance(photo, Reject) else self._sized(photo)
            except Reject as why:
                yield why

    def _once(self, location: str, folder: str | None) -> bytes:
        if not uris.is_local(location):
            return self._sized(self._read_remote(location))
        if self._roots:
            return self._sized(_read_inside(self._roots, location, self._max_bytes, "not in storage.roots"))
        if folder is not None:
            with self._lock:
                bounds = self._folders.setdefault(folder, Roots((folder,)))
            return self._sized(_read_inside(bounds, location, self._max_bytes, "a link out of the folder"))
        return self._sized(_read_local(location, self._max_bytes))

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
        """Raise or return what a failure means; returns if another try may help."""
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


def _photo_of(answer: bytes | Reject) -> bytes:
    if isinstance(answer, Reject):
        raise answer
    return answer


def sized(photo: bytes, max_bytes: int) -> bytes:
    """The same photo. Raises Reject: EMPTY, TOO_MANY_BYTES."""
    if not photo:
        raise Reject(Reason.EMPTY, "no bytes")
    if len(photo) > max_bytes:
        raise Reject(Reason.TOO_MANY_BYTES, f"more than {max_bytes} bytes")
    return photo


def _held(pending: Iterable[Future[list[bytes | Reject]]]) -> int:
    """Bytes of the photos that are fetched and wait to be used."""
    photos = (photo for future in pending if future.done() for photo in future.result())
    return sum(len(photo) for photo in photos if isinstance(photo, bytes))


def _read_inside(bounds: Roots, location: str, max_bytes: int, why: str) -> bytes:
    """Read a file that is inside the bounds once it is open, whatever becomes of links meanwhile."""

    def check(path: str) -> None:
        if not bounds.hold_real(path):
            raise Reject(Reason.OUTSIDE_ROOT, why)

    real = bounds.real(location)
    check(real)
    return _read_local(real, max_bytes, os.O_NOFOLLOW, lambda handle: check(_path_of(handle, real)))


def _path_of(handle: int, path: str) -> str:
    """Real path of an open file.

    Where the system does not say: where `path` leads now, if it is that file.
    """
    try:
        return str(Path(f"/proc/self/fd/{handle}").readlink())
    except FileNotFoundError:
        real = os.path.realpath(path)
        return real if os.path.samestat(os.fstat(handle), os.lstat(real)) else ""


def _read_local(
    path: str, max_bytes: int, flags: int = 0, check: Callable[[int], None] = lambda _: None
) -> bytes:
    """Read a regular file only: a pipe would block for ever, a device would not end.

    check: of the open file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    with os.fdopen(handle, "rb", buffering=0) as file:
        check(handle)
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise Reject(Reason.FETCH_FAILED, "not a regular file")
        if found.st_size > max_bytes:
            raise Reject(Reason.TOO_MANY_BYTES, f"{found.st_size} bytes, limit {max_bytes}")
        return file.read()

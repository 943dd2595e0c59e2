"""Fetch photos from web servers, within limits of bytes, time, redirects and addresses."""

from __future__ import annotations

import asyncio
import re
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from urllib.parse import quote, urljoin

import aiohttp
from yarl import URL

from frpipe.core.reasons import Reason, Reject
from frpipe.io.manifest.roots import Roots, refuse_parent
from frpipe.io.manifest.row_faults import BadRow
from frpipe.io.manifest.web.addresses import Addresses, PrivateAddress
from frpipe.io.manifest.web.host import LATE_S, Host, host_of
from frpipe.io.manifest.web.reply import REDIRECTS, Again, Room, TooSlow, photo_of
from frpipe.io.storage import uri as uris

# Identity: a compressed body could become of any size.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "frpipe"}
_MOST_REDIRECTS = 5
# Late photos under way, of all hosts together.
_MOST_LATE = 256
_MOST_HOSTS = 4096
# A name server that does not answer holds a thread for each name.
_NAME_THREADS = 64
_ROOM = 128 << 20
# An idle connection is kept for so long; where each photo has a host of its own, they add up.
_KEPT_S = 5.0
# Everything in ASCII but blanks and controls goes out as it is written.
_AS_WRITTEN = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True)
class WebLimits:
    """Limits of what fetching a photo may cost.

    timeout_s: for the whole photo, with redirects, waits and further tries.  attempts: tries, beside those
    that a server itself asks for.  pause_s: wait before the second try, doubled for each further one.
    at_once: photos under way, of each host and of all hosts that are not late.
    networks: private networks that may be connected to.  any_format: whether what does not begin as a format
    that is known may be a photo; otherwise no more than its beginning is read.
    """

    max_bytes: int
    attempts: int = 3
    pause_s: float = 0.2
    timeout_s: float = 20.0
    at_once: int = 16
    networks: tuple[str, ...] = ()
    any_format: bool = True


class WebClient:
    """A client with connections of its own, kept and used again, in a thread of its own.

    roots: where redirects may lead. An address is checked where the connection is made.
    """

    def __init__(self, roots: Roots, limits: WebLimits) -> None:
        self._roots, self._limits = roots, limits
        self._hosts: dict[str, Host] = {}
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(_NAME_THREADS, thread_name_prefix="names"))
        thread = threading.Thread(target=_run, args=(self._loop,), name="web", daemon=True)
        thread.start()
        self._prompt, self._late = asyncio.Semaphore(limits.at_once), asyncio.Semaphore(_MOST_LATE)
        self._room = Room(max(_ROOM, limits.max_bytes))
        addresses = Addresses(roots.remote, limits.networks)
        self._session = asyncio.run_coroutine_threadsafe(_session(addresses), self._loop).result()
        weakref.finalize(self, _close, thread, self._loop, self._session)

    def fetch(self, location: str) -> Future[bytes | Reject]:
        """Ask for a photo.

        It may be a Reject: NOT_FOUND, ACCESS_DENIED, FETCH_FAILED, OUTSIDE_ROOT, EMPTY, TOO_MANY_BYTES,
        UNKNOWN_FORMAT.
        """
        return asyncio.run_coroutine_threadsafe(self._answer(location), self._loop)

    def is_slow(self, name: str) -> bool:
        """Whether others should not wait for photos of a host."""
        host = self._hosts.get(name)
        return host is not None and host.is_slow()

    async def _answer(self, location: str) -> bytes | Reject:
        host = self._host(location)
        async with host.lane:
            with self._kept(host, await self._taken(host)):
                try:
                    return await self._in_time(location, host)
                except Reject as why:
                    # Another one: this holds the frames that it passed, and with them what was read.
                    return Reject(why.reason, why.detail)

    def _host(self, location: str) -> Host:
        name = host_of(location)
        if name not in self._hosts:
            if len(self._hosts) >= _MOST_HOSTS:
                self._hosts.clear()
            self._hosts[name] = Host(self._limits.at_once)
        return self._hosts[name]

    async def _taken(self, host: Host) -> asyncio.Semaphore:
        """Take a place among the prompt photos, or among the late where the host is slow."""
        if not host.is_slow():
            await self._prompt.acquire()
            if not host.is_slow():
                return self._prompt
            self._prompt.release()
        await self._late.acquire()
        return self._late

    @contextmanager
    def _kept(self, host: Host, places: asyncio.Semaphore) -> Iterator[None]:
        """Keep a place that was taken. One among the prompt is given back as soon as the photo is late."""
        with ExitStack() as place:
            place.callback(places.release)

            def turn_late() -> None:
                if places is self._prompt:
                    place.close()
                place.enter_context(host.late_photo())

            timer = self._loop.call_later(LATE_S, turn_late)
            place.callback(timer.cancel)
            yield

    async def _in_time(self, location: str, host: Host) -> bytes:
        start, patience_s = self._loop.time(), host.patience_s(self._limits.timeout_s)
        before = f", as the last {host.strikes} of its host" if host.is_doubted else ""
        try:
            async with asyncio.timeout(patience_s):
                photo = await self._tried(location, host, start + patience_s)
        except (TimeoutError, TooSlow) as error:
            host.strike()
            said = str(error) or host.said or f"not there in {patience_s:g} s"
            raise Reject(Reason.FETCH_FAILED, f"timed out: {said}{before}") from None
        except Reject:
            host.came(self._loop.time() - start)
            raise
        host.came(self._loop.time() - start)
        return photo

    async def _tried(self, location: str, host: Host, until: float) -> bytes:
        """Ask until there is an answer that lasts, or as often as is allowed."""
        left = 1 if host.is_doubted else self._limits.attempts
        for number in count():
            await asyncio.sleep(host.rest_s)
            try:
                return await self._followed(location, until)
            except Again as again:
                if again.after_s:
                    host.rest(again.after_s, again.detail)
                    continue
                left -= 1
                if not left:
                    raise Reject(Reason.FETCH_FAILED, again.detail) from None
            await asyncio.sleep(self._limits.pause_s * 2**number)
        raise AssertionError("the last try returns or raises")

    async def _followed(self, location: str, until: float) -> bytes:
        """Ask, and follow the answer where it leads, inside the roots."""
        seen = [location]
        while True:
            found = await self._asked(seen[-1], until)
            if isinstance(found, bytes):
                return found
            if found in seen:
                raise Reject(Reason.FETCH_FAILED, "redirected in a loop")
            if len(seen) > _MOST_REDIRECTS:
                raise Reject(Reason.FETCH_FAILED, f"redirected more than {_MOST_REDIRECTS} times")
            seen.append(found)

    async def _asked(self, location: str, until: float) -> bytes | str:
        """Ask for the photo at a location; it, or the location that it has been moved to."""
        with _told():
            async with self._session.get(_as_written(location), allow_redirects=False) as reply:
                if reply.status in REDIRECTS and "Location" in reply.headers:
                    return self._target(location, reply.headers["Location"])
                left_s = max(until - self._loop.time(), 0.1)
                limits = self._limits
                return await photo_of(
                    reply, limits.max_bytes, left_s, self._room, any_format=limits.any_format
                )

    def _target(self, location: str, written: str) -> str:
        """Find the location that a redirect leads to. Raises Reject where it may not."""
        target = urljoin(location, written.strip()).partition("#")[0]
        scheme, rest = uris.split(target)
        if scheme not in uris.WEB:
            raise Reject(Reason.OUTSIDE_ROOT, "redirected out of storage.roots")
        if location.lower().startswith("https:") and scheme != "https":
            raise Reject(Reason.FETCH_FAILED, "redirected from https to http")
        try:
            refuse_parent(scheme, rest)
        except BadRow:
            raise Reject(Reason.OUTSIDE_ROOT, "redirected to a path with '..'") from None
        host, slash, path = rest.partition("/")
        target = f"{scheme}://{host.lower().removesuffix({'http': ':80'}.get(scheme, ':443'))}{slash}{path}"
        if not (self._roots.allows(target) or self._roots.allows(f"{scheme}://{rest}")):
            raise Reject(Reason.OUTSIDE_ROOT, "redirected out of storage.roots")
        return target


async def _session(addresses: Addresses) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_S, socket_factory=addresses.socket_for)
    return aiohttp.ClientSession(
        connector=connector,
        headers=_HEADERS,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
    )


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _close(thread: threading.Thread, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession) -> None:
    """End a client's thread. It may be this one, if it is the one that drops the client."""

    async def end() -> None:
        await session.close()
        loop.stop()

    asyncio.run_coroutine_threadsafe(end(), loop)
    if threading.current_thread() is not thread:
        thread.join(1.0)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the library raises into Reject, or Again where another try may help."""
    try:
        yield
    except aiohttp.ClientConnectorDNSError:
        raise Again("no such host") from None
    except aiohttp.ClientSSLError:
        raise Reject(Reason.FETCH_FAILED, "TLS fails, or the certificate is not trusted") from None
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, PrivateAddress):
            raise Reject(
                Reason.OUTSIDE_ROOT, "a private address, named neither by storage.roots nor private_networks"
            ) from None
        raise Again("no connection") from None
    except (ValueError, aiohttp.NonHttpUrlClientError):
        raise Reject(Reason.FETCH_FAILED, "no valid address") from None
    except aiohttp.ClientResponseError:
        raise Again("the reply is not HTTP") from None
    except aiohttp.ClientError:
        raise Again("the connection was cut") from None


def _as_written(location: str) -> URL:
    """Write a location as it goes out: letter by letter, but for what HTTP cannot carry.

    Raises ValueError.
    """
    scheme, _, rest = location.partition("://")
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    ascii_host = host if host.isascii() else host.encode("idna").decode()
    return URL(f"{scheme}://{ascii_host}{quote(rest[len(host) :], safe=_AS_WRITTEN)}", encoded=True)

"""Judge a web server's reply: a photo, a redirect, a refusal, or a reason to ask again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial

from aiohttp import ClientPayloadError, ClientResponse

from frpipe.core.reasons import Reason, Reject
from frpipe.vision.formats import sniff

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({404, 410})
_DENIED = frozenset({401, 403, 407, 451})
# Of all others it is certain that a second try has the same answer.
_PASSING = frozenset({408, 421, 425, 429, 500, 502, 503, 504, *range(520, 600)})
_PLAIN = frozenset({"", "identity"})
# A body has to keep ahead of so many bytes a second, and of half the pace that would do, after some seconds.
_LEAST_RATE, _GRACE_S = 1024, 5.0
# Photos up to so many bytes need not wait for room. What is larger and of a length that is not announced may
# have no end: it is read at so many bytes a second, which leaves others their share of CPU and network.
_SMALL, _ENDLESS_RATE = 1 << 20, 16 << 20
# Of which the first bytes say what format it is.
_HEAD = 4096


class Again(Exception):
    """The error where another try may help. after_s: the wait that the server asks for, if any."""

    def __init__(self, detail: str, after_s: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.after_s = after_s


class Room:
    """Memory that all photos under way may take together."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def held(self, size: int) -> AsyncIterator[None]:
        """Hold memory, once there is some; of more than there is in all, all."""
        size = min(size, self._size)
        async with self._changed:
            await self._changed.wait_for(lambda: size <= self._free)
            self._free -= size
        try:
            yield
        finally:
            self._free += size
            async with self._changed:
                self._changed.notify_all()


class TooSlow(Exception):
    """The error where a photo does not come in time."""


async def photo_of(
    reply: ClientResponse, max_bytes: int, patience_s: float, room: Room, *, any_format: bool = True
) -> bytes:
    """Read the photo in a reply that is no redirect; no more is read than a photo may have.

    patience_s: of which a body that trickles is given no more than a quarter.  any_format: read what is large
    and of unknown length to its end, even if it does not begin as a format that is known.
    Raises Reject, Again, TooSlow.
    """
    _refuse(reply)
    if reply.headers.get("Content-Encoding", "").strip().lower() not in _PLAIN:
        # What it would become is not known before it is unpacked, and unpacking is the attack.
        raise Reject(Reason.FETCH_FAILED, "sent compressed, though asked for as it is")
    if (reply.content_length or 0) > max_bytes:
        raise Reject(Reason.TOO_MANY_BYTES, f"{reply.content_length} bytes, limit {max_bytes}")
    async with AsyncExitStack() as held:
        if (reply.content_length or 0) > _SMALL:
            await held.enter_async_context(room.held(reply.content_length or 0))
        take_room = partial(held.enter_async_context, room.held(max_bytes))
        return await _body(
            reply, max_bytes, patience_s, partial(_let_in, take_room=take_room, any_format=any_format)
        )


async def _let_in(photo: bytearray, take_room: Callable[[], Awaitable[None]], any_format: bool) -> None:
    """Take room for a large photo of unknown length. Raises Reject: UNKNOWN_FORMAT."""
    if not any_format:
        try:
            sniff(bytes(photo[:_HEAD]))
        except Reject as why:
            raise Reject(why.reason, f"from its first bytes, of more than {_SMALL}") from None
    await take_room()


async def _body(
    reply: ClientResponse,
    max_bytes: int,
    patience_s: float,
    let_in: Callable[[bytearray], Awaitable[None]],
) -> bytes:
    """Read the photo itself. let_in: called once, where one of unannounced length is large."""
    photo, loop = bytearray(), asyncio.get_running_loop()
    pace, grace_s = (
        max(_LEAST_RATE, (reply.content_length or 0) / patience_s / 2),
        min(_GRACE_S, patience_s / 4),
    )
    start, unannounced = loop.time(), reply.content_length is None
    try:
        async with asyncio.timeout_at(start + grace_s) as limit:
            async for chunk in reply.content.iter_any():
                photo += chunk
                if len(photo) > max_bytes:
                    raise Reject(Reason.TOO_MANY_BYTES, f"more than {max_bytes} bytes")
                if unannounced and len(photo) > _SMALL:
                    limit.reschedule(None)
                    waits, unannounced = loop.time(), False
                    await let_in(photo)
                    start += loop.time() - waits
                if reply.content_length is None and len(photo) > _SMALL:
                    await asyncio.sleep(len(chunk) / _ENDLESS_RATE)
                limit.reschedule(start + grace_s + len(photo) / pace)
    except TimeoutError:
        raise TooSlow(f"{len(photo)} bytes in {grace_s + len(photo) / pace:.3g} s") from None
    except ClientPayloadError:
        whole = "more" if reply.content_length is None else f"{reply.content_length}"
        raise Again(f"truncated: {len(photo)} of {whole} bytes") from None
    if not photo:
        raise Reject(Reason.EMPTY, "no bytes")
    return bytes(photo)


def _refuse(reply: ClientResponse) -> None:
    """Raise Reject or Again for a reply without a photo."""
    said = f"HTTP {reply.status}"
    if reply.status in (200, 203):
        return
    if reply.status in (204, 205):
        raise Reject(Reason.EMPTY, said)
    if reply.status in _PASSING:
        raise Again(said, _retry_after_s(reply.headers))
    if reply.status in _GONE:
        raise Reject(Reason.NOT_FOUND, said)
    if reply.status in _DENIED:
        raise Reject(Reason.ACCESS_DENIED, said)
    if 300 <= reply.status < 400:
        said += ", a redirect that leads nowhere"
    raise Reject(Reason.FETCH_FAILED, said)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait; a date is read by its own clock, where it tells that."""
    asked = headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdecimal():
        return float(asked[:9])
    until = _moment(asked)
    if until is None:
        return None
    now = _moment(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

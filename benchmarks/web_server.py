"""A good web server and hostile ones in one process, each on a port of its own. Prints the ports as JSON.

GET /RUN/_times of the good one    when each photo of a run was asked for, in seconds, as JSON
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

Writer = asyncio.StreamWriter
Way = Callable[[Writer], Awaitable[None]]

_OK = b"HTTP/1.1 200 OK\r\n"
_BOMB = gzip.compress(bytes(256 << 20), 9)


async def drip(writer: Writer) -> None:
    """A byte now and then, of a photo that never ends."""
    writer.write(_OK + b"Content-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.2)


async def slow_headers(writer: Writer) -> None:
    """A header now and then, and never the last one."""
    writer.write(_OK)
    for number in range(10**6):
        writer.write(b"X-%d: x\r\n" % number)
        await writer.drain()
        await asyncio.sleep(0.5)


async def silence(_: Writer) -> None:
    """No answer."""
    await asyncio.sleep(3600)


async def too_short(writer: Writer) -> None:
    """Less than the announced length, and the end."""
    writer.write(_OK + b"Content-Length: 100000\r\n\r\n" + b"x" * 1000)
    writer.close()


async def endless(writer: Writer) -> None:
    """More than a photo may have, without a length."""
    writer.write(_OK + b"\r\n")
    while True:
        writer.write(b"\xff" * 65536)
        await writer.drain()


async def bomb(writer: Writer) -> None:
    """256 MiB, compressed to a quarter of one."""
    writer.write(_OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(_BOMB) + _BOMB)
    await writer.drain()


async def busy(writer: Writer) -> None:
    """Always: come again in two seconds."""
    writer.write(b"HTTP/1.1 429 Too Many\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n")


async def away(writer: Writer) -> None:
    """A redirect to where nobody may go."""
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")


async def circle(writer: Writer) -> None:
    """A redirect to a path that leads to itself."""
    writer.write(b"HTTP/1.1 302 Found\r\nLocation: /circle\r\nContent-Length: 0\r\n\r\n")


async def reset(writer: Writer) -> None:
    """A connection that breaks in the middle."""
    writer.write(_OK + b"Content-Length: 1000\r\n\r\nx")
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


HOSTILE: dict[str, Way] = {
    way.__name__: way
    for way in (drip, slow_headers, silence, too_short, endless, bomb, busy, away, circle, reset)
}


class Good:
    """Photos, each after the time that a request takes over a network."""

    def __init__(self, photos: list[bytes], latency_s: float) -> None:
        self._photos, self._latency_s = photos, latency_s
        self._times: defaultdict[str, list[float]] = defaultdict(list)

    async def answer(self, path: str, writer: Writer) -> None:
        _, run, name = path.split("/")
        if name == "_times":
            body = json.dumps(self._times[run]).encode()
        else:
            self._times[run].append(time.monotonic())
            await asyncio.sleep(self._latency_s)
            body = self._photos[int(name) % len(self._photos)]
        writer.write(_OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()


async def _serve(
    answer: Callable[[str, Writer], Awaitable[None]], reader: asyncio.StreamReader, writer: Writer
) -> None:
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while not writer.is_closing():
            head = await reader.readuntil(b"\r\n\r\n")
            await answer(head.split(b" ")[1].decode(), writer)
    writer.close()


async def _by(way: Way, _path: str, writer: Writer) -> None:
    """Answer any address in a hostile way."""
    await way(writer)


async def _main(folder: Path, latency_s: float) -> None:
    good = Good([path.read_bytes() for path in sorted(folder.iterdir())], latency_s)
    answers = {"good": good.answer}
    answers |= {name: partial(_by, way) for name, way in HOSTILE.items()}
    servers = {
        name: await asyncio.start_server(partial(_serve, answer), "127.0.0.1", 0)
        for name, answer in answers.items()
    }
    print(json.dumps({name: each.sockets[0].getsockname()[1] for name, each in servers.items()}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), float(sys.argv[2])))

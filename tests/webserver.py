"""A web server for tests that says, byte for byte, what it is told to, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Answer = Callable[["Exchange"], Awaitable[None]]
PHOTO = b"\xff\xd8 as good as a photo \xff\xd9"


@dataclass
class Exchange:
    """One request, and the way to answer it. number: of this path's requests, from 1."""

    path: str
    head: str
    number: int
    _writer: asyncio.StreamWriter

    async def say(self, text: str | bytes) -> None:
        self._writer.write(text if isinstance(text, bytes) else text.encode("latin-1"))
        await self._writer.drain()

    async def reply(
        self, status: int = 200, body: bytes = PHOTO, *headers: str, length: int | None = None
    ) -> None:
        lines = [
            f"HTTP/1.1 {status} So",
            f"Content-Length: {len(body) if length is None else length}",
            *headers,
        ]
        await self.say("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def reset(self) -> None:
        """End the connection as a crash would."""
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def end(self) -> None:
        self._writer.close()


@dataclass
class WebServer:
    """answer: of paths that have none of their own. asked: every path, as it was written in the request."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                path = head.split(" ")[1]
                self.asked.append(path)
                self.heads.append(head)
                exchange = Exchange(path, head, self.asked.count(path), writer)
                answer = self.answers.get(path.partition("?")[0].rstrip("0123456789"), Exchange.reply)
                await answer(exchange)
                if writer.is_closing():
                    return
        writer.close()


@contextmanager
def web_server(host: str = "127.0.0.1", **answers: Answer) -> Iterator[WebServer]:
    """A server on a free port; `name=answer` answers what is asked of /name, with any number behind."""
    server = WebServer({f"/{name}": answer for name, answer in answers.items()})
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(server.serve, host, 0))
    place = listening.sockets[0].getsockname()
    server.url = f"http://{f'[{place[0]}]' if ':' in place[0] else place[0]}:{place[1]}"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listening.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

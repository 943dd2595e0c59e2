"""A proxy in front of an S3 server that does what stores do on a bad day, the same for the same seed.

Whether a request fails is decided by the seed, the request's line and how often it was made: another order of
requests changes nothing, and a request that is tried again is another one.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Kind = Literal["500", "503", "403", "delay", "cut", "torn", "lost"]
ERRORS = {
    "500": ("InternalError", "We encountered an internal error. Please try again."),
    "503": ("SlowDown", "Please reduce your request rate."),
    "403": ("ExpiredToken", "The provided token has expired."),
}
PASSING: tuple[Kind, ...] = ("500", "503", "delay", "cut", "torn", "lost")
_DELAY_S = 1.0
_OWN_HEADERS = frozenset({"connection", "transfer-encoding", "expect", "keep-alive"})


@dataclass(frozen=True)
class Faults:
    """Which requests fail, and how.

    cut: the connection ends before the request is passed on.  lost: it is passed on and its answer is not.
    torn: the answer ends in its midst.  share: of the requests; 1 means each.  pattern: a regular expression,
    of `METHOD /path?query`.  after: requests of that pattern that pass before.
    """

    kinds: tuple[Kind, ...] = ()
    share: float = 1.0
    seed: int = 0
    pattern: str = ""
    after: int = 0


@dataclass
class Proxy:
    """Where it listens, and what it has done. sent: bytes of the answers to GET, by path."""

    endpoint: str
    faults: Faults = Faults()
    met: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    _seen: Counter[str] = field(default_factory=Counter)
    _matched: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def set(self, faults: Faults) -> None:
        """Forget what was, and do this from now on."""
        with self._lock:
            self.faults, self._matched = faults, 0
            self.met.clear()
            self._seen.clear()

    def count(self, path: str, size: int) -> None:
        """Count an answer."""
        with self._lock:
            self.sent[path] += size

    def verdict(self, line: str) -> Kind | None:
        """What befalls the request of this line."""
        with self._lock:
            if not self.faults.kinds or not re.search(self.faults.pattern, line):
                return None
            self._seen[line] += 1
            self._matched += 1
            digest = hashlib.sha256(f"{self.faults.seed} {line} {self._seen[line]}".encode()).digest()
            (number,) = struct.unpack_from(">I", digest)
            if self._matched <= self.faults.after or number >= self.faults.share * 2**32:
                return None
            kind = self.faults.kinds[digest[4] % len(self.faults.kinds)]
            self.met[kind] += 1
            return kind


@contextlib.contextmanager
def proxied(endpoint: str) -> Iterator[Proxy]:
    """A proxy of the server at `endpoint`, on a port of its own, without faults until it is told."""
    target = urlsplit(endpoint).netloc

    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    Handler.target = target
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Handler.proxy
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy
    target: str

    def handle_one_request(self) -> None:
        # A client that has been cut off may be gone.
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def log_message(self, *_: object) -> None:
        return

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = self.proxy.verdict(f"{self.command} {self.path}")
        if kind in ERRORS:
            self._refuse(kind)
        elif kind == "cut":
            self._hang_up()
        else:
            if kind == "delay":
                time.sleep(_DELAY_S)
            status, headers, answer = self._forwarded(body)
            if kind == "lost":
                self._hang_up()
            else:
                if self.command == "GET" and status < 300:
                    self.proxy.count(urlsplit(self.path).path, len(answer))
                self._answer(status, headers, answer, torn=kind == "torn")

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve  # noqa: N815 - named by http.server

    def _forwarded(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """The Host header stays the client's: it is part of what is signed."""
        connection = http.client.HTTPConnection(self.target, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _OWN_HEADERS:
                    connection.putheader(name, value)
            connection.endheaders(body)
            reply = connection.getresponse()
            return reply.status, reply.getheaders(), reply.read()

    def _answer(self, status: int, headers: list[tuple[str, str]], answer: bytes, *, torn: bool) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _OWN_HEADERS | {"content-length"}:
                self.send_header(name, value)
        given = {name.lower(): value for name, value in headers}
        length = given.get("content-length", "0") if self.command == "HEAD" else str(len(answer))
        if status not in (204, 304):
            self.send_header("Content-Length", length)
        self.end_headers()
        if torn:
            self.wfile.write(answer[: len(answer) // 2])
            self._hang_up()
        elif self.command != "HEAD":
            self.wfile.write(answer)

    def _refuse(self, kind: Kind) -> None:
        code, message = ERRORS[kind]
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self._answer(int(kind), [("Content-Type", "application/xml")], body, torn=False)

    def _hang_up(self) -> None:
        """End the connection by a reset, as a crash of the other side does."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RDWR)

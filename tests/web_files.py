"""A web server of this machine that serves files as well, or as badly, as a test asks for."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Web:
    """Files by path, and what goes wrong with them.

    cuts: after so many bytes the next answers end.  said: the Content-Length that is said instead of the true
    one, "" for none.  skew: an answer begins by so many bytes later than was asked.  moved: paths that are
    answered with a redirect to an address.  asked: path and Range header of each request, as they came.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    said: str | None = None
    skew: int = 0
    moved: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""


@contextlib.contextmanager
def serving(web: Web) -> Iterator[Web]:
    """Serve until the end of the block; `address` is that of the server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, web)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    web.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


def _answer(request: BaseHTTPRequestHandler, web: Web) -> None:
    web.asked.append((request.path, request.headers["Range"]))
    path = urlsplit(request.path).path
    if path in web.moved:
        request.send_response(302)
        request.send_header("Location", web.moved[path])
        request.end_headers()
        return
    data = web.files.get(path)
    if data is None:
        request.send_error(404)
        return
    start = 0
    if web.ranges and (found := re.match(r"bytes=(\d+)-", request.headers["Range"] or "")):
        start = int(found[1]) + web.skew
        if start >= len(data):
            request.send_error(416)
            return
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    else:
        request.send_response(200)
    if web.said != "":
        request.send_header("Content-Length", web.said or str(len(data) - start))
    request.end_headers()
    end = start + web.cuts.pop(0) if web.cuts else len(data)
    with contextlib.suppress(OSError):
        request.wfile.write(data[start:end])

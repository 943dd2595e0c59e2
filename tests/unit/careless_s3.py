"""A small object store in this process that ignores the condition of a PUT, or does not know it."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

Condition = Literal["ignored", "unknown", "honoured"]


@dataclass
class CarelessS3:
    """condition: what becomes of If-None-Match.  objects: by /bucket/key.  puts: requests to put one."""

    condition: Condition
    endpoint: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
        }


@contextlib.contextmanager
def careless_s3(condition: Condition) -> Iterator[CarelessS3]:
    store = CarelessS3(condition)

    class Handler(_Handler):
        pass

    Handler.store = store
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    store.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: CarelessS3

    def log_message(self, *_: object) -> None:
        return

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.store.puts.append(self._key)
        conditional = "If-None-Match" in self.headers
        if conditional and self.store.condition == "unknown":
            self._error(501, "NotImplemented")
        elif conditional and self.store.condition == "honoured" and self._key in self.store.objects:
            self._error(412, "PreconditionFailed")
        else:
            self.store.objects[self._key] = body
            self._answer(200, b"", {"ETag": _etag(body)})

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._list(query.get("prefix", [""])[0])
        elif self._key in self.store.objects:
            body = self.store.objects[self._key]
            self._answer(200, body, {"ETag": _etag(body)})
        else:
            self._error(404, "NoSuchKey")

    do_HEAD = do_GET  # noqa: N815

    def do_DELETE(self) -> None:
        self.store.objects.pop(self._key, None)
        self._answer(204, b"")

    def _list(self, prefix: str) -> None:
        bucket = self._key.strip("/")
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{_etag(body)}</ETag><Size>{len(body)}</Size></Contents>"
            for path, body in sorted(self.store.objects.items())
            if path.startswith(f"/{bucket}/") and (key := path[len(bucket) + 2 :]).startswith(prefix)
        )
        head = "<ListBucketResult><IsTruncated>false</IsTruncated>"
        self._answer(200, f"{head}{items}</ListBucketResult>".encode())

    def _error(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'

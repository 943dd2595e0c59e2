"""Download an address into a file, whatever breaks off: continued, and never more than it may be.

Web addresses are read with the standard library, which obeys the proxy variables (`https_proxy`, `no_proxy`);
all others by fsspec.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, responses
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

from frpipe.core.errors import ModelMismatch, StorageError

Say = Callable[[str], None]

MIRROR = "FRPIPE_MODEL_MIRROR"
_WEB = ("http", "https")
_CHUNK_BYTES = 1 << 20
_MOST_BYTES = 8 << 30
_TIMEOUT_S = 60
_TRIES = 3
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PULL_AGAIN = "pull again: what has arrived is kept and continued; check the address and the credentials"


class Wanted(NamedTuple):
    """A download that is wanted.

    what: its name in errors.  size: its bytes, where a card says them.  by_hand: how to do without a network.
    """

    uri: str
    what: str
    size: int | None = None
    by_hand: str = ""


class _BrokeOff(Exception):
    """A connection ended before its answer did."""


def download(wanted: Wanted, part: Path, say: Say = lambda _: None) -> None:
    """Bring the whole of an address into `part`, after the bytes that it holds already, where the source can.

    Raises StorageError, which leaves what has arrived for the next attempt and shows no query of an address
    (it may hold a signature); ModelMismatch: it is not of the size that it must have.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    address = mirrored(wanted.uri)
    if wanted.size and shutil.disk_usage(part.parent).free < wanted.size - _held(part):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    say(f"downloading {megabytes(wanted.size)}from {_host(address) or 'a folder'}")
    if urlsplit(address).scheme in _WEB:
        _from_web(wanted, address, part, say)
    else:
        _from_fsspec(wanted, address, part)


def megabytes(size: int | None) -> str:
    """A size as text, with a space behind it; empty where it is not known."""
    return f"{max(1, round(size / 1e6))} MB " if size else ""


def mirrored(uri: str) -> str:
    """The address to fetch a web address from: below FRPIPE_MODEL_MIRROR, if it is set, by host and path."""
    mirror, parts = os.environ.get(MIRROR), urlsplit(uri)
    return f"{mirror.rstrip('/')}/{_host(uri)}{parts.path}" if mirror and parts.scheme in _WEB else uri


def shown(uri: str) -> str:
    """An address for messages, without what may be secret in it."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{_host(uri)}{parts.path}" if parts.scheme in _WEB else parts.path


def _host(uri: str) -> str:
    """The host and port of an address, without a user's name and password."""
    return urlsplit(uri).netloc.rpartition("@")[2]


def _from_web(wanted: Wanted, address: str, part: Path, say: Say) -> None:
    for _ in range(_TRIES):
        before = _held(part)
        with contextlib.suppress(_BrokeOff):
            return _ask(wanted, address, part, say)
        if _held(part) == before:
            break
    raise StorageError(f"the download of {wanted.what} broke off after {_held(part)} bytes", _PULL_AGAIN)


def _ask(wanted: Wanted, address: str, part: Path, say: Say) -> None:
    """Make one request, for what is missing. Raises _BrokeOff: what is there now may be continued."""
    held = _held(part)
    if wanted.size and held == wanted.size:
        return
    headers = {"User-Agent": "frpipe", "Accept-Encoding": "identity"}
    if held:
        headers["Range"] = f"bytes={held}-"
    try:
        answer = _opener().open(urllib.request.Request(address, headers=headers), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if held and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _start_afresh(part) from None
        raise _refused(wanted, address, f"answers {error.code} {responses.get(error.code, '')}") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise _refused(wanted, address, f"cannot be reached: {reason}") from None
    with answer:
        if answer.status != HTTPStatus.PARTIAL_CONTENT:
            held = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {held}-"):
            raise _start_afresh(part)
        total = None if answer.length is None else held + answer.length
        if wanted.size and total not in (None, wanted.size):
            raise _other_size(wanted, f"{total} bytes")
        with part.open("ab") as target:
            target.seek(target.truncate(held))
            _copy(answer, target, wanted, total, say)


def _copy(answer: HTTPResponse, target: BinaryIO, wanted: Wanted, total: int | None, say: Say) -> None:
    most, told = wanted.size or total or _MOST_BYTES, 0
    while chunk := _read(answer):
        if target.tell() + len(chunk) > most:
            target.truncate(0)
            raise _other_size(wanted, f"more than {most} bytes")
        target.write(chunk)
        tenths = 10 * target.tell() // most
        if tenths > told and most != _MOST_BYTES and most > 10 * _CHUNK_BYTES:
            say(f"{tenths}0 %")
            told = tenths
    target.flush()
    os.fsync(target.fileno())
    if target.tell() < (total or wanted.size or 0):
        raise _BrokeOff


def _start_afresh(part: Path) -> _BrokeOff:
    part.unlink()
    return _BrokeOff()


def _read(answer: HTTPResponse) -> bytes:
    try:
        return answer.read(_CHUNK_BYTES)
    except (OSError, HTTPException):
        raise _BrokeOff from None


def _opener() -> urllib.request.OpenerDirector:
    """An opener for web addresses alone: a redirect leads to no file and no FTP server."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _refused(wanted: Wanted, address: str, why: str) -> StorageError:
    return StorageError(f"{wanted.what}: {_host(address)} {why}", wanted.by_hand)


def _other_size(wanted: Wanted, found: str) -> ModelMismatch:
    meant = f", its card says {wanted.size}" if wanted.size else ""
    return ModelMismatch(
        f"{wanted.what} is another file: {found}{meant}", wanted.by_hand or "check the address"
    )


def _held(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _from_fsspec(wanted: Wanted, address: str, part: Path) -> None:
    import fsspec  # noqa: PLC0415 - only what must be downloaded needs it

    try:
        filesystem, path = fsspec.core.url_to_fs(address)
        _continue(filesystem, path, part)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise
        is_absent = isinstance(error, FileNotFoundError) and wanted.by_hand
        raise StorageError(
            f"the download of {wanted.what} broke off: {type(error).__name__}",
            wanted.by_hand if is_absent else _PULL_AGAIN,
        ) from error


def _continue(filesystem: Any, path: str, part: Path) -> None:
    total = filesystem.info(path).get("size")
    held = _held(part)
    if total is None or held > total:
        held = 0
    if total is None or held < total:
        _append_or_restart(filesystem, path, part, held)
    if total is not None and part.stat().st_size != total:
        raise EOFError


def _append_or_restart(filesystem: Any, path: str, part: Path, held: int) -> None:
    try:
        _append(filesystem, path, part, held)
    except ValueError:
        # fsspec's word for a server that does not serve ranges; without blocks it reads from the start.
        _append(filesystem, path, part, 0, block_size=0)


def _append(filesystem: Any, path: str, part: Path, held: int, **options: Any) -> None:
    with filesystem.open(path, "rb", **options) as source, part.open("ab") as target:
        target.truncate(_seek(source, held))
        while chunk := source.read(_CHUNK_BYTES):
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())


def _seek(source: Any, held: int) -> int:
    """Go to byte `held`; a source that cannot skip is read from its start. Returns where it stands."""
    with contextlib.suppress(ValueError, NotImplementedError, OSError):
        source.seek(held)
        return held
    return 0

"""Download one file from any fsspec address into a `.part` file that a later attempt continues."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

from frpipe.core.errors import StorageError

_CHUNK_BYTES = 1 << 20


def part_path(uri: str, target: Path) -> Path:
    """Where the unfinished download of `target` from `uri` lies; another address has another file."""
    return target.parent / f".{target.name}.{hashlib.sha256(uri.encode()).hexdigest()[:16]}.part"


def download(uri: str, part: Path, what: str) -> None:
    """Bring the whole of `uri` into `part`, starting after the bytes it already holds where the source can.

    Raises StorageError, which names `what` and not the address (it may hold a signature), and leaves what
    has arrived for the next attempt.
    """
    import fsspec  # noqa: PLC0415 - only what must be downloaded needs it

    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
        _continue(filesystem, path, part)
    except Exception as error:
        raise StorageError(
            f"the download of {what} broke off: {type(error).__name__}",
            "pull again: what has arrived is kept and continued; check the address and the credentials",
        ) from error


def _continue(filesystem: Any, path: str, part: Path) -> None:
    total = filesystem.info(path).get("size")
    held = part.stat().st_size if part.exists() else 0
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
        # fsspec's word for a web server that does not serve ranges; without blocks it reads from the start.
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

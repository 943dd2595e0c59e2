"""The cache of weights on one machine: files appear whole and checked, or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frpipe.core.errors import ModelMismatch


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_sha256(found: str, expected: str, what: str, remedy: str) -> None:
    """Check a hash: ModelMismatch where it differs; `what` names the file."""
    if found != expected:
        raise ModelMismatch(f"{what} has SHA-256 {found}, its card says {expected}", remedy)


def publish(data: bytes, target: Path) -> None:
    """Write `data` beside the target, flush it to disk, then rename: a reader never sees half a file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        place(Path(name), target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def place(whole: Path, target: Path) -> None:
    """Flush a file to disk and rename it; both lie in one folder."""
    with whole.open("rb") as stream:
        os.fsync(stream.fileno())
    whole.chmod(0o644)
    whole.replace(target)
    _sync_folder(target.parent)


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the right to publish one file, among the processes and threads of this machine."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

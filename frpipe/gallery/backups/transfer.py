"""Copy files from one folder into another, whole and with the recorded SHA-256."""

from __future__ import annotations

import hashlib

from frpipe.core.errors import GalleryDamaged
from frpipe.gallery.catalog import Purged
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import none_found, unsteady

_CHUNK = 4 << 20
_READS = 2


def copy(source: Folder, name: str, target: Folder, to: str, sha256: str) -> int:
    """Copy a file; returns its size. FileNotFoundError, of its name alone, where there is none.

    Raises GalleryDamaged where it has another SHA-256, StorageError where two reads differ. Nothing is put in
    place then.
    """
    seen: set[str] = set()
    try:
        for _ in range(_READS):
            found, size = _copied(source, name, target, to, sha256)
            if found == sha256:
                return size
            seen.add(found)
    except FileNotFoundError:
        if source.exists(name):
            raise none_found(source, name) from None
        raise FileNotFoundError(name) from None
    if len(seen) > 1:
        raise unsteady(source, name)
    raise changed(source, name)


def is_whole(folder: Folder, name: str, sha256: str) -> bool:
    """Whether a file has this SHA-256. It is read twice before a difference is reported."""
    try:
        return any(_digest(folder, name) == sha256 for _ in range(_READS))
    except FileNotFoundError:
        return False


def changed(folder: Folder, name: str) -> GalleryDamaged:
    """The error for a file whose content is not what was recorded."""
    return GalleryDamaged(
        f"{name} in {folder.uri}: its SHA-256 has changed",
        "`frpipe gallery verify` and `frpipe gallery backups --check` tell what is whole",
    )


def _copied(source: Folder, name: str, target: Folder, to: str, sha256: str) -> tuple[str, int]:
    """Copy once; returns the SHA-256 and size of what was read. It is put in place if the digest is right.

    A file for a store goes through memory, so that no plain vectors are left on another disk.
    """
    draft = target.draft(to)
    if draft is None:
        data = source.read(name)
        found = hashlib.sha256(data).hexdigest()
        if found == sha256:
            target.write(to, data)
        return found, len(data)
    try:
        digest, size = hashlib.sha256(), 0
        with source.open(name) as file, draft.open("wb") as copied:
            while data := file.read(_CHUNK):
                digest.update(data)
                copied.write(data)
                size += len(data)
        if digest.hexdigest() == sha256:
            try:
                target.adopt(to, draft)
            except FileNotFoundError:
                raise Purged.while_at_work() from None
        return digest.hexdigest(), size
    finally:
        draft.unlink(missing_ok=True)


def _digest(folder: Folder, name: str) -> str:
    digest = hashlib.sha256()
    with folder.open(name) as file:
        while data := file.read(_CHUNK):
            digest.update(data)
    return digest.hexdigest()

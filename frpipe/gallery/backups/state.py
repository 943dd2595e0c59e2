"""Files of one consistent state of a gallery: a version, and everything that a copy of it needs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from frpipe.core.errors import GalleryConflict
from frpipe.gallery.catalog import LOG, VERSIONS, Version
from frpipe.gallery.document import damaged, read_twice, unsealed
from frpipe.gallery.gallery import GALLERY, Gallery

T = TypeVar("T")
_TRIES = 10


@dataclass(frozen=True, slots=True)
class StateFile:
    """A file of a state. bytes, sha256: as recorded, or as read if the file has its own digest."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class State:
    """The newest version of a gallery at one moment, with its files, sorted by name."""

    version: Version
    suppressed: int
    files: tuple[StateFile, ...]


def with_state(gallery: Gallery, use: Callable[[State], T]) -> T:
    """Call a function with the newest state, and again if a compaction removed files of that state.

    `use` raises FileNotFoundError, of its name alone, for a file that is gone. Raises GalleryDamaged where no
    compaction took it, GalleryConflict where compactions came in between ten times. No key is needed.
    """
    for _ in range(_TRIES):
        head = gallery.catalog.head()
        try:
            return use(_state(gallery, head))
        except FileNotFoundError as error:
            if gallery.catalog.head().purged == head.purged and not _was_due(str(error), head):
                raise damaged(str(error), "it is missing") from None
    raise GalleryConflict(
        f"compactions came in between, {_TRIES} times", "run again when the gallery is less busy"
    )


def _was_due(name: str, head: Version) -> bool:
    """Whether a file is that of a purged version, which the compaction had not removed yet."""
    return any(name == f"{VERSIONS}/{number:09d}.json" for number in range(1, head.purged + 1))


def _state(gallery: Gallery, head: Version) -> State:
    """Files of all versions that can be read, the log of those that cannot, and the suppression list.

    The list may have more documents than the version counts, as they are written first.
    """
    found = {GALLERY: _document(gallery, GALLERY)}
    for number in range(1, head.number + 1):
        name = f"{VERSIONS}/{number:09d}.json"
        if number <= head.purged:
            file = _purged(gallery, f"{LOG}/{number:09d}.json", name)
            found[file.name] = file
            continue
        found[name] = _document(gallery, name)
        for ref in gallery.catalog.read(number).shards:
            found[ref.name] = StateFile(ref.name, ref.bytes, ref.sha256)
            if ref.deleted:
                deleted = ref.deleted
                found[deleted.name] = StateFile(deleted.name, 8 * deleted.rows, deleted.sha256)
    listed = gallery.suppressions.names()
    found |= {name: _document(gallery, name) for name in listed}
    return State(head, len(listed), tuple(found[name] for name in sorted(found)))


def _purged(gallery: Gallery, receipt: str, version: str) -> StateFile:
    """Receipt of a purged version, or its file if the compaction has not removed it yet."""
    for name in (receipt, version, receipt):
        try:
            return _document(gallery, name)
        except FileNotFoundError:
            continue
    raise FileNotFoundError(receipt)


def _document(gallery: Gallery, name: str) -> StateFile:
    def whole(data: bytes) -> bytes:
        unsealed(data, name)
        return data

    try:
        data = read_twice(gallery.folder, name, whole)
    except FileNotFoundError:
        raise FileNotFoundError(name) from None
    return StateFile(name, len(data), hashlib.sha256(data).hexdigest())

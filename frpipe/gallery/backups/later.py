"""Changes of a gallery after a backup: suppression documents, and deleted people."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from frpipe.core.errors import GalleryDamaged, GalleryError
from frpipe.gallery.backups.documents import Backup, BackupFile
from frpipe.gallery.backups.transfer import changed, copy, is_whole
from frpipe.gallery.catalog import LOG, VERSIONS, LogEntry, entry_from
from frpipe.gallery.document import read_twice, unsealed
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.suppression import SUPPRESSED, SuppressionList
from frpipe.io.storage.folder import Folder

_DELETIONS = frozenset({"delete", "clear"})


@dataclass(frozen=True, slots=True)
class Deletions:
    """People who were deleted since a backup.  people: as the log counts them.

    digests: as the log has them (`frpipe.gallery.catalog.subject_digest`); fewer where an entry lists none.
    """

    people: int = 0
    digests: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, entries: Iterable[LogEntry], after: int) -> Deletions:
        """The deletions of a log in versions after this number."""
        later = [e for e in entries if e.version > after and e.action in _DELETIONS]
        digests = frozenset(digest for entry in later for digest in entry.subjects)
        unlisted = sum(entry.counts.get("subjects", 0) for entry in later if not entry.subjects)
        return cls(len(digests) + unlisted, digests)

    def __or__(self, other: Deletions) -> Deletions:
        both = self.digests | other.digests
        return Deletions(max(self.people, other.people, len(both)), both)


def deletions_of(folder: Folder, backup: Backup, after: int) -> Deletions:
    """The deletions that the log of a backup has in versions after this number."""
    entries = []
    for file in (*backup.named(VERSIONS), *backup.named(LOG)):
        if int(Path(file.name).stem) > after:
            content = unsealed(content_of(folder, file), file.name)
            content.pop("commit", None)
            entries.append(entry_from(content.get("entry", content), file.name))
    return Deletions.of(entries, after)


def content_of(folder: Folder, file: BackupFile) -> bytes:
    """Read a small file of a backup. Raises GalleryDamaged if it is missing or has another SHA-256."""
    if not is_whole(folder, file.stored, file.sha256):
        raise changed(folder, file.stored)
    return folder.read(file.stored)


def documents(its: SuppressionList) -> list[bytes]:
    """Read the documents of a list as they are stored. Raises GalleryDamaged if one is damaged or missing."""

    def whole(name: str) -> Callable[[bytes], bytes]:
        def checked(data: bytes) -> bytes:
            unsealed(data, name)
            return data

        return checked

    return [read_twice(its.folder, name, whole(name)) for name in its.names()]


def renew(gallery: Gallery, gallery_id: str, other_list: SuppressionList) -> int:
    """Add another gallery's suppressions to a gallery's list; returns the number of documents added.

    A list that continues this one is taken over document by document, with what was allowed since, and
    without a key. From any other list the entries that are missing here are added, as `suppress --like` does.
    """
    mine, names, theirs = documents(gallery.suppressions), other_list.names(), documents(other_list)
    before = len(mine)
    if gallery.gallery_id == gallery_id and theirs[:before] == mine:
        for name, data in zip(names[before:], theirs[before:], strict=True):
            if not gallery.folder.create(name, data) and gallery.folder.read(name) != data:
                raise GalleryError("somebody else changed the suppression list meanwhile", "run again")
    elif gallery.gallery_id != gallery_id or mine[: len(theirs)] != theirs:
        gallery.suppressions.adopt(other_list.read())
    return len(gallery.suppressions.names()) - before


@contextmanager
def list_of(folder: Folder, backup: Backup, gallery: Gallery) -> Iterator[SuppressionList]:
    """Copy the suppression list of a backup into a temporary folder, and open it."""
    with tempfile.TemporaryDirectory(prefix="frpipe-") as place:
        here = Folder.at(place)
        for file in backup.named(SUPPRESSED):
            try:
                copy(folder, file.stored, here, file.name, file.sha256)
            except FileNotFoundError:
                raise changed(folder, file.stored) from None
        yield SuppressionList(here, gallery.cipher, lambda: backup.suppressed)


def live_list(gallery: Gallery) -> SuppressionList:
    """Suppression list of a gallery that may be damaged: all its documents, if its versions are lost."""
    try:
        gallery.catalog.head()
    except GalleryDamaged:
        return SuppressionList(gallery.folder, gallery.cipher, lambda: 0)
    return gallery.suppressions

"""Documents of a folder of backups: which backups there are, and the files of each.

backups/000000001.json ...     sealed documents, each created once: a backup, or a removal of backups
files/000000000/<SHA-256> ...  files of the gallery, by content, below the number of the removal before them
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from frpipe.core.errors import GalleryConflict, GalleryDamaged, GalleryError
from frpipe.gallery.catalog import SHORT
from frpipe.gallery.document import read_sealed, sealed
from frpipe.io.storage.folder import Folder

BACKUPS = "backups"
FILES = "files"
_TAKEN, _REMOVED = "backup", "remove"
_LOOKS = 100
_NUMBERED = re.compile(rf"{BACKUPS}/(\d{{9}})\.json")
_STORED = re.compile(rf"{FILES}/(\d{{9}})/([0-9a-f]{{64}})")
# Names that a document may have: one from a hostile store must not point elsewhere.
_OF_GALLERY = re.compile(
    r"gallery\.json|(?:versions|log|suppressed)/\d{9}\.json|shards/[0-9a-f]{20}\.h5|deleted/[0-9a-f]{20}\.bin"
)


@dataclass(frozen=True, slots=True, order=True)
class BackupFile:
    """A file of a gallery in a backup. stored: its name among the backups."""

    name: str
    stored: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Backup:
    """One state of a gallery: a version, those before it that can be read, the log and the suppression list.

    suppressed: documents of the suppression list.  templates: visible ones of the version.
    source: address of the gallery then.
    """

    number: int
    commit: str
    created: str
    note: str
    gallery_id: str
    source: str
    version: int
    version_commit: str
    templates: int
    suppressed: int
    encrypted: bool
    files: tuple[BackupFile, ...]

    @property
    def bytes(self) -> int:
        """Size of the gallery's files."""
        return sum(file.bytes for file in self.files)

    @property
    def contents(self) -> set[tuple[str, str]]:
        """Name and SHA-256 of each file: what was backed up, wherever it is stored."""
        return {(file.name, file.sha256) for file in self.files}

    def named(self, prefix: str) -> list[BackupFile]:
        """The files below a folder of the gallery, by name."""
        return sorted(file for file in self.files if file.name.startswith(f"{prefix}/"))

    def __str__(self) -> str:
        return f"backup {self.number}: version {self.version} (commit {self.version_commit[:SHORT]})"


@dataclass(frozen=True, slots=True)
class BackupList:
    """List of the backups of a folder at one moment, oldest first.

    head: number of the newest document.  removal: number of the newest removal, or 0.
    """

    head: int
    removal: int
    backups: tuple[Backup, ...]
    kept: frozenset[int] = frozenset()

    @property
    def newest(self) -> Backup | None:
        """The newest backup."""
        return self.backups[-1] if self.backups else None

    @property
    def stored(self) -> dict[str, BackupFile]:
        """The files of all backups, by stored name."""
        return {file.stored: file for backup in self.backups for file in backup.files}

    def find(self, number: int | None) -> Backup:
        """A backup by its number; the newest one for None. Raises GalleryError where it is not there."""
        for backup in reversed(self.backups):
            if number in {None, backup.number}:
                return backup
        what = "no backup" if number is None else f"no backup {number}"
        raise GalleryError(f"there is {what} in this folder", "`frpipe gallery backups DEST` lists them")

    def lists(self, number: int) -> bool:
        """Whether a document of this number is in force: not taken away by a later removal."""
        return number >= self.removal or number in self.kept


class BackupFolder:
    """A folder of backups of one gallery, local or in an object store.

    A document is created once and never changed; its creation is the commit. A removal is a document too: a
    concurrent backup then loses its number, starts again, and relies on no file that is removed.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def read(self) -> BackupList:
        """The backups that are listed. Raises GalleryDamaged where a document is not as it was written."""
        for _ in range(_LOOKS):
            try:
                return self._read()
            except FileNotFoundError:  # removed between two looks
                continue
        raise GalleryConflict("backups were being removed all the time", "run again")

    def commit(self, document: Backup | tuple[int, ...], listed: BackupList) -> bool:
        """Add a backup, or a removal of all but the backups of these numbers, after those in the list.

        False where another document was first.
        """
        commit, number = secrets.token_hex(16), listed.head + 1
        if isinstance(document, Backup):
            content = {"action": _TAKEN, **asdict(replace(document, number=number, commit=commit))}
        else:
            content = {"action": _REMOVED, "number": number, "commit": commit, "created": now()}
            content["keeps"] = list(document)
        # JSON has no tuples, and the seal is of what is read back.
        content = {key: list(value) if isinstance(value, tuple) else value for key, value in content.items()}
        name = _name(number)
        created = self.folder.create(name, sealed({"format_version": 1, **content}))
        if not created:
            try:
                # If a store loses its answer, the document's commit is read back.
                return bool(read_sealed(self.folder, name).get("commit") == commit)
            except FileNotFoundError:
                return False
        # The number may have looked free because a removal took its document away.
        if self.read().lists(number):
            return True
        self.folder.delete(name)
        return False

    def present(self) -> dict[str, int]:
        """Size of each stored file, by name."""
        return {e.name: e.bytes for e in self.folder.list(FILES) if _STORED.fullmatch(e.name)}

    def sweep(self, listed: BackupList) -> tuple[int, int]:
        """Remove the files that the newest removal gave up; returns how many, and their bytes.

        Files below its number and later ones may be those of a backup under way, and stay.
        """
        gone = [number for number in self._numbers() if number < listed.removal and not listed.lists(number)]
        self.folder.delete_all(map(_name, gone))
        stored = listed.stored
        loose = {
            n: size for n, size in self.present().items() if n not in stored and _era(n) < listed.removal
        }
        self.folder.delete_all(loose)
        return len(loose), sum(loose.values())

    def _read(self) -> BackupList:
        numbers, removal, kept, backups = self._numbers(), 0, frozenset[int](), []
        head = numbers[-1] if numbers else 0
        for number in reversed(numbers):
            if number <= removal and number not in kept:
                continue
            document = _parsed(read_sealed(self.folder, _name(number)), number)
            if isinstance(document, Backup):
                backups.append(document)
            else:
                removal, kept = number, frozenset(document)
        return BackupList(head, removal, tuple(reversed(backups)), kept)

    def _numbers(self) -> list[int]:
        matches = (_NUMBERED.fullmatch(entry.name) for entry in self.folder.list(BACKUPS))
        return sorted(int(match[1]) for match in matches if match)


def stored_name(sha256: str, listed: BackupList) -> str:
    """Name under which to store a file of this content."""
    return f"{FILES}/{listed.removal:09d}/{sha256}"


def now() -> str:
    """Current time, ISO, UTC, in seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def retried(change: Callable[[], bool]) -> None:
    """Try a change until it is the first. Raises GalleryConflict after a hundred times."""
    for _ in range(_LOOKS):
        if change():
            return
    raise GalleryConflict(
        f"other backups of this folder were first, {_LOOKS} times", "run again when it is less busy"
    )


def _era(stored: str) -> int:
    match = _STORED.fullmatch(stored)
    return int(match[1]) if match else 0


def _name(number: int) -> str:
    return f"{BACKUPS}/{number:09d}.json"


def _parsed(content: dict[str, Any], number: int) -> Backup | tuple[int, ...]:
    """Parse a document: a backup, or the numbers that a removal keeps."""
    if content.pop("format_version", None) != 1:
        raise GalleryError(
            f"{_name(number)} has a format that this frpipe does not read", "use a newer frpipe"
        )
    try:
        action = content.pop("action")
        _expect(int(content["number"]) == number)
        if action == _REMOVED:
            return tuple(int(each) for each in content["keeps"])
        return _checked(Backup(**{**content, "files": tuple(_files(content["files"]))}))
    except (KeyError, TypeError, ValueError):
        raise GalleryDamaged(
            f"{_name(number)} of the backups has not the expected fields",
            "restore it from a copy, or use another folder for backups",
        ) from None


def _checked(backup: Backup) -> Backup:
    """Check the types of a backup's fields. Raises ValueError."""
    counts = (backup.version, backup.templates, backup.suppressed)
    texts = (backup.commit, backup.note, backup.gallery_id, backup.source, backup.version_commit)
    _expect(all(type(each) is int and each >= 0 for each in counts))
    _expect(all(isinstance(each, str) for each in texts))
    _expect(datetime.fromisoformat(backup.created).tzinfo is not None)
    return backup


def _files(given: Iterable[dict[str, Any]]) -> Iterator[BackupFile]:
    for each in given:
        file = BackupFile(**each)
        stored = _STORED.fullmatch(file.stored)
        _expect(stored is not None and stored[2] == file.sha256)
        _expect(_OF_GALLERY.fullmatch(file.name) is not None)
        _expect(type(file.bytes) is int and file.bytes >= 0)
        yield file


def _expect(condition: bool) -> None:
    if not condition:
        raise ValueError

"""Catalog of the versions of a gallery: the shards of each, and which of their rows are visible.

See ADR 8.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from frpipe.core.errors import GalleryError, StorageError
from frpipe.gallery.document import damaged, read_sealed, sealed
from frpipe.gallery.schema import check_text
from frpipe.io.storage.folder import Folder

VERSIONS = "versions"
LOG = "log"
SHORT = 12
"""Number of digits of a commit that are shown to people."""
# Most digests of subjects in one entry; if there are more, it has one digest of all of them.
_MOST_DIGESTS = 10_000
# How often to look again for files that other processes add and remove.
_LOOKS = 100
_NUMBERED = re.compile(r"(\d{9})\.json")
_SHARD_NAME = re.compile(r"shards/[0-9a-f]{20}\.h5")
_DELETED_NAME = re.compile(r"deleted/[0-9a-f]{20}\.bin")


class Purged(GalleryError):
    """Error: a compaction removed files while a reader or writer used them."""

    @classmethod
    def while_read(cls, number: int) -> Purged:
        """The error for a snapshot whose files were removed."""
        return cls(
            f"version {number} of the gallery was purged by a compaction while it was read",
            "open the gallery again: the newest version has all that is left",
        )

    @classmethod
    def while_at_work(cls) -> Purged:
        """The error for a shard that was being written."""
        return cls("a compaction has removed a shard that was being written", "run again")


class OtherVersion(GalleryError):
    """Error: the version that a record names is not in the gallery, or another one bears its number.

    This happens after a gallery was restored from a backup, copied, or made anew.
    """

    code = "gallery_other_version"


@dataclass(frozen=True, slots=True)
class VersionId:
    """Identity of a version's content.

    After a gallery is restored or copied, a number may stand for other content; a commit never does. The
    empty version 0 has the commit "": its gallery's id identifies it.
    commit: None in records from before commits were recorded, which have a number alone.
    """

    gallery_id: str
    number: int
    commit: str | None

    @classmethod
    def read(cls, record: Mapping[str, Any], prefix: str = "") -> VersionId | None:
        """Read the `as_dict` form, or a record of a number alone; None where it names no version.

        gallery_id: "" in a record that has none.
        """
        number, commit = record.get(f"{prefix}version"), record.get(f"{prefix}commit")
        if number is None:
            return None
        return cls(str(record.get("gallery_id") or ""), int(number), None if commit is None else str(commit))

    def as_dict(self, prefix: str = "") -> dict[str, Any]:
        """JSON form: gallery_id, and with the prefix version and, where it is known, commit."""
        known = {} if self.commit is None else {f"{prefix}commit": self.commit}
        return {"gallery_id": self.gallery_id, f"{prefix}version": self.number, **known}

    def as_metadata(self) -> dict[str, str]:
        """Parquet metadata: `frpipe.gallery_id`, `frpipe.gallery_version` and `frpipe.gallery_commit`."""
        return {f"frpipe.{name}": str(value) for name, value in self.as_dict("gallery_").items()}

    def __str__(self) -> str:
        return f"version {self.number}" + (f" (commit {self.commit[:SHORT]})" if self.commit else "")


@dataclass(frozen=True, slots=True)
class Deleted:
    """Reference to the list of a shard's deleted rows, a file in `deleted/`."""

    name: str
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ShardRef:
    """Reference to a shard in one version. rows: all rows of the file.  deleted: those that are hidden."""

    name: str
    rows: int
    bytes: int
    sha256: str
    attributes: tuple[str, ...]
    deleted: Deleted | None = None

    @property
    def live_rows(self) -> int:
        return self.rows - (self.deleted.rows if self.deleted else 0)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """Entry of the audit log: what was done, without ids.

    subjects: digests, keyed by the gallery's id, of the people who lost a template (by delete, clear,
    rollback, or an enrolment that replaced it); empty if they are more than 10,000. subjects_sha256: SHA-256
    of those digests, sorted, one on each line.
    """

    version: int
    created: str
    action: str
    note: str = ""
    policy: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    subjects: tuple[str, ...] = ()
    subjects_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """One state of the gallery. commit: random; distinguishes it from a rival version of the same number.

    purged: versions up to this number are removed, with the files that only they named.  suppressed: number
    of documents of the suppression list at that time: a list that has fewer is damaged.  unnamed: files that
    no version named when the one before this was the newest: who wrote them had that one as a base, or an
    older one, and writes them again once it is purged. So they go with it, if still no version names them.
    """

    number: int
    commit: str
    purged: int
    entry: LogEntry
    shards: tuple[ShardRef, ...] = ()
    suppressed: int = 0
    unnamed: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Number of visible templates."""
        return sum(shard.live_rows for shard in self.shards)

    def followed_by(
        self, shards: Iterable[ShardRef], entry: LogEntry, *, purged: int = 0, unnamed: tuple[str, ...] = ()
    ) -> Version:
        """Make the next version; shards without a visible row are left out."""
        number = self.number + 1
        kept = tuple(shard for shard in shards if shard.live_rows)
        gone = max(purged, self.purged)
        commit = secrets.token_hex(16)
        return Version(number, commit, gone, replace(entry, version=number), kept, unnamed=unnamed)


def entry_of(
    action: str, note: str, counts: dict[str, int], *, policy: str = "", digests: Iterable[str] = ()
) -> LogEntry:
    """Make a log entry dated now; the commit sets its number.

    Raises GalleryError for a note that is no UTF-8.
    """
    check_text([note])
    listed = sorted(digests)
    seal = hashlib.sha256("".join(f"{digest}\n" for digest in listed).encode()).hexdigest() if listed else ""
    few = tuple(listed) if len(listed) <= _MOST_DIGESTS else ()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return LogEntry(0, now, action, note, policy, counts, few, seal)


class Catalog:
    """The versions and the audit log of a gallery, in `versions/` and `log/`.

    Version 0 is the empty gallery as it was made; it has no file.
    """

    def __init__(self, folder: Folder, created: str) -> None:
        self._folder = folder
        self._origin = Version(0, "", 0, LogEntry(0, created, "create"))

    def head(self) -> Version:
        """The newest version. Raises GalleryDamaged where its file, or the only file, is damaged or lost."""
        for _ in range(_LOOKS):
            newest = self._newest()
            if newest is None:
                # A listing during a compaction may show neither: list again before it is believed.
                if not self.logged():
                    return self._origin
                if self._newest() is None:
                    raise damaged(VERSIONS, "there is none, and the log says that there were some")
                continue
            try:
                return self.read(newest)
            except FileNotFoundError:  # a newer one was committed and this one purged between two looks
                continue
        raise _never_there(VERSIONS)

    def numbers(self) -> list[int]:
        """Numbers of the version files that are there, ascending."""
        return self._numbered(VERSIONS)

    def logged(self) -> list[int]:
        """Numbers of the versions that were purged, ascending."""
        return self._numbered(LOG)

    def read(self, number: int) -> Version:
        """Read a version by its number. FileNotFoundError if it has no file."""
        if number == 0:
            return self._origin
        name = _name(VERSIONS, number)
        content = read_sealed(self._folder, name)
        version = version_from(content, name)
        if version.number != number or version.entry.version != number:
            raise damaged(name, "it is the file of another version")
        return version

    def commit(self, version: Version) -> bool:
        """Make a version the head if its number is still free. Of any number of rivals exactly one gets True.

        A number may look free because its version has been purged: the log has it then, and the commit is
        withdrawn. If a store loses its answer, the version's commit is read back.
        """
        name = _name(VERSIONS, version.number)
        created = self._folder.create(name, sealed(_content(version)))
        logged = self._logged(version.number)
        if logged is not None:
            if created and logged != version.commit:
                self._folder.delete(name)
            return logged == version.commit
        if created:
            return True
        try:
            return self.read(version.number).commit == version.commit
        except FileNotFoundError:
            return self._logged(version.number) == version.commit

    def is_of_no_version(self, version: Version) -> bool:
        """Whether its commit is to be withdrawn: the log has another one under its number."""
        return self._logged(version.number) not in {None, version.commit}

    def trace(self, number: int) -> tuple[str, str] | None:
        """Commit and time of a version, also of one that was purged; None where there never was one."""
        found = None
        with suppress(FileNotFoundError):
            version = self.read(number)
            found = version.commit, version.entry.created
        # The log is looked at last, and is right: the file may be of a commit that is to be withdrawn.
        with suppress(FileNotFoundError):
            commit, entry = self._receipt(number)
            found = commit, entry.created
        return found

    def retire(self, number: int) -> None:
        """Remove the file of a version; its log entry stays."""
        try:
            version = self.read(number)
        except FileNotFoundError:
            return
        receipt = {"commit": version.commit, **_plain(asdict(version.entry))}
        receipt_name = _name(LOG, number)
        if not self._folder.create(receipt_name, sealed(receipt)) and self._logged(number) is None:
            raise damaged(receipt_name, "it is there, and cannot be read")
        self._folder.delete(_name(VERSIONS, number))

    def entries(self) -> list[LogEntry]:
        """The audit log, oldest first."""
        return [entry for _, entry in self.history()]

    def history(self) -> list[tuple[str, LogEntry]]:
        """The audit log, oldest first, with the commit of each version."""
        for _ in range(_LOOKS):
            with suppress(FileNotFoundError):  # purged between two looks
                return self._history()
        raise _never_there(VERSIONS)

    def _history(self) -> list[tuple[str, LogEntry]]:
        found = {0: (self._origin.commit, self._origin.entry)}
        for number in self.numbers():
            version = self.read(number)
            found[number] = version.commit, version.entry
        # As in `trace`; and what is purged between the two lists is in both, not in none.
        for number in self.logged():
            found[number] = self._receipt(number)
        return [found[number] for number in sorted(found)]

    def _newest(self) -> int | None:
        """Number of the newest version file; None if there is none."""
        names = sorted(self._folder.children(VERSIONS), reverse=True)
        return next((int(match[1]) for match in map(_NUMBERED.fullmatch, names) if match), None)

    def _numbered(self, folder: str) -> list[int]:
        """Numbers of the files of a folder, ascending; files with other names are ignored."""
        matches = map(_NUMBERED.fullmatch, self._folder.children(folder))
        return sorted(int(match[1]) for match in matches if match)

    def _receipt(self, number: int) -> tuple[str, LogEntry]:
        """Commit and entry of a version that was purged. FileNotFoundError where it was not."""
        name = _name(LOG, number)
        content = read_sealed(self._folder, name)
        with _fields_of(name):
            commit = _text(content.pop("commit"))
        entry = entry_from(content, name)
        if entry.version != number:
            raise damaged(name, "it is the file of another version")
        return commit, entry

    def _logged(self, number: int) -> str | None:
        """The commit of a version that has been purged; None where it has not."""
        try:
            return self._receipt(number)[0]
        except FileNotFoundError:
            return None


def subject_digest(gallery_id: str, subject_id: str) -> str:
    """Digest that the log has in place of a subject's id: 32 hex digits, keyed by the gallery's id."""
    return hashlib.blake2b(subject_id.encode(), digest_size=16, key=gallery_id.encode()).hexdigest()


def check_readable(number: int, head: Version) -> None:
    """Raise GalleryError for a version that never was, or has been purged."""
    if number and not head.purged < number <= head.number:
        why = "has been purged by a compaction" if 0 < number <= head.purged else "does not exist"
        raise GalleryError(
            f"version {number} of the gallery {why}",
            f"versions that can be read: {head.purged + 1} to {head.number}",
        )


def _never_there(folder: str) -> StorageError:
    return StorageError(
        f"files of {folder}/ are listed, and not there when they are read, {_LOOKS} times",
        "look at the store, or run again when no compaction is under way",
    )


def _name(folder: str, number: int) -> str:
    return f"{folder}/{number:09d}.json"


def _content(version: Version) -> dict[str, Any]:
    """JSON content of a version. `parent` is for human readers: it is always the previous number."""
    content = {"format_version": 1, "parent": version.number - 1, **_plain(asdict(version))}
    if not version.unnamed:
        del content["unnamed"]
    return content


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in content.items()}


@contextmanager
def _fields_of(name: str) -> Iterator[None]:
    """Raise GalleryDamaged where the document `name` has not the expected fields."""
    try:
        yield
    except (KeyError, TypeError, ValueError):
        raise damaged(name, "it has not the expected fields") from None


def version_from(content: Mapping[str, Any], name: str) -> Version:
    """Parse a version. Raises GalleryDamaged where its document `name` has not the expected fields."""
    with _fields_of(name):
        return _version(content)


def entry_from(content: Mapping[str, Any], name: str) -> LogEntry:
    """Parse a log entry. Raises GalleryDamaged where its document has not the expected fields."""
    with _fields_of(name):
        return _entry(content)


def _version(content: Mapping[str, Any]) -> Version:
    version = Version(
        number=_count(content["number"]),
        commit=_text(content["commit"]),
        purged=_count(content["purged"]),
        entry=_entry(content["entry"]),
        shards=tuple(_shard(shard) for shard in content["shards"]),
        suppressed=_count(content.get("suppressed", 0)),
        unnamed=tuple(map(str, content.get("unnamed", ()))),
    )
    # A compaction would remove a version that says of itself that it is purged.
    if version.purged >= version.number:
        raise ValueError
    return version


def _entry(content: Mapping[str, Any]) -> LogEntry:
    entry = LogEntry(**{**content, "subjects": tuple(map(_text, content["subjects"]))})
    _count(entry.version)
    for text in (entry.created, entry.action, entry.note, entry.policy, entry.subjects_sha256, *entry.counts):
        _text(text)
    # Any whole number: the grace time of a compaction may have been below zero.
    if not all(type(count) is int for count in entry.counts.values()):
        raise ValueError
    if datetime.fromisoformat(entry.created).tzinfo is None:
        raise ValueError
    return entry


def _shard(content: dict[str, Any]) -> ShardRef:
    """Parse a shard reference.

    Raises ValueError for any name that a gallery does not use, so that no version can point outside of it.
    """
    deleted = Deleted(**content["deleted"]) if content["deleted"] else None
    ref = ShardRef(**{**content, "attributes": tuple(content["attributes"]), "deleted": deleted})
    named = _SHARD_NAME.fullmatch(ref.name) and (deleted is None or _DELETED_NAME.fullmatch(deleted.name))
    for count in (ref.rows, ref.bytes, deleted.rows if deleted else 0):
        _count(count)
    if not named:
        raise ValueError
    return ref


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value

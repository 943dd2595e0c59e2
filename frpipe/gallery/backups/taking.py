"""Take a backup of a gallery: new files are copied, then the backup is listed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, GalleryMismatch
from frpipe.gallery.backups.documents import (
    Backup,
    BackupFile,
    BackupFolder,
    BackupList,
    now,
    retried,
    stored_name,
)
from frpipe.gallery.backups.state import State, StateFile, with_state
from frpipe.gallery.backups.transfer import copy, is_whole
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import check_text
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder

Say = Callable[[str], None]
# Concurrent copies: stores answer slowly, and so few do not slow a disk.
_AT_ONCE = 4
_SAID_EVERY = 100


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup that was listed, or would be.  copied, copied_bytes: of files that were not there.

    is_new: False where the newest backup was of this state already.
    """

    backup: Backup
    copied: int
    copied_bytes: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Removal:
    """Backups that were removed, and the files that no other one needs.

    elsewhere: backups that were kept because the gallery, restored since, does not have their version.
    """

    backups: tuple[int, ...] = ()
    files: int = 0
    bytes: int = 0
    elsewhere: int = 0


@dataclass(frozen=True, slots=True)
class Keeping:
    """Rule for the backups to keep: the newest so many, and those that are younger. None: no such rule.

    compacted: keep no backup of a version that the gallery has purged, whatever the other rules say.
    """

    newest: int | None = None
    days: float | None = None
    compacted: bool = False

    def __bool__(self) -> bool:
        return self.newest is not None or self.days is not None or self.compacted

    def kept(self, listed: BackupList, gallery: Gallery) -> tuple[set[int], int]:
        """Numbers of the backups to keep, and how many of them are of another history of the gallery."""
        numbers = {backup.number for backup in listed.backups}
        if self.newest is not None or self.days is not None:
            since = datetime.now(UTC) - timedelta(days=self.days or 0)
            young = {b.number for b in listed.backups if datetime.fromisoformat(b.created) >= since}
            latest = {b.number for b in listed.backups[-self.newest :]} if self.newest else set()
            numbers = latest | (young if self.days is not None else set())
        elsewhere = 0
        if self.compacted:
            purged = gallery.catalog.head().purged
            for backup in listed.backups:
                trace = gallery.catalog.trace(backup.version)
                if trace is None or trace[0] != backup.version_commit:
                    elsewhere += backup.number in numbers
                elif 0 < backup.version <= purged:
                    numbers.discard(backup.number)
        return numbers | ({listed.newest.number} if listed.newest else set()), elsewhere


def back_up(
    gallery: Gallery,
    folder: Folder,
    *,
    note: str = "",
    check: bool = False,
    dry_run: bool = False,
    say: Say = lambda _: None,
) -> Taken:
    """Back up the newest state of a gallery; the key of an encrypted one is not needed.

    Files are copied first and the backup is listed last, so that a kill leaves none that lacks a file; the
    same call then copies what is missing. check: read back every stored file that the backup needs, and copy
    damaged ones anew. Raises GalleryMismatch where the folder has backups of another gallery.
    """
    check_text([note])
    _check_apart(gallery.folder, folder)
    store = BackupFolder(folder)
    if not dry_run:
        folder.sweep()
    taken: list[Taken] = []

    def attempt(state: State) -> bool:
        listed = store.read()
        _check_same(listed, gallery)
        files, missing = _planned(store, listed, state, check, say)
        newest, size = listed.newest, sum(each.bytes for each in missing)
        backup = Backup(
            number=listed.head + 1,
            commit="",
            created=now(),
            note=note,
            gallery_id=gallery.gallery_id,
            source=gallery.uri,
            version=state.version.number,
            version_commit=state.version.commit,
            templates=state.version.rows,
            suppressed=state.suppressed,
            encrypted=gallery.spec.encryption is not None,
            files=tuple(files),
        )
        is_new = newest is None or newest.contents != backup.contents
        if not dry_run:
            _copy_all(gallery.folder, store.folder, missing, say)
        taken[:] = [Taken(backup if is_new or newest is None else newest, len(missing), size, is_new)]
        return dry_run or not is_new or store.commit(backup, listed)

    retried(lambda: with_state(gallery, attempt))
    return taken[0]


def remove(gallery: Gallery, folder: Folder, rule: Keeping) -> Removal:
    """Remove the backups that a rule does not keep, then every stored file that none of the others names.

    The newest backup always stays. After a kill the same call finishes, as does any later one.
    """
    if not rule:
        raise ConfigError("which backups to keep is not said", "say --keep, --newer-than or --compacted")
    store, gone, elsewhere = BackupFolder(folder), set[int](), 0

    def attempt() -> bool:
        nonlocal elsewhere
        listed = store.read()
        _check_same(listed, gallery)
        keeps, elsewhere = rule.kept(listed, gallery)
        dropped = {backup.number for backup in listed.backups} - keeps
        # Files of killed backups lie below the newest removal: only a further removal gives them up.
        loose = store.present().keys() - listed.stored.keys()
        if not dropped and not loose:
            return True
        done = store.commit(tuple(sorted(keeps)), listed)
        if done:
            gone.update(dropped)
        return done

    retried(attempt)
    files, size = store.sweep(store.read())
    return Removal(tuple(sorted(gone)), files, size, elsewhere)


def check(folder: Folder, backup: Backup) -> list[BackupFile]:
    """The files of a backup that are missing or not as they were written; every one is read."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        whole = pool.map(lambda file: is_whole(folder, file.stored, file.sha256), backup.files)
        return [file for file, there in zip(backup.files, whole, strict=True) if not there]


def _planned(
    store: BackupFolder, listed: BackupList, state: State, check: bool, say: Say
) -> tuple[list[BackupFile], list[BackupFile]]:
    """The files of a backup with their places, and those that have to be copied.

    A file that is lost is put back in its place, so that older backups have it again. Of files that no backup
    names, only those below the newest removal may be used.
    """
    present = store.present()
    places = {file.sha256: file.stored for file in listed.stored.values()}
    files = [_placed(each, places, listed) for each in state.files]
    unique = {file.stored: file for file in files}
    missing = [file for stored, file in unique.items() if present.get(stored) != file.bytes]
    if check:
        there = [file for stored, file in unique.items() if present.get(stored) == file.bytes]
        say(f"reading back {counted(len(there), 'files')}")
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            whole = pool.map(lambda file: is_whole(store.folder, file.stored, file.sha256), there)
            missing += [file for file, good in zip(there, whole, strict=True) if not good]
    return files, missing


def _placed(file: StateFile, places: dict[str, str], listed: BackupList) -> BackupFile:
    stored = places.get(file.sha256) or stored_name(file.sha256, listed)
    return BackupFile(file.name, stored, file.bytes, file.sha256)


def _copy_all(source: Folder, target: Folder, files: list[BackupFile], say: Say) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        copies = [pool.submit(copy, source, f.name, target, f.stored, f.sha256) for f in files]
        try:
            for done, each in enumerate(copies, start=1):
                each.result()
                if done % _SAID_EVERY == 0 or done == len(copies):
                    say(f"copied {done:,} of {counted(len(copies), 'files')}")
        except BaseException:
            for each in copies:
                each.cancel()
            raise


def _check_same(listed: BackupList, gallery: Gallery) -> None:
    other = next((b for b in listed.backups if b.gallery_id != gallery.gallery_id), None)
    if other is not None:
        raise GalleryMismatch(
            f"the folder has backups of the gallery {other.gallery_id}, this is {gallery.gallery_id}",
            "give each gallery a folder of its own for backups",
        )


def _check_apart(gallery: Folder, backups: Folder) -> None:
    if uris.inside(gallery.uri, backups.uri) or uris.inside(backups.uri, gallery.uri):
        raise ConfigError(
            "the backups would lie in the gallery's folder, or it among them",
            "name another folder, better on another disk or in another bucket",
        )

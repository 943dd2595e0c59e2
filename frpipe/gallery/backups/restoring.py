"""Restore a gallery from a backup, without those who were suppressed since."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from frpipe.core.counted import counted
from frpipe.core.errors import FrpipeError, GalleryError, GalleryMismatch
from frpipe.gallery.backups.documents import Backup, BackupFile, BackupFolder
from frpipe.gallery.backups.later import (
    Deletions,
    content_of,
    deletions_of,
    documents,
    list_of,
    live_list,
    renew,
)
from frpipe.gallery.backups.transfer import changed, copy, is_whole
from frpipe.gallery.catalog import (
    SHORT,
    VERSIONS,
    ShardRef,
    Version,
    entry_of,
    subject_digest,
    version_from,
)
from frpipe.gallery.commit import Proposal, gone_digests, hide_rows, transact
from frpipe.gallery.compact import compact
from frpipe.gallery.delete import obey, suppressed_rows
from frpipe.gallery.derived import SHARDS
from frpipe.gallery.document import read_sealed, sealed, unsealed
from frpipe.gallery.encryption import key_is_given
from frpipe.gallery.gallery import GALLERY, Gallery
from frpipe.gallery.schema import SUBJECT_ID
from frpipe.gallery.shard_store import files_of
from frpipe.gallery.snapshot import Snapshot
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder

RESTORING = "restoring.json"
"""Mark of a folder that a restore has begun to fill."""
Say = Callable[[str], None]
_AT_ONCE = 4
_RESTORE = "restore"
_SAID_EVERY = 100


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored gallery.  version: its newest.  files, bytes: of the backup.

    hidden: templates of suppressed people that the backup shows and the gallery does not.
    documents: of the suppression list that are newer than the backup.  lists: galleries whose lists apply.
    was_there: the gallery had the backup's version already.
    """

    backup: Backup
    version: int
    files: int
    bytes: int
    hidden: int = 0
    documents: int = 0
    deletions: Deletions = field(default_factory=Deletions)
    lists: tuple[str, ...] = ()
    was_there: bool = False


@dataclass(frozen=True)
class Restoration:
    """One restore: of a backup in `source` into `target`.

    number: of the backup; None: the newest.  live: galleries whose newer suppression lists apply, beside the
    gallery of the backup, if that is still at its address.
    over: whether to make the backup's templates the next version of a gallery that is there.
    compacted: whether to remove the vectors of people who are kept out from the files, with older versions.
    """

    source: Folder
    target: Folder
    number: int | None = None
    live: Sequence[Gallery] = ()
    over: bool = False
    compacted: bool = False
    say: Say = lambda _: None

    def run(self, *, dry_run: bool = False) -> Restored:
        """Restore. After a kill the same call continues, with the same result."""
        listed = BackupFolder(self.source).read()
        backup = listed.find(self.number)
        newest = listed.newest or backup
        deletions = deletions_of(self.source, newest, backup.version)
        live = self._living(newest)
        for gallery in live:
            if gallery.gallery_id == backup.gallery_id and _is_readable(gallery):
                deletions |= Deletions.of(gallery.log(), backup.version)
        files = (len(backup.files), backup.bytes)
        lists = tuple(gallery.uri for gallery in live)
        found = Restored(backup, backup.version, *files, deletions=deletions, lists=lists)
        if self.target.exists(GALLERY):
            gallery = Gallery.at(self.target)
            if self._is_finished(gallery, backup):
                found = replace(found, was_there=True)
                return found if dry_run else self._finished(gallery, found, newest, live)
            self._check_may_be_changed(gallery, backup)
            found = replace(found, deletions=deletions | Deletions.of(gallery.log(), backup.version))
            return found if dry_run else self._over(gallery, found, newest, live)
        self._check_may_be_filled(backup)
        return found if dry_run else self._fill(found, newest, live)

    def _living(self, newest: Backup) -> list[Gallery]:
        """Galleries whose lists apply: those given, and the one that was backed up, if it can be read.

        If it cannot, that may be why it is restored.
        """
        given = [*self.live]
        known = {self.target.uri, *(gallery.uri for gallery in given)}
        if newest.source not in known and uris.split(newest.source)[0] in {"", *uris.WRITABLE}:
            with suppress(FrpipeError):
                found = Gallery.open(newest.source)
                documents(live_list(found))
                if found.gallery_id == newest.gallery_id:
                    given.append(found)
        return given

    # into a folder without a gallery

    def _fill(self, found: Restored, newest: Backup, live: list[Gallery]) -> Restored:
        """Fill a folder. `gallery.json` comes last: until then there is no gallery for anybody."""
        backup = found.backup
        facts = content_of(self.source, _file(backup, GALLERY))
        self.target.create(RESTORING, sealed(_mark(backup)))
        self._check_mark(backup)
        gallery = Gallery.read(self.target, unsealed(facts, GALLERY))
        # A version that the backup lacks was made here, and the suppressed are hidden in it already.
        if max(gallery.catalog.numbers(), default=0) <= backup.version:
            self._copy_all([file for file in backup.files if file.name != GALLERY])
        newer = self._renewed(gallery, newest, live)
        hidden = self._obeyed(gallery, newer)
        if self.compacted:
            compact(gallery)
        self._index(gallery)
        if not self.target.create(GALLERY, facts) and self.target.read(GALLERY) != facts:
            raise GalleryError(
                "somebody made another gallery in this folder meanwhile", "restore into a new folder"
            )
        self.target.delete(RESTORING)
        return replace(found, version=gallery.snapshot().number, hidden=hidden, documents=newer)

    def _check_may_be_filled(self, backup: Backup) -> None:
        if self.target.exists(RESTORING):
            self._check_mark(backup)
        elif next(self.target.walk(), None) is not None:
            raise GalleryError("the folder is not empty, and holds no gallery", "restore into a new folder")

    def _check_mark(self, backup: Backup) -> None:
        if read_sealed(self.target, RESTORING) != _mark(backup):
            raise GalleryError(
                "a restore of another backup into this folder broke off",
                "run that one again, or remove the folder",
            )

    def _is_finished(self, gallery: Gallery, backup: Backup) -> bool:
        """Whether a gallery has the backup's version already."""
        if self.target.exists(RESTORING):
            self._check_mark(backup)
            return True
        trace = gallery.catalog.trace(backup.version) if gallery.gallery_id == backup.gallery_id else None
        return not self.over and trace is not None and trace[0] == backup.version_commit

    def _finished(self, gallery: Gallery, found: Restored, newest: Backup, live: list[Gallery]) -> Restored:
        """Finish a gallery that has the version already: apply newer lists, compact, and remove the mark."""
        newer = self._renewed(gallery, newest, live)
        hidden = self._obeyed(gallery, newer)
        if self.compacted:
            compact(gallery)
        if self.target.exists(RESTORING):
            self.target.delete(RESTORING)
        return replace(found, version=gallery.snapshot().number, hidden=hidden, documents=newer)

    def _copy_all(self, files: list[BackupFile]) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            copies = [pool.submit(self._copied, file) for file in files]
            try:
                for done, each in enumerate(copies, start=1):
                    each.result()
                    if done % _SAID_EVERY == 0 or done == len(copies):
                        self.say(f"restored {done:,} of {counted(len(copies), 'files')}")
            except BaseException:
                for each in copies:
                    each.cancel()
                raise

    def _copied(self, file: BackupFile) -> None:
        if not is_whole(self.target, file.name, file.sha256):
            self._copy(file, file.name)

    def _copy(self, file: BackupFile, to: str) -> None:
        try:
            copy(self.source, file.stored, self.target, to, file.sha256)
        except FileNotFoundError:
            raise changed(self.source, file.stored) from None

    def _renewed(self, gallery: Gallery, newest: Backup, live: list[Gallery]) -> int:
        """Take over what is newer on the suppression lists of the newest backup and of live galleries."""
        added = 0
        with list_of(self.source, newest, gallery) as its:
            added += renew(gallery, newest.gallery_id, its)
        for other in live:
            added += renew(gallery, other.gallery_id, live_list(other))
        return added

    def _obeyed(self, gallery: Gallery, newer: int) -> int:
        """Hide people on the list; returns the number of templates. An encrypted gallery needs its key."""
        is_blind = _is_blind(gallery) and not newer
        if is_blind and gallery.catalog.head().suppressed == len(gallery.suppressions.names()):
            return 0
        return obey(gallery, note="suppressed since the backup").deleted

    def _index(self, gallery: Gallery) -> None:
        """Write the indexes of the newest version's shards, which no backup has; not without the key."""
        if _is_blind(gallery):
            return
        for ref in gallery.catalog.head().shards:
            # Such as one that was damaged before the backup: it is read without, and `verify` tells.
            with suppress(GalleryError):
                gallery.shard_store.write_index(ref)

    # into a gallery that is there

    def _check_may_be_changed(self, gallery: Gallery, backup: Backup) -> None:
        if gallery.gallery_id != backup.gallery_id:
            raise GalleryMismatch(
                "the folder holds another gallery than the backup",
                "restore into a new folder; `frpipe gallery merge` adds its people to another gallery",
            )
        if not self.over:
            raise GalleryError(
                "there is a gallery already, with another history than the backup",
                "restore into a new folder, or say --over to make the backup its next version",
            )

    def _over(self, gallery: Gallery, found: Restored, newest: Backup, live: list[Gallery]) -> Restored:
        """Make the backup's templates the newest version, but for those of suppressed people.

        The gallery's own list, log and older versions stay. Copied shards get new names, as a compaction may
        remove files that no version names yet.
        """
        backup = found.backup
        newer = self._renewed(gallery, newest, live)
        shards: tuple[ShardRef, ...] = ()
        # The empty gallery as it was made has no file of its version.
        if backup.version:
            name = _version_name(backup)
            content = unsealed(content_of(self.source, _file(backup, name)), name)
            shards = version_from(content, name).shards
        hidden, note = 0, f"backup {backup.number}, commit {backup.version_commit[:SHORT]}"
        copied: set[str] = set()

        def change(snapshot: Snapshot) -> Proposal | None:
            nonlocal hidden
            if (snapshot.version.entry.action, snapshot.version.entry.note) == (_RESTORE, note):
                return None
            known = {ref.name: ref for ref in snapshot.version.shards}
            back: list[ShardRef] = []
            for ref in shards:
                back.append(self._brought(gallery, backup, ref, known))
                copied.update(files_of(back[-1:]) - files_of(known.values()))
            view = _view(gallery, replace(snapshot.version, shards=tuple(back)))
            barred = suppressed_rows(view, gallery.suppressions.read())
            hidden = sum(map(len, barred.values()))
            after = hide_rows(view, gallery.shard_store, barred, copied)
            if set(after) == set(snapshot.version.shards):
                return None
            rows = sum(ref.live_rows for ref in after)
            counts = {"backup": backup.number, "to": backup.version, "rows_before": snapshot.rows}
            counts |= {"rows": rows, "suppressed": hidden}
            stay = _digests(gallery, _view(gallery, replace(snapshot.version, shards=tuple(after))))
            digests = gone_digests(gallery.gallery_id, snapshot, after) - stay
            return Proposal(after, entry_of(_RESTORE, note, counts, digests=digests))

        # What is copied and not named: in attempts that lost, and where every person is suppressed.
        done = transact(gallery, change, copied)
        version = compact(gallery).version if self.compacted else done.number
        self._index(gallery)
        return replace(found, version=version, hidden=hidden, documents=newer)

    def _brought(
        self, gallery: Gallery, backup: Backup, ref: ShardRef, known: dict[str, ShardRef]
    ) -> ShardRef:
        """Shard of the gallery for one of the backup: the same one, or a copy under a new name."""
        mine = known.get(ref.name)
        if mine is not None and mine.sha256 == ref.sha256:
            brought = replace(ref, deleted=None)
            if mine.deleted == ref.deleted:
                return mine
        else:
            brought = replace(self._shard(gallery, _file(backup, ref.name), ref), deleted=None)
        if ref.deleted is None:
            return brought
        rows = np.frombuffer(content_of(self.source, _file(backup, ref.deleted.name)), "<i8")
        return replace(brought, deleted=gallery.shard_store.write_deleted(rows))

    def _shard(self, gallery: Gallery, file: BackupFile, ref: ShardRef) -> ShardRef:
        name, cipher = f"{SHARDS}/{secrets.token_hex(10)}.h5", gallery.cipher()
        if cipher is None:
            self._copy(file, name)
            return replace(ref, name=name)
        # The name is authenticated with the bytes: under a new name they are encrypted anew.
        plain = cipher.decrypt(ref.name, content_of(self.source, file))
        data = bytes(cipher.encrypt(name, memoryview(plain)))
        gallery.folder.write(name, data)
        return replace(ref, name=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _view(gallery: Gallery, version: Version) -> Snapshot:
    return Snapshot(gallery.catalog, gallery.shard_store, gallery.gallery_id, version)


def _digests(gallery: Gallery, snapshot: Snapshot) -> set[str]:
    """Digests of all people with visible templates."""
    found: set[str] = set()
    for ref in snapshot.version.shards:
        people = snapshot.table_of(ref, [SUBJECT_ID], vectors=False)[SUBJECT_ID].unique().to_pylist()
        found.update(subject_digest(gallery.gallery_id, who) for who in people)
    return found


def _is_blind(gallery: Gallery) -> bool:
    """Whether a gallery is encrypted and its key is not given."""
    return gallery.spec.encryption is not None and not key_is_given()


def _is_readable(gallery: Gallery) -> bool:
    try:
        gallery.log()
    except GalleryError:
        return False
    return True


def _file(backup: Backup, name: str) -> BackupFile:
    return next(file for file in backup.files if file.name == name)


def _version_name(backup: Backup) -> str:
    return f"{VERSIONS}/{backup.version:09d}.json"


def _mark(backup: Backup) -> dict[str, object]:
    return {"format_version": 1, "gallery_id": backup.gallery_id, "backup_commit": backup.commit}

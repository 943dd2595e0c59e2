"""Backups of a gallery: whole or not listed, only what is new is copied, and nobody deleted comes back."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crashing_folder import Crash, CrashingFolderDouble
from gallery_rows import (
    content,
    files,
    files_with,
    ids,
    only_what_versions_name,
    people,
    rival_commits_first,
    spec,
    vector_of,
)

from frpipe.cli.main import main
from frpipe.core.errors import ConfigError, GalleryDamaged, GalleryError, GalleryMismatch
from frpipe.gallery import lifecycle
from frpipe.gallery.backups import restoring, taking
from frpipe.gallery.backups.documents import BackupFolder
from frpipe.gallery.backups.restoring import RESTORING, Restoration, Restored
from frpipe.gallery.backups.taking import Keeping, back_up, check, remove
from frpipe.gallery.catalog import Catalog, subject_digest
from frpipe.gallery.document import sealed
from frpipe.gallery.encryption import KEY_FILE_VARIABLE, KEY_VARIABLE
from frpipe.gallery.gallery import GALLERY, Gallery
from frpipe.gallery.suppression import Names
from frpipe.io.storage.folder import Folder


@pytest.fixture(autouse=True)
def unsynchronised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    made = Gallery.create(str(tmp_path / "g"), spec())
    lifecycle.enroll(made, [people(ids(100))])
    return made


@pytest.fixture
def dest(tmp_path: Path) -> Folder:
    return Folder.at(str(tmp_path / "backups"))


def _restore(dest: Folder, to: Path, number: int | None = None, **how: Any) -> tuple[Gallery, Restored]:
    done = Restoration(dest, Folder.at(str(to)), number, **how).run()
    return Gallery.open(str(to)), done


def _subjects(gallery: Gallery) -> set[str]:
    return {row[0] for row in content(gallery.snapshot())}


def test_what_is_restored_is_the_gallery(gallery: Gallery, dest: Folder, tmp_path: Path) -> None:
    lifecycle.delete(gallery, ids(5))
    lifecycle.compact(gallery)
    lifecycle.enroll(gallery, [people(ids(30, 200), seed=3)])
    lifecycle.delete(gallery, ids(5, 40))
    back_up(gallery, dest)
    found, _ = _restore(dest, tmp_path / "r")
    assert content(found.snapshot()) == content(gallery.snapshot())
    assert found.catalog.history() == gallery.catalog.history()
    assert found.versions() == gallery.versions()
    assert found.snapshot().id == gallery.snapshot().id
    assert found.suppressions.read().entries == gallery.suppressions.read().entries
    assert lifecycle.verify(found) == []
    there = {path.relative_to(found.uri) for path in _backed_up(found)}
    assert there == {path.relative_to(gallery.uri) for path in _backed_up(gallery)}
    assert _indexed(found) == _shards(found)


def _shards(gallery: Gallery) -> set[str]:
    return {Path(ref.name).stem for ref in gallery.snapshot().version.shards}


def _indexed(gallery: Gallery) -> set[str]:
    """Shards that have an index."""
    return {path.stem for path in (Path(gallery.uri) / "shards").glob("*.index")}


def _backed_up(gallery: Gallery) -> list[Path]:
    """Files of a gallery, without the indexes of its shards: what can be made again is not backed up."""
    return [path for path in files(Path(gallery.uri)) if path.suffix != ".index"]


def test_only_what_is_new_is_copied(gallery: Gallery, dest: Folder) -> None:
    first = back_up(gallery, dest)
    assert first.copied == len(_backed_up(gallery))
    lifecycle.enroll(gallery, [people(ids(10, 500), seed=4)])
    second = back_up(gallery, dest)
    assert (second.is_new, second.copied) == (True, 2)  # a shard and a version
    again = back_up(gallery, dest)
    assert (again.is_new, again.copied, again.backup.number) == (False, 0, 2)
    assert [b.number for b in BackupFolder(dest).read().backups] == [1, 2]


def test_an_empty_gallery_comes_back(dest: Folder, tmp_path: Path) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    back_up(gallery, dest)
    found, _ = _restore(dest, tmp_path / "r")
    assert (found.snapshot().rows, found.versions()) == (0, [0])


def test_the_empty_gallery_becomes_the_next_version(dest: Folder, tmp_path: Path) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    back_up(gallery, dest)
    lifecycle.enroll(gallery, [people(["new"])])
    done = Restoration(dest, Folder.at(gallery.uri), over=True).run()
    assert (done.version, gallery.snapshot().rows) == (2, 0)


def test_a_folder_is_of_one_gallery(gallery: Gallery, dest: Folder, tmp_path: Path) -> None:
    back_up(gallery, dest)
    other = Gallery.create(str(tmp_path / "h"), spec())
    with pytest.raises(GalleryMismatch):
        back_up(other, dest)
    for place in (gallery.uri, f"{gallery.uri}/backups", str(tmp_path)):
        with pytest.raises(ConfigError, match="would lie"):
            back_up(gallery, Folder.at(place))


def test_an_encrypted_gallery_is_copied_and_comes_back_without_its_key(
    dest: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    monkeypatch.delenv(KEY_FILE_VARIABLE, raising=False)
    key = base64.b64encode(os.urandom(32)).decode()
    monkeypatch.setenv(KEY_VARIABLE, key)
    gallery = Gallery.create(str(tmp_path / "g"), spec(encryption="aes-256-gcm"))
    lifecycle.enroll(gallery, [people(ids(60))])
    lifecycle.delete(gallery, ids(3))
    old, vector = content(gallery.snapshot()), vector_of(gallery, "p0050").tobytes()

    monkeypatch.delenv(KEY_VARIABLE)
    back_up(Gallery.open(gallery.uri), dest)
    assert files_with(Path(dest.uri), vector, b"p0050") == []
    Restoration(dest, Folder.at(str(tmp_path / "r"))).run()

    monkeypatch.setenv(KEY_VARIABLE, key)
    assert content(Gallery.open(str(tmp_path / "r")).snapshot()) == old
    assert _indexed(Gallery.open(str(tmp_path / "r"))) == set()
    lifecycle.delete(gallery, ["p0050"])
    # Whom a newer list names can be told from others with the key alone: no gallery without it.
    monkeypatch.delenv(KEY_VARIABLE)
    target = tmp_path / "late"
    with pytest.raises(GalleryError, match="no key"):
        Restoration(dest, Folder.at(str(target))).run()
    assert not (target / GALLERY).exists()
    monkeypatch.setenv(KEY_VARIABLE, key)
    late, _ = _restore(dest, target, live=[Gallery.open(gallery.uri)])
    assert _subjects(late) == set(ids(56, 3)) - {"p0050"} | {"p0059"}
    assert _indexed(late) == _shards(late)
    assert lifecycle.verify(late) == []
    over = Restoration(dest, Folder.at(gallery.uri), over=True).run()
    assert over.hidden == 1
    assert content(gallery.snapshot()) == content(late.snapshot())


@pytest.mark.parametrize("compacting", [False, True])
def test_a_backup_under_a_busy_writer_is_of_one_version(
    gallery: Gallery, dest: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, compacting: bool
) -> None:
    """Between the look at the gallery and each copy somebody enrolls, deletes, and compacts a few times."""
    real, numbers = taking.copy, itertools.count()

    def meanwhile(*given: Any) -> int:
        number = next(numbers)
        if number < 5:
            lifecycle.enroll(gallery, [people(ids(3, 1000 + 3 * number), seed=number)])
            lifecycle.delete(gallery, ids(1, 1000 + 3 * number))
            if compacting:
                lifecycle.compact(gallery)
        return real(*given)

    monkeypatch.setattr(taking, "_AT_ONCE", 1)
    monkeypatch.setattr(taking, "copy", meanwhile)
    taken = back_up(gallery, dest)
    assert next(numbers) >= 5
    found, _ = _restore(dest, tmp_path / "r")
    assert lifecycle.verify(found) == []
    assert found.catalog.trace(taken.backup.version) == gallery.catalog.trace(taken.backup.version)
    if compacting:
        assert content(found.snapshot()) == content(gallery.snapshot())
    else:
        assert taken.backup.version == 1
        assert _subjects(found) == set(ids(100))


def test_a_backup_goes_on_where_a_compaction_takes_the_files_of_versions(
    gallery: Gallery, dest: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retire, begun = Catalog.retire, list[int]()
    monkeypatch.setattr(Catalog, "retire", lambda _, number: begun.append(number))
    lifecycle.delete(gallery, ids(1))
    lifecycle.compact(gallery)
    assert begun
    copied = taking.copy

    def meanwhile(*what: Any) -> int:
        for number in begun:
            retire(gallery.catalog, number)
        begun.clear()
        return copied(*what)

    monkeypatch.setattr(taking, "copy", meanwhile)
    back_up(gallery, dest)
    assert not begun
    assert content(_restore(dest, tmp_path / "again")[0].snapshot()) == content(gallery.snapshot())


def test_nobody_who_was_deleted_since_comes_back(gallery: Gallery, dest: Folder, tmp_path: Path) -> None:
    back_up(gallery, dest)
    lifecycle.delete(gallery, ["p0001", "p0002"])
    lifecycle.delete(gallery, ["p0003"], suppress=None)
    names = ("p0001", "p0002", "p0003")
    digests = frozenset(subject_digest(gallery.gallery_id, name) for name in names)
    live, done = _restore(dest, tmp_path / "live", 1)
    assert done.lists == (gallery.uri,)
    assert _subjects(live) == set(ids(100)) - {"p0001", "p0002"}
    assert (done.hidden, done.deletions.people, done.deletions.digests) == (2, 3, digests)
    # The gallery is lost, and the list that the newest backup has still holds.
    back_up(gallery, dest)
    shutil.rmtree(gallery.uri)
    older, done = _restore(dest, tmp_path / "r", 1)
    assert _subjects(older) == set(ids(100)) - {"p0001", "p0002"}
    assert (done.hidden, done.deletions.digests) == (2, digests)
    assert lifecycle.enroll(older, [people(["p0001"])]).suppressed == 1
    # A list that nothing more was added to is not forgotten either.
    assert older.suppressions.read().entries == live.suppressions.read().entries


def test_a_gallery_that_was_moved_is_named(gallery: Gallery, dest: Folder, tmp_path: Path) -> None:
    back_up(gallery, dest)
    lifecycle.delete(gallery, ["p0001"])
    moved = shutil.move(gallery.uri, tmp_path / "moved")
    found, done = _restore(dest, tmp_path / "r")
    assert (done.lists, "p0001" in _subjects(found)) == ((), True)
    # Said late, it holds all the same.
    found, done = _restore(dest, tmp_path / "r", live=[Gallery.open(str(moved))])
    assert (done.was_there, done.hidden, "p0001" in _subjects(found)) == (True, 1, False)


def test_a_damaged_list_is_taken_over_by_nobody(gallery: Gallery, dest: Folder, tmp_path: Path) -> None:
    lifecycle.delete(gallery, ["p0000"])
    back_up(gallery, dest)
    lifecycle.delete(gallery, ["p0001"])
    document = Path(gallery.uri) / "suppressed/000000002.json"
    document.write_bytes(document.read_bytes()[:-3])
    with pytest.raises(GalleryDamaged):
        _restore(dest, tmp_path / "named", live=[gallery])
    # What is only found at its address may be what the restore is for.
    found, done = _restore(dest, tmp_path / "r")
    assert done.lists == ()
    assert lifecycle.verify(found) == []
    document.unlink()
    Path(gallery.uri, "versions/000000003.json").unlink()
    found, done = _restore(dest, tmp_path / "lost")
    assert done.lists == (gallery.uri,)


def test_who_was_allowed_since_comes_back(gallery: Gallery, dest: Folder, tmp_path: Path) -> None:
    back_up(gallery, dest)
    lifecycle.delete(gallery, ["p0001"])
    gallery.suppressions.allow(Names(frozenset({"p0001"})))
    found, _ = _restore(dest, tmp_path / "r", live=[gallery])
    assert "p0001" in _subjects(found)


def test_lists_that_went_apart_both_hold(gallery: Gallery, dest: Folder, tmp_path: Path) -> None:
    lifecycle.delete(gallery, ["p0000"])
    back_up(gallery, dest)
    found, _ = _restore(dest, tmp_path / "r")
    lifecycle.delete(found, ["p0001"])
    lifecycle.delete(gallery, ["p0002"])
    lifecycle.delete(gallery, ["p0003"])
    back_up(found, dest)
    both, _ = _restore(dest, tmp_path / "both", 1, live=[gallery])
    assert _subjects(both) == set(ids(96, 4))


def test_what_was_kept_out_can_go_from_the_files(gallery: Gallery, dest: Folder, tmp_path: Path) -> None:
    back_up(gallery, dest)
    vector = vector_of(gallery, "p0001").tobytes()
    lifecycle.delete(gallery, ["p0001"])
    found, _ = _restore(dest, tmp_path / "plain", live=[gallery])
    assert files_with(Path(found.uri), vector)
    found, _ = _restore(dest, tmp_path / "compact", live=[gallery], compacted=True)
    assert files_with(Path(found.uri), vector, b"p0001") == []
    assert _subjects(found) == set(ids(100)) - {"p0001"}
    assert lifecycle.verify(found) == []
    # Also where the version is there already.
    found, done = _restore(dest, tmp_path / "plain", live=[gallery], compacted=True)
    assert done.was_there and done.version == found.snapshot().number
    assert files_with(Path(found.uri), vector, b"p0001") == []


def test_backups_after_an_erasure_hold_no_byte_of_the_erased(
    gallery: Gallery, dest: Folder, tmp_path: Path
) -> None:
    back_up(gallery, dest)
    needles = [vector_of(gallery, "p0007").tobytes(), b"p0007"]
    assert files_with(Path(dest.uri), *needles)
    lifecycle.delete(gallery, ["p0007"])
    back_up(gallery, dest)
    lifecycle.compact(gallery)
    # A copy that was cut short holds them too.
    orphan = Path(dest.uri) / "files/000000000" / ("a" * 64)
    orphan.write_bytes(needles[0])
    assert back_up(gallery, dest).copied
    removal = remove(gallery, dest, Keeping(compacted=True))
    assert removal.backups == (1, 2)
    assert files_with(Path(dest.uri), *needles) == []
    found, _ = _restore(dest, tmp_path / "r")
    assert content(found.snapshot()) == content(gallery.snapshot())
    assert remove(gallery, dest, Keeping(compacted=True)) == taking.Removal()


def test_the_newest_backups_are_kept(gallery: Gallery, dest: Folder, tmp_path: Path) -> None:
    for number in range(4):
        lifecycle.enroll(gallery, [people(ids(2, 300 + 2 * number), seed=number)])
        back_up(gallery, dest)
    assert remove(gallery, dest, Keeping(days=1)).backups == ()
    assert remove(gallery, dest, Keeping(newest=2)).backups == (1, 2)
    assert [b.number for b in BackupFolder(dest).read().backups] == [3, 4]
    for number in (3, 4):
        found, _ = _restore(dest, tmp_path / f"r{number}", number)
        assert lifecycle.verify(found) == []
    with pytest.raises(GalleryError, match="no backup 2"):
        _restore(dest, tmp_path / "gone", 2)
    lifecycle.enroll(gallery, [people(["late"])])
    assert back_up(gallery, dest).copied == 2
    assert remove(gallery, dest, Keeping(days=0)).backups == (3, 4)


def test_a_backup_that_a_removal_overtakes_starts_again(
    gallery: Gallery, dest: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removal takes a file away that the backup counted on, before it is listed."""
    back_up(gallery, dest)
    old = Restoration(dest, Folder.at(str(tmp_path / "old")))
    old.run()
    lifecycle.clear(gallery)
    back_up(gallery, dest)
    real, left = taking._copy_all, [1]

    def overtaken(*given: Any) -> None:
        if left.pop() if left else 0:
            remove(gallery, dest, Keeping(newest=1))
        real(*given)

    monkeypatch.setattr(taking, "_copy_all", overtaken)
    taken = back_up(Gallery.open(str(tmp_path / "old")), dest)
    assert not left
    assert check(dest, taken.backup) == []
    found, _ = _restore(dest, tmp_path / "r", taken.backup.number)
    assert _subjects(found) == set(ids(100))


def test_the_backup_becomes_the_next_version_of_its_gallery(
    gallery: Gallery, dest: Folder, tmp_path: Path
) -> None:
    lifecycle.delete(gallery, ids(3, 50), suppress=None)
    back_up(gallery, dest)
    old = content(gallery.snapshot())
    lifecycle.delete(gallery, ["p0001"])
    lifecycle.clear(gallery)
    lifecycle.enroll(gallery, [people(["new"])])
    lifecycle.compact(gallery)
    with pytest.raises(GalleryError, match="there is a gallery already"):
        Restoration(dest, Folder.at(str(_another_history(gallery, dest, tmp_path)))).run()
    version = gallery.snapshot().number
    done = Restoration(dest, Folder.at(gallery.uri), over=True).run()
    assert (done.version, done.hidden) == (version + 1, 1)
    assert _shards(gallery) <= _indexed(gallery)
    assert content(gallery.snapshot()) == [row for row in old if row[0] != "p0001"]
    assert lifecycle.verify(gallery) == []
    entry = gallery.log()[-1]
    assert (entry.action, entry.subjects) == ("restore", (subject_digest(gallery.gallery_id, "new"),))
    lifecycle.rollback(gallery, version)
    assert _subjects(gallery) == {"new"}
    assert Restoration(dest, Folder.at(gallery.uri), over=True).run().version == version + 3
    assert Restoration(dest, Folder.at(gallery.uri), over=True).run().version == version + 3


def test_a_restore_that_loses_its_number_leaves_no_shard(
    gallery: Gallery, dest: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(gallery, dest)
    lifecycle.clear(gallery)
    lifecycle.compact(gallery)
    rival_commits_first(gallery, monkeypatch)
    Restoration(dest, Folder.at(gallery.uri), over=True).run()
    only_what_versions_name(gallery)


def test_a_shard_of_suppressed_people_alone_is_not_left(gallery: Gallery, dest: Folder) -> None:
    lifecycle.enroll(gallery, [people(["gone"], seed=9)])
    vector = vector_of(gallery, "gone").tobytes()
    back_up(gallery, dest)
    lifecycle.delete(gallery, ["gone"])
    lifecycle.compact(gallery)
    Restoration(dest, Folder.at(gallery.uri), over=True).run()
    assert not files_with(Path(gallery.uri), vector)
    only_what_versions_name(gallery)


def _another_history(gallery: Gallery, dest: Folder, tmp_path: Path) -> Path:
    """A copy of the gallery without the version of the newest backup, as one from an older state."""
    copied = Path(shutil.copytree(gallery.uri, tmp_path / "other"))
    newest = BackupFolder(dest).read().find(None)
    receipt = copied / f"log/{newest.version:09d}.json"
    facts = json.loads(receipt.read_text())
    del facts["sha256"]
    receipt.write_bytes(sealed({**facts, "commit": "f" * 32}))
    return copied


def test_a_restore_into_what_is_there(gallery: Gallery, dest: Folder, tmp_path: Path) -> None:
    back_up(gallery, dest)
    again = Restoration(dest, Folder.at(gallery.uri)).run()
    assert again.was_there
    other = Gallery.create(str(tmp_path / "h"), spec())
    for over in (False, True):
        with pytest.raises(GalleryMismatch):
            Restoration(dest, Folder.at(other.uri), over=over).run()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(GalleryError, match="not empty"):
        Restoration(dest, Folder.at(str(tmp_path / "full"))).run()


def test_damage_among_backups_is_found_and_mended(
    gallery: Gallery, dest: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = back_up(gallery, dest).backup
    changed, lost = (Path(dest.uri) / file.stored for file in backup.named("shards")[:2])
    changed.write_bytes(b"x" + changed.read_bytes()[1:])
    lost.unlink()
    assert len(check(dest, backup)) == 2
    assert main(["gallery", "backups", dest.uri, "--check"]) == 10
    assert "backup 1: shards/" in capsys.readouterr().out
    with pytest.raises(GalleryDamaged, match="SHA-256 has changed"):
        _restore(dest, tmp_path / "r")
    assert not (tmp_path / "r" / GALLERY).exists()
    assert back_up(gallery, dest).copied == 1
    assert main(["gallery", "backup", gallery.uri, dest.uri, "--check"]) == 0
    assert main(["gallery", "backups", dest.uri, "--check", "--json"]) == 0
    found, _ = _restore(dest, tmp_path / "r")
    assert content(found.snapshot()) == content(gallery.snapshot())


def test_damage_in_the_gallery_is_not_backed_up(gallery: Gallery, dest: Folder) -> None:
    shard = Path(gallery.uri) / gallery.snapshot().version.shards[0].name
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + b"x")
    with pytest.raises(GalleryDamaged):
        back_up(gallery, dest)
    shard.unlink()
    with pytest.raises(GalleryDamaged, match="missing"):
        back_up(gallery, dest)
    assert BackupFolder(dest).read().backups == ()
    shard.write_bytes(whole)
    assert back_up(gallery, dest).is_new


@pytest.mark.parametrize(
    "forged",
    [
        {"name": "../outside"},
        {"name": "shards/../../x.h5"},
        {"stored": "files/000000000/../../../etc/passwd"},
        {"stored": f"files/000000000/{'0' * 64}"},
        {"bytes": -1},
        {"surplus": 1},
        {"created": "yesterday"},
        {"created": "2026-05-01"},
        {"version": "1"},
        {"note": None},
    ],
)
def test_a_forged_document_leads_nowhere(
    gallery: Gallery, dest: Folder, tmp_path: Path, forged: dict[str, Any]
) -> None:
    back_up(gallery, dest)
    path = Path(dest.uri) / "backups/000000001.json"
    document = json.loads(path.read_text())
    del document["sha256"]
    if set(forged) & {"created", "version", "note"}:
        document |= forged
    else:
        document["files"][0] |= forged
    path.write_bytes(sealed(document))
    assert main(["gallery", "backups", dest.uri]) == GalleryDamaged.exit_code
    with pytest.raises(GalleryDamaged):
        _restore(dest, tmp_path / "r")
    assert not (tmp_path / "r").exists()
    path.write_text("{}")
    with pytest.raises(GalleryDamaged):
        back_up(gallery, dest)


def test_a_forged_version_of_a_backup_leads_nowhere(gallery: Gallery, dest: Folder) -> None:
    back_up(gallery, dest)
    path = Path(dest.uri) / "backups/000000001.json"
    document = json.loads(path.read_text())
    del document["sha256"]
    file = max((f for f in document["files"] if f["name"].startswith("versions/")), key=lambda f: f["name"])
    version = json.loads((Path(dest.uri) / file["stored"]).read_text())
    del version["sha256"]
    content = sealed({**version, "entry": {**version["entry"], "counts": {"added": "many"}}})
    (Path(dest.uri) / file["stored"]).write_bytes(content)
    file |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_bytes(sealed(document))
    before = gallery.snapshot().version
    with pytest.raises(GalleryDamaged, match="expected fields"):
        Restoration(dest, Folder.at(gallery.uri), over=True).run()
    assert gallery.snapshot().version == before


# killed at every storage operation


AFTER = [False, pytest.param(True, marks=pytest.mark.slow)]


def _crashes(folder: Folder, work: Callable[[Folder], object], at: int, *, after: bool) -> bool:
    try:
        work(CrashingFolderDouble(folder.uri).armed(at, after=after))
    except Crash:
        return True
    return False


@pytest.fixture
def small(tmp_path: Path) -> Gallery:
    """One shard: what is tried at every operation has few of them."""
    made = Gallery.create(str(tmp_path / "small"), spec())
    lifecycle.enroll(made, [people(ids(30))])
    return made


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the k-th operation is always the same one."""
    for module in (taking, restoring):
        monkeypatch.setattr(module, "_AT_ONCE", 1)


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize("after", AFTER, ids=["before", "after"])
@pytest.mark.parametrize("work", ["take", "remove"])
def test_a_crash_of_a_backup_at_every_operation(
    small: Gallery, dest: Folder, tmp_path: Path, work: str, *, after: bool
) -> None:
    back_up(small, dest)
    lifecycle.delete(small, ids(20))
    lifecycle.compact(small)
    if work == "remove":
        back_up(small, dest)

    def done(folder: Folder) -> object:
        return back_up(small, folder) if work == "take" else remove(small, folder, Keeping(newest=1))

    for crashes in itertools.count():
        at = Folder.at(shutil.copytree(dest.uri, tmp_path / f"at{crashes}").as_posix())
        if not _crashes(at, done, crashes + 1, after=after):
            break
        assert all(check(at, backup) == [] for backup in BackupFolder(at).read().backups)
        done(at)
        listed = BackupFolder(at).read()
        assert [b.version for b in listed.backups] == ([1, 3] if work == "take" else [3])
        assert all(check(at, backup) == [] for backup in listed.backups)
        assert listed.backups[-1].contents == back_up(small, at).backup.contents
        remove(small, at, Keeping(newest=1))
        assert BackupFolder(at).present().keys() == BackupFolder(at).read().stored.keys()
        shutil.rmtree(at.uri)
    assert crashes >= 4


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize("after", AFTER, ids=["before", "after"])
@pytest.mark.parametrize("compacted", [False, True], ids=["plain", "compacted"])
def test_a_crash_of_a_restore_at_every_operation(
    small: Gallery, dest: Folder, tmp_path: Path, *, compacted: bool, after: bool
) -> None:
    back_up(small, dest)
    lifecycle.delete(small, ["p0001"])
    expected = set(ids(30)) - {"p0001"}

    def done(target: Folder) -> object:
        return Restoration(dest, target, live=[small], compacted=compacted).run()

    for crashes in itertools.count():
        at = Folder.at(str(tmp_path / f"at{crashes}"))
        if not _crashes(at, done, crashes + 1, after=after):
            break
        if at.exists(GALLERY):  # never one in which the deleted person is in sight
            assert _subjects(Gallery.at(at)) == expected
        done(at)
        assert _subjects(Gallery.at(at)) == expected
        assert lifecycle.verify(Gallery.at(at)) == []
        assert not at.exists(RESTORING)
        if compacted:
            assert files_with(Path(at.uri), b"p0001") == []
        shutil.rmtree(at.uri)
    assert crashes >= 8


@pytest.mark.usefixtures("one_at_a_time")
def test_a_crash_of_a_restore_over_a_gallery(small: Gallery, dest: Folder, tmp_path: Path) -> None:
    back_up(small, dest)
    lifecycle.clear(small)
    lifecycle.enroll(small, [people(["new"])])
    lifecycle.compact(small)
    for crashes in itertools.count():
        at = Folder.at(shutil.copytree(small.uri, tmp_path / f"at{crashes}").as_posix())

        def done(target: Folder) -> object:
            return Restoration(dest, target, over=True).run()

        if not _crashes(at, done, crashes + 1, after=False):
            break
        # All of it or nothing; after that commit only an index can be missing.
        assert _subjects(Gallery.at(at)) in ({"new"}, set(ids(30)))
        done(at)
        assert _subjects(Gallery.at(at)) == set(ids(30))
        assert _shards(Gallery.at(at)) <= _indexed(Gallery.at(at))
        lifecycle.compact(Gallery.at(at))
        assert lifecycle.verify(Gallery.at(at)) == []
        shutil.rmtree(at.uri)
    assert crashes >= 3


def test_another_backup_is_not_mixed_in(
    gallery: Gallery, dest: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(gallery, dest)
    lifecycle.enroll(gallery, [people(["late"])])
    back_up(gallery, dest)
    target = tmp_path / "r"
    assert _crashes(Folder.at(str(target)), lambda to: Restoration(dest, to, 2).run(), 6, after=True)
    with pytest.raises(GalleryError, match="another backup"):
        _restore(dest, target, 1)
    found, _ = _restore(dest, target, 2)
    assert _subjects(found) == {*ids(100), "late"}


# commands


def test_commands(gallery: Gallery, dest: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> dict[str, Any]:
        assert main(["gallery", *words, "--json"]) == 0
        return dict(json.loads(capsys.readouterr().out))

    assert said("backup", gallery.uri, dest.uri, "--dry-run")["is_new"]
    assert not Path(dest.uri).exists()
    assert said("backup", gallery.uri, dest.uri)["backup"] == 1
    lifecycle.delete(gallery, ["p0001"])
    lifecycle.compact(gallery)
    found = said("backup", gallery.uri, dest.uri, "--prune", "--compacted", "--keep", "3")
    assert (found["backup"], found["removed"]) == (2, [1])
    assert [each["version"] for each in said("backups", dest.uri, "--check")["backups"]] == [3]
    target = str(tmp_path / "r")
    assert not Path(target).exists()
    said("restore", dest.uri, target, "--dry-run")
    assert not Path(target).exists()
    assert said("restore", dest.uri, target, "--suppressed-from", gallery.uri)["templates"] == 99
    assert main(["gallery", "backup", gallery.uri, dest.uri, "--prune"]) == ConfigError.exit_code
    assert main(["gallery", "backup", gallery.uri, dest.uri, "--keep", "1"]) == ConfigError.exit_code
    assert main(["gallery", "backup", gallery.uri, dest.uri, "--prune", "--keep", "1"]) == 0
    for days in ("-1", "nan", "inf"):
        words = ["backup", gallery.uri, dest.uri, "--prune", "--newer-than", days]
        assert main(["gallery", *words]) == ConfigError.exit_code
    assert main(["gallery", "backups", str(tmp_path / "none")]) == 0
    assert main(["gallery", "restore", str(tmp_path / "none"), target]) == GalleryError.exit_code

"""Files of attempts that no version names are gone when a writer ends, also where it ends with an error."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from gallery_rows import (
    content,
    ids,
    only_what_versions_name,
    people,
    rival_commits_first,
    spec,
    third_version,
)

from frpipe.core.errors import GalleryConflict, StorageError
from frpipe.gallery import commit, lifecycle
from frpipe.gallery.backups.restoring import Restoration
from frpipe.gallery.backups.taking import back_up
from frpipe.gallery.catalog import Catalog, Purged, Version
from frpipe.gallery.document import sealed, unsealed
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.shard_store import ShardStore
from frpipe.gallery.suppression import Names, SuppressionList
from frpipe.io.storage.folder import Folder

Change = Callable[[Gallery], Any]
DAY, MOMENT = timedelta(days=1), timedelta(microseconds=1)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return third_version(tmp_path / "g")


def _other(tmp_path: Path) -> Gallery:
    other = Gallery.create(str(tmp_path / "other"), spec())
    lifecycle.enroll(other, [people(ids(3, 100))])
    return other


CHANGES: dict[str, Change] = {
    "enroll": lambda g: lifecycle.enroll(g, [people(["p0003", "new"], seed=5)], "append"),
    "merge": lambda g: lifecycle.merge(g, _other(Path(g.uri).parent)),
    "delete": lambda g: lifecycle.delete(g, ["p0003"]),
    "obey": lifecycle.obey,
    "merge shards": lambda g: lifecycle.merge_shards(g, 1),
    "compact": lifecycle.compact,
}


def _begin(gallery: Gallery, change: str) -> None:
    """What a change needs, so that it has something to write."""
    if change == "obey":
        gallery.suppressions.suppress([Names(frozenset({"p0004"}))], "", "")
    if change == "compact":
        lifecycle.delete(gallery, ["p0005"])


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_left_where_others_are_always_first(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    _begin(gallery, change)
    real, count = Catalog.commit, [0]

    def commit_late(catalog: Catalog, version: Version) -> bool:
        if catalog is gallery.catalog:
            count[0] += 1
            lifecycle.enroll(Gallery.open(gallery.uri), [people([f"first{count[0]}"])])
        return real(catalog, version)

    monkeypatch.setattr(commit, "_TRIES", 3)
    monkeypatch.setattr(Catalog, "commit", commit_late)
    with pytest.raises(GalleryConflict):
        CHANGES[change](gallery)
    assert count[0] == 3
    only_what_versions_name(gallery)
    assert lifecycle.verify(gallery) == []


@pytest.mark.parametrize("change", ["enroll", "merge"])
def test_nothing_is_left_where_storage_fails_after_an_attempt_that_lost(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    real, lost = Catalog.commit, list[int]()

    def commit_late(catalog: Catalog, version: Version) -> bool:
        if catalog is gallery.catalog and not lost:
            lost.append(1)
            lifecycle.enroll(Gallery.open(gallery.uri), [people(["first"])])
        return real(catalog, version)

    def read(_: SuppressionList) -> None:
        raise StorageError("the store does not answer")

    def failing(catalog: Catalog, version: Version) -> bool:
        won = commit_late(catalog, version)
        if catalog is gallery.catalog:
            monkeypatch.setattr(SuppressionList, "read", read)
        return won

    monkeypatch.setattr(Catalog, "commit", failing)
    with pytest.raises(StorageError):
        CHANGES[change](gallery)
    monkeypatch.undo()
    assert lost
    only_what_versions_name(gallery)


@pytest.mark.parametrize("change", CHANGES)
def test_a_commit_that_is_made_keeps_its_files_though_it_ends_with_an_error(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    _begin(gallery, change)
    before, real = gallery.snapshot().number, Catalog.commit

    def commit_unheard(catalog: Catalog, version: Version) -> bool:
        real(catalog, version)
        if catalog is gallery.catalog:
            raise StorageError("the answer was lost")
        return True

    monkeypatch.setattr(Catalog, "commit", commit_unheard)
    with pytest.raises(StorageError, match="answer"):
        CHANGES[change](gallery)
    monkeypatch.undo()
    fresh = Gallery.open(gallery.uri)
    assert fresh.snapshot().number == before + 1
    assert lifecycle.verify(fresh) == [] and content(fresh.snapshot())


def test_an_index_whose_shard_goes_while_it_is_made_goes_too(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ref = gallery.shard_store, gallery.snapshot().version.shards[0]
    (Path(gallery.uri) / ref.name).with_suffix(".index").unlink()
    real = ShardStore._index_file

    def slow(it: ShardStore, *given: Any) -> tuple[str, bytes]:
        made = real(it, *given)
        monkeypatch.undo()
        other = Gallery.open(gallery.uri)
        lifecycle.delete(other, ids(1))
        lifecycle.compact(other)
        return made

    monkeypatch.setattr(ShardStore, "_index_file", slow)
    with pytest.raises(Purged):
        store.write_index(ref)
    only_what_versions_name(gallery)


def test_an_index_that_appears_while_its_shard_is_removed_goes_too(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = gallery.snapshot().version.shards[0]
    path = (Path(gallery.uri) / ref.name).with_suffix(".index")
    index, real = path.read_bytes(), Folder.delete
    path.unlink()

    def late(folder: Folder, name: str) -> None:
        if name == ref.name:
            path.write_bytes(index)
        real(folder, name)

    lifecycle.delete(gallery, ids(1))
    monkeypatch.setattr(Folder, "delete", late)
    lifecycle.compact(gallery)
    only_what_versions_name(gallery)


class _Killed(BaseException):
    """A writer ends at once, as by SIGKILL."""


def _killed_before_its_commit(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Let a writer die between its shards and its commit; the names of what it leaves."""

    def die(*_: object) -> None:
        raise _Killed

    before = gallery.shard_store.names()
    with monkeypatch.context() as patch:
        patch.setattr(ShardStore, "remove", die)
        patch.setattr(Catalog, "commit", die)
        with pytest.raises(_Killed):
            lifecycle.enroll(Gallery.open(gallery.uri), [people(["dead"])], "append")
        with pytest.raises(_Killed):
            lifecycle.delete(Gallery.open(gallery.uri), ["p0003"])
    return gallery.shard_store.names() - before


def _left_over(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    left = _killed_before_its_commit(gallery, monkeypatch)
    assert {name.rpartition(".")[2] for name in left} == {"h5", "index", "bin"}
    return left


def test_what_a_killed_writer_left_goes_with_the_version_it_was_seen_under(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = _left_over(gallery, monkeypatch)
    seen = lifecycle.compact(gallery, grace=DAY)
    assert left <= gallery.shard_store.names() and seen.kept_until
    # Nothing is due yet, and nothing new is to be seen.
    assert lifecycle.compact(gallery, grace=DAY).version == seen.version
    time.sleep(1.1)
    lifecycle.compact(gallery, grace=MOMENT)
    assert not left & gallery.shard_store.names()
    assert content(gallery.snapshot()) and lifecycle.verify(gallery) == []


def test_a_writer_that_was_seen_at_work_commits_and_keeps_its_files(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It pauses before its commit, and a compaction sees its shards; no time has passed since."""
    real, done = Catalog.commit, list[int]()

    def commit_late(catalog: Catalog, version: Version) -> bool:
        if catalog is gallery.catalog and not done:
            done.append(1)
            lifecycle.compact(Gallery.open(gallery.uri), grace=DAY)
        return real(catalog, version)

    monkeypatch.setattr(Catalog, "commit", commit_late)
    assert lifecycle.enroll(gallery, [people(["late"])], "append").added == 1
    time.sleep(1.1)
    for _ in range(3):
        lifecycle.compact(Gallery.open(gallery.uri), grace=MOMENT)
    assert gallery.snapshot().show("late").num_rows == 1 and lifecycle.verify(gallery) == []


def test_a_writer_that_pauses_for_longer_than_the_grace_writes_its_shards_again(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shards are seen, and gone when it wakes: its attempt loses, and it names none of them."""
    real, gone = Catalog.commit, set[str]()

    def commit_late(catalog: Catalog, version: Version) -> bool:
        if catalog is gallery.catalog and not gone:
            other = Gallery.open(gallery.uri)
            there = other.shard_store.names()
            lifecycle.compact(other, grace=DAY)
            time.sleep(1.1)
            lifecycle.compact(other, grace=MOMENT)
            gone.update(there - other.shard_store.names())
        return real(catalog, version)

    monkeypatch.setattr(Catalog, "commit", commit_late)
    assert lifecycle.enroll(gallery, [people(["late"])], "append").added == 1
    monkeypatch.undo()
    assert gone, "nothing was removed under the writer: nothing was tested"
    assert gallery.snapshot().show("late").num_rows == 1 and lifecycle.verify(gallery) == []


def test_a_purge_that_is_killed_before_it_removes_what_was_left_does_so_when_it_is_run_again(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = _left_over(gallery, monkeypatch)
    lifecycle.compact(gallery, grace=DAY)
    time.sleep(1.1)

    def die(*_: object) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(ShardStore, "remove", die)
        with pytest.raises(_Killed):
            lifecycle.compact(gallery, grace=MOMENT)
    assert left <= gallery.shard_store.names()
    lifecycle.compact(gallery, grace=MOMENT)
    assert not left & gallery.shard_store.names()


def test_what_a_version_says_to_be_unnamed_is_no_path_to_other_files(gallery: Gallery) -> None:
    path = Path(gallery.uri) / "versions" / "000000003.json"
    told = unsealed(path.read_bytes(), path.name)
    outside = Path(gallery.uri).parent / "mine.h5"
    outside.write_bytes(b"x")
    named = gallery.snapshot().version.shards[0].name
    path.write_bytes(sealed({**told, "unnamed": ["../mine.h5", "gallery.json", named]}))
    time.sleep(1.1)
    for grace in (DAY, MOMENT):
        lifecycle.compact(Gallery.open(gallery.uri), grace=grace)
    assert outside.exists() and lifecycle.verify(Gallery.open(gallery.uri)) == []


def test_a_compaction_that_slept_through_another_gives_no_files_of_later_writers_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wakes, takes a number that looks free as its version was purged, and dies before it withdraws.

    What it lists as unnamed then is also of a writer with a newer base, which would name it.
    """
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    for start in (0, 40, 80):
        # Full shards: a compaction leaves them as they are.
        lifecycle.enroll(gallery, [people(ids(35, start))], "append")
    sleeper, writer = Gallery.open(gallery.uri), Gallery.open(gallery.uri)
    asleep = [sleeper.snapshot()]
    lifecycle.enroll(gallery, [people(["other"])], "append")
    lifecycle.compact(gallery)
    lifecycle.enroll(gallery, [people(["another"])], "append")
    commit_now, snapshot_now, logged_now = Catalog.commit, Gallery.snapshot, Catalog._logged

    def logged(catalog: Catalog, number: int) -> str | None:
        if catalog is sleeper.catalog:
            raise _Killed
        return logged_now(catalog, number)

    def commit_late(catalog: Catalog, version: Version) -> bool:
        if catalog is writer.catalog and asleep:
            with monkeypatch.context() as patch:
                patch.setattr(Gallery, "snapshot", lambda it: asleep.pop() if asleep else snapshot_now(it))
                patch.setattr(Catalog, "_logged", logged)
                patch.setattr(ShardStore, "remove", lambda *_: None)
                with pytest.raises(_Killed):
                    lifecycle.compact(sleeper, grace=DAY)
            assert (Path(gallery.uri) / "versions" / "000000004.json").exists()
            lifecycle.compact(Gallery.open(gallery.uri), grace=DAY)
        return commit_now(catalog, version)

    monkeypatch.setattr(Catalog, "commit", commit_late)
    assert lifecycle.enroll(writer, [people(["late"])], "append").added == 1
    monkeypatch.undo()
    assert gallery.snapshot().show("late").num_rows == 1 and lifecycle.verify(gallery) == []


@pytest.mark.parametrize("name", [b"\xff.h5", "Zoë Müller.h5".encode(), b"a\nb.bin", b"%2F#.index"])
def test_files_that_no_writer_made_are_neither_noted_nor_removed_with_a_grace_time(
    gallery: Gallery, name: bytes
) -> None:
    """Their names may be of people, or no text."""
    path = os.path.join(os.fsencode(gallery.uri), b"shards", name)  # noqa: PTH118 - it may be no UTF-8
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.close(descriptor)
    before = gallery.snapshot().number
    for grace in (DAY, DAY, MOMENT):
        lifecycle.compact(gallery, grace=grace)
    assert gallery.catalog.head().unnamed == ()
    assert gallery.snapshot().number <= before + 2
    assert os.path.exists(path)  # noqa: PTH110


def test_drafts_of_killed_writers_go_once_they_are_older_than_the_grace_time(gallery: Gallery) -> None:
    drafts = [gallery.folder.draft(f"shards/{digit * 20}.h5") for digit in "ab"]
    assert drafts[0] is not None and drafts[1] is not None
    long_ago = time.time() - 2 * DAY.total_seconds()
    os.utime(drafts[0], (long_ago, long_ago))
    lifecycle.compact(gallery, grace=DAY)
    assert [draft.exists() for draft in drafts if draft] == [False, True]


def test_lists_of_deleted_rows_that_a_lost_restore_brought_are_gone(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle.delete(gallery, ["p0003", "p0013"])
    backups = Folder.at(str(tmp_path / "backups"))
    back_up(gallery, backups)
    lifecycle.compact(gallery)
    rival_commits_first(gallery, monkeypatch)
    Restoration(backups, Folder.at(gallery.uri), over=True).run()
    monkeypatch.undo()
    only_what_versions_name(gallery)


def test_compactions_that_come_again_and_again_let_a_long_writer_commit(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt of it takes longer than until the next compaction, which notes what it finds."""
    read = SuppressionList.read

    def slow(suppressions: SuppressionList) -> Any:
        if suppressions is writer.suppressions:
            lifecycle.compact(Gallery.open(gallery.uri), grace=DAY)
        return read(suppressions)

    writer = Gallery.open(gallery.uri)
    rival_commits_first(writer, monkeypatch)
    monkeypatch.setattr(SuppressionList, "read", slow)
    monkeypatch.setattr(commit, "_TRIES", 4)
    assert lifecycle.enroll(writer, [people(["p0003", "new"], seed=5)], "replace").added
    monkeypatch.undo()
    assert lifecycle.verify(gallery) == []

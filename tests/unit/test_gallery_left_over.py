"""Files of attempts that no version names are gone when a writer ends, also where it ends with an error."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from gallery_rows import content, ids, only_what_versions_name, people, spec

from frpipe.core.errors import GalleryConflict, StorageError
from frpipe.gallery import commit, lifecycle
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
    made = Gallery.create(str(tmp_path / "g"), spec())
    for start in (0, 10, 20):
        lifecycle.enroll(made, [people(ids(10, start))], "append")
    return made


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

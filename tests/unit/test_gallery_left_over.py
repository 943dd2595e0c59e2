"""Files of attempts that no version names are gone when a writer ends, also where it ends with an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gallery_rows import content, ids, only_what_versions_name, people, spec

from frpipe.core.errors import GalleryConflict, StorageError
from frpipe.gallery import commit, lifecycle
from frpipe.gallery.catalog import Catalog, Purged, Version
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.shard_store import ShardStore
from frpipe.gallery.suppression import Names, SuppressionList
from frpipe.io.storage.folder import Folder

Change = Callable[[Gallery], Any]


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

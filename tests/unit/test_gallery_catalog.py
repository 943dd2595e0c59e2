"""Versions of a gallery as they are found: in a store that was copied by half, changed, or is busy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from gallery_rows import people, third_version

from frpipe.core.errors import GalleryDamaged, StorageError
from frpipe.gallery import lifecycle
from frpipe.gallery.backups.taking import back_up
from frpipe.gallery.catalog import Catalog
from frpipe.gallery.document import sealed, unsealed
from frpipe.gallery.gallery import Gallery
from frpipe.io.storage.folder import Folder


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return third_version(tmp_path / "g")


def _path(gallery: Gallery, name: str) -> Path:
    return Path(gallery.uri) / name


def test_a_commit_that_is_to_be_withdrawn_is_nobodys_version(gallery: Gallery) -> None:
    """A writer that slept finds the number of a purged version free, and may be killed right after."""
    true = gallery.catalog.trace(2)
    older = gallery.snapshot(2).id
    content = unsealed(_path(gallery, "versions/000000002.json").read_bytes(), "")
    lifecycle.compact(gallery)
    gallery.folder.create("versions/000000002.json", sealed({**content, "commit": "f" * 32}))
    assert gallery.catalog.trace(2) == true
    assert [commit for commit, _ in gallery.catalog.history()][2] == older.commit
    assert not gallery.keeps(older)
    assert gallery.versions() == [0, 4]


READERS: dict[str, Callable[[Gallery], object]] = {
    "head": lambda g: g.catalog.head().number,
    "versions": Gallery.versions,
    "log": Gallery.log,
    "trace": lambda g: g.catalog.trace(2),
    "snapshot": lambda g: g.snapshot(2).rows,
    "verify": lifecycle.verify,
}


@pytest.mark.parametrize("name", ["versions/000000009.json", "versions/000000004.json", "log/000000002.json"])
def test_a_folder_with_the_name_of_a_version_is_passed_over(gallery: Gallery, name: str) -> None:
    before = {reader: read(gallery) for reader, read in READERS.items()}
    _path(gallery, name).mkdir(parents=True)
    (_path(gallery, name) / "000000009.json").write_text("half a copy")
    assert {reader: read(gallery) for reader, read in READERS.items()} == before


def test_a_folder_in_the_place_of_the_next_version_is_named(gallery: Gallery) -> None:
    _path(gallery, "versions/000000004.json").mkdir()
    with pytest.raises(StorageError, match=r"versions/000000004\.json: a folder lies where a file belongs"):
        lifecycle.enroll(gallery, [people(["new"])], "append")
    assert gallery.snapshot().number == 3


@pytest.mark.parametrize("in_the_way", [Path.mkdir, lambda path: path.symlink_to("elsewhere.json")])
def test_no_version_is_retired_whose_receipt_cannot_be_written(
    gallery: Gallery, in_the_way: Callable[[Path], None]
) -> None:
    receipt = _path(gallery, "log/000000002.json")
    receipt.parent.mkdir()
    in_the_way(receipt)
    with pytest.raises((StorageError, GalleryDamaged), match=r"log/000000002\.json"):
        lifecycle.compact(gallery)
    receipt.rmdir() if receipt.is_dir() else receipt.unlink()
    lifecycle.compact(gallery)
    assert [entry.version for entry in gallery.log()][:5] == [0, 1, 2, 3, 4]
    assert lifecycle.verify(gallery) == []


def test_a_newest_version_that_is_a_link_to_nothing_is_an_error(gallery: Gallery) -> None:
    """Whoever passed over it would go on from the version before."""
    newest = _path(gallery, "versions/000000003.json")
    newest.unlink()
    newest.symlink_to("elsewhere.json")
    with pytest.raises(StorageError, match="not there when they are read"):
        gallery.snapshot()


@pytest.mark.parametrize("look", ["logged", "numbers"])
def test_a_log_that_is_read_while_versions_are_purged_lacks_none(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    real, done = getattr(Catalog, look), list[int]()

    def looked(catalog: Catalog) -> list[int]:
        found: list[int] = real(catalog)
        if not done:
            done.append(1)
            lifecycle.compact(Gallery.open(gallery.uri))
        return found

    monkeypatch.setattr(Catalog, look, looked)
    numbers = [entry.version for entry in gallery.log()]
    assert numbers[:4] == [0, 1, 2, 3]


OF_A_VERSION: list[dict[str, Any]] = [
    {"number": float("inf")},
    {"purged": float("inf")},
    {"purged": 3},
    {"purged": 10**30},
    {"purged": -1},
    {"suppressed": float("inf")},
    {"suppressed": -1},
]
OF_AN_ENTRY: list[dict[str, Any]] = [
    {"version": "3"},
    {"version": 2},
    {"created": 5},
    {"created": "soon"},
    {"created": "2026-05-01T12:00:00"},
    {"action": None},
    {"counts": 5},
    {"counts": {"subjects": "x"}},
    {"subjects": 5},
    {"subjects": [5]},
]


@pytest.mark.parametrize("change", [*OF_A_VERSION, *({"entry": each} for each in OF_AN_ENTRY)], ids=str)
def test_a_sealed_version_without_sense_is_damage(gallery: Gallery, change: dict[str, Any]) -> None:
    """Anybody can seal: a version up to which all is purged, itself too, would have all of it removed."""
    path = _path(gallery, "versions/000000003.json")
    content = unsealed(path.read_bytes(), "")
    entry = {**content["entry"], **change.get("entry", {})}
    path.write_bytes(sealed({**content, **change, "entry": entry}))
    for use in (
        Gallery.snapshot,
        Gallery.log,
        lifecycle.compact,
        lambda g: lifecycle.compact(g, grace=timedelta(hours=1)),
        lambda g: back_up(g, Folder.at(f"{g.uri}-backup")),
    ):
        with pytest.raises(GalleryDamaged, match=r"versions/000000003\.json"):
            use(gallery)
    assert {problem.file for problem in lifecycle.verify(gallery)} >= {"log", "versions"}


@pytest.mark.parametrize("change", [*OF_AN_ENTRY, {"commit": None}, {"commit": 5}], ids=str)
def test_a_sealed_receipt_without_sense_is_damage(gallery: Gallery, change: dict[str, Any]) -> None:
    lifecycle.compact(gallery)
    slept = replace(gallery.snapshot().version, number=3)
    path = _path(gallery, "log/000000003.json")
    content = {**unsealed(path.read_bytes(), ""), **change}
    path.write_bytes(sealed({name: value for name, value in content.items() if value is not None}))
    for use in (Gallery.log, lambda g: g.catalog.trace(3), lambda g: g.catalog.commit(slept)):
        with pytest.raises(GalleryDamaged, match=r"log/000000003\.json"):
            use(gallery)


def test_a_compaction_with_a_time_before_now_leaves_a_gallery_that_is_read(gallery: Gallery) -> None:
    """The log of such galleries, of earlier code too, holds a count below zero."""
    lifecycle.compact(gallery, grace=timedelta(hours=-1))
    assert gallery.log()[-1].counts["grace_s"] == -3600
    assert lifecycle.verify(gallery) == []

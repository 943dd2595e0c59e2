"""A storage operation fails at every place of a change: the last version stays, and a rerun ends well."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from crashing_folder import Crash, CrashingFolderDouble
from gallery_rows import content, files, ids, people, spec

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.photos import RunPhotos
from frpipe.gallery.snapshot import Snapshot
from frpipe.jobs.doctor.checks import Finding
from frpipe.jobs.doctor.job import mend


@pytest.fixture(autouse=True)
def unsynchronised(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested is the order of operations; a disk that must write each at once only takes longer."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def _enroll(gallery: Gallery) -> object:
    table = people([*ids(60, 100), *ids(20)], seed=7, Name=["new"] * 80)
    return lifecycle.enroll(gallery, [table], "replace")


def _supersede(gallery: Gallery) -> object:
    """Photos of 30 people show nobody any more, and those of 20 another face."""
    photos = RunPhotos()
    photos.add(pa.array(ids(50)), pa.nulls(50, pa.string()))
    return lifecycle.enroll(gallery, [people(ids(20), seed=9)], "append", photos=photos)


def _mend(gallery: Gallery) -> object:
    """A check of a test's own finds the templates of 30 people."""
    return mend(gallery, [], checks=[_check])


def _check(snapshot: Snapshot, *_: object) -> Finding:
    rows = {}
    for ref in snapshot.version.shards:
        bad = pc.is_in(snapshot.open(ref).text("subject_id"), value_set=pa.array(ids(30))).to_numpy(False)
        found = np.setdiff1d(np.flatnonzero(bad), snapshot.deleted_rows(ref))
        rows |= {ref.name: found} if found.size else {}
    return Finding("own", "", sum(map(len, rows.values())), (), True, rows)


CHANGES: dict[str, Callable[[Gallery], object]] = {
    "enroll": _enroll,
    "delete": lambda gallery: lifecycle.delete(gallery, ids(30)),
    "compact": lifecycle.compact,
    "supersede": _supersede,
    "mend": _mend,
}


@pytest.mark.parametrize(
    "after", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["before", "after"]
)
@pytest.mark.parametrize(
    "change", [name if name != "compact" else pytest.param(name, marks=pytest.mark.slow) for name in CHANGES]
)
def test_a_crash_at_every_storage_operation(tmp_path: Path, change: str, after: bool) -> None:
    base = Gallery.create(str(tmp_path / "base"), spec())
    lifecycle.enroll(base, [people(ids(100))])
    lifecycle.delete(base, ids(15, 50))
    old = content(base.snapshot())
    whole = _copy(base, tmp_path / "whole")
    CHANGES[change](whole)
    new = content(whole.snapshot())
    crashes = 0
    while _crashes(_copy(base, tmp_path / f"at{crashes}"), CHANGES[change], crashes + 1, after=after):
        gallery = Gallery.open(str(tmp_path / f"at{crashes}"))
        assert content(gallery.snapshot()) in (old, new)
        assert lifecycle.verify(gallery) == []
        CHANGES[change](gallery)
        assert content(gallery.snapshot()) == new
        lifecycle.compact(gallery)
        assert content(gallery.snapshot()) == new
        assert lifecycle.verify(gallery) == []
        _only_what_is_named(gallery)
        crashes += 1
    assert crashes >= 4


def _copy(gallery: Gallery, to: Path) -> Gallery:
    shutil.copytree(gallery.uri, to)
    return Gallery.open(str(to))


def _crashes(gallery: Gallery, change: Callable[[Gallery], object], at: int, *, after: bool) -> bool:
    double = CrashingFolderDouble(gallery.uri).armed(at, after=after)
    try:
        change(replace(gallery, folder=double))
    except Crash:
        return True
    return False


def _only_what_is_named(gallery: Gallery) -> None:
    named = {ref.name for ref in gallery.snapshot().version.shards}
    there = {
        path.relative_to(gallery.uri).as_posix()
        for sub in ("shards", "deleted")
        for path in files(Path(gallery.uri) / sub)
    }
    beside = {name.replace(".h5", ".index") for name in named}
    assert there == named | beside
    assert gallery.catalog.numbers() == [gallery.snapshot().number]

"""Who came and who went between two versions, and which clusters are new."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gallery_rows import ids, people, spec

from frpipe.core.errors import OutputError
from frpipe.core.night_config import NightConfig
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.snapshot import Snapshot
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly.differences import OldResult, cluster_changes, differences, people_between
from frpipe.jobs.nightly.history import Past
from frpipe.jobs.nightly.journal import NightJournal
from frpipe.jobs.nightly.lease import lease
from frpipe.jobs.nightly.work import Work
from frpipe.runtime.runtime import Runtime


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """A hundred people in several shards."""
    made = Gallery.create(str(tmp_path / "G"), spec())
    lifecycle.enroll(made, [people(ids(100))])
    return made


def _between(gallery: Gallery, version: int = 1) -> tuple[list[str], list[str]]:
    return people_between(gallery.snapshot(version), gallery.snapshot())


def test_people_who_came_and_went_are_named_and_nobody_else(gallery: Gallery) -> None:
    lifecycle.enroll(gallery, [people(ids(5, 98), faces=2, seed=1)], "append")
    lifecycle.enroll(gallery, [people(ids(3, 10), seed=2)], "replace")
    lifecycle.delete(gallery, ["p0007", "p0099"])
    assert _between(gallery) == (ids(3, 100), ["p0007", "p0099"])


def test_shards_that_are_written_anew_make_nobody_new(gallery: Gallery) -> None:
    before = set(_subjects(gallery.snapshot()))
    lifecycle.delete(gallery, ["p0001"])
    two = gallery.snapshot(2)
    lifecycle.enroll(gallery, [people(ids(100)[2:], seed=5)], "replace")
    assert people_between(two, gallery.snapshot()) == ([], [])
    assert set(_subjects(gallery.snapshot())) == before - {"p0001"}


def test_against_an_empty_gallery_all_are_new(gallery: Gallery) -> None:
    assert _between(gallery, 0) == (ids(100), [])


def _subjects(snapshot: Snapshot) -> list[str]:
    return [name for table in snapshot.list() for name in table["subject_id"].to_pylist()]


def test_clusters_are_new_grown_or_gone() -> None:
    before = {"c-1": ["a", "b"], "c-2": ["c", "d"], "c-3": ["e", "f", "g"], "c-9": ["alone"]}
    after = {
        "c-1": ["a", "b"],
        "c-2": ["c", "d", "x"],
        "c-3": ["e", "f"],
        "c-4": ["y", "z"],
        "c-8": ["alone"],
    }
    assert cluster_changes(before, after) == {
        "cluster_new": ["c-4"],
        "cluster_grown": ["c-2"],
        "cluster_gone": [],
    }
    assert cluster_changes(after, {})["cluster_gone"] == ["c-1", "c-2", "c-3", "c-4"]


def test_a_night_ends_though_the_duplicates_of_last_night_were_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As somebody who must erase a person may do."""

    def result(uri: str) -> Any:
        if "2026-11-24" in uri:
            raise OutputError("there is none", "compare all")
        return SimpleNamespace(clusters=lambda: {"c": ["ann", "bob"]})

    monkeypatch.setattr(OldResult, "open", result)
    runs, said = Folder.at(str(tmp_path)), []
    config = NightConfig(runs=runs.uri, gallery=str(tmp_path / "G"), photos="p")
    last = Past("2026-11-24", runs.child("2026-11-24"), {}, {}, True, {"dedup": {"clusters": 1}})
    record = {"steps": {"dedup": {"clusters": 1}}, "pins": {}, "spent_s": 0.0}
    with lease(runs, "2026-11-25", 60) as held:
        journal = NightJournal(runs.child("2026-11-25"), {"gallery_version": None}, held, record)
        facts = differences(Work(config, journal, [last], last, Runtime(), said.append))
    assert facts["clusters"] is None
    assert said == ["warning: the duplicates of 2026-11-24 are gone or damaged: tonight's are not compared"]

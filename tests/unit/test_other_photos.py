"""Photos of two collections that have the same ids never replace each other in published tables unasked."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from made_runs import Photo, made_run, made_search
from table_oracle import published

from frpipe.core.errors import OutputError
from frpipe.jobs.publish.job import Publishing
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.schema import PHOTOS
from frpipe.jobs.publish.sources import Publication, result_at
from frpipe.testing.kills import Killed, at_change

HERE, THERE = "/albums/here/", "s3://albums/there/"


def _run(place: Path, *photos: Photo, source: str = "photos.csv") -> Publication:
    return result_at(made_run(place, [*photos]).uri, source)


def _publishing(root: Path, *found: Publication, **options: Any) -> Publishing:
    return Publishing(str(root), lambda _: (found, ()), **options)


def _contents(root: Path) -> dict[tuple[str, str], str]:
    tables = Root.opened(str(root))
    assert tables is not None
    rows = tables.table(PHOTOS).rows().to_pylist()
    return {(row["source"], row["image_uri"]): row["content_sha256"][:6] for row in rows}


@pytest.mark.parametrize("order", [*permutations(range(2))])
def test_other_photos_of_the_same_source_and_ids_are_refused(tmp_path: Path, order: tuple[int, ...]) -> None:
    runs, root = _others(tmp_path), tmp_path / "tables"
    _publishing(root, runs[order[0]]).run()
    before = _contents(root)
    for refused in (_publishing(root, runs[order[1]]).dry_run, _publishing(root, runs[order[1]]).run):
        with pytest.raises(OutputError, match="1 photo with the ids of others") as told:
            refused()
        assert "1.jpg of photos.csv" in str(told.value)
        assert "--source" in (told.value.remedy or "")
        assert _contents(root) == before


def _others(tmp_path: Path) -> tuple[Publication, Publication]:
    return (
        _run(tmp_path / "1", Photo("1.jpg", "anna", "a", HERE), Photo("2.jpg", "bob", "b", HERE)),
        _run(tmp_path / "2", Photo("1.jpg", "carl", "c", THERE), Photo("3.jpg", "dora", "d", THERE)),
    )


def _tried(root: Path, run: Publication, refused: set[str]) -> None:
    try:
        _publishing(root, run).run()
    except OutputError as error:
        assert "1 photo with the ids of others" in str(error)
        refused.add(run.run_id)


@pytest.mark.parametrize("layout", ["delta", "parquet"])
def test_of_two_publishers_at_once_one_is_refused(tmp_path: Path, layout: str) -> None:
    one, other = _others(tmp_path)
    zoe = _run(tmp_path / "0", Photo("9.jpg", "zoe", "z", HERE), source="else")
    for moment in range(1, 6):
        root, refused = tmp_path / "tables" / str(moment), set[str]()
        _publishing(root, zoe, layout=layout).run()
        with at_change(moment, partial(_tried, root, other, refused)):
            _tried(root, one, refused)
        stands = THERE if refused == {one.run_id} else HERE
        places = [place for source, place in _contents(root) if source == "photos.csv"]
        assert len(places) == 2 and all(place.startswith(stands) for place in places), moment
        assert len(refused) == 1


def test_what_was_killed_goes_on_whoever_has_replaced_its_photos_since(tmp_path: Path) -> None:
    one, other = _others(tmp_path)
    _publishing(tmp_path / "whole", one).run()
    _publishing(tmp_path / "whole", other, same_photos=True).run()
    moment, merged = 0, 0
    while merged < 3:
        moment += 1
        root = tmp_path / "killed" / str(moment)
        with at_change(moment), pytest.raises(Killed):
            _publishing(root, one).run()
        _publishing(root, other, same_photos=True).run()
        merged += len(_contents(root)) == 3
        if len(_contents(root)) == 3:
            _publishing(root, one).run()
            assert published(str(root)) == published(str(tmp_path / "whole")), moment


def test_a_search_of_other_photos_is_refused(tmp_path: Path) -> None:
    """It stood in the place of that of the photos that are there."""
    one, other = _others(tmp_path)
    when, root = "2026-05-02T00:00:00+00:00", tmp_path / "tables"
    mine, theirs = (
        result_at(made_search(tmp_path / f"found-{n}", out.features.folder, when, "anna").uri, "photos.csv")
        for n, out in enumerate((one, other))
        if out.features
    )
    _publishing(root, one, mine).run()
    before = published(str(root))
    for refused in (_publishing(root, theirs).dry_run, _publishing(root, theirs).run):
        with pytest.raises(OutputError, match="1 photo with the ids of others"):
            refused()
    assert published(str(root)) == before
    _publishing(root, theirs, same_photos=True).run()


def test_relative_paths_are_those_below_their_manifest(tmp_path: Path) -> None:
    root = tmp_path / "tables"
    _publishing(root, _run(tmp_path / "here" / "1", Photo("1.jpg", "anna", "a"))).run()
    assert {*_contents(root)} == {("photos.csv", str(tmp_path / "here" / "1.jpg"))}
    with pytest.raises(OutputError, match="1 photo with the ids of others"):
        _publishing(root, _run(tmp_path / "there" / "1", Photo("1.jpg", "carl", "c"))).run()
    _publishing(root, _run(tmp_path / "here" / "2", Photo("1.jpg", "anna", "b"))).run()


@pytest.mark.parametrize("lost", ["gone", "damaged"])
def test_an_output_that_has_lost_its_plan_is_published_as_it_is(tmp_path: Path, lost: str) -> None:
    run, plan = _run(tmp_path / "1", Photo("1.jpg", "anna", "a")), tmp_path / "1" / "_plan"
    if lost == "gone":
        shutil.rmtree(plan)
    else:
        (plan / "part-000000.parquet").write_bytes(b"nothing")
    _publishing(tmp_path / "tables", run).run()
    assert {*_contents(tmp_path / "tables")} == {("photos.csv", "1.jpg")}


def test_a_source_of_their_own_keeps_both(tmp_path: Path) -> None:
    root = tmp_path / "tables"
    _publishing(root, _run(tmp_path / "1", Photo("1.jpg", "anna", "a", HERE))).run()
    _publishing(root, _run(tmp_path / "2", Photo("1.jpg", "carl", "c", THERE), source="there")).run()
    assert {*_contents(root)} == {("photos.csv", f"{HERE}1.jpg"), ("there", f"{THERE}1.jpg")}


def test_who_says_that_they_are_the_same_has_them_replaced(tmp_path: Path) -> None:
    root, other = tmp_path / "tables", _run(tmp_path / "2", Photo("1.jpg", "carl", "c", THERE))
    other = replace(other, as_of=other.as_of + timedelta(hours=1))
    _publishing(root, _run(tmp_path / "1", Photo("1.jpg", "anna", "a", HERE))).run()
    _publishing(root, other, same_photos=True).run()
    assert {*_contents(root)} == {("photos.csv", f"{THERE}1.jpg")}
    # What stands in the tables is no longer asked about.
    _publishing(root, _run(tmp_path / "3", Photo("1.jpg", "carl", "e", THERE))).run()


@pytest.mark.parametrize(
    "photo",
    [
        pytest.param(Photo("1.jpg", "anna", "b", HERE), id="changed"),
        pytest.param(Photo("1.jpg", "anna", "a", THERE), id="moved"),
        pytest.param(Photo("1.jpg", "anna", "b", "/albums/./here/"), id="of a place in other words"),
    ],
)
def test_photos_that_moved_or_changed_are_replaced(tmp_path: Path, photo: Photo) -> None:
    root = tmp_path / "tables"
    _publishing(root, _run(tmp_path / "1", Photo("1.jpg", "anna", "a", HERE))).run()
    _publishing(root, _run(tmp_path / "2", photo)).run()
    assert len(_contents(root)) == 1


def test_of_sources_that_were_joined_photos_replace_each_other(tmp_path: Path) -> None:
    root, runs = tmp_path / "tables", []
    for name, folder in (("old", HERE), ("new", THERE)):
        runs.append(_run(tmp_path / name, Photo("1.jpg", "anna", name, folder), source=name))
    _publishing(root, runs[0]).run()
    _publishing(root, move=("old", "new")).run()
    _publishing(root, runs[1]).run()
    assert [source for source, _ in _contents(root)] == ["new"]

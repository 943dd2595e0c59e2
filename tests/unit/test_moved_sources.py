"""Sources of published tables that are moved while others publish, after kills, and in chains."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_runs import Photo, made_run

from frpipe.jobs.publish.job import Publishing
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.schema import TABLES
from frpipe.jobs.publish.sources import Publication, result_at
from frpipe.testing.kills import Killed, at_change


def _run(place: Path, source: str, *photos: Photo) -> Publication:
    return result_at(made_run(place, [*photos]).uri, source)


def _published(root: Path, *found: Publication, **options: Any) -> None:
    Publishing(str(root), lambda _: (found, ()), **options).run()


def _rows(root: Path) -> dict[str, list[str]]:
    tables = Root.opened(str(root))
    assert tables is not None
    found = {spec.name: tables.table(spec).rows() for spec in TABLES}
    return {name: sorted(str(row) for row in table.to_pylist()) for name, table in found.items()}


@pytest.fixture(name="runs")
def _runs(tmp_path: Path) -> list[Publication]:
    return [
        _run(tmp_path / "1", "old", Photo("1.jpg", "anna", "a1"), Photo("2.jpg", "bob", "b2")),
        _run(tmp_path / "2", "old", Photo("2.jpg", "bob", "b3"), Photo("3.jpg", "bob", "b4")),
    ]


def test_what_is_published_while_its_source_is_moved_is_whole(tmp_path: Path, runs: Any) -> None:
    _published(tmp_path / "before", runs[0])
    expected = Path(shutil.copytree(tmp_path / "before", tmp_path / "whole"))
    with at_change(None) as changes:
        _published(expected, runs[1])
    _published(expected, move=("old", "new"))
    for moment in range(2, changes[0] + 1, 3):
        root = Path(shutil.copytree(tmp_path / "before", tmp_path / f"raced-{moment}"))
        with at_change(moment, lambda root=root: _published(root, move=("old", "new"))):
            _published(root, *runs)
        _published(root, *runs)
        assert _rows(root) == _rows(expected), moment


def test_what_was_killed_while_its_source_was_moved_is_whole(tmp_path: Path, runs: Any) -> None:
    _published(tmp_path / "before", runs[0])
    expected = Path(shutil.copytree(tmp_path / "before", tmp_path / "whole"))
    with at_change(None) as changes:
        _published(expected, runs[1])
    _published(expected, move=("old", "new"))
    # After the photos, and after the faces: so that the death comes before `runs`, or in the next call.
    for moment in range(2, changes[0] + 1, 3):
        for death in range(moment + changes[0] // 2, 2 * changes[0], 9):
            root = Path(shutil.copytree(tmp_path / "before", tmp_path / f"{moment}-{death}"))
            move = at_change(moment, lambda root=root: _published(root, move=("old", "new")))
            with suppress(Killed), at_change(death), move:
                _published(root, *runs)
            _published(root, *runs)
            assert _rows(root) == _rows(expected), (moment, death)


@pytest.fixture(name="chain")
def _chain(tmp_path: Path, runs: Any) -> tuple[Path, dict[str, list[str]], range]:
    """Tables of two sources, what they hold after both moves of a chain, and moments in the first move."""
    _published(tmp_path / "before", runs[0], replace(runs[1], source="new"))
    expected = Path(shutil.copytree(tmp_path / "before", tmp_path / "whole"))
    with at_change(None) as changes:
        _published(expected, move=("old", "new"))
    _published(expected, move=("new", "last"))
    return tmp_path / "before", _rows(expected), range(2, changes[0] + 1, 3)


def test_a_source_is_moved_on_after_a_move_that_was_killed(tmp_path: Path, chain: Any) -> None:
    before, expected, moments = chain
    for moment in moments:
        root = Path(shutil.copytree(before, tmp_path / f"killed-{moment}"))
        with at_change(moment), pytest.raises(Killed):
            _published(root, move=("old", "new"))
        _published(root, move=("new", "last"))
        assert _rows(root) == expected, moment


def test_a_source_is_moved_on_while_it_is_moved(tmp_path: Path, chain: Any) -> None:
    before, expected, moments = chain
    for moment in moments:
        root = Path(shutil.copytree(before, tmp_path / f"raced-{moment}"))
        with at_change(moment, lambda root=root: _published(root, move=("new", "last"))):
            _published(root, move=("old", "new"))
        _published(root)
        assert _rows(root) == expected, moment

"""Sources of published tables that are moved while others publish, after kills, and in chains."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from embedded_runs import drawn_run
from made_runs import Photo, made_run
from table_oracle import by_definition, published

from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.identify.job import Identifying
from frpipe.jobs.publish.job import Publishing
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.schema import TABLES
from frpipe.jobs.publish.sources import Publication, result_at
from frpipe.testing.executors import InThisProcess
from frpipe.testing.kills import Killed, at_change


@pytest.fixture(autouse=True)
def _no_loss_of_power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_source_is_moved_on_while_it_is_moved(tmp_path: Path, chain: Any) -> None:
    before, expected, moments = chain
    for moment in moments:
        root = Path(shutil.copytree(before, tmp_path / f"raced-{moment}"))
        with at_change(moment, lambda root=root: _published(root, move=("new", "last"))):
            _published(root, move=("old", "new"))
        _published(root)
        assert _rows(root) == expected, moment


@pytest.fixture(scope="module", name="searched")
def _searched(tmp_path_factory: pytest.TempPathFactory) -> list[Publication]:
    """Photos of two sources, some of both, that were searched for in one gallery; one search came late."""
    place, here = tmp_path_factory.mktemp("searched"), InThisProcess()
    people = drawn_run(place / "people", ["anna", "bela", "cleo"], noise=0.1)
    Consolidation(people.uri, str(place / "gallery"), runtime=here).run()
    found = []
    for source, who, created, late in (
        ("old", ["anna", "bela"], "2026-05-01", "2026-06-09"),
        ("new", ["bela", "cleo"], "2026-06-01", "2026-06-02"),
    ):
        out = drawn_run(place / source, who, noise=0.1, seed=len(found))
        where = place / f"{source}-found"
        Identifying(out.uri, str(place / "gallery"), str(where), threshold=0.4, runtime=here).run()
        for each, when in ((out, created), (Folder.at(str(where)), late)):
            facts = {**json.loads(each.read(run.RUN)), "created": f"{when}T00:00:00+00:00"}
            each.write(run.RUN, json.dumps(facts).encode())
            found.append(result_at(each.uri, source))
    return found


@pytest.mark.parametrize(
    ("layout", "every"),
    [
        ("parquet", 4),
        pytest.param("parquet", 1, marks=pytest.mark.slow),
        pytest.param("delta", 1, marks=pytest.mark.slow),
    ],
)
def test_matches_of_a_source_are_moved_whenever_the_move_is_killed(
    tmp_path: Path, searched: Any, layout: str, every: int
) -> None:
    """Those of photos of both are of the later faces, though the older ones were searched for later."""
    _published(tmp_path / "before", *searched, layout=layout)
    assert len(published(str(tmp_path / "before"))["matches"]) == 8
    moved = [replace(each, source="new", searches=_of_new(each)) for each in searched]
    wanted = by_definition(moved)
    assert len(wanted["matches"]) == 6
    _published(tmp_path / "one", *moved, layout=layout)
    whole = Path(shutil.copytree(tmp_path / "before", tmp_path / "whole"))
    with at_change(None) as changes, _commits(changes) as commits:
        _published(whole, move=("old", "new"))
    assert published(str(whole)) == published(str(tmp_path / "one")) == wanted
    assert _matches(whole) == _matches(tmp_path / "one")
    assert len(commits) > 5
    for moment in sorted({*commits, *(each + 1 for each in commits)})[::every]:
        root = Path(shutil.copytree(tmp_path / "before", tmp_path / f"killed-{moment}"))
        with suppress(Killed), at_change(moment):
            _published(root, move=("old", "new"))
        again = {"move": ("old", "new")} if moment % 2 or moment <= commits[0] else {}
        _published(root, **again)
        assert _rows(root) == _rows(whole), moment
        _published(root, *searched)
        assert _rows(root) == _rows(whole), moment


def _of_new(found: Publication) -> tuple[Any, ...]:
    return tuple(replace(each, source="new") for each in found.searches)


def _matches(root: Path) -> list[str]:
    """With the candidates, as identify wrote them."""
    found = _rows(root)["matches"]
    assert all("'candidates': [{'rank': 1" in row for row in found)
    return found


@contextmanager
def _commits(changes: list[int]) -> Iterator[list[int]]:
    """The changes that create a document."""
    found: list[int] = []
    create = Folder.create

    def told(*arguments: Any) -> Any:
        found.append(changes[0] + 1)
        return create(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "create", told)
        yield found

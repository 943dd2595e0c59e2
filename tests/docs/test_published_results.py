"""Results beside the nights in published tables: replays of a night, searches and duplicates of their own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from doc_place import draw, frpipe, in_this_process, make_models
from query_nights import NIGHTS, nights

from frpipe.cli.main import main

NIGHT = [*NIGHTS][1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nights; of one a replay in which a spoilt photo is whole, a replay of that, and results beside."""
    place = tmp_path_factory.mktemp("nights")
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch, make_models(tmp_path_factory.mktemp("models")))
        patch.chdir(place)
        nights()
        draw(Path("album/cleo/cut1.png"), ("cleo", 1))
        for source, output in ((f"nights/{NIGHT}/enroll", "replay"), ("replay", "replay-again")):
            frpipe("run", "enroll", "--replay", source, "--output", output)
        search = ("--gallery", "night.gallery", "--threshold", 0.9)
        frpipe("run", "identify", "--probes", "replay", "--output", "found", *search)
        frpipe("run", "dedup", "--gallery", "night.gallery", "--output", "alike", "--threshold", 0.5)
        yield place


@pytest.fixture
def tables(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All nights, published."""
    monkeypatch.chdir(made)
    found = tmp_path / "tables"
    frpipe("run", "publish", "--config", "night.yaml", "--tables", found, "--layout", "parquet")
    return found


def _publish(tables: Path, *results: str, more: tuple[object, ...] = ()) -> None:
    frpipe("run", "publish", "--results", *results, "--tables", tables, *more)


def _rows(tables: Path, query: str) -> list[Any]:
    return duckdb.sql(query.replace("tables/", f"{tables}/")).fetchall()


PHOTOS = (
    "SELECT source, image_id, CAST(night AS VARCHAR), month FROM 'tables/photos/*/*.parquet' ORDER BY ALL"
)
MENDED = "SELECT status FROM 'tables/photos/*/*.parquet' WHERE image_id = 'cleo/cut1.png'"


@pytest.mark.parametrize("output", ["replay", pytest.param("replay-again", marks=pytest.mark.slow)])
def test_a_replay_of_a_night_stands_in_its_place_with_its_date(tables: Path, output: str) -> None:
    before = _rows(tables, PHOTOS)
    assert _rows(tables, MENDED) == [("rejected",)]
    _publish(tables, output)
    assert _rows(tables, PHOTOS) == before
    assert _rows(tables, MENDED) == [("ok",)]
    faces = "FROM 'tables/faces/*/*.parquet' WHERE image_id = 'cleo/cut1.png'"
    assert _rows(tables, f"SELECT source, CAST(night AS VARCHAR) {faces}") == [("album", NIGHT)]
    kinds = "SELECT kind, CAST(night AS VARCHAR) FROM 'tables/runs/*.parquet' WHERE replay_of IS NOT NULL"
    assert _rows(tables, kinds) == [("enroll", NIGHT)]


def test_a_replay_whose_night_is_gone_takes_the_source_that_is_given(
    tables: Path, made: Path, tmp_path: Path
) -> None:
    shutil.move(made / "nights", tmp_path / "away")
    try:
        _publish(tables, "replay", more=("--source", "album"))
    finally:
        shutil.move(tmp_path / "away", made / "nights")
    assert _rows(tables, MENDED) == [("ok",)]


def test_the_enroll_output_of_a_night_is_refused_since_the_night_is_published_whole(
    tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _rows(tables, PHOTOS)
    assert main(["run", "publish", "--results", f"nights/{NIGHT}/enroll", "--tables", str(tables)]) == 6
    assert "give --nights" in capsys.readouterr().err
    assert _rows(tables, PHOTOS) == before


MATCHES = """
SELECT DISTINCT photo_run_id = photos.run_id, count(*) FROM 'tables/matches/*/*.parquet'
JOIN 'tables/photos/*/*.parquet' photos USING (source, image_id) WHERE search != 'gallery' GROUP BY ALL"""


@pytest.mark.parametrize("more", [(), ("--source", "album")])
def test_a_search_of_a_replay_has_the_source_of_its_photos(tables: Path, more: tuple[object, ...]) -> None:
    _publish(tables, "replay", "found", "alike", more=more)
    found = _rows(tables, MATCHES)
    assert found == [(True, 9)]
    assert {row[0] for row in _rows(tables, "SELECT source FROM 'tables/matches/*/*.parquet'")} == {"album"}
    (alike,) = _rows(tables, "SELECT members, night FROM 'tables/duplicates/*.parquet'")
    assert alike == (3, None)
    runs = _rows(
        tables, "SELECT kind, probes, clusters FROM 'tables/runs/*.parquet' WHERE night IS NULL ORDER BY ALL"
    )
    assert runs == [("dedup", None, 1), ("identify", 8, None)]

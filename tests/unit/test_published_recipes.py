"""One recipe in published tables: searches of another are refused, and rows say which models they are of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_runs
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frozen import THRESHOLD, copied
from made_runs import HASHES, Photo, made_dedup, made_run, made_search

from frpipe.cli.main import main
from frpipe.core.errors import OutputError
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.spec import GallerySpec
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.io.tables.table import Change, edited
from frpipe.jobs import features
from frpipe.jobs.dedup.job import Dedup
from frpipe.jobs.identify.job import Identifying
from frpipe.jobs.publish.job import Publishing
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.schema import TABLES, TableSpec
from frpipe.jobs.publish.sources import Publication, result_at

PHOTOS = [Photo("1.jpg", "anna", "a"), Photo("2.jpg", "bob", "b")]
OTHER = dict.fromkeys(HASHES, "f" * 64)
MAY = [f"2026-05-0{day}T00:00:00+00:00" for day in range(1, 10)]
LATER = {
    "matches": ["detector_hash"],
    "duplicates": [*HASHES, "recipe"],
    "duplicate_members": [*HASHES, "recipe"],
    "people": ["recipe"],
}
Made = Callable[[Path, Folder], Folder]


def _spec(name: str) -> TableSpec:
    return next(each for each in TABLES if each.name == name)


def _root(tables: Path) -> Root:
    found = Root.opened(str(tables))
    assert found is not None
    return found


def _rows(tables: Path, name: str) -> pd.DataFrame:
    found: pd.DataFrame = _root(tables).table(_spec(name)).rows().to_pandas()
    return found


def _contents(tables: Path) -> dict[str, list[dict[str, Any]]]:
    return {spec.name: _root(tables).table(spec).rows().to_pylist() for spec in TABLES}


def _publishing(tables: Path, *outputs: Folder | Publication, **options: Any) -> Publishing:
    found = [each if isinstance(each, Publication) else result_at(each.uri, "album") for each in outputs]
    return Publishing(str(tables), lambda _: (found, ()), **options)


def _publish(tables: Path, *outputs: Folder | Publication, **options: Any) -> None:
    _publishing(tables, *outputs, **options).run()


def _of_other_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_runs, "HASHES", OTHER)
    monkeypatch.setattr(made_runs, "METADATA", {f"frpipe.{name}": each for name, each in OTHER.items()})


def _gallery(place: Path, same: tuple[str, ...] = (), **hashes: str) -> Gallery:
    return Gallery.create(str(place), GallerySpec(made_runs.DIM, **{**HASHES, **hashes}, same_vectors=same))


@pytest.fixture
def first(tmp_path: Path) -> Folder:
    return made_run(tmp_path / "first", PHOTOS)


def _search_by_rows(place: Path, photos: Folder) -> Folder:
    with pytest.MonkeyPatch.context() as patch:
        _of_other_models(patch)
        return made_search(place / "found", photos, MAY[2], "bob")


def _search_by_detector(place: Path, photos: Folder) -> Folder:
    detector = {**HASHES, "detector_hash": OTHER["detector_hash"]}
    return made_search(place / "found", photos, MAY[2], "bob", facts=detector)


def _search_by_gallery(place: Path, photos: Folder) -> Folder:
    gallery = _gallery(place / "gallery", detector_hash=OTHER["detector_hash"])
    where = {"gallery": gallery.uri}
    return made_search(place / "found", photos, MAY[2], "bob", gallery=gallery.gallery_id, facts=where)


def _dedup_by_run(place: Path, photos: Folder) -> Folder:
    return made_dedup(place / "alike", MAY[2], "anna", "bob", facts=OTHER)


def _dedup_by_gallery(place: Path, photos: Folder) -> Folder:
    gallery = _gallery(place / "gallery", **OTHER)
    source = {"gallery": gallery.uri, "gallery_id": gallery.gallery_id}
    return made_dedup(
        place / "alike", MAY[2], "anna", "bob", gallery=gallery.gallery_id, facts={"source": source}
    )


_MORE = [_search_by_detector, _search_by_gallery, _dedup_by_gallery]
SAID = [_search_by_rows, _dedup_by_run, *(pytest.param(each, marks=pytest.mark.slow) for each in _MORE)]


@pytest.mark.parametrize("made", SAID)
def test_a_search_of_another_recipe_is_refused_and_changes_nothing(
    tmp_path: Path, first: Folder, made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = tmp_path / "tables"
    _publish(tables, first, made_search(tmp_path / "own", first, MAY[1], "bob"))
    _publish(tables, made_dedup(tmp_path / "clusters", MAY[1], "anna", "bob"))
    before, other = _contents(tables), made(tmp_path, first)
    words = ["run", "publish", "--results", other.uri, "--source", "album", "--tables", str(tables)]
    for more in (["--dry-run"], []):
        assert main([*words, *more]) == 6
        said = capsys.readouterr().err
        assert f"{other.uri} is of another recipe than the tables in {tables}: " in said
        assert f"detector: theirs is {'d' * 64}, this is {'f' * 64}" in said or "embedder: theirs is" in said
        assert "publish it to another root" in said
    assert _contents(tables) == before


def test_nothing_of_a_night_is_published_where_its_search_is_of_another_recipe(
    tmp_path: Path, first: Folder
) -> None:
    _publish(tmp_path / "tables", first)
    more = result_at(made_run(tmp_path / "more", [Photo("3.jpg", "cleo", "c")]).uri, "album")
    search = result_at(_search_by_rows(tmp_path, first).uri, "album")
    clusters = Folder.at(_dedup_by_run(tmp_path, first).uri)
    for night in (replace(more, searches=search.searches), replace(more, dedup=clusters)):
        with pytest.raises(OutputError, match="of another recipe than the tables"):
            _publishing(tmp_path / "tables", night).run()
        with pytest.raises(OutputError, match="of another recipe than the tables"):
            _publishing(tmp_path / "tables", night).dry_run()
    assert sorted(_rows(tmp_path / "tables", "photos").image_id) == ["1.jpg", "2.jpg"]


def test_a_dry_run_of_the_first_publication_says_what_its_photos_would_settle(
    tmp_path: Path, first: Folder
) -> None:
    with pytest.raises(OutputError, match="of another recipe than the tables"):
        _publishing(tmp_path / "tables", first, _dedup_by_run(tmp_path, first)).dry_run()
    assert not (tmp_path / "tables").exists()
    lines = _publishing(tmp_path / "tables", first).dry_run().lines
    assert any("to be made" in line for line in lines)


@pytest.mark.parametrize("told", ["run", "gallery", pytest.param("probes", marks=pytest.mark.slow)])
def test_another_hash_of_the_same_vectors_is_no_other_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    _publish(tmp_path / "tables", made_run(tmp_path / "first", PHOTOS))
    newer, same = "n" * 64, (HASHES["preprocessing_hash"],)
    monkeypatch.setattr(made_runs, "HASHES", {**HASHES, "preprocessing_hash": newer})
    monkeypatch.setattr(made_runs, "METADATA", {f"frpipe.{n}": v for n, v in made_runs.HASHES.items()})
    again = made_run(tmp_path / "again", PHOTOS, manifest=tmp_path / "first.csv")
    again.write(run.RUN, json.dumps({**json.loads(again.read(run.RUN)), "created": MAY[1]}).encode())
    if told == "probes":
        read = features._recipe
        monkeypatch.setattr(features, "_recipe", lambda *given: replace(read(*given), same_vectors=same))
    gallery = _gallery(tmp_path / "gallery", same, preprocessing_hash=newer)
    facts: dict[str, Any] = {"run": {**made_runs.HASHES, "same_vectors": [*same]}, "probes": {}}.get(
        told, {"gallery": gallery.uri}
    )
    name = gallery.gallery_id
    _publish(
        tmp_path / "tables", made_search(tmp_path / "found", again, MAY[1], "bob", gallery=name, facts=facts)
    )
    assert {*_rows(tmp_path / "tables", "matches").preprocessing_hash} == {newer}


def test_a_gallery_of_a_night_may_know_a_hash_of_its_photos_and_not_that_of_the_tables(
    tmp_path: Path, first: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(tmp_path / "tables", first)
    read, older = features._recipe, {**HASHES, "preprocessing_hash": "o" * 64}
    monkeypatch.setattr(features, "_recipe", lambda *given: replace(read(*given), same_vectors=("o" * 64,)))
    more = result_at(made_run(tmp_path / "more", [Photo("3.jpg", "cleo", "c")]).uri, "album")
    clusters = made_dedup(tmp_path / "alike", MAY[1], "anna", "bob", facts=older)
    with pytest.raises(OutputError, match="of another recipe than the tables"):
        _publish(tmp_path / "tables", clusters)
    _publish(tmp_path / "tables", replace(more, dedup=clusters))
    assert {*_rows(tmp_path / "tables", "duplicates").preprocessing_hash} == {"o" * 64}


def test_rows_say_which_models_they_are_of(tmp_path: Path, first: Folder) -> None:
    tables = tmp_path / "tables"
    _publish(tables, first)
    _publish(tables, made_search(tmp_path / "found", first, MAY[1], "bob", facts=HASHES))
    _publish(tables, made_dedup(tmp_path / "alike", MAY[2], "anna", "bob", facts=HASHES))
    recipe = _root(tables).recipe
    for name, columns in {**LATER, "runs": [*HASHES, "recipe"]}.items():
        rows = _rows(tables, name)
        assert len(rows), name
        for column in columns:
            assert {*rows[column]} == {{**HASHES, "recipe": recipe}[column]}, (name, column)


def test_results_of_the_jobs_say_their_recipe(tmp_path: Path) -> None:
    with copied(tmp_path / "copy") as home:
        gallery, found, alike = (str(home / name) for name in ("gallery-plain", "found", "alike"))
        photos, probes = (Folder.at(str(home / f"enroll-{name}")) for name in ("finished", "probes"))
        Identifying(probes.uri, gallery, found, threshold=THRESHOLD).run()
        Dedup(alike, gallery=gallery, threshold=THRESHOLD).run()
        shutil.rmtree(gallery)
        spec, results = features.FeatureRun.open(photos.uri).spec, [Folder.at(found), Folder.at(alike)]
        _publish(tmp_path / "tables", photos, probes, *results)
    for folder in results:
        assert "same_vectors" in json.loads(folder.read(run.RUN))
    for name in ("matches", "duplicates", "duplicate_members", "runs"):
        rows = _rows(tmp_path / "tables", name)
        assert len(rows) and all({*rows[each]} == {value} for each, value in spec.hashes.items()), name


def test_a_result_that_does_not_say_its_recipe_is_published_without(tmp_path: Path, first: Folder) -> None:
    tables = tmp_path / "tables"
    lost = {"gallery": str(tmp_path / "gone"), "gallery_id": "g"}
    alike = made_dedup(tmp_path / "alike", MAY[2], "anna", "bob", facts={"source": lost})
    search = made_search(tmp_path / "found", first, MAY[1], "bob", facts=lost)
    _publish(tables, first, alike)
    (tmp_path / "first/_SUCCESS").unlink()
    _publish(tables, search)
    assert {*_rows(tables, "matches").embedder_hash} == {HASHES["embedder_hash"]}
    for name in ("matches", "duplicates", "duplicate_members"):
        rows = _rows(tables, name)
        assert len(rows) and rows[LATER[name]].isna().all().all(), name


def test_a_gallery_of_another_id_at_the_place_of_the_one_searched_says_nothing(
    tmp_path: Path, first: Folder
) -> None:
    _publish(tmp_path / "tables", first)
    where = {"gallery": _gallery(tmp_path / "gallery", **OTHER).uri}
    _publish(tmp_path / "tables", made_search(tmp_path / "found", first, MAY[1], "bob", facts=where))
    _publish(
        tmp_path / "tables", made_dedup(tmp_path / "alike", MAY[1], "anna", "bob", facts={"source": where})
    )
    assert len(_rows(tmp_path / "tables", "matches")) == len(_rows(tmp_path / "tables", "duplicate_members"))


@pytest.mark.parametrize("layout", ["delta", "parquet"])
def test_tables_of_older_code_get_the_columns_with_the_next_publication(
    tmp_path: Path, first: Folder, layout: Any
) -> None:
    tables = tmp_path / "tables"
    _publish(tables, first, made_search(tmp_path / "found", first, MAY[1], "bob"), layout=layout)
    _publish(tables, made_dedup(tmp_path / "alike", MAY[2], "anna", "bob"))
    for name, columns in LATER.items():
        _without(tables, name, columns)
        assert _rows(tables, name)[columns].isna().all().all() if columns[0] in _rows(tables, name) else True
    more = made_run(tmp_path / "more", [Photo("3.jpg", "cleo", "c")])
    _publish(tables, more, made_search(tmp_path / "next", more, MAY[3], "bob", facts=HASHES))
    _publish(tables, made_dedup(tmp_path / "then", MAY[3], "cleo", "bob", gallery="h", facts=HASHES))
    for name, columns in LATER.items():
        rows = _rows(tables, name)
        old = [] if name == "people" else [True, False]
        for column in columns:
            assert sorted({*rows[column].isna()}, reverse=True) == (old or [False]), (name, column)
        if layout == "parquet":
            files = [*(tables / name).glob("**/*.parquet")]
            assert all({*columns} <= {*pq.read_schema(file).names} for file in files), name


def _without(tables: Path, name: str, columns: list[str]) -> None:
    """Bring a table into the form of code that did not know some columns."""
    table = _root(tables).table(_spec(name))
    older = pa.schema([field for field in table.schema if field.name not in columns])

    def change(base: Any) -> Change:
        rows = [found.select(older.names) for _, found in table.scan(base)]
        return Change(edited(base, base.files, table.write(older, rows), schema=older))

    table.transact(change)
    table.vacuum()
    head = json.dumps([*table.head().schema.names])
    assert not any(f'"{column}"' in head for column in columns)

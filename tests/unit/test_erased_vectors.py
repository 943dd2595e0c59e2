"""The vectors that an erasure looks for: those of each embedder, wherever a copy of them lies."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from embedded_runs import SECOND, drawn_run
from frozen import DETECTOR, EMBEDDER
from lake_nights import Place, rows, tiny_models
from made_runs import Photo, made_run

from frpipe.cli.main import main
from frpipe.core.errors import OutputError
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.storage.folder import Folder
from frpipe.jobs.erase.everywhere import EraseEverywhere
from frpipe.jobs.erase.proof import ErasureError
from frpipe.jobs.erase.tables import TableErasure
from frpipe.jobs.publish.job import Publishing
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.schema import FACES, vector_columns
from frpipe.jobs.publish.sources import result_at
from frpipe.testing.kills import Killed, at_change
from frpipe.testing.tiny import tiny_embedder

OTHER = "tiny_other"
BOTH = {"detect": {"model": DETECTOR, "not_photographs": "keep"}, "resources": {"part_rows": 4}}
BOTH["embed"] = [{"model": EMBEDDER}, {"model": OTHER}]  # type: ignore[assignment]
WHO = "anna"


def _vectors(out: Folder, embedder: str | None) -> list[bytes]:
    """Bytes of the vectors of a person by an embedder."""
    found = Features(out, embedder).joined(Features(out).parts(), [], ["subject_id", "embedding"])[1]
    rows = found.to_pylist()
    return [np.asarray(row["embedding"], "<f4").tobytes() for row in rows if row["subject_id"] == WHO]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of two embedders, and tables of both layouts with it."""
    root = tmp_path_factory.mktemp("drawn")
    out = result_at(drawn_run(root / "out", [WHO, "bela"]).uri, None)
    for layout in ("delta", "parquet"):
        Publishing(str(root / layout), lambda _: ([out], ()), layout=layout).run()  # type: ignore[arg-type]
    return root


@pytest.mark.parametrize("layout", ["delta", "parquet"])
@pytest.mark.parametrize("embedder", [None, SECOND])
def test_a_vector_of_each_embedder_is_found_in_any_file_below_the_tables(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str, embedder: str | None
) -> None:
    shutil.copytree(published / layout, tmp_path / "tables")
    (vector, *_) = _vectors(Folder.at(str(published / "out")), embedder)
    log = tmp_path / "tables/faces" / ("_delta_log" if layout == "delta" else "_files") / "notes"
    log.write_bytes(b"notes " + vector)
    words = ["erase", "--tables", str(tmp_path / "tables"), "--subject", WHO]
    for _ in range(2):
        # The rows went the first time: the vectors that are looked for are known all the same.
        assert main(words) == 6
        assert "(a vector)" in capsys.readouterr().err
    log.unlink()
    assert main(words) == 0


@pytest.mark.parametrize("embedder", [None, SECOND])
def test_a_vector_of_each_embedder_is_found_in_any_file_of_an_output(
    published: Path, tmp_path: Path, embedder: str | None
) -> None:
    out = Path(shutil.copytree(published / "out", tmp_path / "out"))
    (vector, *_) = _vectors(Folder.at(str(out)), embedder)
    (out / "notes").write_bytes(vector)
    words = ["erase", str(out), "--subject", WHO]
    assert main(words) == 6
    (out / "notes").unlink()
    assert main(words) == 0


def test_an_erasure_that_was_killed_still_knows_the_vectors_of_rows_that_have_gone(
    published: Path, tmp_path: Path
) -> None:
    """Up to the moment at which the files of older versions go, which hold these vectors."""
    vectors = [_vectors(Folder.at(str(published / "out")), embedder)[0] for embedder in (None, SECOND)]
    for number, vector in enumerate(vectors):
        tables = tmp_path / f"tables-{number}"
        shutil.copytree(published / "delta", tables)
        erasure = TableErasure.at(str(tables), frozenset({WHO}), frozenset())
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr("frpipe.io.tables.table.PublishedTable.vacuum", _dies)
            erasure.run()
        (tables / "notes").write_bytes(vector)
        with pytest.raises(ErasureError, match="a vector"):
            erasure.run()


@pytest.mark.parametrize(
    ("layout", "every"),
    [
        ("parquet", 4),
        pytest.param("parquet", 1, marks=pytest.mark.slow),
        pytest.param("delta", 1, marks=pytest.mark.slow),
    ],
)
def test_an_erasure_that_was_killed_at_any_change_still_knows_the_vectors(
    published: Path, tmp_path: Path, layout: str, every: int
) -> None:
    (vector, *_) = _vectors(Folder.at(str(published / "out")), None)
    whole = tmp_path / "whole"
    shutil.copytree(published / layout, whole)
    with at_change(None) as changes:
        _erasure(whole).run()
    assert not (whole / "_erase").exists() or not any((whole / "_erase").iterdir())
    for moment in range(1, changes[0] + 1, every):
        tables = tmp_path / f"tables-{moment}"
        shutil.copytree(published / layout, tables)
        with at_change(moment), pytest.raises(Killed):
            _erasure(tables).run()
        (tables / "notes").write_bytes(vector)
        with pytest.raises(ErasureError, match="a vector"):
            _erasure(tables).run()
        (tables / "notes").unlink()
        _erasure(tables).run()
        assert rows(str(tables)) == rows(str(whole)), moment
        assert not [path for path in tables.rglob("*") if path.is_file() and vector in path.read_bytes()]


@pytest.mark.parametrize("layout", [pytest.param("delta", marks=pytest.mark.slow), "parquet"])
def test_tables_whose_first_publisher_was_killed_are_erased_from_whenever_that_is_killed(
    tmp_path: Path, layout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a table has a version, too: its files may be there, with ids and vectors."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    photos = [Photo("1.jpg", WHO, "a1"), Photo("2.jpg", "bela", "b2")]
    out = result_at(made_run(tmp_path / "out", photos).uri, None)
    job = Publishing(str(tmp_path / "tables"), lambda _: ([out], ()), layout=layout)
    with at_change(None) as changes:
        job.run()
    for moment in range(2, changes[0], 2):
        tables = tmp_path / f"tables-{moment}"
        with at_change(moment), pytest.raises(Killed):
            replace(job, root=str(tables)).run()
        for death in (1, 2, 3, 5):
            with at_change(death), suppress(Killed):
                _erasure(tables).run()
        _erasure(tables).run()
        held = [path.read_bytes() for path in tables.rglob("*") if path.is_file()]
        assert not [data for data in held if photos[0].vector.tobytes() in data], moment
        left = rows(str(tables))
        assert WHO not in repr(left), moment
        assert not (tables / "_erase").exists() or not any((tables / "_erase").iterdir())
        replace(job, root=str(tables)).run()
        _erasure(tables, "bela").run()
        assert "bela" not in repr(rows(str(tables))), moment


def test_another_erasure_ends_one_that_was_killed(published: Path, tmp_path: Path) -> None:
    (vector, *_) = _vectors(Folder.at(str(published / "out")), None)
    tables = Path(shutil.copytree(published / "delta", tmp_path / "tables"))
    with at_change(3), pytest.raises(Killed):
        _erasure(tables).run()
    assert WHO.encode() not in b"".join(path.read_bytes() for path in (tables / "_erase").iterdir())
    (tables / "notes").write_bytes(vector)
    with pytest.raises(ErasureError, match="a vector"):
        _erasure(tables, "bela").run()
    (tables / "notes").unlink()
    _erasure(tables, "bela").run()
    assert not any(rows(str(tables))[name] for name in ("photos", "faces", "people"))


@pytest.mark.parametrize(
    "change",
    [
        {"subjects": ["../tables.json"]},
        {"images": [7]},
        {"images": 7},
        {"needles": [{"anchor": "no hex", "digest": "0" * 32, "bytes": 64}]},
        {"needles": [{"anchor": "00", "digest": "0" * 32, "bytes": 64}]},
        {"needles": [{"anchor": "0" * 16, "digest": "0" * 32, "bytes": -1}]},
        {"needles": [{"anchor": "0" * 16, "digest": None, "bytes": 64}]},
        {"needles": [7]},
        {"key": "another"},
    ],
)
def test_a_mark_that_makes_no_sense_is_told_before_anything_is_changed(
    published: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    tables = Path(shutil.copytree(published / "parquet", tmp_path / "tables"))
    with at_change(3), pytest.raises(Killed):
        _erasure(tables).run()
    (mark,) = (tables / "_erase").iterdir()
    mark.write_text(json.dumps({**json.loads(mark.read_text()), **change}))
    before = rows(str(tables))
    with pytest.raises(OutputError, match=f"{mark.name} of the tables cannot be read"):
        _erasure(tables, "bela").run()
    assert rows(str(tables)) == before


def test_vectors_of_copies_that_go_are_looked_for_where_older_files_hold_them_too(tmp_path: Path) -> None:
    photos = [Photo("1.jpg", WHO, "one"), Photo("2.jpg", "bela", "one"), Photo("3.jpg", "cleo", "three")]
    again = made_run(tmp_path / "again", photos[2:])
    again.write(run.RUN, again.read(run.RUN).replace(b"2026-05-01T", b"2026-05-02T"))
    found = [result_at(out.uri, "album") for out in (made_run(tmp_path / "out", photos), again)]
    Publishing(str(tmp_path / "tables"), lambda _: (found, ())).run()
    assert len([*(tmp_path / "tables/faces").rglob("*.parquet")]) == 3, "one of them is of an older version"
    (tmp_path / "tables/notes").write_bytes(photos[0].vector.astype("<f4").tobytes())
    with pytest.raises(ErasureError, match="a vector"):
        _erasure(tmp_path / "tables", copies="erase").run()


def _erasure(tables: Path, who: str = WHO, **how: Any) -> TableErasure:
    return TableErasure.at(str(tables), frozenset({who}), frozenset(), **how)


def test_columns_of_manifests_are_not_taken_for_vectors(published: Path) -> None:
    root = Root.opened(str(published / "delta"))
    assert root is not None
    first, second = vector_columns(root.table(FACES).head().schema)
    assert first == "embedding"
    assert second.startswith(f"embedding_{SECOND}_")


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two nights of two embedders, published."""
    root = tmp_path_factory.mktemp("nights")
    with tiny_models(root):
        card = tiny_embedder(root / f"fixtures/models/{OTHER}.onnx", dim=8, seed=7)
        facts = {**card.model_dump(mode="json"), "name": OTHER}
        (root / f"fixtures/cards/{OTHER}.yaml").write_text(yaml.safe_dump(facts))
        place = Place(root)
        for number, night in enumerate(("2026-03-01", "2026-03-02")):
            place.draw(f"{WHO}/{number}.png", 1, number)
            place.draw(f"bela/{number}.png", 2, number)
            place.night(night, settings=BOTH)
        place.publish(str(root / "tables"), {"settings": BOTH})
        yield place


@pytest.mark.parametrize("embedder", [None, OTHER])
@pytest.mark.parametrize("where", ["nights/2026-03-02/notes", "people/notes", "tables/matches/notes"])
def test_a_vector_of_each_embedder_is_found_wherever_nights_lie(
    nights: Place, tmp_path: Path, where: str, embedder: str | None
) -> None:
    for name in ("nights", "people", "tables", "album"):
        shutil.copytree(nights.root / name, tmp_path / name)
    (vector, *_) = _vectors(Folder.at(f"{nights.root}/nights/2026-03-01/enroll"), embedder)
    # A night that retention has removed: its vectors stand in the tables alone.
    shutil.rmtree(tmp_path / "nights/2026-03-01")
    (tmp_path / "nights/_nights/2026-03-01").unlink()
    (tmp_path / where).write_bytes(vector)
    config = Place(tmp_path).config(str(tmp_path / "tables"), settings=BOTH)
    erasure = EraseEverywhere(config, frozenset({WHO}))
    for _ in range(2):
        with pytest.raises(ErasureError, match="a vector"):
            erasure.run()
    (tmp_path / where).unlink()
    assert EraseEverywhere(config, frozenset({WHO})).run().absent == 0
    assert not [
        path
        for name in ("nights", "people", "tables")
        for path in (tmp_path / name).rglob("*")
        if path.is_file() and vector in path.read_bytes()
    ]


def _dies(*_: object, **__: object) -> None:
    raise Killed

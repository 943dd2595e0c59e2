"""Plain tables as engines read a folder that is told nothing else: every row, every column, at any time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from made_runs import Photo, made_run

from frpipe.io.output import run
from frpipe.io.output.parts import part_file, to_parquet
from frpipe.io.storage.folder import Folder
from frpipe.jobs.publish.job import Published, Publishing
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.schema import TABLES
from frpipe.jobs.publish.sources import result_at
from frpipe.testing.kills import Killed, at_change

PHOTOS = [Photo("1.jpg", "anna", "a1"), Photo("2.jpg", "anna", "a2"), Photo("3.jpg", "bob", "b3")]
LATER = [Photo("1.jpg", "anna", "a1 again"), Photo("4.jpg", "cleo", "c4")]


def _polars(place: Path) -> pa.Table:
    pl = pytest.importorskip("polars", reason="polars is not installed: make test-readers")
    return pl.scan_parquet(f"{place}/**/*.parquet", hive_partitioning=True).collect().to_arrow()


ENGINES: dict[str, Callable[[Path], pa.Table]] = {
    "pandas": lambda place: pa.Table.from_pandas(pd.read_parquet(place), preserve_index=False),
    "PyArrow": lambda place: ds.dataset(place).to_table(),
    "hive": lambda place: ds.dataset(place, partitioning="hive").to_table(),
    "DuckDB": lambda place: duckdb.sql(f"FROM '{place}/**/*.parquet'").to_arrow_table(),
    "Polars": _polars,
}


def _publish(tables: Path, *outputs: Folder, **how: Any) -> Published:
    found = [result_at(out.uri, "album") for out in outputs]
    return Publishing(str(tables), lambda _: (found, ()), layout="parquet", **how).run()


def _later(place: Path) -> Folder:
    """An output of a month later, with a column of its own in its manifest."""
    out = made_run(place, LATER)
    files = []
    for sub in ("images", "faces"):
        name = f"{sub}/part-000000.parquet"
        table = pq.read_table(pa.BufferReader(out.read(name)))
        out.write(name, to_parquet(table.append_column("shop", pa.array([7, 8], pa.uint16())), {}))
        files.append(asdict(part_file(name, out.read(name))))
    out.write(run.FILES, json.dumps({"files": files}).encode())
    return _begun(out, "2026-06-02T00:00:00+00:00")


def _begun(out: Folder, when: str) -> Folder:
    out.write(run.RUN, json.dumps({**json.loads(out.read(run.RUN)), "created": when}).encode())
    run._records.pop(out.uri, None)
    return out


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Published once, photos of two months; `later` is not yet, which knows nothing of those of the first."""
    first = _begun(made_run(tmp_path / "first", PHOTOS[1:]), "2026-04-01T00:00:00+00:00")
    _publish(tmp_path / "tables", first, made_run(tmp_path / "out", PHOTOS[:1]))
    _later(tmp_path / "later")
    return tmp_path / "tables"


def _told(tables: Path, name: str) -> pa.Table:
    root = Root.opened(str(tables))
    assert root is not None
    return root.table(next(spec for spec in TABLES if spec.name == name)).rows()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_is_given_the_folder_reads_every_row_and_the_columns_of_later_nights(
    engine: str, tables: Path
) -> None:
    _publish(tables, Folder.at(str(tables.parent / "later")))
    for name in ("photos", "faces", "rejects", "people", "runs"):
        wanted, found = _told(tables, name), ENGINES[engine](tables / name)
        names = [each for each in wanted.column_names if each != "month" or engine != "PyArrow"]
        assert sorted(found.column_names) == sorted(names), name
        assert found.num_rows == wanted.num_rows, name
    photos = ENGINES[engine](tables / "photos").to_pandas().set_index("image_id")
    assert "shop" in ENGINES[engine](tables / "faces").column_names
    assert photos.shop.dropna().to_dict() == {"1.jpg": 7, "4.jpg": 8}
    if engine != "PyArrow":
        assert photos.month.astype(str).to_dict() == {
            "1.jpg": "2026-06",
            "2.jpg": "2026-04",
            "3.jpg": "2026-04",
            "4.jpg": "2026-06",
        }


@pytest.mark.parametrize("engine", ["pandas", pytest.param("DuckDB", marks=pytest.mark.slow)])
def test_an_engine_reads_a_table_at_every_moment_of_a_publication(engine: str, tables: Path) -> None:
    later = Folder.at(str(tables.parent / "later"))
    wanted = {"1.jpg", "2.jpg", "3.jpg"}
    moment = 0

    def look() -> None:
        for name in ("photos", "faces", "rejects"):
            found = set(ENGINES[engine](tables / name)["image_id"].to_pylist())
            assert found >= wanted if name != "rejects" else not found, (name, moment)

    while True:
        moment += 1
        with at_change(moment, look) as changes:
            _publish(tables, later)
        if changes[0] < moment:
            break
        # The next publication makes the same tables of the same run, as it has other content.
        later.write(run.FILES, later.read(run.FILES) + b"\n")
        run._records.pop(later.uri, None)
    assert moment > 10


def test_a_publication_that_was_killed_leaves_its_later_columns_to_the_next(
    tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = Folder.at(str(tables.parent / "later"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("frpipe.io.tables.table.PublishedTable.widen", _dies)
        _publish(tables, later)
    assert "shop" not in pd.read_parquet(tables / "faces").columns
    _publish(tables)
    assert pd.read_parquet(tables / "faces").shop.dropna().to_list() == [7, 8]
    before = {path: path.read_bytes() for path in tables.rglob("*") if path.is_file()}
    _publish(tables)
    assert {path: path.read_bytes() for path in tables.rglob("*") if path.is_file()} == before


def test_a_table_whose_last_row_goes_keeps_its_columns(tables: Path) -> None:
    from frpipe.jobs.erase.tables import TableErasure

    TableErasure.at(str(tables), frozenset({"anna", "bob"}), frozenset()).run()
    for name in ("photos", "faces", "people"):
        found = pd.read_parquet(tables / name)
        assert (len(found), {*found.columns}) == (0, {*_told(tables, name).column_names}), name
    _publish(tables, Folder.at(str(tables.parent / "later")), compact=True)
    assert len(pd.read_parquet(tables / "faces")) == 2


def _dies(*_: object) -> None:
    raise Killed

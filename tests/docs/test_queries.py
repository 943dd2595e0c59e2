"""Questions of docs/queries.md: the same answers in every engine, of both layouts, after new columns too."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from datetime import date, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable
from doc_blocks import ROOT, Block, blocks_of
from doc_place import frpipe, in_this_process, make_models
from query_nights import later_night, nights
from spark_here import spark_session

from frpipe.jobs.publish.schema import TABLES
from frpipe.runtime.session import cluster

PAGE = ROOT / "docs/queries.md"
TEXT = PAGE.read_text(encoding="utf-8").splitlines()
BLOCKS = blocks_of(PAGE)
ANSWERS = ("recent", "pairs", "weeks", "figures", "drifts")
LAYOUTS = {"plain": "parquet", "tables": "delta"}
LATER = "2026-05-13"
Rows = list[tuple[Any, ...]]


def _under(heading: str) -> list[Block]:
    """Programs below a heading, up to the next one."""
    found = [block for block in BLOCKS if block.language == "python"]
    return [block for block in found if _heading(block) == heading]


def _heading(block: Block) -> str:
    above = (line for line in reversed(TEXT[: block.line]) if re.match("##+ ", line))
    return next(above).lstrip("# ")


SQL = [block.text for block in BLOCKS if block.language == "sql"]
VIEWS = [text for text in SQL if "CREATE" in text]
QUERIES = [block.text for block in BLOCKS if block.language == "sql" and _heading(block) == "In SQL"][1:]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tables of four nights."""
    place = tmp_path_factory.mktemp("nights")
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch, make_models(tmp_path_factory.mktemp("models")))
        patch.chdir(place)
        nights()
        for tables, layout in LAYOUTS.items():
            frpipe("run", "publish", "--config", "night.yaml", "--tables", tables, "--layout", layout)
        yield place


@pytest.fixture(scope="module")
def after(before: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a fifth night, which has another column in its manifest and another embedder."""
    place: Path = shutil.copytree(before, tmp_path_factory.mktemp("later") / "nights")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        later_night(LATER)
        for tables in LAYOUTS:
            frpipe("run", "publish", "--nights", "later", "--source", "album", "--tables", tables)
    return place


@pytest.fixture(scope="module")
def answers(before: Path, after: Path) -> dict[Path, list[Rows]]:
    return {place: _in_duckdb(place) for place in (before, after)}


@pytest.fixture(params=["before", "after"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    found: Path = request.getfixturevalue(request.param)
    monkeypatch.chdir(found)
    return found


@pytest.fixture(scope="module")
def ray_of_this_machine() -> Iterator[None]:
    """One that groups in tasks, and in few of them: hashing starts processes of its own for each question."""
    ray_data = pytest.importorskip("ray.data")
    with cluster("local", lambda _: None), pytest.MonkeyPatch.context() as patch:
        context = ray_data.DataContext.get_current()
        strategy = ray_data.context.ShuffleStrategy.SORT_SHUFFLE_PULL_BASED
        patch.setattr(context, "shuffle_strategy", strategy)
        yield


def _in_duckdb(place: Path) -> list[Rows]:
    con = duckdb.connect()
    for view in VIEWS:
        con.execute(view.replace("'plain/", f"'{place}/plain/"))
    return [_plain(con.sql(query).fetchall()) for query in QUERIES]


def _plain(rows: Any) -> Rows:
    """Rows in order, without the types of engines."""
    return sorted((tuple(map(_value, row)) for row in rows), key=str)


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 9)
    return value


def _rows(answer: Any) -> Rows:
    """What an engine answers, whatever it calls the columns."""
    return _plain(answer if isinstance(answer, list) else (row.values() for row in _records(answer)))


def _records(answer: Any) -> list[dict[str, Any]]:
    """Rows of a frame of any engine."""
    found: list[dict[str, Any]]
    if hasattr(answer, "collect") and hasattr(answer, "lazy"):
        answer = answer.collect()
    if hasattr(answer, "take_all"):
        found = answer.take_all()
    elif isinstance(answer, pd.DataFrame):
        found = answer.to_dict("records")
    else:
        found = (answer.to_arrow() if hasattr(answer, "to_arrow") else answer).to_pylist()
    return found


def _opened(engine: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A layout, and the names of the page with the engine's `table` of it."""
    mine = _under(engine)
    for block in mine:
        if "def table(" in block.text:
            names: dict[str, Any] = {}
            for part in (*_under("In Python"), block):
                exec(compile("\n" * (part.line - 1) + part.text, str(PAGE), "exec"), names)
            yield "tables" if "tables/" in block.text else "plain", names


def _asked(engine: str, names: dict[str, Any]) -> list[Rows]:
    for block in _under(engine):
        if "def table(" not in block.text:
            exec(compile("\n" * (block.line - 1) + block.text, str(PAGE), "exec"), names)
    return [_rows(names[name]) for name in ANSWERS]


def test_each_question_has_an_answer_that_another_night_changes(answers: dict[Path, list[Rows]]) -> None:
    first, later = answers.values()
    assert [len(rows) for rows in first] == [14, 3, 7, 4, 2]
    assert {rows[0][0] for rows in first[1:2]} == {"album"}
    assert {row[0] for row in first[0]} == {date(2026, 5, 10), date(2026, 5, 11)}
    weeks = sorted(later[3])
    assert [row[1:3] for row in weeks] == [(1, 6), (1, 6), (1, 6), (2, 11)]
    assert [row[-1] for row in weeks] == [0, 1, 0, 0]
    assert [row[-2] is None for row in weeks] == [True, False, False, False]
    assert all(a != b for a, b in zip(first[:4], later[:4], strict=True))


ENGINES = [
    "pandas",
    "PyArrow",
    pytest.param("Ray Data", marks=pytest.mark.slow),
    "Polars",
    "Daft",
]
NEEDS = {"Polars": "polars", "Daft": "daft"}


def _needed(engine: str, request: pytest.FixtureRequest) -> None:
    if engine in NEEDS:
        pytest.importorskip(NEEDS[engine], reason=f"{engine} is not installed: make test-readers")
    if engine == "Ray Data":
        request.getfixturevalue("ray_of_this_machine")


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_gives_the_answers_of_duckdb(
    engine: str, place: Path, answers: dict[Path, list[Rows]], request: pytest.FixtureRequest
) -> None:
    _needed(engine, request)
    layouts = []
    for layout, names in _opened(engine):
        found = _asked(engine, names)
        for question, theirs, ours in zip(ANSWERS, found, answers[place], strict=True):
            assert theirs == ours, (layout, question)
        layouts.append(layout)
    assert layouts == [*LAYOUTS]


@pytest.mark.parametrize("engine", ENGINES)
def test_columns_that_came_later_are_read_and_null_before(
    engine: str, after: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(after)
    _needed(engine, request)
    for _, names in _opened(engine):
        faces = names["table"]("faces")
        rows = pd.DataFrame(_records(faces))
        (second,) = (
            name for name in rows.columns if re.fullmatch("embedding_edgeface_xs_q_[0-9a-f]{8}", name)
        )
        assert rows.department.dropna().sort_values().unique().tolist() == ["of anna", "of bela", "of cleo"]
        later = rows[rows.department.notna()]
        assert {len(vector) for vector in later[second]} == {512}
        assert {str(night)[:10] for night in later.night} == {LATER}
        assert rows[rows.department.isna()][second].isna().all()
        assert len(rows) > len(later) > 0
        assert set(rows.month.astype(str)) == {"2026-03", "2026-05"}


# DuckDB's extensions

DELTA, VSS = "By DuckDB's extension `delta`", "By DuckDB's extension `vss`"


def _extended(*names: str) -> dict[str, Any]:
    """The names of the page's programs with extensions of DuckDB. Skips where pip has not installed these."""
    for name in names:
        package, file = (
            f"duckdb_extension_{name}",
            f"extensions/v{duckdb.__version__}/{name}.duckdb_extension",
        )
        found = find_spec(package)
        if found is None or not (Path(found.origin or "").parent / file).exists():
            why = f"pip has not installed duckdb-extension-{name} of DuckDB {duckdb.__version__}"
            pytest.skip(f"{why}: docs/queries.md says where there is one")
    made: dict[str, Any] = {}
    for heading in (DELTA, VSS)[: len(names)]:
        for block in _under(heading):
            exec(compile("\n" * (block.line - 1) + block.text, str(PAGE), "exec"), made)
    return made


def test_duckdb_reads_all_tables_of_delta_lake_by_its_extension(
    place: Path, answers: dict[Path, list[Rows]]
) -> None:
    con = _extended("delta")["con"]
    for spec in TABLES:
        theirs = con.sql(f"FROM {spec.name}").to_arrow_table()
        ours = DeltaTable(f"tables/{spec.name}").to_pyarrow_table()
        assert sorted(theirs.column_names) == sorted(ours.column_names), spec.name
        theirs = theirs.select(ours.column_names).cast(ours.schema)
        texts = [sorted(map(repr, each.to_pylist())) for each in (theirs, ours)]
        assert texts[0] == texts[1] != [], spec.name
    assert [_plain(con.sql(query).fetchall()) for query in QUERIES] == answers[place]


def test_an_index_of_duckdb_proposes_what_exact_scores_confirm(
    before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(before)
    names = _extended("delta", "vss")
    con, probe = names["con"], names["first"]
    plan = con.sql(f"EXPLAIN {names['proposed'](probe, 5)}").fetchall()
    assert "HNSW_INDEX_SCAN" in str(plan)
    faces = con.sql("SELECT face_id, vector FROM vectors").fetchall()
    exact = np.asarray([vector for _, vector in faces], np.float64) @ probe.astype(np.float64)
    found = names["nearest"](probe, 5)
    assert np.allclose([score for _, score in found], sorted(exact, reverse=True)[:5], atol=1e-6)
    known = dict(zip((face for face, _ in faces), exact, strict=True))
    assert np.allclose([known[face] for face, _ in found], [score for _, score in found], atol=1e-6)


# Spark


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with spark_session(tmp_path_factory.mktemp("warehouse")) as session:
        yield session


@pytest.mark.slow
def test_spark_gives_the_answers_of_duckdb(spark: Any, place: Path, answers: dict[Path, list[Rows]]) -> None:
    (block,) = _under("Spark")
    names: dict[str, Any] = {"spark": spark}
    exec(compile(block.text.replace('f"plain/', f'f"{place}/plain/'), block.place, "exec"), names)
    theirs = [*(spark.sql(query.rstrip(";\n")) for query in QUERIES[:4]), names["drifts"]]
    for question, frame, ours in zip(ANSWERS, theirs, answers[place], strict=True):
        assert _plain(frame.collect()) == ours, question


@pytest.mark.slow
def test_spark_reads_every_value_of_every_table(spark: Any, place: Path) -> None:
    for folder in sorted((place / "plain").iterdir()):
        if not folder.is_dir():
            continue
        ours = duckdb.sql(
            f"FROM read_parquet('{folder}/**/*.parquet', union_by_name = true, hive_partitioning = true)"
        )
        frame = spark.read.option("mergeSchema", True).parquet(str(folder))
        assert sorted(frame.columns) == sorted(ours.columns), folder
        assert frame.count() == len(ours) > 0, folder


# recipes


def test_files_for_vector_databases_hold_each_face_once(
    before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(before)
    con = duckdb.connect()
    for text in (*VIEWS, *(block for block in SQL if "COPY" in block)):
        con.execute(text)
    faces = con.sql("SELECT face_id, embedding FROM faces WHERE vanished IS NULL ORDER BY ALL").fetchall()
    points = con.sql("SELECT payload.face_id, vector FROM 'points.jsonl' ORDER BY ALL").fetchall()
    assert [name for name, _ in points] == [name for name, _ in faces]
    assert np.allclose([vector for _, vector in points], [vector for _, vector in faces], atol=1e-7)
    assert con.sql("SELECT face_id, vector FROM 'points.parquet' ORDER BY ALL").fetchall() == faces
    texts = con.sql("SELECT face_id, CAST(vector AS VARCHAR) FROM 'points.csv' ORDER BY ALL").fetchall()
    assert [(name, np.array(json.loads(text), np.float32).tolist()) for name, text in texts] == faces
    ids = con.sql("SELECT DISTINCT CAST(id AS VARCHAR) FROM 'points.jsonl'").fetchall()
    assert len(ids) == len(faces)


def test_an_index_proposes_what_exact_scores_confirm(before: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lancedb", "faiss"):
        pytest.importorskip(module, reason=f"{module} is not installed: make test-readers")
    monkeypatch.chdir(before)
    names: dict[str, Any] = {}
    for block in _under("Approximate look-ups"):
        exec(compile("\n" * (block.line - 1) + block.text, str(PAGE), "exec"), names)
    vectors = names["vectors"].astype(np.float64)
    exact = sorted(vectors @ vectors[0], reverse=True)[:5]
    for found in (names["nearest"](names["vectors"][0], 5), names["best"]):
        assert np.allclose([score for _, score in found], exact, atol=1e-6)

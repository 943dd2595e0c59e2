"""Spark gives the answers of DuckDB: the queries of docs/outputs.md on outputs of every kind."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from doc_blocks import ROOT, blocks_of
from doc_place import enrolled, frpipe, gallery, in_this_process, make_models, make_place
from spark_here import spark_session

pytestmark = pytest.mark.slow
BLOCKS = [block for block in blocks_of(ROOT / "docs/outputs.md") if block.why == "spark"]
QUERIES = [
    query for block in BLOCKS for query in re.findall(r'spark\.sql\("""(.*?)"""\)', block.text, re.DOTALL)
]
TABLES = (
    "OUT/images",
    "OUT/faces",
    "FOUND/probes",
    "VERIFIED/pairs",
    "RESULT/pairs",
    "RESULT/clusters.parquet",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch, make_models(tmp_path_factory.mktemp("models")))
        patch.chdir(folder)
        make_place(folder)
        enrolled("OUT")
        enrolled("STAFF", manifest="photos.parquet")
        gallery("people", "OUT")
        frpipe("run", "identify", "--probes", "OUT", "--gallery", "people", "--output", "FOUND")
        frpipe("run", "dedup", "--gallery", "people", "--output", "RESULT", "--threshold", 0.3)
        frpipe("run", "verify", "--pairs", "pairs.csv", "--features", "OUT", "--output", "VERIFIED")
        yield folder


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with spark_session(tmp_path_factory.mktemp("warehouse")) as session:
        yield session


def _here(text: str, place: Path) -> str:
    return text.replace("s3a://bucket/", f"{place}/")


def _plain(value: Any) -> Any:
    """A value of either engine, without its types."""
    if hasattr(value, "asDict"):
        value = value.asDict()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    # Spark gives points in time as the clock on the wall shows them.
    return value.astimezone().replace(tzinfo=None) if isinstance(value, datetime) else value


@pytest.mark.parametrize("folder", TABLES)
def test_every_column_of_every_row_is_the_same(spark: Any, place: Path, folder: str) -> None:
    files = folder if folder.endswith(".parquet") else f"{folder}/*.parquet"
    table = duckdb.sql(f"FROM '{place}/{files}'")
    frame = spark.read.parquet(f"{place}/{folder}")
    assert frame.columns == table.columns
    theirs, ours = (
        [_plain(row) for row in rows] for rows in (frame.collect(), table.to_arrow_table().to_pylist())
    )
    assert len(ours) > 0
    assert sorted(theirs, key=str) == sorted(ours, key=str)


def _in_duckdb(query: str) -> str:
    """A query of the page as DuckDB writes it: another path, cosine, count of lists, sort."""
    for spark, duck in (
        (r"parquet\.`([^`]*\.parquet)`", r"'\1'"),
        (r"parquet\.`([^`]*)`", r"'\1/*.parquet'"),
        (r"aggregate\(.*\)\n", "list_inner_product(a.embedding::DOUBLE[], b.embedding::DOUBLE[])\n"),
        (r"element_at\(candidates, (\d)\)", r"candidates[\1]"),
        (r"\bsize\(", "len("),
        (r"array_sort\(collect_list\(subject_id\)(.*)\) AS", r"list_sort(list(subject_id)\1) AS"),
    ):
        query = re.sub(spark, duck, query)
    return query


@pytest.mark.parametrize("text", QUERIES, ids=lambda text: text.splitlines()[1])
def test_a_query_has_the_answer_of_duckdb(spark: Any, place: Path, text: str) -> None:
    query = _here(text, place)
    theirs = [[*_plain(row).values()] for row in spark.sql(query).collect()]
    ours = [_plain(row) for row in duckdb.sql(_in_duckdb(query)).fetchall()]
    assert len(ours) > 0
    assert _flat(theirs) == _flat(ours)


def _flat(rows: list[list[Any]]) -> list[list[Any]]:
    """Without the order of rows of equal rank; an empty list is nothing, as it is in DuckDB."""
    return sorted(
        ([round(v, 9) if isinstance(v, float) else (v or None) for v in row] for row in rows), key=str
    )


def test_the_program_of_the_page_runs(spark: Any, place: Path) -> None:
    names: dict[str, Any] = {"spark": spark}
    for block in BLOCKS:
        exec(compile(_here(block.text, place), block.place, "exec"), names)
    vectors = duckdb.sql(f"SELECT embedding FROM '{place}/OUT/faces/*.parquet'").fetchall()
    assert names["vectors"].shape == (len(vectors), 128)
    assert np.allclose(np.linalg.norm(names["vectors"], axis=1), 1)
    of_both = [spark.read.parquet(f"{place}/{name}/faces") for name in ("OUT", "STAFF")]
    assert names["both"].count() == sum(frame.count() for frame in of_both)
    assert {*names["both"].columns} == {name for frame in of_both for name in frame.columns}
    assert of_both[0].columns != of_both[1].columns


def test_a_path_with_brackets_is_read_with_backslashes(spark: Any, place: Path) -> None:
    shutil.copytree(place / "OUT", place / "OUT[1]")
    frame = spark.read.parquet(rf"{place}/OUT\[1\]/images")
    assert frame.count() == spark.read.parquet(f"{place}/OUT/images").count()

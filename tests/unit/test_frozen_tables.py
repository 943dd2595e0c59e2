"""Tables that an earlier frpipe has published are read, keep their columns, and are published on top of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import frozen_tables
import pytest
from frozen_tables import LAYOUTS, OLD, Row

from frpipe.io.tables.table import Layout
from frpipe.jobs.erase.tables import TableErasure
from frpipe.jobs.publish import schema
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.sources import Publication

SPECS = {spec.name: spec for spec in schema.TABLES}
KNOWN = frozen_tables.expected()
Tables = dict[str, list[Row]]


@pytest.fixture(scope="module", autouse=True)
def _no_loss_of_power() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module", name="found")
def _found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Publication]:
    return frozen_tables.results(tmp_path_factory.mktemp("results"))


@pytest.fixture(name="kept")
def _kept(tmp_path: Path) -> Path:
    return frozen_tables.unpacked(tmp_path)


@pytest.fixture(scope="module", name="scratch")
def _scratch(
    found: dict[str, Publication], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tables, Tables]:
    """The rows of all results, published by today's code alone; and the same once anna is erased."""
    root = tmp_path_factory.mktemp("scratch") / "tables"
    frozen_tables.publish(root, found.values(), "parquet")
    whole = frozen_tables.rows(root)
    _erase(root)
    return whole, frozen_tables.rows(root)


def _erase(root: Path) -> None:
    TableErasure.at(str(root), frozenset({"anna"}), frozenset(), copies="keep").run()


def _versions(place: Path) -> dict[str, int]:
    root = Root.opened(str(place))
    assert root is not None
    return {spec.name: root.table(spec).head().version for spec in schema.TABLES}


def _comparable(rows: Tables, of_old: set[Any]) -> Tables:
    """Rows in order; those of older runs without what was not written of them then."""
    found = {}
    for name, each in rows.items():
        columns = [column for column, *_ in KNOWN["columns"][name]]
        cut = [
            {column: row[column] for column in columns if not _is_later(name, row, column)}
            if row.get("run_id") in of_old
            else row
            for row in each
        ]
        found[name] = sorted(cut, key=repr)
    return found


def _is_later(table: str, row: Row, column: str) -> bool:
    """Whether a column had no value of such a row then: the hashes of searches in `runs`."""
    return table == "runs" and row["kind"] not in {"enroll", "night"} and column.endswith("_hash")


@pytest.mark.parametrize("name", KNOWN["columns"])
def test_each_column_of_older_tables_keeps_its_name_type_and_nullability(name: str) -> None:
    now = {column: facts for column, *facts in frozen_tables.columns_of(SPECS[name].schema())}
    ours = {column: facts for column, *facts in KNOWN["columns"][name] if column in now}
    of_manifest = {column for column, *_ in KNOWN["columns"][name]} - {*ours}
    assert ours == {column: now[column] for column in ours}
    assert of_manifest <= {"department", *frozen_tables.STAGED}, "a column of ours is gone"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_older_tables_are_read_row_for_row(kept: Path, layout: Layout) -> None:
    root = Root.opened(str(kept / layout))
    assert root is not None
    assert root.layout == layout
    heads = {spec.name: root.table(spec).head().schema for spec in schema.TABLES}
    assert {name: frozen_tables.columns_of(head) for name, head in heads.items()} == KNOWN["columns"]
    assert frozen_tables.rows(kept / layout) == KNOWN["rows"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_older_tables_hold_is_not_published_again(
    found: dict[str, Publication], kept: Path, layout: Layout
) -> None:
    before = _versions(kept / layout)
    assert frozen_tables.publish(kept / layout, [found[name] for name in OLD]) == len(OLD)
    assert _versions(kept / layout) == before
    assert frozen_tables.rows(kept / layout) == KNOWN["rows"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_older_tables_that_are_published_into_and_erased_from_end_as_new_ones(
    found: dict[str, Publication], scratch: tuple[Tables, Tables], kept: Path, layout: Layout
) -> None:
    old = {found[name].run_id for name in OLD}
    later = [each for name, each in found.items() if name not in OLD]
    assert frozen_tables.publish(kept / layout, later) == 0
    told = frozen_tables.rows(kept / layout)
    for name, each in told.items():
        columns = {column for column, *_ in KNOWN["columns"][name]}
        of_old = [row for row in each if row.get("run_id") in old]
        assert all(row[column] is None for row in of_old for column in row.keys() - columns)
    assert _comparable(told, old) == _comparable(scratch[0], old)
    assert {row["image_id"]: row["run_id"] for row in told["photos"]}["c1"] == found["replay"].run_id
    assert [row["image_id"] for row in told["photos"] if row["vanished"] == "2026-06-03"] == ["b1"]
    _erase(kept / layout)
    after = frozen_tables.rows(kept / layout)
    assert _comparable(after, old) == _comparable(scratch[1], old)
    assert {row["subject_id"] for row in after["people"]} == {"cleo", "dora"}

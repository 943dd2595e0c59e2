"""Replaced files of published tables stay for the hours asked for, and then go, whoever wrote them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import deltalake
import pyarrow as pa
import pytest
from made_runs import Photo, made_run

from frpipe.cli.main import main
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.io.tables.table import Change, PublishedTable, edited
from frpipe.jobs.publish.job import Publishing
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.schema import FACES
from frpipe.jobs.publish.sources import result_at

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False)])
HOUR_MS = 3_600_000
SetHours = Callable[[float], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SetHours:
    """Set the clock of the tables, in hours from now on."""
    start = time.time()

    def set_hours(hours: float) -> None:
        moved = SimpleNamespace(time=lambda: start + hours * 3600)
        monkeypatch.setattr("frpipe.io.tables.state.time", moved)

    monkeypatch.setattr(os, "fsync", lambda _: None)
    return set_hours


def _write(table: PublishedTable, name: str, *, instead: bool = False) -> list[str]:
    """Add a row, or put it in place of all others; returns the files that were replaced."""
    gone: list[str] = []

    def change(base: pa.Table) -> Change:
        gone[:] = list(base.files) if instead else []
        fresh = table.write(base.schema, [pa.table([[name]], schema=SCHEMA)])
        return Change(edited(base, gone, fresh))

    table.transact(change)
    return gone


@pytest.mark.parametrize(("layout", "keep", "later"), [("delta", 400, 200), ("parquet", 1000, 800)])
def test_replaced_files_stay_for_their_hours_and_are_then_forgotten(
    tmp_path: Path, clock: SetHours, layout: str, keep: int, later: int
) -> None:
    table = PublishedTable(Folder.at(str(tmp_path)), layout, SCHEMA, ("id",))
    _write(table, "first")
    (old,) = _write(table, "second", instead=True)
    clock(later)
    for number in range(45):
        _write(table, f"n{number}")
        table.vacuum(keep * HOUR_MS)
        assert (tmp_path / old).exists(), number
    clock(keep + 1)
    assert table.vacuum(keep * HOUR_MS) == 1
    assert not (tmp_path / old).exists()
    for number in range(20):
        _write(table, f"m{number}")
        table.vacuum(keep * HOUR_MS)
    assert old not in table.head().removed
    assert table.head().rows == 66
    if layout == "delta":
        assert deltalake.DeltaTable(str(tmp_path)).to_pyarrow_table().num_rows == 66


def test_a_replaced_file_of_another_program_goes_and_an_erasure_holds(
    tmp_path: Path, clock: SetHours
) -> None:
    """Also where the first version after its hours is one that forgets."""
    anna, tables = Photo("1.jpg", "anna", "a"), str(tmp_path / "tables")

    def publish(name: str, *photos: Photo, created: str | None = None) -> None:
        out = made_run(tmp_path / name, photos)
        if created is not None:
            out.write(run.RUN, json.dumps({**json.loads(out.read(run.RUN)), "created": created}).encode())
            run._records.pop(out.uri, None)
        Publishing(tables, lambda _: ([result_at(out.uri, "album")], ())).run()

    publish("first", anna)
    publish("second", Photo("2.jpg", "bob", "b"))
    ours = {*Path(tables, "faces").rglob("*.parquet")}
    deltalake.DeltaTable(f"{tables}/faces").optimize.compact()
    (theirs,) = {*Path(tables, "faces").rglob("*.parquet")} - ours
    again = (anna._replace(content="again"), Photo("2.jpg", "bob", "b again"))
    publish("again", *again, created="2026-06-01T00:00:00+00:00")
    root = Root.opened(tables)
    assert root is not None
    faces = root.table(FACES)
    while faces.head().version % 20 != 19:
        faces.transact(lambda base: Change(edited(base)))
    clock(200)
    assert anna.vector.tobytes() in theirs.read_bytes()
    publish("later", Photo("3.jpg", "cleo", "c"))
    assert not theirs.exists()
    assert main(["erase", "--tables", tables, "--subject", "anna"]) == 0

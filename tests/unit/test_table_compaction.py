"""Small files of published tables become large ones once, and are not merged again night after night."""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from made_runs import Photo, made_run

from frpipe.io.storage.folder import Folder
from frpipe.io.tables.state import NONE
from frpipe.io.tables.table import Change, Layout, PublishedTable, edited
from frpipe.jobs.publish.job import Publishing
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.schema import PHOTOS
from frpipe.jobs.publish.sources import result_at
from frpipe.testing.kills import Killed, at_change

TARGET = 1 << 17
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("hash", pa.string()),
        pa.field("noise", pa.int64()),
    ]
)


@pytest.fixture(autouse=True)
def _no_waits_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def _table(place: Path, layout: str = "delta") -> PublishedTable:
    return PublishedTable(Folder.at(str(place)), layout, SCHEMA, ("id",), target_bytes=TARGET)


def _night(table: PublishedTable, number: int, rows: int, *, alike: bool) -> None:
    """Add rows. alike: texts that compress to nothing, and not only numbers that do not compress."""
    noise = np.random.default_rng(number).integers(0, 1 << 62, rows)
    texts = [("h" * 60 if alike else "")] * rows
    made = pa.table([[f"{number:04}-{at:06}" for at in range(rows)], texts, noise], schema=SCHEMA)
    table.transact(lambda base: Change(edited(base, fresh=table.write(base.schema, [made]))))


@pytest.mark.parametrize("layout", ["delta", "parquet"])
@pytest.mark.parametrize("alike", [True, False])
def test_files_that_compress_become_large_once(tmp_path: Path, layout: str, *, alike: bool) -> None:
    table = _table(tmp_path, layout)
    for number in range(30):
        _night(table, number, 300, alike=alike)
    before = sorted(table.rows().to_pylist(), key=str)
    merged, into = table.compact()
    assert merged > into >= 1
    assert table.compact() == (0, 0)
    head = table.head()
    large = [f.bytes >= TARGET / 2 or table.read(head, f).nbytes >= TARGET / 2 for f in head.files.values()]
    assert sum(large) >= len(large) - 1
    assert sorted(table.rows().to_pylist(), key=str) == before


MONTHLY = pa.schema([*SCHEMA, pa.field("month", pa.string(), nullable=False)])


def _monthly(place: Path, layout: str) -> PublishedTable:
    return PublishedTable(Folder.at(str(place)), layout, MONTHLY, ("id",), partition_by="month")


def _come(table: PublishedTable, name: str, day: date, rows: int, *, merged: bool = True) -> int:
    """Publish a night; returns the rows that were written."""
    columns = [[f"{name}-{at}" for at in range(rows)], ["h"] * rows, range(rows), [f"{day:%Y-%m}"] * rows]
    there = {*table.head().files}
    night = pa.table(columns, schema=MONTHLY)
    head = table.transact(lambda base: Change(edited(base, fresh=table.write(base.schema, [night]))))
    fresh = [file.rows for path, file in head.files.items() if path not in there]
    there |= {*head.files}
    if merged:
        table.compact(every=False)
        table.vacuum()
    fresh += [file.rows for path, file in table.head().files.items() if path not in there]
    return sum(fresh)


def _files(table: PublishedTable) -> dict[str, int]:
    return Counter(file.partition["month"] or "" for file in table.head().files.values())


@pytest.mark.parametrize(
    ("layout", "nights", "alike"), [("delta", 62, True), ("parquet", 95, True), ("parquet", 95, False)]
)
def test_nights_as_they_come_leave_few_files_and_are_written_a_few_times(
    tmp_path: Path, layout: str, nights: int, *, alike: bool
) -> None:
    table, draw, first = _monthly(tmp_path, layout), random.Random(7), date(2026, 1, 1)
    sizes = [6 if alike else round(6 * draw.lognormvariate(0, 1)) + 1 for _ in range(nights)]
    written = 0
    for number, rows in enumerate(sizes):
        day = first + timedelta(number)
        written += _come(table, f"{number:03}", day, rows)
        *past, newest = sorted(_files(table).items())
        assert newest[0] == f"{day:%Y-%m}"
        assert newest[1] <= 8
        assert all(count <= 3 for _, count in past), past
    assert written < 4 * sum(sizes)
    wanted = sorted(f"{number:03}-{at}" for number, rows in enumerate(sizes) for at in range(rows))
    assert sorted(table.rows(["id"])["id"].to_pylist()) == wanted


def test_nights_that_come_late_do_not_have_their_month_written_each_time(tmp_path: Path) -> None:
    table = _monthly(tmp_path, "delta")
    _come(table, "month", date(2026, 1, 31), 3100)
    _come(table, "newer", date(2026, 2, 1), 100)
    late = [_come(table, f"late-{number}", date(2026, 1, 1 + number), 100) for number in range(16)]
    assert sum(written > 3100 for written in late) <= 2
    assert sum(late) < 10 * 16 * 100
    assert _files(table)["2026-01"] <= 3


@pytest.mark.parametrize("layout", ["delta", "parquet"])
def test_a_merge_that_is_killed_leaves_all_rows_and_no_file(tmp_path: Path, layout: str) -> None:
    moment = 0
    while True:
        moment += 1
        table = _monthly(tmp_path / str(moment), layout)
        for number in range(9):
            _come(table, f"{number}", date(2026, 1, 24) + timedelta(number), 5, merged=False)
        with at_change(moment) as changes, contextlib.suppress(Killed):
            table.compact(every=False)
        table.compact(every=False)
        table.vacuum()
        assert len(table.rows()) == 45
        assert _files(table) == {"2026-01": 1, "2026-02": 1}
        assert sum(1 for _ in (tmp_path / str(moment)).rglob("part-*.parquet")) == 2
        if changes[0] < moment:
            break


@pytest.mark.parametrize("layout", ["delta", "parquet"])
@pytest.mark.parametrize("nights", [20, pytest.param(62, marks=pytest.mark.slow)])
def test_nightly_publications_open_no_more_files_for_each_night_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: Layout, nights: int
) -> None:
    before, opened = Folder.open, [0]

    def counted(self: Folder, *words: object) -> object:
        opened[0] += 1
        return before(self, *words)

    monkeypatch.setattr(Folder, "open", counted)
    uri, first, seen = str(tmp_path / "tables"), date(2026, 1, 22), dict[str, int]()
    opens, files = [], []
    for number in range(nights):
        people = [Photo(f"{number:03}-{at}.jpg", f"p{at}", f"{number} {at}") for at in range(2)]
        out = made_run(tmp_path / f"night-{number}", people)
        night = replace(result_at(out.uri, "album"), night=first + timedelta(number))
        opened[0] = 0
        done = Publishing(uri, lambda _, night=night: ([night], ()), layout=layout).run()
        opens.append(opened[0])
        files.append({name: table["files"] for name, table in done.tables.items()})
        root = Root.opened(uri)
        assert root is not None
        seen |= {path: file.rows for path, file in root.table(PHOTOS).head().files.items()}
    assert max(opens) <= max(opens[:9]) + 2 * 20
    assert max(each["runs"] for each in files) <= 8
    assert max(each[name] for each in files for name in ("photos", "faces")) <= 8 + 2 * 3
    assert sum(seen.values()) < 4 * 2 * nights
    photos = root.table(PHOTOS).rows(["image_id"])["image_id"].to_pylist()
    assert sorted(photos) == [f"{number:03}-{at}.jpg" for number in range(nights) for at in range(2)]


def test_what_is_large_is_not_read_to_be_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that compress are small on storage, and large in memory: their first rows tell that."""
    table = replace(_table(tmp_path), partition_by="hash", schema=SCHEMA)
    for number, month in enumerate(("a", "a", "a", "b")):
        noise = pa.array([number] * 4000)
        made = pa.table([[f"{number}-{at:06}" for at in range(4000)], [month] * 4000, noise], schema=SCHEMA)
        table.transact(lambda base, made=made: Change(edited(base, fresh=table.write(base.schema, [made]))))
    before = {*table.head().files}
    monkeypatch.setattr("frpipe.io.tables.table.read_whole", None)
    assert table.compact(every=False) == (0, 0)
    assert {*table.head().files} == before


def test_of_months_that_have_ended_one_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their files are small on storage and large in memory, which each publication asks of the table."""
    table, opened = replace(_monthly(tmp_path, "parquet"), target_bytes=1 << 16), Counter[str]()
    for month in range(1, 13):
        for rows in (1100, 1200):
            _come(table, f"{month}-{rows}", date(2026, month, 1), rows, merged=False)
    look = Folder.open

    def counted(folder: Folder, name: str) -> Any:
        opened[name] += 1
        return look(folder, name)

    monkeypatch.setattr(Folder, "open", counted)
    assert table.compact(every=False) == (0, 0)
    assert opened.total() == 1


def test_a_night_merges_files_of_its_own_and_leaves_large_ones(tmp_path: Path) -> None:
    table, written = _table(tmp_path), []
    for number in range(40):
        there = {*table.head().files}
        _night(table, number, 900, alike=True)
        table.compact(every=False)
        written.append(sum(f.rows for path, f in table.head().files.items() if path not in there))
    # A row is written when it comes, and once or twice more: its files do not grow for ever.
    assert sum(written) < 3 * 40 * 900
    assert table.head().version != NONE

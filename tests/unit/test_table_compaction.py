"""Small files of published tables become large ones once, and are not merged again night after night."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from frpipe.io.storage.folder import Folder
from frpipe.io.tables.state import NONE
from frpipe.io.tables.table import Change, PublishedTable, edited

TARGET = 1 << 17
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("hash", pa.string()),
        pa.field("noise", pa.int64()),
    ]
)


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


def test_a_night_merges_files_of_its_own_and_leaves_large_ones(tmp_path: Path) -> None:
    table, written = _table(tmp_path), []
    for number in range(40):
        there = {*table.head().files}
        _night(table, number, 900, alike=True)
        table.compact(8)
        written.append(sum(f.rows for path, f in table.head().files.items() if path not in there))
    # A row is written when it comes, and once or twice more: its files do not grow for ever.
    assert sum(written) < 3 * 40 * 900
    assert table.head().version != NONE

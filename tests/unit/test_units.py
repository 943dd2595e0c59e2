"""Published units: whole, written once, and a damaged one is done again."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from frpipe.core.errors import OutputError
from frpipe.io.folder import Folder
from frpipe.io.units import Units

TABLE = pa.table({"a": ["x", "y"]})


@pytest.fixture
def units(tmp_path: Path) -> Units:
    return Units(Folder.at(str(tmp_path)), "probes")


def test_the_first_attempt_stays(units: Units) -> None:
    assert units.publish(3, TABLE, {})
    assert not units.publish(3, TABLE.slice(0, 1), {})
    assert units.done() == {3}
    assert units.read(3).equals(TABLE)


def test_the_files_are_listed_in_order_with_their_digests(units: Units) -> None:
    for unit in (11, 2):
        units.publish(unit, TABLE, {"k": "v"})
    files = units.files()
    assert [file.name for file in files] == ["probes/part-000002.parquet", "probes/part-000011.parquet"]
    assert {file.rows for file in files} == {2}
    assert [len(file.sha256) for file in files] == [64, 64]


def test_a_damaged_unit_is_taken_back(units: Units, tmp_path: Path) -> None:
    units.publish(0, TABLE, {})
    path = tmp_path / "probes/part-000000.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(OutputError, match="damaged"):
        units.files()
    assert units.done() == set()

"""Published units: whole, written once, and a damaged one is done again."""

from __future__ import annotations

import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frpipe.core.errors import FileDamaged, OutputError
from frpipe.io.output import run
from frpipe.io.output.parts import to_parquet
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder

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
    for read in (units.files, lambda: units.read(0), lambda: list(units.tables())):
        with pytest.raises(FileDamaged, match=r"probes/part-000000\.parquet .* is damaged"):
            read()
        assert units.done() == {0}
    assert units.read_own(0) is None
    assert units.done() == set()


def test_nothing_is_taken_back_of_a_run_that_somebody_else_has_ended(units: Units, tmp_path: Path) -> None:
    units.publish(0, TABLE, {})
    (tmp_path / "probes/part-000000.parquet").write_bytes(b"")
    run.seal(units.folder, [], {}, "")
    with pytest.raises(OutputError, match="finished by another process"):
        units.read_own(0)
    assert units.done() == {0}


def test_of_a_finished_run_every_byte_is_compared(units: Units, tmp_path: Path) -> None:
    units.publish(0, TABLE, {"k": "value"})
    run.seal(units.folder, units.files(), {}, "")
    assert units.read(0).equals(TABLE)
    path = tmp_path / "probes/part-000000.parquet"
    path.write_bytes(path.read_bytes().replace(b"value", b"other"))
    with pytest.raises(FileDamaged):
        units.read(0)


def test_one_wrong_bit_of_a_value_is_damage(units: Units, tmp_path: Path) -> None:
    value = 0.7310585786300049
    units.publish(0, pa.table({"a": [0.0, value, 1.0]}), {})
    path = tmp_path / "probes/part-000000.parquet"
    data, needle = bytearray(path.read_bytes()), struct.pack("<d", value)
    data[data.index(needle)] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileDamaged):
        units.read(0)


def test_files_of_other_names_are_no_units(units: Units, tmp_path: Path) -> None:
    units.publish(1, TABLE, {})
    for name in ("part-000001 (1).parquet", "part-.parquet", "part-x.parquet"):
        (tmp_path / "probes" / name).write_bytes(b"")
    assert units.done() == {1}


def test_candidates_are_packed_like_other_columns() -> None:
    kind = pa.list_(pa.struct([("id", pa.string()), ("similarity", pa.float64())]))
    table = pa.table({"candidates": pa.array([[{"id": "ann", "similarity": 0.5}]] * 1000, kind)})
    group = pq.read_metadata(pa.BufferReader(to_parquet(table, {}))).row_group(0)
    assert {group.column(n).compression for n in range(2)} == {"ZSTD"}
    assert "RLE_DICTIONARY" in group.column(0).encodings

"""Files of a table that are skipped by the statistics in their footers, also by those of other programs."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frpipe.io.tables.ranges import Wanted
from frpipe.io.tables.table import encoded


@pytest.mark.parametrize(
    "ids",
    [
        ["b"],
        ["b", "z" * 65],
        ["b", "z" * 5_000],
        ["z" * 5_000, "z" * 5_001],
        ["\uffff", "\U0001f600"],
        [None, "b"],
        [None],
    ],
)
def test_no_file_is_skipped_that_holds_a_wanted_row(ids: list[str | None]) -> None:
    file = encoded(pa.table({"image_id": pa.array(ids, pa.string())}), ())
    footer = pq.ParquetFile(io.BytesIO(file)).metadata
    for each in ids:
        assert each is None or Wanted({"image_id": pa.array([each])}).may_be_in(footer)
    assert Wanted({"image_id": pa.array(["a"]), "other": pa.array(["a"])}).may_be_in(footer)


def test_a_file_whose_statistics_are_no_text_is_read() -> None:
    cut = pa.array([b"b\xff", b"z"])
    sink = io.BytesIO()
    pq.write_table(pa.table({"image_id": pa.StringArray.from_buffers(2, *cut.buffers()[1:])}), sink)
    assert Wanted({"image_id": pa.array(["a"])}).may_be_in(pq.ParquetFile(sink).metadata)

"""Sorting on disk ends before the disk is full, and says what to do."""

from __future__ import annotations

import errno
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from frpipe.core.errors import StorageError
from frpipe.gallery import external_sort
from frpipe.gallery.external_sort import ExternalSort
from frpipe.gallery.schema import EMBEDDING, SUBJECT_ID, vector_array
from frpipe.io.manifest.id_order import RowSpool


def _rows(count: int) -> pa.Table:
    vectors = vector_array(np.ones((count, 8), np.float32))
    return pa.table({SUBJECT_ID: [f"s{n}" for n in range(count)], EMBEDDING: vectors})


def test_a_disk_that_is_nearly_full_ends_it_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [external_sort.SPARE_BYTES + 10_000]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free[0]))
    with ExternalSort(8, "<f4", 50) as spill:
        spill.take([_rows(50)])
        free[0] = external_sort.SPARE_BYTES
        with pytest.raises(StorageError, match="more than 50 rows") as refused:
            spill.take([_rows(50)])
    assert "TMPDIR" in str(refused.value)


def test_a_disk_that_others_fill_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with ExternalSort(8, "<f4", 50) as spill:
        monkeypatch.setattr(spill, "_spill", full)
        with pytest.raises(StorageError, match="no space left"):
            spill.take([_rows(50)])
    rows = pa.table({"image_id": ["a"]})
    spool = RowSpool(rows.schema)
    monkeypatch.setattr(spool, "_writer", SimpleNamespace(write_table=full))
    with pytest.raises(StorageError, match="no space left"):
        spool.add(rows)


def test_a_subject_comes_whole_and_a_bucket_at_a_time() -> None:
    rows = _rows(100)
    with ExternalSort(8, "<f2", 10) as spill:
        spill.take([rows, rows.slice(20), rows.slice(50, 7)])
        tables = list(spill.tables())
    assert max(table.num_rows for table in tables) < 40
    people = [set(table[SUBJECT_ID].to_pylist()) for table in tables]
    assert sum(map(len, people)) == len(set().union(*people)) == 100
    assert sum(table.num_rows for table in tables) == 187
    assert {table.schema.field(EMBEDDING).type for table in tables} == {rows.schema.field(EMBEDDING).type}


def test_of_no_rows_there_is_no_table() -> None:
    with ExternalSort(8, "<f4", 10) as spill:
        spill.take([_rows(0)])
        assert list(spill.tables()) == []

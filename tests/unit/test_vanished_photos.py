"""The list of vanished photos of a night is read some at a time, and names the night's content as ever."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pytest

from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly import vanished_photos
from frpipe.jobs.nightly.tables import write_table
from frpipe.jobs.nightly.vanished_photos import VanishedPhotos


def _left(folder: Path, names: list[str]) -> VanishedPhotos | None:
    write_table(
        Folder.at(str(folder)), "vanished.parquet", pa.table({"image_id": pa.array(names, pa.string())})
    )
    return VanishedPhotos.of(Folder.at(str(folder)))


@pytest.mark.parametrize("held", [2, 100])
def test_which_photos_have_vanished(held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vanished_photos, "_HELD_ROWS", held)
    names = ["zoé/1.jpg", "ann/2.jpg", "김/1.jpg", "ann/10.jpg", "\U0001f600.jpg"]
    gone = _left(tmp_path, names)
    assert gone is not None
    asked = pa.chunked_array([["ann/1.jpg", "ann/2.jpg", None], ["\U0001f600.jpg"]], pa.string())
    assert gone.among(asked).to_pylist() == [False, True, False, True]
    assert gone.among(asked.slice(0, 0)).to_pylist() == []
    # As it was published by nights that held the whole list: a night is not published twice.
    assert gone.digest == hashlib.sha256(json.dumps(sorted(names)).encode()).hexdigest()
    assert gone.count == 5
    later = _left(tmp_path, ["ann/1.jpg"])
    assert later is not None and later.among(asked).to_pylist() == [True, False, False, False]


def test_a_night_that_missed_nothing_has_no_list(tmp_path: Path) -> None:
    assert VanishedPhotos.of(Folder.at(str(tmp_path / "none"))) is None
    assert _left(tmp_path, []) is None

"""The published output of an enroll run as its readers meet it."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from made_runs import Photo, made_run

from frpipe.core.errors import FileDamaged, OutputError
from frpipe.io.output import run
from frpipe.io.output.features import Features, PartRows
from frpipe.io.output.parts import write_part
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order

PHOTOS = [Photo(f"{name}.jpg", name, name) for name in "ab"]


def _tables(*names: str) -> tuple[pa.Table, pa.Table]:
    return pa.table({"image_id": [*names]}), pa.table({"face_id": [f"{name}#0" for name in names]})


@pytest.mark.parametrize("sub", ["images", "faces"])
def test_a_damaged_part_is_an_error_with_a_remedy(sub: str, tmp_path: Path) -> None:
    out = Folder.at(str(tmp_path))
    write_part(out, 0, *_tables("a"), {})
    ((images, faces),) = Features(out).tables()
    assert (images.num_rows, faces.num_rows) == (1, 1)
    with pytest.raises(OutputError, match="lacks a column"):
        list(Features(out).tables(["image_id"], ["none"]))
    victim = tmp_path / f"{sub}/part-000000.parquet"
    victim.write_bytes(bytes(victim.stat().st_size))
    with pytest.raises(OutputError, match=f"{sub}/part-000000.parquet in .* is damaged") as caught:
        list(Features(out).tables())
    assert "frpipe check" in caught.value.remedy


def test_a_folder_without_parts_is_no_output(tmp_path: Path) -> None:
    features = Features.at(str(tmp_path))
    assert features.parts() == []
    for read in (features.tables, features.all_images, features.columns):
        with pytest.raises(OutputError, match="holds no enroll output"):
            read()


def test_a_part_that_a_finished_run_does_not_list_is_not_read(tmp_path: Path) -> None:
    out = made_run(tmp_path / "out", PHOTOS)
    for sub in ("images", "faces"):
        shutil.copy(tmp_path / f"out/{sub}/part-000000.parquet", tmp_path / f"out/{sub}/part-000007.parquet")
    features = Features(out)
    assert features.parts() == [0] and features.rows() == {0: PartRows(2, 2)}
    ids = [name for images, _ in features.tables(["image_id"], []) for name in images["image_id"].to_pylist()]
    assert ids == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("columns", [None, ["face_id"]])
def test_faces_of_another_attempt_do_not_pass_for_those_of_a_part(
    columns: list[str] | None, tmp_path: Path
) -> None:
    one, other = (Folder.at(str(tmp_path / name)) for name in ("one", "other"))
    write_part(one, 0, *_tables("a"), {})
    write_part(other, 0, *_tables("b"), {})
    one.write("faces/part-000000.parquet", other.read("faces/part-000000.parquet"))
    with pytest.raises(FileDamaged, match="faces/part-000000"):
        list(Features(one).tables(faces=columns))
    assert Features(one).images(0)["image_id"].to_pylist() == ["a"]
    # An erasure that broke off between its two writes reads what it wrote itself.
    one.write(run.ERASING, b"{}")
    assert Features(one).faces(0, columns)["face_id"].to_pylist() == ["b#0"]


def test_parts_come_in_order_and_vectors_as_an_array(tmp_path: Path) -> None:
    out = made_run(tmp_path / "out", PHOTOS)
    images, faces = Features(out).joined([0, 0], ["image_id"], ["face_id"])
    assert images["image_id"].to_pylist() == ["a.jpg", "b.jpg"] * 2
    assert faces.column_names == ["face_id"]
    vectors = Features(out).vectors([0])
    assert np.array_equal(vectors, np.stack([photo.vector for photo in PHOTOS]))


class TestInOrder:
    def test_no_more_is_held_than_was_said(self) -> None:
        started: set[int] = set()
        lock = threading.Lock()

        def work(item: int) -> int:
            with lock:
                started.add(item)
            return item

        for done, item in enumerate(in_order(work, range(100), ahead=4)):
            assert item == done and max(started) < done + 4

    def test_the_first_failure_in_order_is_raised_and_the_rest_is_left(self) -> None:
        seen: list[int] = []

        def work(item: int) -> int:
            seen.append(item)
            if item in (3, 4):
                raise ValueError(item)
            return item

        found = in_order(work, range(1000), ahead=2)
        with pytest.raises(ValueError, match="3"):
            list(found)
        assert max(seen) < 10

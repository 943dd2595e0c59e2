"""Manifests in every format: what is read, what is refused, and what the refusal says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from s3server import S3, s3  # noqa: F401

from frpipe.core.errors import ManifestError
from frpipe.core.schema import reserved_names
from frpipe.io.manifest import admission
from frpipe.io.manifest.admission import admitted
from frpipe.io.manifest.duplicates import SeenIds, confirmed, hashes_of
from frpipe.io.manifest.manifest import Manifest
from frpipe.io.storage.folder import Folder

Write = Callable[[Path, list[dict[str, Any]]], Path]


def _write_parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), folder / "m.parquet")
    return folder / "m.parquet"


def _write_csv(folder: Path, rows: list[dict[str, Any]]) -> Path:
    pc.write_csv(pa.Table.from_pylist(rows), folder / "m.csv")
    return folder / "m.csv"


def _write_jsonl(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "m.jsonl"


every_format = pytest.mark.parametrize("write", [_write_parquet, _write_csv, _write_jsonl])


def _rows(path: Path | str, roots: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    manifest = Manifest.open(str(path), reserved_names())
    return pa.concat_tables(admitted(manifest, roots)).to_pylist()


def _refusal(path: Path | str, roots: tuple[str, ...] = ()) -> str:
    with pytest.raises(ManifestError) as caught:
        _rows(path, roots)
    return str(caught.value)


@every_format
def test_rows_are_normalised(tmp_path: Path, write: Write) -> None:
    path = write(
        tmp_path,
        [
            {"image_uri": "a/1.jpg", "subject_id": 'Zoë, "Z"', "site": "north"},
            {"image_uri": "/data/2.jpg", "subject_id": None, "site": None},
            {"image_uri": "s3://bucket/3.jpg", "subject_id": "7", "site": "süd"},
        ],
    )
    assert _rows(path) == [
        {"image_id": "a/1.jpg", "image_uri": "a/1.jpg", "location": f"{tmp_path}/a/1.jpg"}
        | {"subject_id": 'Zoë, "Z"', "site": "north"},
        {"image_id": "/data/2.jpg", "image_uri": "/data/2.jpg", "location": "/data/2.jpg"}
        | {"subject_id": None, "site": None},
        {"image_id": "s3://bucket/3.jpg", "image_uri": "s3://bucket/3.jpg", "location": "s3://bucket/3.jpg"}
        | {"subject_id": "7", "site": "süd"},
    ]


@every_format
def test_own_ids_are_kept_and_an_unknown_person_is_null(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path, [{"image_id": "x", "image_uri": "1.jpg"}, {"image_id": "y", "image_uri": "1.jpg"}])
    assert [(r["image_id"], r["subject_id"]) for r in _rows(path)] == [("x", None), ("y", None)]


@every_format
def test_bad_rows_are_counted_and_told_by_number_only(tmp_path: Path, write: Write) -> None:
    rows = [{"image_id": f"id{n}", "image_uri": f"secret{n}.jpg"} for n in range(1, 31)]
    for n in (3, 5, 7, 11, 13, 17, 19):
        rows[n - 1]["image_uri"] = ""
    rows[28]["image_uri"] = "../secret.jpg"
    rows[29]["image_id"] = ""
    message = _refusal(write(tmp_path, rows))
    assert "7 rows without image_uri (row 3, 5, 7, 11, 13, ...)" in message
    assert "1 row with '..' in image_uri (row 29)" in message
    assert "1 row without image_id (row 30)" in message
    assert "secret" not in message


@every_format
def test_repeated_ids_are_refused(tmp_path: Path, write: Write) -> None:
    rows = [{"image_uri": f"{n % 8}.jpg"} for n in range(10)]
    assert "2 rows with the image_id of an earlier row (row 9, 10)" in _refusal(write(tmp_path, rows))


@every_format
def test_a_missing_column_is_named(tmp_path: Path, write: Write) -> None:
    assert "no column image_uri" in _refusal(write(tmp_path, [{"path": "1.jpg"}]))


@every_format
def test_a_name_of_the_output_is_refused(tmp_path: Path, write: Write) -> None:
    assert "embedding" in _refusal(write(tmp_path, [{"image_uri": "1.jpg", "embedding": "x"}]))
    assert "Status" in _refusal(write(tmp_path, [{"image_uri": "1.jpg", "Status": "x"}]))
    assert "location" in _refusal(write(tmp_path, [{"image_uri": "1.jpg", "location": "x"}]))


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    _refusal(tmp_path / name)


def test_a_manifest_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image_uri,subject_id\n")
    assert "no rows" in _refusal(tmp_path / "m.csv")
    pq.write_table(pa.table({"image_uri": pa.array([], pa.string())}), tmp_path / "m.parquet")
    assert "no rows" in _refusal(tmp_path / "m.parquet")


def test_an_absent_manifest_and_a_folder_of_photos_are_explained(tmp_path: Path) -> None:
    assert "there is no manifest" in _refusal(tmp_path / "none.csv")
    (tmp_path / "1.jpg").write_bytes(b"x")
    assert "manifest scan" in _refusal(tmp_path)


class TestFolders:
    def test_files_are_read_in_order_and_marks_left_out(self, tmp_path: Path) -> None:
        for n in (2, 1):
            pq.write_table(pa.table({"image_uri": [f"{n}.jpg"]}), tmp_path / f"part-{n}.parquet")
        (tmp_path / "_SUCCESS").touch()
        (tmp_path / "_old.parquet").write_bytes(b"junk")
        assert [row["image_uri"] for row in _rows(tmp_path)] == ["1.jpg", "2.jpg"]

    def test_places_name_the_file(self, tmp_path: Path) -> None:
        for n in (1, 2):
            (tmp_path / f"{n}.csv").write_text("image_uri\nsame.jpg\n")
        assert "1 row with the image_id of an earlier row (row 1 of 2.csv)" in _refusal(tmp_path)

    def test_formats_may_not_mix(self, tmp_path: Path) -> None:
        (tmp_path / "1.csv").write_text("image_uri\n1.jpg\n")
        (tmp_path / "2.csv").write_text("image_uri,age\n1.jpg,4\n")
        (tmp_path / "2.csv").rename(tmp_path / "2.jsonl")
        assert "csv and jsonl" in _refusal(tmp_path)

    def test_a_manifest_on_s3_is_read(self, s3: S3) -> None:  # noqa: F811
        Folder.at(s3.uri).write("list/a.csv", b"image_uri\np/1.jpg\ns3://other/2.jpg\n")
        found = [row["location"] for row in _rows(f"{s3.uri}/list/a.csv")]
        assert found == [f"{s3.uri}/list/p/1.jpg", "s3://other/2.jpg"]
        assert [row["location"] for row in _rows(f"{s3.uri}/list")] == found


class TestCsv:
    def test_quotes_marks_and_line_ends(self, tmp_path: Path) -> None:
        (tmp_path / "m.csv").write_bytes(b'\xef\xbb\xbfimage_uri,note\r\n"a, b.jpg","""so"""\r\nNA,\r\n')
        rows = _rows(tmp_path / "m.csv")
        assert [(r["image_uri"], r["note"]) for r in rows] == [("a, b.jpg", '"so"'), ("NA", None)]

    def test_numbers_stay_text(self, tmp_path: Path) -> None:
        (tmp_path / "m.csv").write_text("image_uri,subject_id,code\n1.jpg,007,1e5\n")
        assert [(r["subject_id"], r["code"]) for r in _rows(tmp_path / "m.csv")] == [("007", "1e5")]

    def test_a_ragged_row_is_told_by_its_line(self, tmp_path: Path) -> None:
        (tmp_path / "m.csv").write_text("image_uri,a\n1.jpg,x\n2.jpg\n3.jpg,x,secret\n4.jpg,x\n")
        message = _refusal(tmp_path / "m.csv")
        assert "line 3 of m.csv: 1 value where the header has 2" in message
        assert "secret" not in message

    def test_other_encodings_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "m.csv").write_bytes("image_uri\nZoë.jpg\n".encode("latin-1"))
        assert "UTF-8" in _refusal(tmp_path / "m.csv")

    def test_two_columns_of_one_name_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "m.csv").write_text("image_uri,age,Age\n1.jpg,1,2\n")
        assert "two columns" in _refusal(tmp_path / "m.csv")


class TestJsonl:
    def test_a_later_misfit_is_told_by_line(self, tmp_path: Path) -> None:
        lines = [json.dumps({"image_uri": f"{n}.jpg", "age": n}) for n in range(1, 60_001)]
        lines[50_000] = '{"image_uri": "x.jpg", "age": "secret"}'
        (tmp_path / "m.jsonl").write_text("\n".join(lines))
        message = _refusal(tmp_path / "m.jsonl")
        assert "line 50001" in message
        assert "column age" in message
        assert "secret" not in message

    @pytest.mark.parametrize(
        "line", ["[1]", "{", '{"image_uri": 1}', '{"image_uri": "x", "more": 1}', "secret"]
    )
    def test_what_is_no_fitting_object_is_told_by_line(self, tmp_path: Path, line: str) -> None:
        first = '{"image_uri": "1.jpg"}\n' * 60_000
        (tmp_path / "m.jsonl").write_text(f"{first}\n{line}\n")
        assert "line 60002" in _refusal(tmp_path / "m.jsonl")

    def test_blank_lines_nested_values_and_empty_columns(self, tmp_path: Path) -> None:
        (tmp_path / "m.jsonl").write_text(
            '\n{"image_uri": "1.jpg", "at": {"x": [1]}, "no": null}\n\n{"image_uri": "2.jpg", "no": null}\n'
        )
        rows = _rows(tmp_path / "m.jsonl")
        assert [(r["at"], r["no"]) for r in rows] == [({"x": [1]}, None), (None, None)]


class TestParquet:
    def test_own_types_travel_and_dictionaries_are_decoded(self, tmp_path: Path) -> None:
        table = pa.table(
            {
                "image_uri": pa.array(["1.jpg"]).dictionary_encode(),
                "subject_id": pa.array([7], pa.int32()),
                "age": pa.array([3], pa.int8()),
                "tags": pa.array([["a"]]),
                "site": pa.array(["x"]).dictionary_encode(),
            }
        )
        pq.write_table(table, tmp_path / "m.parquet")
        manifest = Manifest.open(str(tmp_path / "m.parquet"))
        rows = pa.concat_tables(admitted(manifest, ()))
        assert rows["subject_id"].to_pylist() == ["7"]
        assert rows.schema.field("age").type == pa.int8()
        assert rows.schema.field("site").type == pa.string()
        assert rows["tags"].to_pylist() == [["a"]]

    @pytest.mark.parametrize("kind", [pa.uint64(), pa.float16(), pa.list_(pa.uint64()), pa.uuid()])
    def test_types_that_not_all_readers_know_are_refused(self, tmp_path: Path, kind: pa.DataType) -> None:
        table = pa.table({"image_uri": ["1.jpg"], "extra": pa.nulls(1, kind)})
        pq.write_table(table, tmp_path / "m.parquet")
        assert "extra" in _refusal(tmp_path / "m.parquet")

    def test_embedded_photos_need_ids_and_are_not_read(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"image_bytes": [b"x"]}), tmp_path / "m.parquet")
        assert "needs image_id" in _refusal(tmp_path / "m.parquet")
        pq.write_table(
            pa.table({"image_id": ["a", "b"], "image_bytes": [b"x", b"y"]}), tmp_path / "m.parquet"
        )
        rows = _rows(tmp_path / "m.parquet")
        assert [row["image_uri"] for row in rows] == [None, None]
        assert [row["location"] for row in rows] == [f"row+{tmp_path}/m.parquet#{n}" for n in (0, 1)]
        assert "image_bytes" not in rows[0]

    def test_both_kinds_of_photo_at_once_are_refused(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"image_uri": ["a"], "image_bytes": [b"x"]}), tmp_path / "m.parquet")
        assert "both" in _refusal(tmp_path / "m.parquet")

    def test_embedded_photos_are_for_parquet_only(self, tmp_path: Path) -> None:
        (tmp_path / "m.csv").write_text("image_id,image_bytes\na,x\n")
        assert "no column image_uri" in _refusal(tmp_path / "m.csv")

    def test_a_number_is_no_uri(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"image_uri": [1]}), tmp_path / "m.parquet")
        assert "image_uri is int64" in _refusal(tmp_path / "m.parquet")


class TestDuplicates:
    def test_spilled_or_held_the_answer_is_the_same(self) -> None:
        ids = [str(n) for n in range(5000)] + ["17", "4999", "17"]
        for limit in (10**6, 100):
            with SeenIds(held_rows=limit) as seen:
                for start in range(0, len(ids), 50):
                    seen.add(hashes_of(ids[start : start + 50]))
                candidates, capped = seen.candidates()
            assert set(candidates.tolist()) == {hash("17"), hash("4999")}
            assert not capped
            assert list(confirmed(candidates, [(0, 1, ids)])) == [
                (0, 5001, (0, 18), True),
                (0, 5002, (0, 5000), True),
                (0, 5003, (0, 18), True),
            ]

    def test_a_shared_hash_is_no_duplicate(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(admission, "hashes_of", lambda ids: np.zeros(len(ids), np.int64))
        monkeypatch.setattr(
            "frpipe.io.manifest.duplicates.hashes_of", lambda ids: np.zeros(len(ids), np.int64)
        )
        path = _write_parquet(tmp_path, [{"image_uri": f"{n}.jpg"} for n in range(5)])
        assert len(_rows(path)) == 5
        path = _write_parquet(tmp_path, [{"image_uri": f"{n}.jpg"} for n in (1, 2, 1)])
        assert "(row 3)" in _refusal(path)

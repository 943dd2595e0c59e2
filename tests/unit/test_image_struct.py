"""Photos in a column struct<bytes, path>, as the datasets library of Hugging Face writes images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frpipe.core.errors import ManifestError
from frpipe.core.reasons import Reason, Reject
from frpipe.io.manifest.admission import admitted
from frpipe.io.manifest.fetch import Fetcher
from frpipe.io.manifest.manifest import Manifest

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _write(path: Path, images: list[Any], name: str = "image", **options: Any) -> Path:
    others = {key: options.pop(key) for key in ("image_id", "label", "subject_id") if key in options}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: pa.array(images, options.pop("type", IMAGE)), **others}), path, **options)
    return path


def _plan(manifest: Path, roots: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return pa.concat_tables(admitted(Manifest.open(str(manifest)), roots)).to_pylist()


def _photos(rows: list[dict[str, Any]]) -> list[bytes | Reason | str]:
    found = Fetcher((), 1, 1000).stream([row["location"] for row in rows], 2, 4)
    return [each.reason if isinstance(each, Reject) else each for each in found]


@pytest.mark.parametrize("options", [{}, {"row_group_size": 2}, {"write_statistics": False}])
@pytest.mark.parametrize("name", ["image", "img"])
def test_bytes_are_the_photo_and_the_path_is_its_id(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    (tmp_path / "there.jpg").write_bytes(b"T")
    images = [
        {"bytes": b"A", "path": "anna/1.jpg"},
        {"bytes": None, "path": "there.jpg"},
        {"bytes": b"N", "path": None},
        None,
        {"bytes": None, "path": None},
        {"bytes": b"", "path": "empty.jpg"},
    ]
    rows = _plan(_write(tmp_path / "m.parquet", images, name, label=list(range(6)), **options))
    assert [row["image_id"] for row in rows] == [
        "anna/1.jpg", "there.jpg", "m.parquet#2", "m.parquet#3", "m.parquet#4", "empty.jpg"
    ]  # fmt: skip
    assert [row["image_uri"] for row in rows] == [None, "there.jpg", None, None, None, None]
    assert [row["label"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert _photos(rows) == [b"A", b"T", b"N", Reason.EMPTY, Reason.EMPTY, Reason.EMPTY]


def test_ids_and_people_of_columns_of_their_own_are_taken(tmp_path: Path) -> None:
    images = [{"bytes": b"A", "path": "1.jpg"}, {"bytes": b"B", "path": "1.jpg"}]
    manifest = _write(tmp_path / "m.parquet", images, image_id=["a", "b"], subject_id=["x", "y"])
    rows = _plan(manifest)
    assert [(row["image_id"], row["subject_id"]) for row in rows] == [("a", "x"), ("b", "y")]
    assert _photos(rows) == [b"A", b"B"]
    with pytest.raises(ManifestError, match="image_id of an earlier row"):
        _plan(_write(tmp_path / "n.parquet", images))


def test_a_path_without_bytes_obeys_the_rules_for_addresses(tmp_path: Path) -> None:
    outside = [{"bytes": None, "path": "../x.jpg"}, {"bytes": b"A", "path": "../x.jpg"}]
    with pytest.raises(ManifestError, match="1 row with"):
        _plan(_write(tmp_path / "m.parquet", outside))
    assert [row["image_id"] for row in _plan(_write(tmp_path / "n.parquet", outside[1:]))] == ["../x.jpg"]


def test_a_folder_of_files_and_large_types(tmp_path: Path) -> None:
    large = pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())])
    for number in range(2):
        _write(
            tmp_path / f"m/{number}.parquet", [{"bytes": b"%d" % number, "path": f"{number}.jpg"}], type=large
        )
    rows = _plan(tmp_path / "m")
    assert [row["image_id"] for row in rows] == ["0.jpg", "1.jpg"]
    assert _photos(rows) == [b"0", b"1"]


def test_of_several_the_one_named_image_is_taken(tmp_path: Path) -> None:
    one = pa.array([{"bytes": b"A", "path": "1.jpg"}], IMAGE)
    pq.write_table(pa.table({"left": one, "right": one}), tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match="no column image_uri"):
        Manifest.open(str(tmp_path / "m.parquet"))
    two = pa.array([{"bytes": b"B", "path": "2.jpg"}], IMAGE)
    pq.write_table(pa.table({"thumb": one, "image": two}), tmp_path / "n.parquet")
    rows = _plan(tmp_path / "n.parquet")
    assert [row["image_id"] for row in rows] == ["2.jpg"]
    assert _photos(rows) == [b"B"]


def test_photos_are_not_read_for_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [{"bytes": bytes(1000), "path": f"{n}.jpg"} for n in range(2000)]
    manifest = _write(tmp_path / "m.parquet", images, compression="none")
    read: list[list[str]] = []
    plain = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile, "iter_batches", lambda *a, **k: (read.append(k["columns"]), plain(*a, **k))[1]
    )
    _plan(manifest)
    assert read == [["image.path"]]

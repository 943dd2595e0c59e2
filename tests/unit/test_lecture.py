"""The lecture's file: the layout as taught, the way there and back, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest

from frpipe.core.errors import GalleryError
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.hdf5_exchange import attribute_name, dataset_name, write_lecture
from frpipe.gallery.hdf5_exchange_reader import read_lecture
from frpipe.gallery.schema import attributes_of, template_schema, vector_array, vectors_of
from frpipe.gallery.spec import GallerySpec
from frpipe.jobs.gallery_files import export, import_file

DIM = 8
SPEC = GallerySpec(DIM, "e" * 64, "p" * 64, "d" * 64, rows_per_shard=4)
NOW = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)


def _rows(*rows: tuple[str, str, dict[str, str]]) -> pa.Table:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(len(rows), DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    schema = template_schema(DIM, sorted({name for row in rows for name in row[2]}))
    columns = {
        "subject_id": [row[0] for row in rows],
        "face_id": [row[1] for row in rows],
        "image_uri": [None if n % 2 else f"{row[1]}.jpg" for n, row in enumerate(rows)],
        "quality": [None if n % 3 else 0.25 for n in range(len(rows))],
        "enrolled_at": [NOW] * len(rows),
        "embedding": vector_array(vectors.astype(np.float32)),
        **{name: [row[2].get(name) for row in rows] for name in attributes_of(schema)},
    }
    return pa.table(columns, schema=schema)


AWKWARD = _rows(
    ("0", "a#0", {"Name": "김지수", "Department": "black pink"}),
    ("0", "a#1", {"Name": "김지수", "Department": "black pink"}),
    ("0", "a#2", {"Name": "김지수", "Department": "black pink"}),
    ("1", "b#0", {"Name": "김지수"}),  # a homonym, without a Department
    ("10", "c#0", {"Name": "AC/DC", "Department": "R&D/Lab 3"}),
    ("부서/2", "d#0", {"Name": "Zoë", "Team/Unit": "100 % sure", "Feature Map": "no map"}),
    ("..", "e#0", {}),
)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    made = Gallery.create(str(tmp_path / "G"), SPEC)
    lifecycle.enroll(made, [AWKWARD])
    return made


def _content(gallery: Gallery) -> pa.Table:
    tables = list(gallery.snapshot().tables())
    return (
        pa.concat_tables(tables)
        .sort_by([("subject_id", "ascending"), ("face_id", "ascending")])
        .combine_chunks()
    )


def test_the_layout_is_as_taught(gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "gallery.hdf"
    assert export(gallery, str(path), "lecture") == 7
    assert path.stat().st_mode & 0o077 == 0
    with h5py.File(path) as file:
        assert sorted(file) == ["%2E%2E", "%EB%B6%80%EC%84%9C%2F2", "0", "1", "10"]
        assert file["0"]["Name"][()].decode() == "김지수"
        assert file["0/Department"].asstr()[()] == "black pink"
        assert tuple(h5py.check_string_dtype(file["0/Name"].dtype)) == ("utf-8", None)
        assert list(file["0"]["Feature Map"]) == ["feature_1", "feature_2", "feature_3"]
        feature = file["0/Feature Map/feature_2"]
        assert (feature.shape, feature.dtype) == ((DIM,), np.float32)
        assert "Department" not in file["1"]
        assert file["10"].attrs["subject_id"] == "10"
        assert file["%2E%2E"].attrs["subject_id"] == file["%2E%2E/Name"].asstr()[()] == ".."


def test_there_and_back_nothing_is_lost(gallery: Gallery, tmp_path: Path) -> None:
    export(gallery, str(tmp_path / "gallery.hdf"), "lecture")
    other = Gallery.create(str(tmp_path / "H"), SPEC)
    outcome = import_file(other, str(tmp_path / "gallery.hdf"))
    assert outcome.added == 7
    assert _content(other).equals(_content(gallery))
    assert import_file(other, str(tmp_path / "gallery.hdf")).unchanged == 7


def test_the_same_by_parquet(gallery: Gallery, tmp_path: Path) -> None:
    export(gallery, str(tmp_path / "P"), "parquet")
    other = Gallery.create(str(tmp_path / "H"), SPEC)
    assert import_file(other, str(tmp_path / "P")).added == 7
    assert _content(other).equals(_content(gallery))


def test_nothing_is_overwritten(gallery: Gallery, tmp_path: Path) -> None:
    (tmp_path / "gallery.hdf").write_bytes(b"mine")
    with pytest.raises(Exception, match="something at the target"):
        export(gallery, str(tmp_path / "gallery.hdf"), "lecture")
    assert (tmp_path / "gallery.hdf").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "name", ["Name", "a/b", "Feature Map", ".", "..", "", "%", "50%", "x\x00y", "부서/과"]
)
def test_a_dataset_name_leads_back_to_its_attribute(name: str) -> None:
    encoded = dataset_name(name)
    assert attribute_name(encoded) == name
    assert encoded not in ("", ".", "..", "Feature Map")
    assert "/" not in encoded
    assert "\x00" not in encoded


def _taught(path: Path) -> Path:
    """A file as the slides make it: vectors of any length, no attributes."""
    rng = np.random.default_rng(2)
    with h5py.File(path, "w") as file:
        for number, name in enumerate(("JiSoo-Kim", "Jennie-Kim")):
            group = file.create_group(str(number))
            group.create_dataset("Name", data=name)
            group.create_dataset("Department", data="black pink")
            features = group.create_group("Feature Map")
            features.create_dataset("feature_1", data=rng.normal(size=DIM) * 20)
            features.create_dataset("feature_2", data=rng.normal(size=(1, DIM)).astype(np.float32))
    return path


def test_a_group_has_the_name_of_its_person(tmp_path: Path) -> None:
    """Ids from 1: `file["1"]` is person 1, and not the second."""
    made = Gallery.create(str(tmp_path / "G"), SPEC)
    lifecycle.enroll(made, [_rows(("1", "a", {"Name": "Kim"}), ("2", "b", {}), ("0007", "c", {}))])
    export(made, str(tmp_path / "gallery.hdf"), "lecture")
    with h5py.File(tmp_path / "gallery.hdf") as file:
        assert {name: file[name]["Name"].asstr()[()] for name in file} == {
            "1": "Kim",
            "2": "2",
            "0007": "0007",
        }


def test_a_name_written_over_the_id_is_a_name(tmp_path: Path) -> None:
    made = Gallery.create(str(tmp_path / "G"), SPEC)
    lifecycle.enroll(made, [_rows(("1", "a", {}), ("2", "b", {}))])
    path = tmp_path / "gallery.hdf"
    export(made, str(path), "lecture")
    with h5py.File(path, "r+") as file:
        file["1/Name"][()] = "김지수"
    (table,) = read_lecture(path, DIM, NOW)
    names = {row["subject_id"]: row.get("Name") for row in table.to_pylist()}
    assert names == {"1": "김지수", "2": None}


def test_texts_at_the_root_of_a_file_without_people_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "gallery.hdf"
    with h5py.File(path, "w") as file:
        file.create_dataset("Name", data="JiSoo-Kim")
    with pytest.raises(GalleryError, match="there is no group of a person"):
        list(read_lecture(path, DIM, NOW))


def test_the_lines_of_the_lecture_make_a_file_that_is_read(tmp_path: Path) -> None:
    """Written as they stand there: the texts lie at the root, and there is one person."""
    path = tmp_path / "gallery.hdf"
    with h5py.File(path, "a") as hdf_file:
        hdf_file.create_group("0")
        hdf_file.create_dataset("Name", data="JiSoo-Kim")
        hdf_file.create_dataset("Department", data="black pink")
        hdf_file["0"].create_group("Feature Map")
        hdf_file["0"]["Feature Map"].create_dataset("feature_1", data=np.ones(DIM))
    (table,) = read_lecture(path, DIM, NOW)
    (row,) = table.select(["subject_id", "Name", "Department"]).to_pylist()
    assert row == {"subject_id": "0", "Name": "JiSoo-Kim", "Department": "black pink"}
    with h5py.File(path, "a") as hdf_file:
        hdf_file["1/Feature Map/feature_1"] = np.ones(DIM)
    with pytest.raises(GalleryError, match="at the root is of one person, and there are several"):
        list(read_lecture(path, DIM, NOW))


def test_a_plain_file_needs_its_model_named(gallery: Gallery, tmp_path: Path) -> None:
    path = _taught(tmp_path / "taught.hdf")
    with pytest.raises(GalleryError, match="which model"):
        import_file(gallery, str(path))
    other = Gallery.create(str(tmp_path / "H"), SPEC)
    assert import_file(other, str(path), assume_model=True).added == 4
    table = _content(other)
    assert table["subject_id"].to_pylist() == ["0", "0", "1", "1"]
    assert len(set(table["face_id"].to_pylist())) == 4
    assert table["Name"].to_pylist()[2] == "Jennie-Kim"
    np.testing.assert_allclose(np.linalg.norm(vectors_of(table), axis=1), 1, atol=1e-6)
    assert "assumed" in other.log()[-1].note


def test_a_second_plain_file_takes_nothing_from_the_people_of_the_first(tmp_path: Path) -> None:
    gallery = Gallery.create(str(tmp_path / "H"), SPEC)
    import_file(gallery, str(_taught(tmp_path / "one.hdf")), assume_model=True)
    first = _content(gallery)
    _with(_feature(data=np.eye(1, DIM, dtype=np.float32)[0]))(tmp_path / "two.hdf")
    assert import_file(gallery, str(tmp_path / "two.hdf"), assume_model=True).added == 0
    assert _content(gallery).equals(first)
    asked = import_file(gallery, str(tmp_path / "two.hdf"), "append", assume_model=True)
    assert (asked.added, asked.replaced, asked.unchanged) == (1, 0, 3)


def test_a_folder_may_have_a_dot_in_its_name(gallery: Gallery, tmp_path: Path) -> None:
    export(gallery, str(tmp_path / "exp.v1"), "parquet")
    other = Gallery.create(str(tmp_path / "H"), SPEC)
    assert import_file(other, str(tmp_path / "exp.v1")).added == 7


def test_an_export_leaves_no_vectors_elsewhere(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, target = tmp_path / "scratch", tmp_path / "target"
    for folder in (scratch, target):
        folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    written: list[Path] = []

    def fail(path: Path, *rest: object) -> int:
        written.append(path)
        assert path.stat().st_mode & 0o077 == 0
        path.write_bytes(b"vectors")
        raise RuntimeError

    monkeypatch.setattr("frpipe.jobs.gallery_files.write_lecture", fail)
    with pytest.raises(RuntimeError):
        export(gallery, str(target / "g.hdf"), "lecture")
    assert written[0].parent == target
    assert not list(target.iterdir())
    assert not list(scratch.iterdir())


def _enrolled(text: str) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file["0/Feature Map/feature_1"].attrs["enrolled_at"] = text

    return edit


def test_a_file_of_another_model_is_refused_with_both_hashes(gallery: Gallery, tmp_path: Path) -> None:
    export(gallery, str(tmp_path / "gallery.hdf"), "lecture")
    other = Gallery.create(str(tmp_path / "H"), GallerySpec(DIM, "x" * 64, "p" * 64, "d" * 64))
    with pytest.raises(GalleryError) as caught:
        import_file(other, str(tmp_path / "gallery.hdf"), assume_model=True)
    assert "x" * 64 in str(caught.value)
    assert "e" * 64 in str(caught.value)
    assert other.snapshot().rows == 0


def _with(edit: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with h5py.File(_taught(path), "r+") as file:
            edit(file)

    return make


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((DIM,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (DIM,))
    del file["0/Feature Map/feature_1"]
    file["0/Feature Map"].create_virtual_dataset("feature_1", layout)


def _feature(**options: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        del file["0/Feature Map/feature_1"]
        file["0/Feature Map"].create_dataset("feature_1", **options)

    return edit


def _put(name: str, value: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file[name] = value

    return edit


def _huge_chunk(file: h5py.File) -> None:
    del file["0/Feature Map/feature_1"]
    file["0/Feature Map"].create_dataset(
        "feature_1", (DIM,), "f4", chunks=(1 << 20,), maxshape=(None,), compression="gzip"
    )


HOSTILE: dict[str, Callable[[Path], object]] = {
    "external link": _with(_put("2", h5py.ExternalLink("/etc/passwd", "/"))),
    "external link inside": _with(_put("0/Title", h5py.ExternalLink("other.h5", "/x"))),
    "soft link": _with(_put("2", h5py.SoftLink("/0"))),
    "soft link to a feature": _with(
        _put("0/Feature Map/feature_3", h5py.SoftLink("/1/Feature Map/feature_1"))
    ),
    "virtual dataset": _with(_virtual),
    "external storage": _with(
        _feature(shape=(DIM,), dtype="f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    ),
    "unknown filter": _with(_feature(data=np.ones(DIM, np.float32), chunks=(DIM,), scaleoffset=2)),
    "huge chunk": _with(_huge_chunk),
    "other dimension": _with(_feature(data=np.ones(DIM + 1, np.float32))),
    "matrix": _with(_feature(data=np.ones((2, DIM), np.float32))),
    "not finite": _with(_feature(data=np.full(DIM, np.nan, np.float32))),
    "zero": _with(_feature(data=np.zeros(DIM, np.float32))),
    "integers": _with(_feature(data=np.ones(DIM, np.int64))),
    "a group for a feature": _with(lambda file: file["0/Feature Map"].create_group("feature_9")),
    "something else": _with(_put("0/Feature Map/readme", "hello")),
    "no feature map": _with(lambda file: file.create_group("7")),
    "a dataset for a person": _with(_put("7", np.ones(3))),
    "numbers for a name": _with(_put("0/Age", np.arange(3))),
    "a huge text": _with(_put("0/Note", "x" * (1 << 17))),
    "a huge fixed text": _with(_put("0/Note", np.bytes_(b"x" * (1 << 17)))),
    "not UTF-8": _with(_put("0/Note", np.bytes_(b"\xff\xfe"))),
    "the name of a column": _with(_put("0/embedding", "x")),
    "a time out of range": _with(_enrolled("0001-01-01T00:00:00+10:00")),
    "truncated": lambda path: path.write_bytes(_taught(path).read_bytes()[:-500]),
    "no HDF5": lambda path: path.write_bytes(b"hello"),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: None,
}


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_a_hostile_file_is_refused_and_changes_nothing(kind: str, gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "bad.hdf"
    HOSTILE[kind](path)
    with pytest.raises(GalleryError) as caught:
        import_file(gallery, str(path), assume_model=True)
    assert caught.value.remedy
    assert gallery.snapshot().number == 1


def test_gzip_and_shuffle_are_read(tmp_path: Path) -> None:
    path = tmp_path / "packed.hdf"
    data = np.eye(1, DIM, dtype=np.float32)[0]
    _with(_feature(data=data, chunks=(DIM,), compression="gzip", shuffle=True, fletcher32=True))(path)
    table = next(read_lecture(path, DIM, NOW))
    np.testing.assert_array_equal(vectors_of(table)[0], data)


def test_however_few_templates_are_held_at_once_the_file_is_the_same(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for night, room in enumerate(["1", "2", "2"]):
        more = [("0", f"n{night}#0", {"Name": "김지수", "Room": room}), (f"{night}", f"m{night}#0", {})]
        lifecycle.enroll(gallery, [_rows(*more)], "append")
    found = []
    for rows in (1, 3, 1000):
        monkeypatch.setattr("frpipe.jobs.gallery_files._BUCKET_ROWS", rows)
        export(gallery, str(tmp_path / f"{rows}.hdf"), "lecture")
        with h5py.File(tmp_path / f"{rows}.hdf") as file:
            everything: dict[str, object] = {}
            file.visititems(lambda name, item, to=everything: to.update({name: _told(item)}))  # type: ignore[misc]
        found.append(everything)
    assert found[0] == found[1] == found[2]
    assert found[0]["0/Name"] and "0/Room" not in found[0]


def _told(item: h5py.Group | h5py.Dataset) -> object:
    """What an object of a file says."""
    value = item[()].tobytes() if isinstance(item, h5py.Dataset) and item.shape else None
    text = item.asstr()[()] if isinstance(item, h5py.Dataset) and not item.shape else None
    return value, text, sorted((name, str(each)) for name, each in item.attrs.items())


def test_a_text_with_nul_is_refused_at_export(tmp_path: Path) -> None:
    table = _rows(("0", "a", {"Name": "x\x00y"}))
    with pytest.raises(GalleryError, match="NUL"):
        write_lecture(tmp_path / "g.hdf", [table], {})


def test_an_id_with_nul_is_refused_at_export(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="NUL"):
        write_lecture(tmp_path / "g.hdf", [_rows(("x\x00y", "a", {}))], {})


def test_a_time_of_no_calendar_is_refused_at_export(tmp_path: Path) -> None:
    table = _rows(("0", "a", {}))
    at = table.schema.get_field_index("enrolled_at")
    far = pa.array([2**62], table.schema.field(at).type)
    with pytest.raises(GalleryError, match="enrolled_at"):
        write_lecture(tmp_path / "g.hdf", [table.set_column(at, "enrolled_at", far)], {})

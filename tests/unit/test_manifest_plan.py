"""The manifest cut into parts."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3server import S3, s3  # noqa: F401

from frpipe.core import pulse
from frpipe.core.errors import ConfigError, ManifestError, OutputError
from frpipe.io.output import plan as partition
from frpipe.io.output.parts import part_name
from frpipe.io.output.plan import Draft, auto_part_rows, load_plan, plan, plan_of, read_part
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.local_store import LocalStore


def _manifest(folder: Path, rows: int, group: int = 1000) -> str:
    table = pa.table(
        {"image_uri": [f"{n}.jpg" for n in range(rows)], "age": pa.array(range(rows), pa.int32())}
    )
    pq.write_table(table, folder / "m.parquet", row_group_size=group)
    return str(folder / "m.parquet")


@pytest.fixture
def out(tmp_path: Path) -> Folder:
    return Folder.at(str(tmp_path / "out"))


@pytest.mark.parametrize(("rows", "size"), [(1, 3), (3, 3), (7, 3), (20_000, 999), (40_000, 1024)])
def test_parts_hold_every_row_once_and_in_order(tmp_path: Path, out: Folder, rows: int, size: int) -> None:
    made = plan(_manifest(tmp_path, rows), out, size)
    tables = [read_part(out, part) for part in range(made.parts)]
    assert [table.num_rows for table in tables] == [made.rows_of(part) for part in range(made.parts)]
    assert all(table.num_rows == size for table in tables[:-1])
    assert pa.concat_tables(tables)["age"].to_pylist() == list(range(rows))
    assert (made.rows, made.part_rows) == (rows, size)


def test_a_part_has_the_columns_that_workers_need(tmp_path: Path, out: Folder) -> None:
    made = plan(_manifest(tmp_path, 5), out)
    part = read_part(out, 0)
    assert part.column_names == ["image_id", "image_uri", "location", "subject_id", "age"]
    assert made.extra == pa.schema([pa.field("age", pa.int32())])
    assert load_plan(out) == made == pickle.loads(pickle.dumps(made))


def test_a_plan_on_s3_is_the_same(tmp_path: Path, out: Folder, s3: S3) -> None:  # noqa: F811
    remote = Folder.at(f"{s3.uri}/out")
    manifest = _manifest(tmp_path, 50)
    assert plan(manifest, remote, 20) == plan(manifest, out, 20)
    assert read_part(remote, 2).equals(read_part(out, 2))


def test_the_index_comes_last_and_a_pass_cut_short_is_made_again(
    tmp_path: Path, out: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = _manifest(tmp_path, 50)
    written: list[str] = []
    write = Folder.write
    monkeypatch.setattr(
        Folder, "write", lambda self, name, data: (written.append(name), write(self, name, data))
    )
    plan(manifest, out, 1)
    assert written[-1] == "_plan/plan.json"
    out.delete("_plan/plan.json")
    with pytest.raises(FileNotFoundError):
        load_plan(out)
    plan(manifest, out, 10)
    assert [e.name for e in out.list("_plan")] == [f"_plan/{part_name(n)}" for n in range(5)] + [
        "_plan/plan.json"
    ]


def test_the_first_run_settles_the_parts(
    tmp_path: Path, out: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plan(_manifest(tmp_path, 50), out, 10)
    monkeypatch.setattr(partition, "admitted", lambda *_: pytest.fail("the manifest is read twice"))
    assert plan(str(tmp_path / "m.parquet"), out, 20) == first


def test_another_manifest_is_refused(tmp_path: Path, out: Folder) -> None:
    plan(_manifest(tmp_path, 50), out, 10)
    with pytest.raises(OutputError, match="another manifest"):
        plan(_manifest(tmp_path, 51), out, 10)


def test_a_manifest_that_was_only_touched_is_the_same(tmp_path: Path, out: Folder) -> None:
    first = plan(_manifest(tmp_path, 50), out, 10)
    (tmp_path / "m.parquet").touch()
    assert plan(str(tmp_path / "m.parquet"), out, 10) == first


def test_a_bad_manifest_leaves_no_plan(tmp_path: Path, out: Folder) -> None:
    pq.write_table(pa.table({"image_uri": ["1.jpg", "2.jpg", "3.jpg", "../x"]}), tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match="row 4"):
        plan(str(tmp_path / "m.parquet"), out, 1)
    pq.write_table(pa.table({"image_uri": ["1.jpg", "2.jpg", "1.jpg"]}), tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match="row 3"):
        plan(str(tmp_path / "m.parquet"), out, 1)
    assert out.list() == []


def test_reserved_names_and_roots_are_checked(tmp_path: Path, out: Folder) -> None:
    manifest = _manifest(tmp_path, 5)
    with pytest.raises(ManifestError, match="age"):
        plan(manifest, out, reserved=frozenset({"age"}))
    with pytest.raises(ManifestError, match=r"storage\.roots"):
        plan(manifest, out, roots=("/somewhere/else",))
    with pytest.raises(ConfigError):
        plan(manifest, out, 0)


@pytest.mark.parametrize("damage", [b"{", b"[]", b"{}"])
def test_a_damaged_index_is_told_from_a_missing_one(tmp_path: Path, out: Folder, damage: bytes) -> None:
    plan(_manifest(tmp_path, 5), out)
    out.write("_plan/plan.json", damage)
    with pytest.raises(OutputError, match="damaged"):
        load_plan(out)


def test_a_plan_of_another_version_is_refused(tmp_path: Path, out: Folder) -> None:
    plan(_manifest(tmp_path, 5), out)
    index = out.read("_plan/plan.json").replace(b'"format_version": 1', b'"format_version": 99')
    out.write("_plan/plan.json", index)
    with pytest.raises(OutputError, match="version 99"):
        load_plan(out)


def test_a_missing_part_is_damage(tmp_path: Path, out: Folder) -> None:
    plan(_manifest(tmp_path, 5), out, 2)
    out.delete(f"_plan/{part_name(1)}")
    with pytest.raises(OutputError, match="not to be found"):
        read_part(out, 1)


def test_embedded_photos_are_not_copied(tmp_path: Path, out: Folder) -> None:
    ids, photos = [f"i{n}" for n in range(20)], [b"\xff" * 10_000] * 20
    pq.write_table(
        pa.table({"image_id": ids, "image_bytes": photos}), tmp_path / "m.parquet", row_group_size=7
    )
    made = plan(str(tmp_path / "m.parquet"), out, 8)
    assert made.embedded
    assert sum(entry.bytes for entry in out.list()) < 20_000
    assert read_part(out, 2)["location"].to_pylist() == [
        f"row+{tmp_path}/m.parquet#{n}" for n in range(16, 20)
    ]


@pytest.mark.parametrize("workers", [1, 2, 8, 64])
@pytest.mark.parametrize("rows", [1, 10, 100, 273, 1000, 50_000, 10_000_000])
def test_workers_get_near_equal_shares(rows: int, workers: int) -> None:
    size = auto_part_rows(rows, workers)
    assert 1 <= size <= 2048
    shares = [0] * workers
    for start in range(0, rows, size):
        nearest = min(range(workers), key=shares.__getitem__)
        shares[nearest] += min(size, rows - start)
    fair = math.ceil(rows / workers)
    assert max(shares) <= fair + max(2, fair // 20)


@pytest.mark.parametrize(
    ("rows", "workers", "size"),
    [
        (10, 2, 5),
        (10, 64, 1),
        (273, 2, 46),
        (1000, 8, 42),
        (50_000, 2, 544),
        (50_000, 64, 261),
        (10**7, 64, 1371),
        (10**9, 64, 2048),
    ],
)
def test_parts_grow_with_what_a_worker_has_to_do(rows: int, workers: int, size: int) -> None:
    assert auto_part_rows(rows, workers) == size


@pytest.mark.parametrize("workers", [8, 64, 512])
def test_parts_last_longer_than_it_takes_to_hand_out_one_to_each_worker(workers: int) -> None:
    assert all(auto_part_rows(rows, workers) >= 3 * workers for rows in (8 * workers**2, 10**6, 10**8))


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_rows_of_a_small_text_manifest_are_counted(tmp_path: Path, out: Folder, end: str) -> None:
    rows = "\n".join(f"{n}.jpg" for n in range(273))
    (tmp_path / "m.csv").write_text(f"image_uri\n{rows}{end}")
    made = plan(str(tmp_path / "m.csv"), out, workers=2)
    assert [made.rows_of(part) for part in range(made.parts)] == [46, 46, 46, 46, 46, 43]


def test_auto_estimates_large_text_manifests(tmp_path: Path, out: Folder) -> None:
    (tmp_path / "m.csv").write_text("image_uri\n" + "".join(f"{n:07d}.jpg\n" for n in range(140_000)))
    made = plan(str(tmp_path / "m.csv"), out, workers=2)
    assert (made.rows, made.part_rows) == (140_000, auto_part_rows(140_000, 2))


def test_a_plan_keeps_its_parts_though_the_cluster_has_grown(tmp_path: Path, out: Folder) -> None:
    first = plan(_manifest(tmp_path, 1000), out, workers=2)
    assert plan(str(tmp_path / "m.parquet"), out, workers=64) == first


def test_the_same_text_in_another_folder_is_another_manifest(tmp_path: Path, out: Folder) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.csv").write_text("image_uri\nphoto.jpg\n")
    plan(str(tmp_path / "a/m.csv"), out)
    with pytest.raises(OutputError, match="another manifest"):
        plan(str(tmp_path / "b/m.csv"), out)


def test_the_files_of_a_list_are_opened_once_to_look_once_to_hash_and_once_to_read(
    tmp_path: Path, out: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "list"
    folder.mkdir()
    for number in range(4):
        names = [f"{number}-{row}.jpg" for row in range(5)]
        pq.write_table(pa.table({"image_uri": names}), folder / f"{number}.parquet")
    opened: Counter[str] = Counter()
    real = LocalStore.open

    def noted(store: LocalStore, name: str, ahead: int | None = None) -> BinaryIO:
        opened[name] += 1
        return real(store, name, ahead)

    monkeypatch.setattr(LocalStore, "open", noted)
    draft = Draft.of(str(folder))
    assert [draft.rows_estimate for _ in range(3)] == [20, 20, 20]
    assert plan_of(draft, out, 7).rows == 20
    assert opened == {f"{number}.parquet": 3 for number in range(4)}


def test_looking_at_many_files_is_told(tmp_path: Path, out: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LEAST", "_EVERY_S", "_FIRST_S"):
        monkeypatch.setattr(pulse, name, 0)
    for number in range(3):
        pq.write_table(pa.table({"image_uri": [f"{number}.jpg"]}), tmp_path / f"{number}.parquet")
    said: list[str] = []
    Draft.of(str(tmp_path / "*.parquet"), say=said.append)
    assert [line.partition("  ")[0] for line in said] == [
        *(f"{number} of 3 files looked at" for number in (1, 2, 3)),
        *(f"{number} of 3 files hashed" for number in (1, 2, 3)),
    ]

"""Delete, clear, compact, merge, diff, rollback, log: what may happen to a gallery after it was filled."""

from __future__ import annotations

import hashlib
import pickle
import stat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from gallery_rows import content, files, files_with, ids, people, spec, vector_of
from s3server import S3, s3  # noqa: F401

from frpipe.core.errors import GalleryError, GalleryMismatch, StorageError
from frpipe.gallery import lifecycle
from frpipe.gallery.byte_ranges import Ranged
from frpipe.gallery.catalog import Purged, subject_digest
from frpipe.gallery.gallery import Gallery
from frpipe.io.storage.folder import Folder


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    made = Gallery.create(str(tmp_path / "g"), spec())
    lifecycle.enroll(made, [people(ids(200), Name=["n"] * 200)])
    return made


def test_the_deleted_are_out_of_sight_at_once_for_every_reader(gallery: Gallery) -> None:
    done = lifecycle.delete(gallery, ["p0003", "p0007", "nobody"])
    assert (done.deleted, done.subjects, done.unknown) == (2, 2, 1)
    snapshot = Gallery.open(gallery.uri).snapshot()
    assert (snapshot.rows, snapshot.subjects) == (198, 198)
    assert snapshot.show("p0003").num_rows == 0
    listed = {i for t in snapshot.list() for i in t.column("subject_id").to_pylist()}
    matched = {i for names, vectors in snapshot.vectors() for i in names.to_pylist() if len(vectors)}
    tabled = {i for t in snapshot.tables(["subject_id"]) for i in t.column("subject_id").to_pylist()}
    assert listed == matched == tabled == set(ids(200)) - {"p0003", "p0007"}


def test_vectors_for_matching_stand_beside_their_ids(gallery: Gallery) -> None:
    lifecycle.delete(gallery, ids(10))
    whole = {
        row["subject_id"]: row["embedding"] for t in gallery.snapshot().tables() for row in t.to_pylist()
    }
    for names, vectors in gallery.snapshot().vectors():
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, np.array([whole[n] for n in names.to_pylist()], np.float32))


def test_a_snapshot_does_not_change(gallery: Gallery) -> None:
    before = gallery.snapshot()
    seen = content(before)
    lifecycle.delete(gallery, ids(50))
    lifecycle.enroll(gallery, [people(["new"])])
    assert content(before) == seen
    assert content(gallery.snapshot(1)) == seen


def test_to_delete_nobody_is_no_change(gallery: Gallery) -> None:
    assert lifecycle.delete(gallery, ["nobody"]).version == 1
    lifecycle.delete(gallery, ["p0001"])
    assert lifecycle.delete(gallery, ["p0001"]).version == 2


def test_who_is_deleted_without_being_suppressed_can_be_enrolled_again(gallery: Gallery) -> None:
    before = content(gallery.snapshot())
    lifecycle.delete(gallery, ["p0001"], suppress=None)
    done = lifecycle.enroll(gallery, [people(ids(200), Name=["n"] * 200)])
    assert (done.added, done.unchanged) == (1, 199)
    assert content(gallery.snapshot()) == before


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_after_compaction_no_file_holds_a_byte_of_the_deleted(tmp_path: Path, dtype: str) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec(dtype=dtype))
    secret = ["홍길동/secret-1", "홍길동/secret-2"]
    lifecycle.enroll(gallery, [people([*ids(100), *secret], Name=["n"] * 100 + ["personal"] * 2)])
    needles = [vector_of(gallery, name).tobytes() for name in secret]
    needles += [vector_of(gallery, name).astype(np.float16).tobytes() for name in secret]
    texts = [name.encode() for name in secret]
    folder = Path(gallery.uri)
    assert files_with(folder, *needles)
    lifecycle.delete(gallery, secret)
    kept = content(gallery.snapshot())
    done = lifecycle.compact(gallery)
    assert done.deleted == 2
    assert files_with(folder, *needles, *texts, b"personal") == []
    assert content(gallery.snapshot()) == kept
    assert gallery.versions() == [0, 3]
    assert lifecycle.verify(gallery) == []
    entry = gallery.log()[2]
    assert (entry.action, entry.counts["deleted"], len(entry.subjects)) == ("delete", 2, 2)


def test_compaction_takes_what_dead_writers_left(gallery: Gallery) -> None:
    folder = Path(gallery.uri)
    for name in ("shards/00000000000000000000.h5", "deleted/0.bin", "shards/.x.h5.1.tmp"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"orphan-bytes")
    lifecycle.compact(gallery)
    assert files_with(folder, b"orphan-bytes") == []
    assert lifecycle.compact(gallery).version == gallery.snapshot().number


def test_compaction_joins_small_shards(tmp_path: Path) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    for number in range(8):
        lifecycle.enroll(gallery, [people(ids(6, 6 * number), seed=number)])
    before = content(gallery.snapshot())
    assert lifecycle.compact(gallery).shards == 2
    assert content(gallery.snapshot()) == before
    assert lifecycle.verify(gallery) == []
    assert lifecycle.compact(gallery).shards == 2


def test_a_reader_of_a_purged_version_is_told_so(gallery: Gallery) -> None:
    lifecycle.delete(gallery, ids(5))
    old = gallery.snapshot(1)
    lifecycle.compact(gallery)
    with pytest.raises(GalleryError, match="purged by a compaction") as caught:
        content(old)
    assert "open the gallery again" in caught.value.remedy
    for call in (lambda: gallery.snapshot(1), lambda: lifecycle.rollback(gallery, 1)):
        with pytest.raises(GalleryError, match="version 1 of the gallery has been purged"):
            call()


def test_halves_merged_are_the_whole(tmp_path: Path, gallery: Gallery) -> None:
    whole = people(ids(200), Name=["n"] * 200)
    left, right = (Gallery.create(str(tmp_path / name), spec()) for name in ("left", "right"))
    lifecycle.enroll(left, [whole.slice(0, 90)])
    lifecycle.enroll(right, [whole.slice(90)])
    assert lifecycle.merge(left, right).added == 110
    assert content(left.snapshot()) == content(gallery.snapshot())
    assert lifecycle.diff(left.snapshot(), gallery.snapshot()) == lifecycle.GalleryDifference((), (), ())
    assert lifecycle.merge(left, right).unchanged == 110
    assert [entry.action for entry in left.log()] == ["create", "enroll", "merge"]


def test_galleries_of_two_models_do_not_merge(tmp_path: Path, gallery: Gallery) -> None:
    other = Gallery.create(str(tmp_path / "o"), spec(dim=8))
    with pytest.raises(GalleryMismatch, match="dimension"):
        lifecycle.merge(gallery, other)


def test_diff_names_who_came_went_and_changed(gallery: Gallery) -> None:
    lifecycle.delete(gallery, ["p0001"])
    lifecycle.enroll(
        gallery, [people(["p0002"], seed=3, Name=["n"]), people(["신입"], Name=["n"])], "replace"
    )
    found = lifecycle.diff(gallery.snapshot(1), gallery.snapshot())
    assert found == lifecycle.GalleryDifference(added=("신입",), removed=("p0001",), changed=("p0002",))
    before = gallery.snapshot()
    assert lifecycle.diff(before, before) == lifecycle.GalleryDifference((), (), ())


def test_rollback_brings_a_version_back_and_can_be_undone(gallery: Gallery) -> None:
    first = content(gallery.snapshot())
    lifecycle.delete(gallery, ids(100), suppress=None)
    second = content(gallery.snapshot())
    assert lifecycle.rollback(gallery, 1).version == 3
    assert content(gallery.snapshot()) == first
    lifecycle.rollback(gallery, 2)
    assert content(gallery.snapshot()) == second
    lifecycle.rollback(gallery, 0)
    assert gallery.snapshot().rows == 0
    with pytest.raises(GalleryError, match="does not exist"):
        lifecycle.rollback(gallery, 99)


def test_clear_leaves_a_valid_empty_gallery(gallery: Gallery) -> None:
    needle = vector_of(gallery, "p0000").tobytes()
    done = lifecycle.clear(gallery)
    assert (done.deleted, done.subjects) == (200, 200)
    snapshot = gallery.snapshot()
    assert (snapshot.rows, snapshot.subjects, list(snapshot.tables()), list(snapshot.vectors())) == (
        0,
        0,
        [],
        [],
    )
    assert lifecycle.clear(gallery).version == done.version
    lifecycle.compact(gallery)
    assert files_with(Path(gallery.uri), needle) == []
    assert lifecycle.verify(gallery) == []
    lifecycle.enroll(gallery, [people(["a"])])
    assert gallery.snapshot().rows == 1


def test_the_log_outlives_versions_and_holds_no_ids(gallery: Gallery) -> None:
    lifecycle.delete(gallery, ["p0001"], note="asked to be forgotten")
    lifecycle.compact(gallery)
    log = Gallery.open(gallery.uri).log()
    assert [(entry.version, entry.action) for entry in log] == [
        (0, "create"),
        (1, "enroll"),
        (2, "delete"),
        (3, "compact"),
    ]
    assert log[2].note == "asked to be forgotten"
    assert log[2].subjects_sha256 == hashlib.sha256(f"{log[2].subjects[0]}\n".encode()).hexdigest()
    assert not any("p0001" in repr(entry) for entry in log)


def test_files_are_private(gallery: Gallery) -> None:
    lifecycle.delete(gallery, ids(3))
    lifecycle.compact(gallery)
    for path in Path(gallery.uri).rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert not [path for path in files(Path(gallery.uri)) if path.name.startswith(".")]


def test_a_gallery_travels_to_workers(gallery: Gallery) -> None:
    gallery.snapshot()
    there = pickle.loads(pickle.dumps(gallery))
    assert content(there.snapshot()) == content(gallery.snapshot())


def test_the_same_in_an_object_store(s3: S3, gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    remote = Gallery.create(s3.uri, spec())
    lifecycle.merge(remote, gallery)
    for changed in (remote, gallery):
        lifecycle.delete(changed, ids(20, 30))
        lifecycle.compact(changed)
    assert content(remote.snapshot()) == content(gallery.snapshot())
    assert lifecycle.verify(remote) == []
    assert remote.versions() == [0, 3]

    def no_whole_shards(self: Folder, name: str) -> bytes:
        assert not name.startswith("shards/"), "the vectors were read"
        return real(self, name)

    real = Folder.read
    monkeypatch.setattr(Folder, "read", no_whole_shards)
    fresh = Gallery.open(s3.uri).snapshot()
    assert (fresh.subjects, sum(t.num_rows for t in fresh.list({"Name": "n"}))) == (180, 180)
    assert fresh.show("p0000").num_rows == 1


def test_columns_can_be_chosen(gallery: Gallery) -> None:
    table = next(gallery.snapshot().tables(["Name", "subject_id"], vectors=False))
    assert table.column_names == ["subject_id", "Name"]
    with pytest.raises(GalleryError, match="Nmae"):
        next(gallery.snapshot().tables(["Nmae"]))
    assert pa.concat_tables(gallery.snapshot().tables()).num_rows == 200


def test_every_way_to_go_leaves_a_receipt(gallery: Gallery) -> None:
    def digests(*names: str) -> tuple[str, ...]:
        return tuple(sorted(subject_digest(gallery.gallery_id, name) for name in names))

    lifecycle.enroll(gallery, [people(["p0001", "new"], seed=9, Name=["n"] * 2)], "replace")
    assert gallery.log()[-1].subjects == digests("p0001")
    lifecycle.rollback(gallery, 1)
    assert gallery.log()[-1].subjects == digests("p0001", "new")
    lifecycle.clear(gallery)
    assert gallery.log()[-1].subjects == digests(*ids(200))


def test_a_store_that_fails_midway_is_a_storage_error(
    s3: S3,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remote = Gallery.create(s3.uri, spec())
    lifecycle.enroll(remote, [people(ids(5))])
    (ref,) = remote.snapshot().version.shards
    real = Folder.open

    def failing(after: int, error: Exception) -> None:
        def opened(self: Folder, name: str, ahead: int | None = None) -> object:
            file, left = real(self, name, ahead), iter(range(after))
            read = file.read

            def once_more(count: int = -1) -> bytes:
                if next(left, None) is None:
                    raise error
                return read(count)

            monkeypatch.setattr(file, "read", once_more)
            return file

        monkeypatch.setattr(Folder, "open", opened)

    for reads in (0, 2):
        failing(reads, PermissionError("no"))
        with pytest.raises(StorageError):
            Gallery.open(s3.uri).snapshot().show("p0001")
    failing(0, PermissionError("no"))
    with pytest.raises(StorageError):
        remote.shard_store.digest(ref.name)
    monkeypatch.setattr(Folder, "open", real)
    snapshot = remote.snapshot()
    shard = snapshot.open(ref, vectors=False)
    lifecycle.delete(remote, ["p0000"])
    lifecycle.compact(remote)

    def gone(*_: object) -> bytes:
        """What a store says of a range that it did not hold back; a file this small is held whole."""
        raise FileNotFoundError

    monkeypatch.setattr(Ranged, "read", gone)
    with pytest.raises(Purged):
        shard.text("subject_id")

"""The one door to storage, on a local disk and on a real S3 server."""

from __future__ import annotations

import os
import pickle
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from proxy import proxied
from s3server import S3, forget_clients, s3  # noqa: F401

from frpipe.core.errors import StorageError
from frpipe.io.storage import local_store, s3_listing
from frpipe.io.storage.folder import Folder


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return Folder.at(str(tmp_path / "out"))
    return Folder.at(request.getfixturevalue("s3").uri)


def test_what_is_written_can_be_read_and_written_over(folder: Folder) -> None:
    folder.write("a/b.bin", b"first")
    folder.write("a/b.bin", b"second")
    folder.write("empty", b"")
    assert folder.read("a/b.bin") == b"second"
    assert folder.read("empty") == b""
    assert folder.child("a").read("b.bin") == b"second"


def test_create_never_overwrites(folder: Folder) -> None:
    assert folder.create("lock", b"mine")
    assert not folder.create("lock", b"yours")
    assert folder.read("lock") == b"mine"


def test_of_many_racing_creators_one_wins(folder: Folder) -> None:
    writers = 4
    barrier = threading.Barrier(writers)

    def race(writer: int) -> list[bool]:
        mine = pickle.loads(pickle.dumps(folder))
        won = []
        for turn in range(10):
            barrier.wait()
            won.append(mine.create(f"race/{turn}", str(writer).encode()))
        return won

    with ThreadPoolExecutor(writers) as pool:
        wins = list(pool.map(race, range(writers)))
    for turn, outcome in enumerate(zip(*wins, strict=True)):
        assert sum(outcome) == 1
        assert folder.read(f"race/{turn}") == str(outcome.index(True)).encode()


def test_an_absent_file_is_told_from_a_broken_store(folder: Folder) -> None:
    assert not folder.exists("none")
    assert folder.list() == []
    folder.delete("none")
    with pytest.raises(FileNotFoundError):
        folder.read("none")
    with pytest.raises(FileNotFoundError):
        folder.entry("none")


def test_a_folder_is_no_file(folder: Folder) -> None:
    folder.write("a/b", b"x")
    assert not folder.exists("a")
    with pytest.raises(FileNotFoundError):
        folder.child("a").entry("c")


def test_list_is_sorted_deep_and_never_stale(folder: Folder) -> None:
    for name in ("b", "a/2", "a/1", "a-b", ".hidden"):
        folder.write(name, name.encode())
    names = [entry.name for entry in folder.list()]
    assert names == sorted(names) == ["a-b", "a/1", "a/2", "b"]
    assert sorted(folder.walk()) == names
    assert [e.name for e in folder.list("a")] == ["a/1", "a/2"]
    assert [e.name for e in folder.child("a").list()] == ["1", "2"]
    assert folder.list()[0].bytes == 3
    other = pickle.loads(pickle.dumps(folder))
    other.write("c", b"1")
    other.delete("b")
    assert [e.name for e in folder.list()] == ["a-b", "a/1", "a/2", "c"]
    assert not folder.exists("b")


def test_the_files_directly_in_a_folder_are_listed_without_what_is_deeper(folder: Folder) -> None:
    for name in ("v/2.json", "v/1.json", "v/.h", "v/3.json/3.json", "v/deep/er/4", "v.txt", "vv/5"):
        folder.write(name, b"x")
    assert sorted(folder.children("v")) == [".h", "1.json", "2.json"]
    assert list(folder.children("absent")) == []


def test_a_new_content_has_a_new_version(folder: Folder) -> None:
    folder.write("x", b"1")
    before = folder.entry("x")
    folder.write("x", b"2")
    assert folder.entry("x").version != before.version
    assert folder.entry("x") == folder.list()[0]


def test_a_folder_that_is_cleared_is_gone_and_its_neighbours_stay(folder: Folder) -> None:
    for name in ("marks/a/1", "marks/b/2", "marks.txt", "marksmen/3"):
        folder.write(name, b"x")
    folder.clear("marks")
    folder.clear("marks")
    assert [entry.name for entry in folder.list()] == ["marks.txt", "marksmen/3"]
    if folder.is_local:
        assert not Path(folder.uri, "marks").exists()


def test_open_seeks(folder: Folder) -> None:
    folder.write("x", bytes(range(200)))
    with folder.open("x") as file:
        file.seek(100)
        assert file.read(2) == bytes((100, 101))
        file.seek(-1, os.SEEK_END)
        assert file.read() == bytes((199,))


def test_a_range_has_no_more_than_the_file(folder: Folder) -> None:
    folder.write("file", b"0123456789")
    folder.write("empty", b"")
    ranges = [("file", 2, 5), ("file", 8, 4096), ("file", 10, 20), ("file", 4096, 8192), ("empty", 0, 4096)]
    ranges.append(("file", 4096, 10))
    assert [folder.read_range(*each) for each in ranges] == [b"234", b"89", b"", b"", b"", b""]
    with pytest.raises(FileNotFoundError):
        folder.read_range("absent", 0, 10)


def test_publish_uploads_a_finished_file(folder: Folder, tmp_path: Path) -> None:
    source = tmp_path / "finished"
    source.write_bytes(b"data" * 1000)
    folder.publish("x/y", source)
    assert folder.read("x/y") == b"data" * 1000
    assert source.exists()


@pytest.mark.parametrize("name", ["../x", "/x", "a/../b", "", "a//b", "./a", "a/"])
def test_names_cannot_leave_the_folder(folder: Folder, name: str) -> None:
    with pytest.raises(ValueError, match="relative"):
        folder.write(name, b"")


def test_listing_goes_on_past_a_page(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    folder = Folder.at(s3.uri)
    names = [f"p/{n:04d}" for n in range(1005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: folder.write(name, b"x"), names))
    assert [entry.name for entry in folder.list()] == names
    # From several places at once, some of them no names, where each request fails once.
    monkeypatch.setattr(s3_listing, "_MOST_PAGES", 1)
    with proxied(s3.endpoint) as bad:
        monkeypatch.setenv("AWS_ENDPOINT_URL", bad.endpoint)
        forget_clients()
        seen: set[str] = set()
        monkeypatch.setattr(bad, "verdict", lambda line: None if line in seen else seen.add(line) or "503")
        blocks = Folder.at(s3.uri).walk_blocks(["p/0100", "p/0300x", "p/0700", "q"])
        assert [name for block in blocks for name in block["name"].to_pylist()] == names
        assert len(seen) >= 5


def test_wrong_credentials_are_explained(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    forget_clients()
    folder = Folder.at(s3.uri)
    with pytest.raises(StorageError, match="credentials"):
        folder.write("x", b"1")
    with pytest.raises(StorageError, match="credentials"):
        folder.list()
    with pytest.raises(StorageError, match="permission"):
        folder.exists("x")


def test_no_credentials_are_explained(
    s3: S3,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    forget_clients()
    with pytest.raises(StorageError, match="AWS_ACCESS_KEY_ID"):
        Folder.at(s3.uri).read("x")


def test_a_store_that_does_not_answer_is_explained(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    forget_clients()
    with pytest.raises(StorageError, match="AWS_ENDPOINT_URL"):
        Folder.at(s3.uri).write("x", b"1")


def test_a_missing_bucket_is_explained(s3: S3) -> None:  # noqa: F811
    with pytest.raises((StorageError, FileNotFoundError)):
        Folder.at("s3://no-such-bucket/x").list()


def test_a_missing_driver_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> type:
        raise ImportError("no s3fs")

    monkeypatch.setattr(fsspec, "get_filesystem_class", absent)
    with pytest.raises(StorageError, match=r"pip install 'frpipe\[s3\]'"):
        Folder.at("s3://bucket/x").read("y")


def test_an_unknown_scheme_is_explained() -> None:
    with pytest.raises(StorageError, match="gopher"):
        Folder.at("gopher://host/x").read("y")


def test_stores_without_whole_writes_are_refused_for_writing() -> None:
    with pytest.raises(StorageError, match="cannot write to"):
        Folder.at("http://127.0.0.1:1/x").write("y", b"")


def test_local_files_are_private(tmp_path: Path) -> None:
    folder = Folder.at(str(tmp_path / "out"))
    folder.write("a/x", b"1")
    folder.create("a/y", b"1")
    assert {stat.S_IMODE((tmp_path / "out/a" / n).stat().st_mode) for n in "xy"} == {0o600}
    assert stat.S_IMODE((tmp_path / "out/a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_a_failed_write_keeps_the_old_content_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder.at(str(tmp_path))
    folder.write("x", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local_store.os, "fsync", full)
    with pytest.raises(StorageError, match="no space"):
        folder.write("x", b"new")
    assert folder.read("x") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_sweep_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    folder = Folder.at(str(tmp_path))
    folder.write("a/x", b"1")
    left = tmp_path / "a" / ".y.abc.tmp"
    left.write_bytes(b"half")
    assert [e.name for e in folder.list()] == ["a/x"]
    assert folder.sweep() == 0, "a young one may still be written to"
    assert folder.sweep(older_than_s=0) == 1
    assert not left.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_is_explained(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="permission"):
        Folder.at(str(tmp_path)).write("x", b"1")


def test_uris_have_one_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Folder.at("x/").uri == Folder.at(f"file://{tmp_path}/x").uri == str(tmp_path / "x")
    assert Folder.at("s3a://bucket/x/").uri == "s3://bucket/x"

"""Stores that do not keep what commits rest on are refused by name; what a store can do is tried and told."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from careless_s3 import CarelessS3, Condition, careless_s3
from s3server import S3, forget_clients, s3  # noqa: F401

from frpipe.cli.main import main
from frpipe.core.errors import StorageError
from frpipe.io.storage import check as storage_check
from frpipe.io.storage import local_store
from frpipe.io.storage.check import check_storage
from frpipe.io.storage.file_systems import remark_on, type_at
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.local_store import LocalStore
from frpipe.io.storage.remote_store import is_conditional

URI = "s3://bucket/people"


@pytest.fixture
def careless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[CarelessS3]:
    pytest.importorskip("s3fs")
    condition: Condition = request.param
    with careless_s3(condition) as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        forget_clients()
        yield store
    forget_clients()


class TestConditionalCreates:
    @pytest.mark.parametrize("careless", ["ignored"], indirect=True)
    def test_a_store_that_ignores_the_condition_is_refused_by_name_and_keeps_nothing(
        self, careless: CarelessS3
    ) -> None:
        for _ in range(2):
            with pytest.raises(StorageError, match="does not honour If-None-Match") as caught:
                Folder.at(URI).create("gallery.json", b"mine")
            assert f"s3://bucket at {careless.endpoint}" in caught.value.message
            assert "frpipe storage check" in caught.value.remedy
        assert not careless.objects

    @pytest.mark.parametrize("careless", ["unknown"], indirect=True)
    def test_a_store_that_does_not_know_the_condition_is_refused_by_name(self, careless: CarelessS3) -> None:
        with pytest.raises(StorageError, match="does not know If-None-Match") as caught:
            Folder.at(URI).create("gallery.json", b"mine")
        assert careless.endpoint in caught.value.message
        assert not careless.objects

    @pytest.mark.parametrize("careless", ["honoured"], indirect=True)
    def test_a_store_is_asked_once_in_a_process_and_not_at_all_by_readers(self, careless: CarelessS3) -> None:
        folder = Folder.at(URI)
        folder.write("x", b"1")
        assert folder.read("x") == b"1"
        assert careless.puts == ["/bucket/people/x"]
        for number in range(3):
            assert folder.child(f"sub-{number}").create("y", b"1")
            assert not Folder.at(URI).child(f"sub-{number}").create("y", b"2")
        asked = [name for name in careless.puts if "/.frpipe-probe-" in name]
        assert len(asked) == 2
        assert sorted(careless.objects) == [
            f"/bucket/people/{n}" for n in ("sub-0/y", "sub-1/y", "sub-2/y", "x")
        ]

    def test_a_real_store_is_believed_and_left_clean(self, s3: S3) -> None:  # noqa: F811
        folder = Folder.at(s3.uri)
        assert folder.create("x", b"1")
        assert not folder.create("x", b"2")
        assert [entry.name for entry in folder.list()] == ["x"]

    def test_a_local_disk_keeps_it(self, tmp_path: Path) -> None:
        class Disk(LocalStore):
            address = "a disk"
            try_create = LocalStore.create

        assert is_conditional(Disk(str(tmp_path)))
        assert not list(tmp_path.iterdir())


class TestDurability:
    @pytest.fixture
    def synced(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
        """Each folder that is made durable, with the names that it holds by then."""
        found: list[tuple[str, list[str]]] = []
        real = os.fsync

        def fsync(handle: int) -> None:
            path = Path(f"/proc/self/fd/{handle}").readlink()
            if path.is_dir():
                found.append((str(path), _names(path)))
            real(handle)

        monkeypatch.setattr(local_store.os, "fsync", fsync)
        return found

    def test_what_is_deleted_stays_deleted_over_a_loss_of_power(
        self, tmp_path: Path, synced: list[tuple[str, list[str]]]
    ) -> None:
        folder = Folder.at(str(tmp_path))
        for name in ("a/1", "a/2", "a/3", "b/1"):
            folder.write(name, b"x")
        synced.clear()
        folder.delete("a/1")
        assert synced == [(f"{tmp_path}/a", ["2", "3"])]
        synced.clear()
        folder.delete("a/1")
        assert synced == [], "nothing was removed"
        folder.delete_all(["a/2", "b/1"])
        assert sorted(synced) == [(f"{tmp_path}/a", ["3"]), (f"{tmp_path}/b", [])]
        synced.clear()
        folder.clear("a")
        assert (f"{tmp_path}/a", []) in synced
        assert (str(tmp_path), ["b"]) in synced

    def test_what_is_written_is_durable_under_its_name_and_no_other(
        self, tmp_path: Path, synced: list[tuple[str, list[str]]]
    ) -> None:
        folder = Folder.at(str(tmp_path))
        draft = folder.draft("a/adopted")
        assert draft is not None
        for do in (
            lambda: folder.write("a/written", b"x"),
            lambda: folder.create("a/created", b"x"),
            lambda: folder.adopt("a/adopted", draft),
        ):
            do()
            place, names = synced[-1]
            assert place == f"{tmp_path}/a"
            assert names == _names(Path(place))


class TestCheck:
    def test_a_good_disk_is_usable_and_left_as_it_was(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        place = tmp_path / "not/yet/there"
        assert main(["storage", "check", str(place)]) == 0
        printed = capsys.readouterr().out
        assert printed.rstrip().endswith("usable")
        for name in ("create by rivals", "rename", "fsync", "free space", "file system"):
            assert f"\n{name} " in printed
        assert not list(tmp_path.iterdir())

    def test_json_says_the_same(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "1.jpg").write_bytes(b"x")
        assert main(["storage", "check", str(tmp_path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["usable"] is True
        assert {check["verdict"] for check in found["checks"]} <= {"ok", "warning"}
        assert [path.name for path in tmp_path.iterdir()] == ["1.jpg"]

    @pytest.mark.slow
    def test_a_real_store_is_usable_and_left_as_it_was(self, s3: S3) -> None:  # noqa: F811
        found = check_storage(s3.uri)
        assert not found.faults, found
        assert found.store.endswith(s3.endpoint)
        assert not Folder.at(s3.uri).list()

    @pytest.mark.parametrize("careless", ["ignored"], indirect=True)
    def test_a_careless_store_is_not_usable_and_left_as_it_was(
        self, careless: CarelessS3, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["storage", "check", URI]) == 7
        printed = capsys.readouterr().out
        assert "does not honour If-None-Match" in printed
        assert "not usable: 2 faults" in printed
        assert not careless.objects

    def test_a_place_that_is_only_read_is_not_written_to(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "1.jpg").write_bytes(b"x")
        monkeypatch.setattr(LocalStore, "write", None)
        found = check_storage(str(tmp_path), read_only=True)
        assert [(trial.name, trial.verdict) for trial in found.trials] == [("list", "ok"), ("read", "ok")]
        absent = check_storage(str(tmp_path / "none"), read_only=True)
        assert absent.faults
        assert [trial.name for trial in check_storage("http://127.0.0.1:1/x").faults] == ["write"]

    def test_a_disk_that_keeps_less_is_said_to(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(LocalStore, "create", lambda *_: True)
        monkeypatch.setattr(LocalStore, "stat", lambda *_: (1, "always the same"))
        monkeypatch.setattr(storage_check, "type_at", lambda _: "vfat")
        found = check_storage(str(tmp_path))
        assert [trial.name for trial in found.faults] == ["create once", "create by rivals"]
        warned = {trial.name for trial in found.trials if trial.verdict == "warning"}
        assert warned >= {"overwrite", "file system"}
        assert not list(tmp_path.iterdir())

    def test_a_full_disk_is_a_fault_with_a_reason(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(local_store.os, "fsync", full)
        (fault,) = check_storage(str(tmp_path)).faults
        assert (fault.name, "no space" in fault.detail) == ("write", True)

    def test_types_of_file_systems(self, tmp_path: Path) -> None:
        assert type_at(tmp_path) not in {"", "unknown"}
        assert type_at(Path("/proc")) == "proc"
        assert "hard links" in remark_on("vfat")
        assert remark_on("fuse.sshfs")
        assert not remark_on("ext4")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())

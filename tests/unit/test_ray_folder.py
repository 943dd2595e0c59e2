"""The folder of a private Ray: closed, short enough for sockets, and gone when its process is."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from frpipe.core.errors import PlanError
from frpipe.runtime import ray_folder as folders
from frpipe.runtime.ray_folder import ray_folder


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where folders are made; its name may be of any length."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(folders, "_SOCKET_PATH_LIMIT", 1000)
    return tmp_path


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_closed_and_so_is_its_token(place: Path) -> None:
    with ray_folder() as folder:
        assert folder.private.parent == place
        assert _mode(folder.private) == 0o700
        assert _mode(folder.token_file) == 0o600
        assert len(folder.token_file.read_text()) == 64
        assert folder.sessions.parent == folder.objects.parent == folder.private


def test_each_has_a_token_of_its_own(place: Path) -> None:
    with ray_folder() as one, ray_folder() as other:
        assert one.private != other.private
        assert one.token_file.read_text() != other.token_file.read_text()


def test_it_is_gone_at_the_end_however_that_comes(place: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ray_folder() as folder:
        (folder.sessions / "logs").mkdir(parents=True)
        (folder.sessions / "logs/raylet.out").write_text("...")
        raise KeyboardInterrupt
    assert list(place.iterdir()) == []


def test_logs_can_be_kept_until_the_next_one_starts(place: Path) -> None:
    with ray_folder(keep=True) as folder:
        kept = folder.private
    assert kept.is_dir()
    with ray_folder():
        assert not kept.exists()


def test_what_a_killed_process_left_is_removed_and_nothing_else(place: Path) -> None:
    with ray_folder(keep=True) as dead:
        (dead.private / "token").unlink()
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    linked = place / f"{folders._prefix()}linked00"
    linked.symlink_to(elsewhere)
    foreign = place / "frpipe-zzzz-00000000"  # of another machine, on the same disk
    foreign.mkdir()
    with ray_folder() as alive, ray_folder():
        assert alive.token_file.is_file()
        assert not dead.private.exists()
        assert foreign.is_dir()
        assert (elsewhere / "kept").exists()


def test_a_sweep_between_making_and_locking_costs_another_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    make = folders.tempfile.mkdtemp

    def swept_once(**words: object) -> str:
        made.append(Path(make(**words)))
        if len(made) == 1:
            made[0].rmdir()
        return str(made[-1])

    monkeypatch.setattr(folders.tempfile, "mkdtemp", swept_once)
    with ray_folder() as folder:
        assert folder.private == made[1]


def test_a_folder_that_a_sweep_has_locked_is_left_to_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    make, held = folders.tempfile.mkdtemp, []

    def locked_once(**words: object) -> str:
        made.append(Path(make(**words)))
        if len(made) == 1:
            held.append(os.open(made[0], os.O_RDONLY))
            fcntl.flock(held[0], fcntl.LOCK_EX)
        return str(made[-1])

    monkeypatch.setattr(folders.tempfile, "mkdtemp", locked_once)
    with ray_folder() as folder:
        assert folder.private == made[1]
    os.close(held[0])


def test_ray_tmpdir_comes_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(place / "rays/own"))
    with ray_folder() as folder:
        assert folder.private.parent == place / "rays/own"


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_name_too_long_for_sockets_keeps_the_objects_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 25)
    short = tmp_path / "short"
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, str(long))
    monkeypatch.setattr(folders, "_FALLBACK", str(short))
    with ray_folder() as folder:
        assert folder.private.parent == short
        assert folder.objects.parent.parent == long
        assert _mode(folder.objects.parent) == 0o700
    assert [*long.iterdir(), *short.iterdir()] == []


def test_sockets_fit_below_the_folder_of_the_fallback() -> None:
    assert folders._fits(Path("/tmp"))
    assert folders._fits(Path("/scratch/somebody"))
    assert not folders._fits(Path("/scratch/somebody-with-a-long-name"))


def test_a_folder_that_cannot_be_made_is_named_with_the_way_on(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "file").touch()
    monkeypatch.setenv("TMPDIR", str(place / "file/below"))
    with pytest.raises(PlanError, match=r"file/below \(Not a directory\)\n.*RAY_TMPDIR"), ray_folder():
        pass

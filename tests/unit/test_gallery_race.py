"""Many writers at once: nothing is lost, on a local disk and on a real S3 server."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gallery_rows import content, files, ids, people, spec
from s3server import S3, s3  # noqa: F401

from frpipe.core.errors import GalleryConflict
from frpipe.gallery import commit, lifecycle
from frpipe.gallery.catalog import Catalog, Version, entry_of
from frpipe.gallery.gallery import Gallery
from frpipe.io.storage.folder import Folder


@pytest.fixture(autouse=True)
def unsynchronised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wins does not depend on when the disk has the bytes; a slow disk only makes fewer collisions."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(
    params=[
        pytest.param(("local", 25), id="local"),
        pytest.param(("local", 50), id="local-long", marks=pytest.mark.slow),
        pytest.param(("s3", 4), id="s3"),
        pytest.param(("s3", 50), id="s3-long", marks=pytest.mark.slow),
    ]
)
def arena(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Gallery, int]:
    """An empty gallery, and how many rounds to race there."""
    kind, rounds = request.param
    uri = str(tmp_path / "g") if kind == "local" else request.getfixturevalue("s3").uri
    return Gallery.create(uri, spec()), rounds


def _race(rounds: int, *writers: Callable[[int], object]) -> None:
    """Each writer does all rounds; they start each round together."""
    barrier = threading.Barrier(len(writers))

    def run(writer: Callable[[int], object]) -> None:
        for turn in range(rounds):
            barrier.wait(60)
            writer(turn)

    with ThreadPoolExecutor(len(writers)) as pool:
        for done in [pool.submit(run, writer) for writer in writers]:
            done.result()


def test_of_two_writers_none_loses_an_update(
    arena: tuple[Gallery, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery, rounds = arena
    lost = _lost_commits(monkeypatch)

    def writer(prefix: str) -> Callable[[int], object]:
        mine = Gallery.open(gallery.uri)
        return lambda turn: lifecycle.enroll(mine, [people([f"{prefix}{turn}"])])

    _race(rounds, writer("a"), writer("b"))
    snapshot = gallery.snapshot()
    assert lost or not gallery.folder.is_local, "they never met: nothing was tested"
    assert (snapshot.number, snapshot.rows) == (2 * rounds, 2 * rounds)
    assert [entry.version for entry in gallery.log()] == list(range(2 * rounds + 1))
    assert lifecycle.verify(gallery) == []


def test_writers_deleters_and_a_compactor_agree(arena: tuple[Gallery, int]) -> None:
    gallery, rounds = arena
    rounds //= 2
    lifecycle.enroll(gallery, [people([f"old{turn}" for turn in range(rounds)])])
    mine, theirs, third = (Gallery.open(gallery.uri) for _ in range(3))
    _race(
        rounds,
        lambda turn: lifecycle.enroll(mine, [people([f"new{turn}"])]),
        lambda turn: lifecycle.delete(theirs, [f"old{turn}"]),
        lambda _: lifecycle.compact(third),
    )
    lifecycle.compact(gallery)
    subjects = {row[0] for row in content(gallery.snapshot())}
    assert subjects == {f"new{turn}" for turn in range(rounds)}
    assert lifecycle.verify(gallery) == []
    log = gallery.log()
    assert [entry.version for entry in log] == list(range(len(log)))
    assert [entry.action for entry in log].count("delete") == rounds


def test_of_two_processes_none_loses_an_update(tmp_path: Path) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    code = (
        "import os, sys; os.fsync = lambda _: None\n"
        "from gallery_rows import people; from frpipe.gallery import lifecycle\n"
        "from frpipe.gallery.gallery import Gallery\n"
        "gallery = Gallery.open(sys.argv[1])\n"
        "for turn in range(25): lifecycle.enroll(gallery, [people([f'{sys.argv[2]}{turn}'])])"
    )
    here = str(Path(__file__).parent)
    running = [
        subprocess.Popen([sys.executable, "-c", code, gallery.uri, name], cwd=here) for name in ("a", "b")
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    assert (gallery.snapshot().rows, gallery.snapshot().number) == (50, 50)
    assert lifecycle.verify(gallery) == []


def test_a_writer_that_slept_through_a_compaction_does_not_fork_the_history(
    arena: tuple[Gallery, int],
) -> None:
    gallery, _ = arena
    lifecycle.enroll(gallery, [people(["a"])])
    asleep = gallery.snapshot().version.followed_by([], entry_of("clear", "", {}))
    lifecycle.enroll(gallery, [people(["b"])])
    lifecycle.compact(gallery)
    assert gallery.versions() == [0, 3]
    assert not gallery.catalog.commit(asleep)
    assert gallery.catalog.numbers() == [3]
    assert gallery.snapshot().rows == 2
    assert lifecycle.verify(gallery) == []


def test_a_lost_answer_does_not_make_a_commit_fail(tmp_path: Path) -> None:
    """An object store may say that there is a file because of our own first try."""

    class LostAnswerDouble(Folder):
        def create(self, name: str, data: bytes) -> bool:
            super().create(name, data)
            return False

    gallery = Gallery.create(str(tmp_path / "g"), spec())
    lossy = replace(gallery, folder=LostAnswerDouble(gallery.uri))
    assert lifecycle.enroll(lossy, [people(["a"])]).version == 1
    assert gallery.versions() == [0, 1]


def test_shards_of_a_lost_attempt_are_used_again_and_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    _interfere(monkeypatch, lambda turn: lifecycle.enroll(gallery, [people([f"other{turn}"])]), times=2)
    lifecycle.enroll(gallery, [people(ids(100))])
    snapshot = gallery.snapshot()
    assert (snapshot.rows, snapshot.number) == (102, 3)
    on_disk = {f"shards/{path.name}" for path in files(Path(gallery.uri) / "shards") if path.suffix == ".h5"}
    assert on_disk == {ref.name for ref in snapshot.version.shards}


def test_a_compaction_between_writing_and_commit_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    lifecycle.enroll(gallery, [people(["first"])])
    _interfere(monkeypatch, lambda _: lifecycle.compact(gallery), times=2)
    lifecycle.enroll(gallery, [people(ids(100))])
    assert gallery.snapshot().rows == 101
    assert lifecycle.verify(gallery) == []


def test_a_writer_that_never_gets_its_turn_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    monkeypatch.setattr(commit, "_TRIES", 3)
    _interfere(monkeypatch, lambda turn: lifecycle.enroll(gallery, [people([f"o{turn}"])]), times=99)
    with pytest.raises(GalleryConflict, match="3 times"):
        lifecycle.enroll(gallery, [people(["mine"])])


def _lost_commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the versions that another writer committed first; filled as it happens."""
    real, lost = Catalog.commit, []

    def commit_noted(self: Catalog, version: Version) -> bool:
        won = real(self, version)
        if not won:
            lost.append(version.number)
        return won

    monkeypatch.setattr(Catalog, "commit", commit_noted)
    return lost


def _interfere(monkeypatch: pytest.MonkeyPatch, other: Callable[[int], Any], times: int) -> None:
    """Let another writer come first, the first so many times that anybody commits."""
    real, turns, inside = Catalog.commit, iter(range(times)), threading.local()

    def commit_after_another(self: Catalog, version: Version) -> bool:
        if not getattr(inside, "busy", False) and (turn := next(turns, None)) is not None:
            inside.busy = True
            other(turn)
            inside.busy = False
        return real(self, version)

    monkeypatch.setattr(Catalog, "commit", commit_after_another)

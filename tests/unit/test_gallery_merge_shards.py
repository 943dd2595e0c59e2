"""Small shards are joined and history stays; a purge with a grace time leaves what may be read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from gallery_rows import (
    content,
    files_with,
    ids,
    only_what_versions_name,
    people,
    rival_commits_first,
    spec,
    vector_of,
)

from frpipe.cli.main import main
from frpipe.core.night_config import NightConfig
from frpipe.gallery import compact as compaction
from frpipe.gallery import lifecycle
from frpipe.gallery.catalog import Purged, ShardRef
from frpipe.gallery.compact import tiers
from frpipe.gallery.gallery import Gallery
from frpipe.io.storage.folder import Folder
from frpipe.testing.kills import Killed, at_change

DAY = timedelta(hours=24)


@pytest.fixture(autouse=True)
def unsynchronised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def nights(folder: Path, count: int = 12, rows: int = 1000) -> Gallery:
    """A gallery of as many shards of three people; of the first person one template is deleted."""
    gallery = Gallery.create(str(folder), spec(rows_per_shard=rows))
    for night in range(count):
        lifecycle.enroll(gallery, [people(ids(3, 3 * night), seed=night)])
    lifecycle.delete(gallery, ["p0000"], suppress=None)
    return gallery


def _later(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    real = compaction.datetime

    class Clock(real):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, tz: object = None) -> object:
            return real.now(tz) + by  # type: ignore[arg-type]

    monkeypatch.setattr(compaction, "datetime", Clock)


def test_every_version_stays_readable(tmp_path: Path) -> None:
    gallery = nights(tmp_path / "g")
    before = {number: content(gallery.snapshot(number)) for number in gallery.versions()}
    outcome = lifecycle.merge_shards(gallery, 4)
    assert outcome.shards <= 4
    assert content(gallery.snapshot()) == before[13]
    assert {number: content(gallery.snapshot(number)) for number in before} == before
    assert lifecycle.verify(gallery) == []
    assert lifecycle.merge_shards(gallery, 4).version == outcome.version
    lifecycle.rollback(gallery, 13)
    assert content(gallery.snapshot()) == before[13]


def test_few_or_full_shards_are_left_alone(tmp_path: Path) -> None:
    gallery = nights(tmp_path / "g", rows=4)
    assert lifecycle.merge_shards(gallery, 1).version == gallery.snapshot().number == 13


def test_the_last_small_shard_can_be_joined_with_no_other() -> None:
    shards = [_ref(number, 1) for number in range(3)]
    assert tiers(shards, 0, 1000) == [shards]
    assert tiers(shards[:1], 0, 1000) == []


def _ref(number: int, rows: int) -> ShardRef:
    return ShardRef(f"{number:04d}", rows, 1, "", ())


@pytest.mark.parametrize("sizes", [[20], [200], [1, 3000], [5000, 20, 20, 300]], ids=str)
@pytest.mark.parametrize(("most", "writes"), [(32, 3), (8, 6)])
def test_ten_years_of_nights_are_few_shards_and_each_row_is_written_a_few_times(
    most: int, writes: int, sizes: list[int]
) -> None:
    shards: list[ShardRef] = []
    given = written = 0
    for night in range(3650):
        given += sizes[night % len(sizes)]
        shards.append(_ref(night, sizes[night % len(sizes)]))
        groups = tiers(shards, most, 65_536)
        for number, group in enumerate(groups):
            rows = sum(ref.rows for ref in group)
            assert rows <= 65_536
            written += rows
            shards = [ref for ref in shards if ref not in group] + [_ref(10_000 * night + number, rows)]
        assert sum(2 * ref.rows < 65_536 for ref in shards) <= most
    assert sum(ref.rows for ref in shards) == given
    assert len(shards) <= most + 2 * -(-given // 65_536)
    assert written <= writes * given


def test_a_night_leaves_no_more_than_eight_small_shards_unasked(tmp_path: Path) -> None:
    gallery = nights(tmp_path / "g", 10)
    assert lifecycle.merge_shards(gallery).shards <= 8
    config = NightConfig.model_validate({"photos": "p", "runs": "r", "gallery": "g"})
    assert config.consolidate.merge_shards_over == 8


CALLS: dict[str, Callable[[Gallery], object]] = {
    "merge": lambda gallery: lifecycle.merge_shards(gallery, 4),
    "grace": lambda gallery: lifecycle.compact(gallery, grace=DAY),
    "after the grace": lambda gallery: lifecycle.compact(gallery, grace=timedelta(microseconds=1)),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_kill_at_any_change_and_the_same_call_again(tmp_path: Path, call: str) -> None:
    base = nights(tmp_path / "base", 5)
    whole = Gallery.open(shutil.copytree(base.uri, str(tmp_path / "whole")))
    with at_change(None) as changes:
        CALLS[call](whole)
    new = content(whole.snapshot())
    for moment in range(1, changes[0] + 1):
        gallery = Gallery.open(shutil.copytree(base.uri, str(tmp_path / f"at{moment}")))
        with pytest.raises(Killed), at_change(moment):
            CALLS[call](gallery)
        assert content(gallery.snapshot()) == new
        assert lifecycle.verify(gallery) == []
        CALLS[call](gallery)
        assert content(gallery.snapshot()) == new
        assert gallery.versions()[0] == 0 and lifecycle.verify(gallery) == []
        assert len(gallery.snapshot().version.shards) == len(whole.snapshot().version.shards)
        lifecycle.compact(gallery)
        assert len(list((Path(gallery.uri) / "shards").glob("*.h5"))) == len(
            gallery.snapshot().version.shards
        )


def test_a_reader_ends_within_the_grace_and_the_next_call_after_it_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = nights(tmp_path / "g")
    vector = vector_of(Gallery.open(shutil.copytree(gallery.uri, str(tmp_path / "copy"))), "p0001").tobytes()
    reader, before = gallery.snapshot(1), content(gallery.snapshot(1))
    deleted = vector_of_version(gallery, 1, "p0000")
    done = lifecycle.compact(gallery, grace=DAY)
    assert done.kept_until
    assert content(reader) == before == content(gallery.snapshot(1))
    assert files_with(Path(gallery.uri), deleted)
    again = lifecycle.compact(gallery, grace=DAY)
    assert (again.version, again.kept_until[:10]) == (done.version, done.kept_until[:10])
    _later(monkeypatch, DAY + timedelta(hours=1))
    last = lifecycle.compact(gallery, grace=DAY)
    assert not last.kept_until or last.version > done.version
    assert not files_with(Path(gallery.uri), deleted)
    assert files_with(Path(gallery.uri), vector)
    with pytest.raises(Purged):
        content(reader)
    assert lifecycle.verify(gallery) == []
    assert lifecycle.compact(gallery, grace=DAY).version == last.version


def vector_of_version(gallery: Gallery, number: int, who: str) -> bytes:
    """Bytes of the first template of a person in a version."""
    shown = gallery.snapshot(number).show(who, vectors=True)
    import numpy as np

    return np.array(shown["embedding"][0].as_py(), np.float32).tobytes()


def test_without_a_grace_all_goes_at_once(tmp_path: Path) -> None:
    gallery = nights(tmp_path / "g")
    deleted = vector_of_version(gallery, 1, "p0000")
    lifecycle.compact(gallery, grace=DAY)
    lifecycle.compact(gallery)
    assert not files_with(Path(gallery.uri), deleted)
    assert gallery.versions() == [0, gallery.snapshot().number]


def test_a_writer_that_is_about_to_commit_is_not_robbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shards are named by no version yet when the compaction looks."""
    gallery = nights(tmp_path / "g")
    real, done = type(gallery.catalog).commit, list[int]()

    def commit(self: object, version: object) -> bool:
        if not done:
            done.append(1)
            lifecycle.compact(Gallery.open(gallery.uri), grace=timedelta(microseconds=1))
            lifecycle.merge_shards(Gallery.open(gallery.uri), 1)
        return real(self, version)  # type: ignore[arg-type]

    monkeypatch.setattr(type(gallery.catalog), "commit", commit)
    lifecycle.enroll(gallery, [people(["late"])])
    assert gallery.snapshot().show("late").num_rows == 1
    assert lifecycle.verify(gallery) == []


@pytest.mark.parametrize("which", [1, 2])
def test_a_shard_whose_attempt_a_compaction_ends_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    """A compaction takes the draft of an index; the shards that are there already are named by nobody."""
    gallery = nights(tmp_path / "g", 6, rows=8)
    real, seen = Folder.write, list[str]()

    def write(self: Folder, name: str, data: bytes) -> None:
        if name.endswith(".index"):
            seen.append(name)
            if len(seen) == which:
                raise FileNotFoundError(name)
        real(self, name, data)

    monkeypatch.setattr(Folder, "write", write)
    lifecycle.merge_shards(gallery, 1)
    assert len(seen) > 2
    only_what_versions_name(gallery)


def test_a_compaction_with_a_grace_that_loses_its_number_leaves_no_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = nights(tmp_path / "g", 3)
    rival_commits_first(gallery, monkeypatch)
    lifecycle.compact(gallery, grace=DAY)
    only_what_versions_name(gallery)


def test_the_command_says_what_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gallery = nights(tmp_path / "g")
    assert main(["gallery", "compact", gallery.uri, "--keep-history", "--most", "2"]) == 0
    assert "every version stays" in capsys.readouterr().out
    assert main(["gallery", "compact", gallery.uri, "--grace", "24"]) == 0
    assert "the same command after 20" in capsys.readouterr().out
    assert main(["gallery", "compact", gallery.uri]) == 0
    assert "no file holds a deleted vector" in capsys.readouterr().out
    assert main(["gallery", "compact", gallery.uri, "--most", "2"]) != 0

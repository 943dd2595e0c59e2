"""Backups as a person takes them: killed at random moments, and to and from a real S3 server."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gallery_worker import DIM, templates
from s3server import S3, s3  # noqa: F401 - a fixture

from frpipe.cli.main import main
from frpipe.gallery import lifecycle
from frpipe.gallery.backups.documents import BackupFolder
from frpipe.gallery.backups.restoring import Restoration
from frpipe.gallery.backups.taking import back_up, check
from frpipe.gallery.gallery import GALLERY, Gallery
from frpipe.gallery.spec import GallerySpec
from frpipe.io.storage.folder import Folder

SPEC = GallerySpec(DIM, "e" * 64, "p" * 64, "d" * 64, rows_per_shard=500)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    made = Gallery.create(str(tmp_path / "g"), SPEC)
    lifecycle.enroll(made, [templates(10_000, seed=0)])
    return made


@pytest.mark.parametrize("times", [pytest.param(20, marks=pytest.mark.slow), 1])
def test_killed_and_repeated(gallery: Gallery, tmp_path: Path, times: int) -> None:
    dest = Folder.at(str(tmp_path / "backups"))
    person = gallery.snapshot().table_of(gallery.snapshot().version.shards[0], ["subject_id"], vectors=False)
    deleted = person["subject_id"][0].as_py()
    begin = time.monotonic()
    back_up(gallery, Folder.at(str(tmp_path / "whole")))
    longest = time.monotonic() - begin
    seed = random.randrange(2**32)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    for number in range(times):
        _kill(["backup", gallery.uri, dest.uri], chance.uniform(0, longest))
        assert all(check(dest, backup) == [] for backup in BackupFolder(dest).read().backups)
        backup = back_up(gallery, dest).backup
        assert check(dest, backup) == []
        if not number:
            lifecycle.delete(gallery, [deleted])
        target = tmp_path / str(number)
        words = ["restore", dest.uri, str(target), "--backup", str(1), "--suppressed-from", gallery.uri]
        _kill(words, chance.uniform(0, longest))
        if (target / GALLERY).exists():
            assert deleted not in _ids(Gallery.open(str(target)))
        Restoration(dest, Folder.at(str(target)), 1, [gallery]).run()
        found = Gallery.open(str(target))
        assert lifecycle.verify(found) == []
        assert _ids(found) == _ids(gallery)
        shutil.rmtree(target)


def _ids(gallery: Gallery) -> set[str]:
    snapshot = gallery.snapshot()
    tables = (snapshot.table_of(ref, ["subject_id"], vectors=False) for ref in snapshot.version.shards)
    return {who for table in tables for who in table["subject_id"].to_pylist()}


def _kill(words: list[str], after_s: float) -> None:
    """Run a command of the gallery; kill it so long after it has loaded."""
    code = (
        "import sys; from frpipe.cli.main import main; import frpipe.gallery.backups.restoring, "
        "frpipe.gallery.backups.taking; print('ready', flush=True); sys.exit(main(sys.argv[1:]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "gallery", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            process.kill()


def test_to_a_store_and_back(
    s3: S3,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    local, remote = str(tmp_path / "g"), f"{s3.uri}/people"
    made = Gallery.create(local, SPEC)
    lifecycle.enroll(made, [templates(1200, seed=0)])
    # From a disk to a store, and back.
    dest = f"{s3.uri}/backups"
    assert main(["gallery", "backup", local, dest]) == 0
    lifecycle.delete(made, ["p000007"])
    lifecycle.compact(made)
    capsys.readouterr()
    assert main(["gallery", "backup", local, dest, "--prune", "--compacted", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["removed"], done["is_new"]) == ([1], True)
    assert main(["gallery", "backups", dest, "--check"]) == 0
    # Into a store, from there to a disk, and once more.
    assert main(["gallery", "restore", dest, remote]) == 0
    back = str(tmp_path / "back")
    assert main(["gallery", "backup", remote, back]) == 0
    assert main(["gallery", "backup", remote, back]) == 0
    assert main(["gallery", "restore", back, str(tmp_path / "r")]) == 0
    found = Gallery.open(str(tmp_path / "r"))
    assert lifecycle.verify(found) == lifecycle.verify(Gallery.open(remote)) == []
    assert _ids(found) == _ids(made)
    assert found.snapshot().id == made.snapshot().id
    assert [b.number for b in BackupFolder(Folder.at(back)).read().backups] == [1]
    lifecycle.clear(Gallery.open(remote))
    assert main(["gallery", "restore", back, remote, "--over"]) == 0
    assert _ids(Gallery.open(remote)) == _ids(made)

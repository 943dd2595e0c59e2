"""kill -9 at random moments: the last version stays readable, the same call gives the same content."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gallery_worker import DIM, change, templates

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.spec import GallerySpec

ROWS = 20_000
WORKER = Path(__file__).with_name("gallery_worker.py")


@pytest.fixture
def base(tmp_path: Path) -> Gallery:
    """A gallery with deleted rows in every shard."""
    spec = GallerySpec(DIM, "e" * 64, "p" * 64, "d" * 64, rows_per_shard=3000)
    gallery = Gallery.create(str(tmp_path / "base"), spec)
    table = templates(ROWS, seed=0)
    lifecycle.enroll(gallery, [table])
    lifecycle.delete(gallery, table.column("subject_id").to_pylist()[::10])
    return gallery


@pytest.mark.parametrize("action", ["enroll", pytest.param("compact", marks=pytest.mark.slow)])
def test_killed_a_few_times(base: Gallery, tmp_path: Path, action: str) -> None:
    _killed(base, tmp_path, action, times=2)


@pytest.mark.slow
@pytest.mark.parametrize("action", ["enroll", "compact"])
def test_killed_twenty_times(base: Gallery, tmp_path: Path, action: str) -> None:
    _killed(base, tmp_path, action, times=20)


def _killed(base: Gallery, tmp_path: Path, action: str, times: int) -> None:
    old = _content(base)
    whole = _copy(base, tmp_path / "whole")
    begin = time.monotonic()
    change(whole, action, ROWS)
    longest = time.monotonic() - begin
    new = _content(whole)
    seed = random.randrange(2**32)
    sys.stdout.write(f"seed {seed}\n")
    chance, met = random.Random(seed), 0
    for number in range(times):
        gallery = _copy(base, tmp_path / str(number))
        last_chance = number == times - 1 and not met
        after_s = 0 if last_chance else chance.uniform(0, longest if number else longest / 4)
        met += _kill(gallery, action, after_s)
        opened = Gallery.open(gallery.uri)
        assert _content(opened) in (old, new)
        assert lifecycle.verify(opened) == []
        change(opened, action, ROWS)
        assert _content(opened) == new
        lifecycle.compact(opened)
        assert lifecycle.verify(opened) == []
        assert _content(opened) == new
        assert _shard_files(opened) == {ref.name for ref in opened.snapshot().version.shards}
        shutil.rmtree(gallery.uri)
    assert met, "no kill met a running process"


def _kill(gallery: Gallery, action: str, after_s: float) -> bool:
    """Whether it was still running when it was killed."""
    command = [sys.executable, str(WORKER), gallery.uri, action, str(ROWS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return True
    return False


def _copy(gallery: Gallery, to: Path) -> Gallery:
    shutil.copytree(gallery.uri, to)
    return Gallery.open(str(to))


def _content(gallery: Gallery) -> dict[str, Any]:
    """Every vector by subject, and the names."""
    found: dict[str, Any] = {}
    for table in gallery.snapshot().tables():
        vectors = np.asarray(table.column("embedding").combine_chunks().flatten()).reshape(-1, DIM)
        keys = zip(*(table.column(n).to_pylist() for n in ("subject_id", "face_id", "Name")), strict=True)
        for key, vector in zip(keys, vectors, strict=True):
            assert key not in found
            found[repr(key)] = vector.tobytes()
    return found


def _shard_files(gallery: Gallery) -> set[str]:
    return {f"shards/{path.name}" for path in (Path(gallery.uri) / "shards").glob("*.h5")}

"""A disk that is full or may not be written to, and inputs that go away: a clear error, and then the rest."""

from __future__ import annotations

import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from clean_runs import Clean
from enrollment import ROOT, content, write_manifest
from faulty_jobs import Job
from injection import Point
from kill_points import Bench, same


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=False)


def refused(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert all(words in done.stderr for words in (*said, "->")), done.stderr


@pytest.mark.slow
def test_files_that_may_not_grow_end_the_job_and_leave_no_half_file(
    bench: Bench, clean: Clean, disturbed: dict[str, Job], tmp_path: Path
) -> None:
    job, output = disturbed["verify"], tmp_path / "out"
    clean.events("verify")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))

    done = subprocess.run(
        job.command(output),
        cwd=ROOT,
        env=bench.environment,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    refused(done, 7, "EFBIG")
    assert [path.name for path in output.rglob("*") if path.is_file()] == ["run.json"]
    assert job.run(output, bench.environment).returncode == 0
    job.check(output)
    same(job.content(output), job.content(clean.output("verify")))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["enroll", "dedup"])
def test_a_full_disk_ends_the_job_and_more_room_lets_it_go_on(
    name: str, bench: Bench, clean: Clean, disturbed: dict[str, Job], disk: Path
) -> None:
    job, output = disturbed[name], disk / "out"
    clean.events(name)
    pages = sum(-(-path.stat().st_size // 4096) for path in clean.output(name).rglob("*") if path.is_file())
    mount("-o", f"remount,size={pages // 2 * 4096}", str(disk))
    refused(job.run(output, bench.environment), 7, "no space left")
    assert not (output / "_SUCCESS").exists()
    mount("-o", "remount,size=64m", str(disk))
    done = job.run(output, bench.environment)
    assert done.returncode == 0, done.stderr
    job.check(output)
    same(job.content(output), job.content(clean.output(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["enroll", "consolidate", "identify", "dedup", "verify", "metrics"])
def test_an_output_that_may_not_be_written_to_is_one_clear_error(
    name: str, bench: Bench, clean: Clean, disturbed: dict[str, Job], disk: Path
) -> None:
    clean.events(name)
    mount("-o", "remount,ro", str(disk))
    refused(disturbed[name].run(disk / "out", bench.environment), 7, "permission is denied")
    assert list(disk.iterdir()) == []


@pytest.mark.slow
def test_photos_that_go_away_midway_are_rejected_and_done_once_they_are_back(
    photos: list[Path], bench: Bench, clean: Clean, disturbed: dict[str, Job], tmp_path: Path
) -> None:
    folder, output = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    copies = [Path(shutil.copy(photo, folder / photo.name)) for photo in photos]
    manifest = write_manifest(tmp_path / "m.csv", copies)
    limit = ("--set", "run.max_reject_ratio_by_reason={not_found: 0.01}")
    words = ("--manifest", str(manifest), *disturbed["enroll"].words[2:], *limit)
    job = replace(disturbed["enroll"], words=words)
    with subprocess.Popen(
        job.command(output), cwd=ROOT, env=bench.environment, stderr=subprocess.PIPE, text=True
    ) as running:
        while not list(output.glob("images/part-*")):
            assert running.poll() is None, "the job ended before it could be disturbed"
            time.sleep(0.01)
        folder.rename(tmp_path / "elsewhere")
        _, said = running.communicate(timeout=300)
    refused(subprocess.CompletedProcess(job.command(output), running.returncode, "", said), 14, "not_found")
    rows = content(output, "images").to_pylist()
    assert {row["reason"] for row in rows if row["status"] == "rejected"} == {"not_found"}
    assert len(rows) == len(photos)
    (tmp_path / "elsewhere").rename(folder)
    again = replace(job, words=("--replay", str(output), *limit))
    done = again.run(tmp_path / "mended", bench.environment)
    assert done.returncode == 0, done.stderr
    mended = content(tmp_path / "mended", "images")
    assert mended["image_id"].to_pylist() == [row["image_id"] for row in rows]
    assert "rejected" not in mended["status"].to_pylist()


@pytest.mark.slow
def test_features_that_go_away_are_one_clear_error_and_the_search_goes_on_once_they_are_back(
    bench: Bench, clean: Clean, disturbed: dict[str, Job], inputs: Path, tmp_path: Path
) -> None:
    job, output, features = disturbed["identify"], tmp_path / "out", clean.output("enroll")
    events = clean.events("identify")["driver"]
    bench.injector.clear()
    bench.injector.arm(Point("driver", events // 2, "after", "driver"))
    job.run(output, bench.environment)
    bench.injector.disarm()
    features.rename(inputs / "elsewhere")
    try:
        refused(job.run(output, bench.environment), 6, "finished enroll run")
    finally:
        (inputs / "elsewhere").rename(features)
    done = job.run(output, bench.environment)
    assert done.returncode == 0, done.stderr
    job.check(output)
    same(job.content(output), job.content(clean.output("identify")))

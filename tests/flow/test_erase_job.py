"""People taken out of a run of real photos: no job brings them back, and every reader goes on working."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cluster import Cluster
from enrollment import ROOT, content, write_manifest
from s3server import S3, s3  # noqa: F401 - a fixture

from frpipe.cli.main import main
from frpipe.core.config import load_config
from frpipe.core.errors import OutputError
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.storage.folder import Folder
from frpipe.jobs.enroll import job as enroll_flow
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.erase import job as erase_flow
from frpipe.jobs.erase.job import Erase
from frpipe.jobs.features import stored_settings
from frpipe.jobs.rejects import Choice
from frpipe.jobs.replay.job import Replay

ROWS, PART_ROWS = 16, 4
# One photo of the person is rejected, one is not; another person's is rejected too.
PERSON, THEIRS, OTHERS_REJECT = "the-erased-person", (1, 6), 13
SETTINGS = [f"resources.part_rows={PART_ROWS}"]


@pytest.fixture(scope="module")
def manifest(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    files = [folder / f"{row:02d}.jpg" for row in range(ROWS)]
    for row, file in enumerate(files):
        shutil.copy(photos[row], file)
        if row in (THEIRS[0], OTHERS_REJECT):
            file.write_bytes(file.read_bytes()[:2500])
    people = [PERSON if row in THEIRS else f"s{row // 2}" for row in range(ROWS)]
    return write_manifest(folder / "m.csv", files, subject_id=people)


@pytest.fixture(scope="module")
def finished(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run") / "out"
    assert _enroll(manifest, output).rejected == 2
    return output


@pytest.fixture
def erased(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    done = Erase(str(tmp_path / "run"), frozenset({PERSON}), frozenset()).run()
    assert done.images == 2
    return tmp_path / "run"


def test_the_same_enroll_command_leaves_it_and_mends_it_without_them(manifest: Path, erased: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in erased.rglob("*")}
    report = _enroll(manifest, erased)
    assert (report.rows, report.erased, report.rejected) == (ROWS - 2, 2, 1)
    assert {path: path.stat().st_mtime_ns for path in erased.rglob("*")} == before
    for part in (0, 1):
        (erased / f"images/part-{part:06d}.parquet").unlink()
    report = _enroll(manifest, erased)
    assert (report.rows, report.erased, report.launch_rows) == (ROWS - 2, 2, 2 * PART_ROWS - 2)
    assert not _who(erased) & {PERSON}


def test_an_emptied_part_that_is_lost_is_done_again(manifest: Path, erased: Path) -> None:
    Erase(str(erased), frozenset(), frozenset(f"id-{row:04d}" for row in range(8, 12))).run()
    (erased / "images/part-000002.parquet").unlink()
    report = _enroll(manifest, erased)
    assert (report.rows, report.erased, report.launch_rows) == (ROWS - 6, 6, 0)


def test_a_half_erased_run_is_left_alone_by_the_enroll_job(
    manifest: Path, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(erase_flow, "strike_parts", _broken)
        with pytest.raises(KeyboardInterrupt):
            Erase(str(tmp_path / "run"), frozenset({PERSON}), frozenset()).run()
    for _ in range(2):
        with pytest.raises(OutputError, match="being taken out"):
            _enroll(manifest, tmp_path / "run")
    assert Erase(str(tmp_path / "run"), frozenset({PERSON}), frozenset()).run().images == 2
    assert _enroll(manifest, tmp_path / "run").erased == 2
    assert not _who(tmp_path / "run") & {PERSON}


def test_a_replay_brings_nobody_back(photos: list[Path], manifest: Path, erased: Path) -> None:
    output = Path(f"{erased}-replay")
    original = manifest.parent / f"{OTHERS_REJECT:02d}.jpg"
    cut_short = original.read_bytes()
    shutil.copy(photos[OTHERS_REJECT], original)
    try:
        report = _replay(erased, output).run()
    finally:
        original.write_bytes(cut_short)
    assert (report.rows, report.rejected, report.erased, report.launch_rows) == (ROWS - 2, 0, 2, 1)
    assert not _who(output) & {PERSON}
    assert Erase(str(output), frozenset({"s0"}), frozenset()).run().images == 1
    replays = json.loads((output / "report.json").read_text())["replays"]
    assert len(replays) == 1 and _replay(erased, output).run().erased == 3
    (output / "images/part-000000.parquet").unlink()
    with pytest.raises(OutputError, match="not from the run that it was made from"):
        _replay(erased, output).run()
    assert not _who(output) & {PERSON, "s0"}


def test_on_s3_it_is_the_same(s3: S3, finished: Path, erased: Path) -> None:  # noqa: F811
    out = Folder.at(f"{s3.uri}/run")
    for path in (path for path in finished.rglob("*") if path.is_file()):
        out.write(str(path.relative_to(finished)), path.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(erase_flow, "clear_scratch", _broken)
        assert main(["erase", out.uri, "--subject", PERSON]) == 130
    assert run.complete(out) is None and out.exists(run.ERASING)
    assert main(["erase", out.uri, "--subject", PERSON]) == 0
    assert main(["erase", out.uri, "--subject", PERSON]) == 0
    for table, here in zip(_tables(out), _tables(Folder.at(str(erased))), strict=True):
        assert table.equals(here)
    assert run.complete(out) is not None and not out.exists(run.ERASING)
    assert not any(PERSON.encode() in out.read(name) for name in out.walk())


@pytest.mark.slow
def test_every_job_reads_on_and_a_part_of_nobody_does_no_harm(
    cluster: Cluster, erased: Path, tmp_path: Path
) -> None:
    Erase(str(erased), frozenset(), frozenset(f"id-{row:04d}" for row in range(8, 12))).run()
    faces = content(erased, "faces")
    names = faces["image_id"].to_pylist()
    (tmp_path / "pairs.csv").write_text(
        f"a,b\n{names[0]},{names[1]}\n{names[2]},{names[2]}\nid-0001,id-0006\n"
    )
    gallery, verified, found = tmp_path / "gallery", tmp_path / "verified", tmp_path / "found"
    jobs = (
        ("consolidate", "--features", erased, "--gallery", gallery),
        ("identify", "--probes", erased, "--gallery", gallery, "--output", found),
        ("dedup", "--features", erased, "--output", tmp_path / "doubles", "--threshold", 0.9),
        ("verify", "--features", erased, "--pairs", tmp_path / "pairs.csv", "--output", verified),
        ("metrics", "all-pairs", "--features", erased, "--output", tmp_path / "report"),
    )
    for job, *words in jobs:
        done = subprocess.run(
            [sys.executable, f"jobs/{job}.py", *map(str, words)],
            cwd=ROOT,
            env={**os.environ, "RAY_ADDRESS": cluster.address},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    report = json.loads((found / "report.json").read_text())
    assert (report["probes"], report["identified"]) == (faces.num_rows, len(set(names)))
    assert json.loads((tmp_path / "doubles/report.json").read_text())["templates"] == faces.num_rows
    assert main(["rejects", str(erased)]) == 0
    assert main(["sheet", str(erased), "-o", str(tmp_path / "sheet.png")]) == 0


def _enroll(manifest: Path, output: Path) -> enroll_flow.Report:
    return Enrollment(str(manifest), str(output), load_config(None, SETTINGS)).run()


def _replay(source: Path, output: Path) -> Replay:
    return Replay(str(source), Choice.of(), str(output), load_config(None, stored_settings(str(source))))


def _who(output: Path) -> set[str]:
    """Everybody whom a table of the run names."""
    plan = pa.concat_tables(_parts_of(output / "_plan"))["subject_id"].to_pylist()
    shown = [table["subject_id"].to_pylist() for pair in Features.at(str(output)).tables() for table in pair]
    return {*plan, *(each for subjects in shown for each in subjects)}


def _parts_of(folder: Path) -> list[pa.Table]:
    return [pq.read_table(path) for path in sorted(folder.glob("part-*.parquet"))]


def _tables(out: Folder) -> list[pa.Table]:
    return [table for pair in Features(out).tables() for table in pair]


def _broken(*_: object) -> None:
    raise KeyboardInterrupt

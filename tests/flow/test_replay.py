"""Rejected photos done again: what the new output holds, and that it survives being killed at any moment."""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cluster import Cluster
from enrollment import ROOT, command, content, until, write_manifest
from ray.data.exceptions import ExecutionTimeoutError
from s3server import S3, s3  # noqa: F401 - a fixture

from frpipe.cli.main import main
from frpipe.core.config import load_config
from frpipe.core.errors import ClusterError, ConfigError, OutputError
from frpipe.gallery.gallery import Gallery
from frpipe.io.storage.folder import Folder
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.features import FeatureRun, stored_settings
from frpipe.jobs.rejects import Choice
from frpipe.jobs.replay.job import Replay
from frpipe.runtime.ray_executor import _rows_of as rows_of
from frpipe.runtime.runtime import Runtime
from frpipe.testing.executors import InThisProcess

# By row of the manifest. Parts have four rows, so that two of the six hold nothing that is replayed.
CUT_SHORT, STAYS_CUT_SHORT, MISSING, STAYS_MISSING = (1, 9, 10), (11,), (2, 21), (22,)
REJECTED = sorted((*CUT_SHORT, *STAYS_CUT_SHORT, *MISSING, *STAYS_MISSING))
UNTOUCHED_PARTS = (1, 3, 4)
ROWS = 24


@pytest.fixture(scope="module")
def manifest(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    files = [folder / f"{row:02d}.jpg" for row in range(ROWS)]
    for row, file in enumerate(files):
        if row not in MISSING + STAYS_MISSING:
            shutil.copy(photos[row], file)
        if row in CUT_SHORT + STAYS_CUT_SHORT:
            data = file.read_bytes()
            # Of the one that stays so little is missing that it is a photograph still.
            file.write_bytes(data[:2500] if row in CUT_SHORT else data[:-100])
    return write_manifest(folder / "m.csv", files, subject_id=[f"s{i}" for i in range(ROWS)])


@pytest.fixture(scope="module")
def finished(manifest: Path, photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with rejected photos, some of which are mended afterwards."""
    output = tmp_path_factory.mktemp("run") / "out"
    config = load_config(None, ["resources.part_rows=4"])
    report = Enrollment(str(manifest), str(output), config).run()
    assert report.rejected == len(REJECTED)
    for row in CUT_SHORT + MISSING:
        shutil.copy(photos[row], manifest.parent / f"{row:02d}.jpg")
    return output


@pytest.fixture(scope="module")
def replayed(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed replay, by worker processes."""
    output = tmp_path_factory.mktemp("replayed") / "out"
    replace(_replay(finished, output), runtime=Runtime()).run()
    return output


def test_each_row_is_there_once_and_what_was_accepted_is_as_it_was(finished: Path, replayed: Path) -> None:
    before, after = _by_id(finished), _by_id(replayed)
    ids = [f"id-{row:04d}" for row in range(ROWS)]
    assert content(replayed, "images")["image_id"].to_pylist() == ids
    again = {f"id-{row:04d}" for row in REJECTED}
    assert [after[name] for name in ids if name not in again] == [before[n] for n in ids if n not in again]
    assert [after[f"id-{row:04d}"]["reason"] for row in REJECTED] == [
        {**dict.fromkeys(STAYS_CUT_SHORT, "truncated"), **dict.fromkeys(STAYS_MISSING, "not_found")}.get(row)
        for row in REJECTED
    ]
    faces = content(replayed, "faces")
    old = faces.filter(pa.array([name not in again for name in faces["image_id"].to_pylist()]))
    assert old.equals(content(finished, "faces"))


def test_parts_without_a_replayed_row_are_the_same_bytes(finished: Path, replayed: Path) -> None:
    for part in UNTOUCHED_PARTS:
        for name in (f"images/part-{part:06d}.parquet", f"faces/part-{part:06d}.parquet"):
            assert (replayed / name).read_bytes() == (finished / name).read_bytes()


def test_the_rows_done_again_are_those_of_a_run_of_the_mended_photos(
    manifest: Path, finished: Path, replayed: Path, tmp_path: Path
) -> None:
    config = load_config(None, ["resources.part_rows=4"])
    Enrollment(str(manifest), str(tmp_path / "fresh"), config, InThisProcess()).run()
    for table in ("images", "faces"):
        ours, fresh = content(replayed, table), content(tmp_path / "fresh", table)
        assert ours.schema.equals(fresh.schema)
        numbers = [f.name for f in ours.schema if not pa.types.is_string(f.type) and f.name != "attempts"]
        for name in numbers:
            assert np.allclose(
                _array(ours[name]), _array(fresh[name]), rtol=1e-3, atol=1e-4, equal_nan=True
            ), name
        texts = [f.name for f in ours.schema if pa.types.is_string(f.type)]
        assert ours.select(texts).equals(fresh.select(texts))


def test_attempts_add_up_and_the_report_tells_of_the_replay(finished: Path, replayed: Path) -> None:
    attempts = content(replayed, "images")["attempts"].to_pylist()
    assert attempts == [2 if row in REJECTED else 1 for row in range(ROWS)]
    report = json.loads((replayed / "report.json").read_text())
    assert report["rows"] == report["ok"] + report["no_face"] + report["rejected"] == ROWS
    (record,) = report["replays"]
    assert (record["tried"], record["ok"], record["rejected"]) == (7, 5, 2)
    assert record["reasons"] == {"truncated": 1, "not_found": 1}
    assert record["source"] == str(finished)
    assert "| any reason | 7 | 5 | 0 | 2 |" in (replayed / "report.md").read_text()


def test_readers_find_an_enroll_output_like_any_other(finished: Path, replayed: Path) -> None:
    run, old = FeatureRun.open(str(replayed)), FeatureRun.open(str(finished))
    assert run.faces == content(replayed, "faces").num_rows > old.faces
    assert (run.spec, run.run_id, run.created) == (old.spec, old.run_id, old.created)
    for file in json.loads((replayed / "files.json").read_text())["files"]:
        assert hashlib.sha256((replayed / file["name"]).read_bytes()).hexdigest() == file["sha256"]
    assert not [path for path in (replayed / "_replay").rglob("*") if path.is_file()]


def test_another_replay_into_the_same_output_is_refused(finished: Path, replayed: Path) -> None:
    with pytest.raises(OutputError, match="causes"):
        _replay(finished, replayed, Choice.of(["truncated"])).run()


@pytest.mark.parametrize(
    "setting", ["detect.max_side_px=320", "embed.flip=true", "detect.policy=largest", "decode.scaled=false"]
)
def test_another_recipe_is_refused(finished: Path, tmp_path: Path, setting: str) -> None:
    with pytest.raises(OutputError, match=setting.partition("=")[0]):
        _replay(finished, tmp_path / "out", None, setting).run()
    assert not (tmp_path / "out").exists()


def test_a_raised_limit_is_none_and_its_faces_may_stand_beside_the_others(
    finished: Path, replayed: Path, tmp_path: Path
) -> None:
    """On a replay of a replay: only the photo that is cut short still is tried, for the third time."""
    output, choice = tmp_path / "out", Choice.of(["truncated"])
    report = _replay(replayed, output, choice, "decode.truncated=accept").run()
    assert (report.rejected, report.launch_rows) == (1, 1)
    image = _by_id(output)[f"id-{STAYS_CUT_SHORT[0]:04d}"]
    assert (image["status"] != "rejected", image["attempts"]) == (True, 3)
    for name in ("embedder_hash", "preprocessing_hash"):
        assert len(set(content(output, "faces")[name].to_pylist())) == 1
    records = json.loads((output / "report.json").read_text())["replays"]
    assert [(r["tried"], r["settings"]) for r in records] == [(7, {}), (1, {"decode.truncated": "accept"})]


def test_nothing_to_do_and_a_place_inside_the_run_are_errors_before_work(
    finished: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="nothing to do again"):
        _replay(finished, tmp_path / "out", Choice.of(["hung_worker"])).run()
    with pytest.raises(ConfigError, match="leaves its run as it is"):
        _replay(finished, finished / "again").run()
    assert not (tmp_path / "out").exists()


def test_a_run_that_was_changed_by_hand_is_refused(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    victim = tmp_path / "run/faces/part-000003.parquet"
    data = victim.read_bytes()
    victim.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    with pytest.raises(OutputError, match="part-000003"):
        _replay(tmp_path / "run", tmp_path / "out").run()
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_it_goes_into_the_gallery_of_its_run_unless_it_ends_badly(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery = str(tmp_path / "gallery")
    Consolidation(str(finished), gallery).run()
    job = runpy.run_path(str(ROOT / "jobs/enroll.py"))["main"]
    words = ["--replay", str(finished), "--gallery", gallery]
    words += ["--set", "decode.truncated=accept", "--set", "run.max_reject_ratio_by_reason.not_found="]
    assert job([*words[:-1], f"{words[-1]}0"]) == 14
    assert Gallery.open(gallery).versions() == [0, 1]
    assert job([*words[:-1], f"{words[-1]}0.5"]) == 0
    assert Gallery.open(gallery).versions() == [0, 1, 2]
    assert "6 added" in capsys.readouterr().out
    assert (finished.parent / f"{finished.name}-replay/_SUCCESS").exists()


@pytest.mark.slow
def test_killed_at_any_write_the_same_replay_ends_alike(
    finished: Path, replayed: Path, tmp_path: Path
) -> None:
    """A reader finds a whole run or none, never one that is marked as complete and is not."""

    writes = _killed_after(None, lambda: _replay(finished, tmp_path / "count").run())
    assert writes > 30
    for moment in range(1, writes):
        output = tmp_path / f"out-{moment}"
        _killed_after(moment, lambda output=output: _replay(finished, output).run())
        if (output / "_SUCCESS").exists():
            assert _same(output, replayed)
        _replay(finished, output).run()
        assert _same(output, replayed), moment
        assert (output / "_SUCCESS").exists()


def test_a_kill_in_the_middle_of_the_job_costs_nothing_and_a_bad_end_has_its_code(
    finished: Path, replayed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    words = ["python", "jobs/enroll.py", "--replay", str(finished), "--output", str(output)]
    words += ["--set", "run.max_reject_ratio=0.01", "--executor", "local"]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL) as job:
        until(lambda: any((output / "_replay/images").glob("part-*.parquet")), job)
        job.kill()
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 14, done.stderr
    assert "rejected are 2 of 24 photos" in done.stderr and "frpipe rejects" in done.stderr
    assert "Enroll report" in done.stdout
    assert _same(output, replayed)


def test_what_is_done_on_s3_is_done_alike(
    s3: S3,  # noqa: F811
    finished: Path,
    replayed: Path,
) -> None:
    run, output = f"{s3.uri}/run", f"{s3.uri}/out"
    for path in (path for path in finished.rglob("*") if path.is_file()):
        Folder.at(run).write(str(path.relative_to(finished)), path.read_bytes())
    report = _replay(run, output).run()
    assert report.rejected == 2
    assert main(["rejects", output, "--json"]) == 0
    files = {entry.name: entry.bytes for entry in Folder.at(output).list()}
    assert not any(name.startswith("_replay/") for name in files)
    listed = {f["name"]: f["sha256"] for f in json.loads((replayed / "files.json").read_text())["files"]}
    for part in UNTOUCHED_PARTS:
        name = f"faces/part-{part:06d}.parquet"
        assert hashlib.sha256(Folder.at(output).read(name)).hexdigest() == listed[name]


@pytest.mark.slow
def test_where_nothing_gets_on_the_job_ends_with_a_diagnosis(cluster: Cluster, tmp_path: Path) -> None:
    """Two jobs: one whose photos hang, and one that waits for the CPUs which the first holds."""
    photo = tmp_path / "hangs.jpg"
    photo.write_bytes(b"POISONhang")
    manifest = write_manifest(tmp_path / "m.csv", [photo] * 4)
    settings = ["decode.plugins=[poison:decode]", "resources.part_rows=1", "run.stall_timeout_s="]
    environment = {"RAY_ADDRESS": cluster.address, "PYTHONPATH": str(Path(__file__).parent)}

    def words(output: str, patience_s: int) -> list[str]:
        sets = [word for setting in settings for word in ("--set", setting)]
        return [*command(manifest, tmp_path / output, *sets[:-1]), f"{sets[-1]}{patience_s}"]

    first = subprocess.Popen(
        words("first", 60), cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    )
    while len(cluster.actor_pids("Enroll")) < 2:
        assert first.poll() is None
        time.sleep(0.05)
    second = subprocess.run(
        words("second", 5),
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 11, second.stderr
    assert "no progress for 5 s: no worker of Enroll is ready, and 0" in second.stderr
    assert first.wait(120) == 11
    assert first.stderr is not None
    assert "the workers of Enroll do not finish what they have in hand (4)" in first.stderr.read()


def test_a_stall_names_the_pool_that_holds_up_the_others() -> None:
    class Flow:
        def iter_batches(self, **_: object) -> Iterator[pa.Table]:
            yield pa.table({"part": [0]})
            lines = ("Locate): 0 active task(s), 9 finished, 9", "Embed): 2 active task(s), 1 finished, 1")
            raise ExecutionTimeoutError("\n".join(f"  - MapBatches({line} outputs taken" for line in lines))

    with pytest.raises(ClusterError, match=r"workers of Embed do not finish what they have in hand \(2\)"):
        list(rows_of(Flow()))


def _replay(source: Path | str, output: Path | str, choice: Choice | None = None, *settings: str) -> Replay:
    config = load_config(None, [*stored_settings(str(source)), *settings])
    return Replay(str(source), choice or Choice.of(), str(output), config, InThisProcess())


def _by_id(output: Path) -> dict[str, dict[str, Any]]:
    return {row["image_id"]: row for row in content(output, "images").to_pylist()}


def _array(column: pa.ChunkedArray) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in column.to_pylist()])


def _same(output: Path, replayed: Path) -> bool:
    return all(content(output, table).equals(content(replayed, table)) for table in ("images", "faces"))


class _Killed(BaseException):
    pass


def _killed_after(writes: int | None, job: Callable[[], object]) -> int:
    """Run a job that dies after so many writes: none is made from there on. How many it came to."""
    count = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if writes is not None and count > writes:
                raise _Killed
            return original(*arguments)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("write", "create", "delete"):
            patch.setattr(Folder, name, counted(getattr(Folder, name)))
        if writes is None:
            job()
        else:
            with pytest.raises(_Killed):
                job()
    return count

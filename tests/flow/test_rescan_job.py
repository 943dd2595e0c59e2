"""A run of before photos were looked at again: what second looks may change is done again, the rest kept."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pytest
from enrollment import ROOT, content, write_manifest
from PIL import Image
from test_replay import _killed_after

from frpipe.cli.main import main
from frpipe.core.config import load_config
from frpipe.core.errors import ConfigError, OutputError
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.replay.job import Replay, Rescan
from frpipe.jobs.rescan.affected import settings_to_look_again
from frpipe.testing.executors import InThisProcess

# The detector of that time. One whose score does not tell turned faces would have every photo done again.
SETTINGS = ("detect.model=yunet_2023mar", "resources.part_rows=4")
ROWS = 20
UPSIDE_DOWN, LARGE, SMALLER, EMPTY, CUT_SHORT, MISSING = 1, 10, 7, 8, 12, 13
AFFECTED = {UPSIDE_DOWN: "low_score", LARGE: "not_looked_for", EMPTY: "no_face"}

Job = Callable[[list[str]], int]


@pytest.fixture(scope="module")
def manifest(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    files = [folder / f"{row:02d}.png" for row in range(ROWS)]
    for row, (photo, file) in enumerate(zip(photos, files, strict=False)):
        with Image.open(photo) as opened:
            _changed(row, opened).save(file)
    files[CUT_SHORT].write_bytes(files[CUT_SHORT].read_bytes()[:3000])
    files[MISSING].unlink()
    return write_manifest(folder / "m.csv", files, subject_id=[f"s{row}" for row in range(ROWS)])


def _changed(row: int, photo: Image.Image) -> Image.Image:
    if row == UPSIDE_DOWN:
        return photo.rotate(180)
    if row == EMPTY:
        return Image.new("RGB", photo.size, (90, 120, 90))
    return photo.resize({LARGE: (1200, 1200), SMALLER: (220, 220)}.get(row, photo.size))


@pytest.fixture(scope="module")
def before(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a single look."""
    output = tmp_path_factory.mktemp("before") / "out"
    Enrollment(str(manifest), str(output), load_config(None, SETTINGS).single_look()).run()
    return output


@pytest.fixture(scope="module")
def fresh(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same photos with second looks from the beginning."""
    output = tmp_path_factory.mktemp("fresh") / "out"
    Enrollment(str(manifest), str(output), load_config(None, SETTINGS)).run()
    return output


@pytest.fixture(scope="module")
def rescanned(before: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("rescanned") / "out"
    _rescan(before, output).run()
    return output


@pytest.fixture(scope="module")
def listed(before: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[str]]:
    """The causes of each photo that is listed, by row."""
    file = tmp_path_factory.mktemp("list") / "list.csv"
    assert main(["rescan", str(before), "-o", str(file)]) == 0
    rows = pc.read_csv(file).to_pylist()
    return {int(row["image_id"][3:]): row["causes"].split(",") for row in rows}


def test_what_may_change_is_listed_with_its_causes_and_some_is_not(listed: dict[int, list[str]]) -> None:
    for row, cause in AFFECTED.items():
        assert cause in listed[row], row
    assert not {CUT_SHORT, MISSING} & listed.keys()
    assert len(AFFECTED) < len(listed) < ROWS - 2


def test_the_output_is_that_of_an_enrollment_with_second_looks(fresh: Path, rescanned: Path) -> None:
    """Row by row and column by column, those that were carried over as well as those done again."""
    for table in ("images", "faces"):
        ours, theirs = content(rescanned, table), content(fresh, table)
        assert ours.schema.equals(theirs.schema)
        for name in ours.column_names:
            if name != "attempts":
                _near(ours[name], theirs[name], name)
    identities = [json.loads((out / "run.json").read_text())["identity"] for out in (rescanned, fresh)]
    for name in ("schema_version", "manifest", "recipe"):
        assert identities[0][name] == identities[1][name]
    assert FeatureRun.open(str(rescanned)).spec == FeatureRun.open(str(fresh)).spec


def test_vectors_of_photos_that_are_not_listed_are_those_of_before(
    before: Path, fresh: Path, listed: dict[int, list[str]]
) -> None:
    old, new = (_vectors(out) for out in (before, fresh))
    kept = [name for name in old if int(name[3:7]) not in listed]
    assert len(kept) >= ROWS / 3
    for name in kept:
        assert float(old[name] @ new[name]) > 1 - 1e-6, name
    turned = f"id-{UPSIDE_DOWN:04d}#0"
    assert float(old[turned] @ new[turned]) < 0.9


def test_what_was_carried_over_is_said(before: Path, rescanned: Path, listed: dict[int, list[str]]) -> None:
    facts = json.loads((rescanned / "run.json").read_text())
    (record,) = json.loads((rescanned / "report.json").read_text())["replays"]
    assert record["tried"] == len(listed)
    assert record["carried"]["photos"] == ROWS - len(listed)
    old = FeatureRun.open(str(before)).spec.preprocessing_hash
    assert record["carried"]["preprocessing_hash"] == old
    assert facts["identity"]["replay"]["carried_from"] == record["carried"]["recipe_hash"]
    assert f"{ROWS - len(listed)} photos with" in (rescanned / "report.md").read_text()
    assert set(content(rescanned, "faces")["preprocessing_hash"].to_pylist()) == {
        FeatureRun.open(str(rescanned)).spec.preprocessing_hash
    }


def test_without_small_faces_the_rows_say_what_was_looked_for(before: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    _rescan(before, output, "found").run()
    least = {row["image_id"]: row["least_face_px"] for row in content(output, "images").to_pylist()}
    assert least[f"id-{LARGE:04d}"] == pytest.approx(40 * 1200 / 640)
    assert least["id-0000"] == pytest.approx(12)


def test_another_setting_a_run_that_looked_again_and_a_single_look_are_refused(
    before: Path, fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OutputError, match=r"embed\.flip"):
        _rescan(before, tmp_path / "out", "all", "embed.flip=true").run()
    with pytest.raises(ConfigError, match="leave both at auto"):
        _rescan(before, tmp_path / "out", "all", "detect.turns=off").run()
    with pytest.raises(OutputError, match="looks again"):
        _rescan(fresh, tmp_path / "out").run()
    assert main(["rescan", str(fresh)]) == 6
    assert not (tmp_path / "out").exists()
    assert "Traceback" not in capsys.readouterr().err


def test_the_list_leaves_the_run_as_it_is_and_may_not_lie_inside(before: Path, tmp_path: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in before.rglob("*")}
    assert main(["rescan", str(before), "-o", str(before / "list.csv")]) == 2
    assert main(["rescan", str(before), "-o", str(tmp_path / "list.txt")]) == 2
    assert main(["rescan", str(before), "-o", str(tmp_path / "list.parquet")]) == 0
    assert {path: path.stat().st_mtime_ns for path in before.rglob("*")} == files


@pytest.mark.parametrize("every", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_write_the_same_command_ends_alike(
    before: Path, rescanned: Path, tmp_path: Path, every: int
) -> None:
    writes = _killed_after(None, lambda: _rescan(before, tmp_path / "count").run())
    for moment in range(1, writes, every):
        output = tmp_path / f"out-{moment}"
        _killed_after(moment, lambda output=output: _rescan(before, output).run())
        _rescan(before, output).run()
        for table in ("images", "faces"):
            assert content(output, table).equals(content(rescanned, table)), moment


def test_the_job_does_it_beside_the_run_and_explains_itself(
    before: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(before, run)
    job: Job = runpy.run_path(str(ROOT / "jobs/enroll.py"))["main"]
    assert job(["--replay", str(run), "--rescan", "--dry-run"]) == 0
    assert "affected by the single look" in capsys.readouterr().out
    assert job(["--replay", str(run), "--rescan"]) == 0
    assert (tmp_path / "run-replay/_SUCCESS").exists()
    for words in (["--manifest", "m.csv", "--output", "out"], ["--replay", str(run), "--replay-no-face"]):
        with pytest.raises(SystemExit):
            job([*words, "--rescan"])


def _rescan(source: Path, output: Path, scope: Any = "all", *settings: str) -> Replay:
    config = load_config(None, [*settings_to_look_again(str(source)), *settings])
    return Replay(str(source), Rescan(scope), str(output), config, InThisProcess())


def _vectors(output: Path) -> dict[str, np.ndarray]:
    faces = content(output, "faces").to_pylist()
    return {row["face_id"]: np.array(row["embedding"]) for row in faces}


def _near(ours: pa.ChunkedArray, theirs: pa.ChunkedArray, name: str) -> None:
    if pa.types.is_string(ours.type) or pa.types.is_boolean(ours.type):
        assert ours.to_pylist() == theirs.to_pylist(), name
        return
    for one, other in zip(ours.to_pylist(), theirs.to_pylist(), strict=True):
        assert one == other or np.allclose(one, other, rtol=1e-3, atol=1e-3), name

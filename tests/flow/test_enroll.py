"""The enroll job on real photos, on a real Ray cluster: what it leaves, and that it survives being killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from cluster import Cluster
from enrollment import ROOT, command, content, enroll, job_here, until, write_manifest

from frpipe.cli.main import main

POISON = b"POISON"
SMALL_PARTS = "resources.part_rows=8"
LOCAL = ("--executor", "local")
TOGETHER, APART = "resources.locate.workers=auto", "resources.locate.workers=2"


@pytest.fixture(scope="module")
def manifest(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manifest")
    broken = folder / "broken.jpg"
    broken.write_bytes(photos[0].read_bytes()[:2000])
    faceless = folder / "faceless.png"
    faceless.write_bytes(_faceless_png())
    files = [*photos, broken, folder / "missing.jpg", faceless]
    rows = range(len(files))
    subjects, departments = [f"s{i // 2}" for i in rows], [f"d{i % 3}" for i in rows]
    return write_manifest(folder / "m.csv", files, subject_id=subjects, department=departments)


@pytest.fixture(scope="module")
def finished(manifest: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    output = tmp_path_factory.mktemp("clean") / "out"
    done = enroll(manifest, output, "--set", SMALL_PARTS, RAY_ADDRESS=cluster.address)
    assert done.returncode == 0, done.stderr
    return output


def test_every_row_ends_in_exactly_one_status(finished: Path, manifest: Path) -> None:
    images = content(finished, "images")
    assert images["image_id"].to_pylist() == [f"id-{i:04d}" for i in range(63)]
    assert images["status"].to_pylist()[60:] == ["rejected", "rejected", "no_face"]
    assert images["reason"].to_pylist()[60:] == ["truncated", "not_found", None]
    assert images["status"].to_pylist()[:60].count("ok") >= 58
    assert images["department"].to_pylist()[4] == "d1"


def test_faces_are_unit_vectors_of_the_photo_they_name(finished: Path) -> None:
    faces, images = content(finished, "faces"), content(finished, "images")
    vectors = np.array(faces["embedding"].to_pylist())
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert faces.num_rows == sum(images["faces"].to_pylist())
    assert set(faces["image_id"].to_pylist()) == {
        i
        for i, s in zip(images["image_id"].to_pylist(), images["status"].to_pylist(), strict=True)
        if s == "ok"
    }


def test_the_file_list_is_true(finished: Path) -> None:
    files = json.loads((finished / "files.json").read_text())["files"]
    assert len(files) == 16
    for file in files:
        data = (finished / file["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
    report = json.loads((finished / "report.json").read_text())
    assert report["rows"] == report["ok"] + report["no_face"] + report["rejected"] == 63
    assert (finished / "_SUCCESS").exists()
    assert not (finished / "_attempts").exists()


def test_outputs_are_private(finished: Path) -> None:
    assert all(path.stat().st_mode & 0o077 == 0 for path in finished.rglob("*"))


def test_a_cluster_that_does_not_answer_is_one_clear_error(manifest: Path, tmp_path: Path) -> None:
    refused = enroll(manifest, tmp_path / "out", RAY_ADDRESS="127.0.0.1:9")
    assert refused.returncode == 5
    assert "Traceback" not in refused.stderr


def test_a_damaged_file_is_found_by_check_mended_and_done_again(
    manifest: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    subprocess.run(["cp", "-r", finished, output], check=True)
    words = ("--manifest", manifest, "--output", output, "--set", SMALL_PARTS)
    victim = output / "faces/part-000002.parquet"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    said = job_here("enroll", *words)
    assert (said.returncode, "complete already" in said.stderr) == (0, True)
    assert main(["check", str(output)]) == 6
    assert "faces/part-000002.parquet is damaged" in capsys.readouterr().out
    assert main(["check", str(output), "--mend"]) == 6
    again = job_here("enroll", *words)
    assert again.returncode == 0, again.stderr
    assert content(output, "faces").equals(content(finished, "faces"))
    assert main(["check", str(output)]) == 0


def test_a_dry_run_prints_the_plan_and_writes_nothing(manifest: Path, tmp_path: Path) -> None:
    plan = job_here("enroll", "--manifest", manifest, "--output", tmp_path / "out", "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert "63 photos in 4 parts of 16" in plan.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_configuration_that_would_hang_is_refused(manifest: Path, cluster: Cluster, tmp_path: Path) -> None:
    refused = enroll(
        manifest, tmp_path / "out", "--set", "resources.locate.num_cpus=3", RAY_ADDRESS=cluster.address
    )
    assert refused.returncode == 5
    assert "would hang" in refused.stderr


def test_a_gpu_that_is_not_there_is_an_error_and_never_a_silent_cpu_run(
    manifest: Path, cluster: Cluster, tmp_path: Path
) -> None:
    refused = enroll(
        manifest, tmp_path / "out", "--set", "resources.embed.num_gpus=1", RAY_ADDRESS=cluster.address
    )
    assert refused.returncode == 5
    assert "GPU" in refused.stderr


def test_submitted_to_the_cluster_it_leaves_the_same_rows(
    manifest: Path, finished: Path, job_server: Cluster, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    words = ("python", "jobs/enroll.py", "--manifest", manifest, "--output", output, "--set", SMALL_PARTS)
    job = job_server.submit(ROOT, *words)
    assert job.returncode == 0, job.stdout[-3000:] + job.stderr[-3000:]
    assert content(output, "images").equals(content(finished, "images"))
    assert content(output, "faces").equals(content(finished, "faces"))


@pytest.mark.parametrize(
    ("worker", "step", "pools"),
    [
        pytest.param("Enroll", "embed", TOGETHER, marks=pytest.mark.slow),
        pytest.param("Locate", "locate", APART, marks=pytest.mark.slow),
        ("Embed", "embed", APART),
    ],
)
@pytest.mark.slow
def test_a_worker_killed_midway_costs_no_row(
    worker: str, step: str, pools: str, manifest: Path, finished: Path, cluster: Cluster, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with _running(manifest, output, cluster, pools) as job:
        until(lambda: any(output.glob(f"_attempts/{step}/*/*")), job)
        until(lambda: bool(victims := cluster.actor_pids(worker)) and _kill(victims[0]), job)
        assert job.wait(300) == 0
    assert content(output, "images").equals(content(finished, "images"))
    assert content(output, "faces").equals(content(finished, "faces"))


@pytest.mark.slow
def test_a_driver_killed_midway_goes_on_where_it_stopped(
    manifest: Path, finished: Path, cluster: Cluster, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with _running(manifest, output, cluster) as job:
        until(lambda: any((output / "images").glob("part-*.parquet")), job)
        job.kill()
    done = {path: path.stat().st_mtime_ns for path in (output / "images").glob("part-*.parquet")}
    again = enroll(manifest, output, "--set", SMALL_PARTS, RAY_ADDRESS=cluster.address)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert content(output, "images").equals(content(finished, "images"))
    assert content(output, "faces").equals(content(finished, "faces"))


def test_rows_do_not_depend_on_the_executor(manifest: Path, finished: Path, tmp_path: Path) -> None:
    done = enroll(manifest, tmp_path / "out", "--set", SMALL_PARTS, *LOCAL)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "out", "images").equals(content(finished, "images"))
    assert content(tmp_path / "out", "faces").equals(content(finished, "faces"))
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {path.name for path in finished.iterdir()} and "_attempts" not in left


def test_a_local_job_killed_midway_takes_its_workers_along_and_goes_on_where_it_stopped(
    manifest: Path, finished: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    words = command(manifest, output, "--set", SMALL_PARTS, *LOCAL)
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True) as job:
        until(lambda: any((output / "images").glob("part-*.parquet")), job)
        job.kill()
    while _lives_in(job.pid):
        time.sleep(0.01)
    done = {path: path.stat().st_mtime_ns for path in (output / "images").glob("part-*.parquet")}
    again = enroll(manifest, output, "--set", SMALL_PARTS, *LOCAL)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert content(output, "faces").equals(content(finished, "faces"))


def test_a_photo_that_kills_a_local_worker_is_rejected_and_the_others_kept(
    photos: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(POISON + b"crash")
    manifest = write_manifest(tmp_path / "m.csv", [*photos[:5], bad, *photos[5:8]])
    plugin = ("--set", "decode.plugins=[poison:decode]")
    done = enroll(manifest, tmp_path / "out", *plugin, *LOCAL, PYTHONPATH=str(Path(__file__).parent))
    assert done.returncode == 0, done.stderr
    images = content(tmp_path / "out", "images").to_pylist()
    assert [row["image_id"] for row in images if row["reason"] == "crashed_worker"] == ["id-0005"]
    assert images[5]["attempts"] == 3


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("crash", "crashed_worker"),
        pytest.param("memory", "exhausted_memory", marks=pytest.mark.slow),
        pytest.param("hang", "hung_worker", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_a_photo_that_kills_its_worker_is_rejected_and_the_others_kept(
    how: str, reason: str, photos: list[Path], cluster: Cluster, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(POISON + how.encode())
    manifest = write_manifest(tmp_path / "m.csv", [*photos[:5], bad, *photos[5:12]])
    done = enroll(
        manifest,
        tmp_path / "out",
        "--set",
        SMALL_PARTS,
        "--set",
        "decode.plugins=[poison:decode]",
        "--set",
        "resources.row_memory_mb=1024",
        "--set",
        "resources.row_timeout_s=15",
        "--set",
        "resources.stall_timeout_s=20",
        RAY_ADDRESS=cluster.address,
        PYTHONPATH=str(Path(__file__).parent),
    )
    assert done.returncode == 0, done.stderr
    images = content(tmp_path / "out", "images").to_pylist()
    assert [row["image_id"] for row in images if row["reason"] == reason] == ["id-0005"]
    assert [row["status"] for row in images].count("ok") >= 11
    assert images[5]["attempts"] == 3


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_photos_in_hand_are_said_while_a_part_takes_long(
    executor: str, photos: list[Path], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The part is held up by a photo that waits for the line which says that some before it are located."""
    heard = tmp_path / "heard"
    slow = tmp_path / "slow.jpg"
    slow.write_bytes(b"POISON" + os.fsencode(heard) + b" waits")
    manifest = write_manifest(tmp_path / "m.csv", [*photos[:10], slow])
    settings = ("resources.part_rows=11", "resources.window_rows=2", "decode.plugins=[poison:decode]")
    words = [word for each in settings for word in ("--set", each)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    if executor == "ray":
        environment["RAY_ADDRESS"] = request.getfixturevalue("cluster").address
    job = subprocess.Popen(
        command(manifest, tmp_path / "out", *words, "--executor", executor),
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert job.stderr is not None
    lines = []
    for line in job.stderr:
        lines.append(line)
        if "more located" in line:
            heard.touch()
    assert job.wait() == 0
    assert any(line.startswith("0 of 11 photos") and "more located" in line for line in lines)
    assert any(line.startswith("11 of 11 photos") and "more located" not in line for line in lines)


def test_awkward_files_each_end_in_exactly_one_status(shared: Path, tmp_path: Path) -> None:
    files = sorted(path.resolve() for path in (shared / "data/awkward").rglob("*.*") if path.suffix != ".tsv")
    done = enroll(write_manifest(tmp_path / "m.csv", files), tmp_path / "out", *LOCAL)
    assert done.returncode == 0, done.stderr
    images = content(tmp_path / "out", "images").to_pylist()
    assert len(images) == len(files) >= 79
    reasons = {files[int(row["image_id"][3:])].name: row["reason"] for row in images if row["reason"]}
    assert reasons["decompression_bomb.gif"] == "too_many_pixels"
    assert reasons["truncated.png"] == "truncated"
    assert "Landscape_3.jpg" not in reasons
    assert all((row["status"] == "rejected") == (row["reason"] is not None) for row in images)


def test_the_queries_of_the_documentation_run(finished: Path) -> None:
    page = (ROOT / "docs/outputs.md").read_text().replace("OUT/", f"{finished}/")
    # A run of one embedder and without gates has neither.
    absent = ("/embeddings/", "/held/")
    queries = [query for query in _blocks(page, "sql") if not any(folder in query for folder in absent)]
    results = [duckdb.sql(query).fetchall() for query in queries]
    report = json.loads((finished / "report.json").read_text())
    assert sum(row[-1] for row in results[0]) == report["rows"]
    assert len(results[1]) == 10
    assert len(results[2]) == 1
    for code in (code for code in _blocks(page, "python") if "spark" not in code):
        exec(compile(code, "docs/outputs.md", "exec"), {})


def test_duckdb_and_pandas_see_the_same_embeddings(finished: Path) -> None:
    rows = duckdb.sql(
        f"SELECT face_id, embedding FROM '{finished}/faces/*.parquet' ORDER BY face_id"
    ).fetchall()
    frame = pd.read_parquet(finished / "faces").sort_values("face_id")
    assert [row[0] for row in rows] == frame["face_id"].tolist()
    assert np.array_equal(
        np.array([row[1] for row in rows], np.float32), np.stack(frame["embedding"].tolist())
    )


def _blocks(page: str, language: str) -> Iterator[str]:
    for block in page.split(f"```{language}\n")[1:]:
        yield block.split("```")[0]


def _running(
    manifest: Path, output: Path, cluster: Cluster, pools: str = TOGETHER
) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    return subprocess.Popen(
        command(manifest, output, "--set", SMALL_PARTS, "--set", pools),
        cwd=ROOT,
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def _kill(pid: int) -> bool:
    os.kill(pid, signal.SIGKILL)
    return True


def _lives_in(session: int) -> bool:
    """Whether a process of a session is left, but for those that only wait to be buried."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(its_session) == session and state != "Z":
            return True
    return False


def _faceless_png() -> bytes:
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.linear_gradient("L").resize((200, 200)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()

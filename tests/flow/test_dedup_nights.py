"""Duplicates night after night: the incremental result is the full one; workers and drivers are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from cluster import Cluster
from dedup_runs import (
    command_words,
    dedup,
    dedup_job,
    make_gallery,
    members_of,
    partition_of,
    people_of,
    read_clusters,
    read_pairs,
)
from enrollment import ROOT, job_here, until

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred templates in twelve shards."""
    uri = tmp_path_factory.mktemp("synthetic") / "G"
    make_gallery(uri, [people_of(0, 300, 1)])
    return uri


@pytest.fixture(scope="module")
def night(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of the first version."""
    output = tmp_path_factory.mktemp("night") / "R"
    report = dedup(output, synthetic)
    assert report["units"] == 12 * 13 // 2
    assert report["pairs"] > 100
    assert report["clusters"] > 10
    return output


def _changed(synthetic: Path, tmp_path: Path) -> Gallery:
    """A later version: new people, deleted ones, new vectors under an old id, and rows that have moved."""
    uri = shutil.copytree(synthetic, tmp_path / "G")
    gallery = Gallery.open(str(uri))
    lifecycle.enroll(gallery, [people_of(300, 60, 2)], "append")
    lifecycle.delete(gallery, [f"p{number:04d}" for number in range(0, 300, 7)], suppress=None)
    lifecycle.enroll(gallery, [people_of(40, 30, 5)], "replace", same_photos=True)
    lifecycle.enroll(gallery, [people_of(100, 30, 1).slice(0, 0), _moved(gallery)], "replace")
    return gallery


def _moved(gallery: Gallery) -> pa.Table:
    """Rows that are there already, with another attribute: they are written anew and are not new."""
    tables = [gallery.snapshot().show(f"p{number:04d}", vectors=True) for number in range(200, 230)]
    table = pa.concat_tables(tables)
    return table.append_column("Department", pa.array(["Sales"] * table.num_rows))


def test_the_night_after_is_equal_to_a_full_run_and_compares_what_is_new(
    synthetic: Path, night: Path, cluster: Cluster, tmp_path: Path
) -> None:
    gallery = _changed(synthetic, tmp_path)
    full = dedup(tmp_path / "full", gallery.uri)
    after = dedup(tmp_path / "after", gallery.uri, cluster=cluster, since=str(night))
    fresh, rows = after["fresh_templates"], gallery.snapshot().rows
    assert 60 <= fresh <= 90
    assert after["pairs_compared"] == fresh * (fresh - 1) // 2 + fresh * (rows - fresh)
    assert full["pairs_compared"] == rows * (rows - 1) // 2
    assert after["units"] < full["units"]
    assert after["carried_pairs"] > 50
    assert read_pairs(tmp_path / "after").equals(read_pairs(tmp_path / "full"))
    one, other = (read_clusters(tmp_path / name) for name in ("after", "full"))
    assert one.drop_columns(["cluster_id"]).equals(other.drop_columns(["cluster_id"]))
    assert partition_of(one) == partition_of(other)


def test_clusters_keep_their_ids_as_they_grow(synthetic: Path, night: Path, tmp_path: Path) -> None:
    gallery = _changed(synthetic, tmp_path)
    dedup(tmp_path / "after", gallery.uri, since=str(night))
    before, after = (members_of(read_clusters(path)) for path in (night, tmp_path / "after"))
    kept = before.keys() & after.keys()
    assert all(before[name] & after[name] for name in kept)
    grown = [name for name in kept if after[name] - before[name]]
    assert len(grown) >= 3
    assert len(after) == len(set(after))


def test_nobody_who_is_deleted_is_in_the_result(synthetic: Path, night: Path, tmp_path: Path) -> None:
    gallery = Gallery.open(str(shutil.copytree(synthetic, tmp_path / "G")))
    gone = set(read_pairs(night)["subject_a"].to_pylist()[:20])
    lifecycle.delete(gallery, gone, suppress=None)
    for name, since in (("full", None), ("after", str(night))):
        report = dedup(tmp_path / name, gallery.uri, since=since)
        rows = read_pairs(tmp_path / name)
        assert rows.num_rows > 0
        assert not gone & {*rows["subject_a"].to_pylist(), *rows["subject_b"].to_pylist()}
        assert not gone & {*read_clusters(tmp_path / name)["subject_id"].to_pylist()}
        assert report["templates"] == 300 - len(gone)
    assert report["pairs_compared"] == 0
    # And they are found again once they are back.
    second = tmp_path / "after"
    lifecycle.rollback(gallery, 1)
    back = dedup(tmp_path / "back", gallery.uri, since=str(second))
    assert back["fresh_templates"] == len(gone)
    assert read_pairs(tmp_path / "back").equals(read_pairs(night))


def test_only_new_pairs_are_found_since_a_version(synthetic: Path, night: Path, tmp_path: Path) -> None:
    gallery = Gallery.open(str(shutil.copytree(synthetic, tmp_path / "G")))
    lifecycle.enroll(gallery, [people_of(300, 40, 2)], "append")
    dedup(tmp_path / "new", gallery.uri, since_version=1)
    dedup(tmp_path / "all", gallery.uri)
    new = {tuple(row.values()) for row in read_pairs(tmp_path / "new").to_pylist()}
    every = {tuple(row.values()) for row in read_pairs(tmp_path / "all").to_pylist()}
    old = {tuple(row.values()) for row in read_pairs(night).to_pylist()}
    assert new == every - old
    assert new
    # Such a result is not a whole one, and cannot be brought up to date.
    refused = job_here("dedup", *command_words(gallery.uri, tmp_path / "x"), "--since", tmp_path / "new")
    assert refused.returncode == 6
    assert "since" in refused.stderr


# disturbances


@pytest.mark.parametrize("victim", [pytest.param("worker", marks=pytest.mark.slow), "driver"])
@pytest.mark.slow
def test_a_kill_costs_no_row(
    victim: str, synthetic: Path, night: Path, cluster: Cluster, tmp_path: Path
) -> None:
    output = tmp_path / "R"
    command = [sys.executable, "jobs/dedup.py", *map(str, command_words(synthetic, output))]
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as job:
        until(lambda: any(output.glob("pairs/part-*.parquet")), job)
        until(lambda: bool(cluster.actor_pids("Dedup")), job)
        os.kill(cluster.actor_pids("Dedup")[0] if victim == "worker" else job.pid, signal.SIGKILL)
        code = job.wait(300)
    assert (code == 0) == (victim == "worker")
    done = {path: path.stat().st_mtime_ns for path in output.glob("pairs/part-*.parquet")}
    again = dedup_job(cluster, *command_words(synthetic, output))
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert len(list(output.glob("pairs/part-*.parquet"))) == 78
    assert read_pairs(output).equals(read_pairs(night))
    assert read_clusters(output).equals(read_clusters(night))


def test_a_run_goes_on_with_the_version_that_it_began_with(
    synthetic: Path, night: Path, tmp_path: Path
) -> None:
    gallery, output = Gallery.open(str(shutil.copytree(synthetic, tmp_path / "G"))), tmp_path / "R"
    shutil.copytree(night, output)
    for name in ("_SUCCESS", "clusters.parquet", "pairs/part-000003.parquet"):
        (output / name).unlink()
    damaged = output / "pairs/part-000005.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    lifecycle.enroll(gallery, [people_of(300, 40, 2)], "append")
    done = job_here("dedup", *command_words(gallery.uri, output))
    assert done.returncode == 0, done.stderr
    assert "begun with 1" in done.stderr
    assert read_pairs(output).equals(read_pairs(night))


@pytest.mark.slow
def test_too_many_pairs_are_an_error_and_a_larger_limit_goes_on(
    synthetic: Path, night: Path, cluster: Cluster, tmp_path: Path
) -> None:
    refused = dedup_job(cluster, *command_words(synthetic, tmp_path / "R"), "--max-pairs", 20)
    assert refused.returncode == 6
    assert "--threshold" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "R/_SUCCESS").exists()
    assert dedup_job(cluster, *command_words(synthetic, tmp_path / "R")).returncode == 0
    assert read_pairs(tmp_path / "R").equals(read_pairs(night))


def test_a_dry_run_says_the_work_and_writes_nothing(synthetic: Path, tmp_path: Path) -> None:
    plan = job_here("dedup", *command_words(synthetic, tmp_path / "R"), "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert "44,850 pairs" in plan.stdout
    assert not (tmp_path / "R").exists()

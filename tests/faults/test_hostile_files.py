"""Ten thousand mutated photos, and files that are none, through the enroll job: each ends in one status."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from enrollment import content, enroll, write_manifest
from kill_points import Bench

SEED, MANY = 2026, 1000
LOCAL = ("--executor", "local")


def statuses(output: Path) -> list[dict[str, Any]]:
    """Of every row, once it is clear that each has one."""
    rows: list[dict[str, Any]] = content(output, "images").to_pylist()
    for row in rows:
        assert (row["status"] == "rejected") == (row["reason"] is not None)
        assert (row["status"] == "ok") == (row["faces"] > 0)
    return rows


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_photos_cost_no_worker_and_no_other_photo(
    count: int, photos: list[Path], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Many in a cluster, a few in the processes of this machine."""
    from mutants import mutants

    originals = [photo.read_bytes() for photo in photos]
    data = [*mutants(originals, count, SEED), originals[0]]
    table = pa.table({"image_id": [f"m{n:05d}" for n in range(len(data))], "image_bytes": data})
    pq.write_table(table, tmp_path / "m.parquet")
    parts = f"resources.part_rows={max(50, count // 20)}"
    if count > MANY:
        bench: Bench = request.getfixturevalue("bench")
        done = enroll(tmp_path / "m.parquet", tmp_path / "out", "--set", parts, **bench.environment)
    else:
        done = enroll(tmp_path / "m.parquet", tmp_path / "out", "--set", parts, *LOCAL)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    rows = statuses(tmp_path / "out")
    assert [row["image_id"] for row in rows] == table["image_id"].to_pylist()
    counts = Counter(row["reason"] or row["status"] for row in rows)
    sys.stdout.write(f"{count} mutated photos: {dict(counts.most_common())}\n")
    assert rows[-1]["status"] == "ok"
    assert counts["ok"] > count / 10
    assert counts.total() - counts["ok"] - counts["no_face"] > count / 10
    assert {row["attempts"] for row in rows} == {1}


def test_files_that_are_no_photos_are_rejected_and_nothing_leads_out(
    photos: list[Path], tmp_path: Path
) -> None:
    from awkward import lay_out, links_out

    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    ends = lay_out(root)
    good = root / "good.jpg"
    good.write_bytes(photos[0].read_bytes())
    files = [*(root / name for name in ends), good]
    words = ("--set", f"storage.roots=[{root}]", "--set", "resources.part_rows=16")

    def run(some: list[Path]) -> subprocess.CompletedProcess[str]:
        manifest = write_manifest(tmp_path / "m.csv", some)
        return enroll(manifest, tmp_path / "out", *words, *LOCAL)

    refused = run([*files, *links_out(root, outside)])
    assert refused.returncode == 3
    assert "3 rows with an image_uri outside storage.roots" in refused.stderr
    done = run(files)
    assert done.returncode == 0, done.stderr
    rows = statuses(tmp_path / "out")
    found = {file.name: row["reason"] or row["status"] for file, row in zip(files, rows, strict=True)}
    assert found.pop("good.jpg") == "ok"
    assert {name: end for name, end in found.items() if end not in ends[name]} == {}
    assert {row["attempts"] for row in rows} == {1}
    assert "escape" not in done.stderr + done.stdout

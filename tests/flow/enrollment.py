"""Run jobs as a user does, or in this process, and compare what enroll leaves."""

from __future__ import annotations

import csv
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frpipe.runtime.runtime import Runtime
from frpipe.testing.executors import InThisProcess

ROOT = Path(__file__).resolve().parents[2]
NOT_CONTENT = ("fetch_ms", "decode_ms", "detect_ms", "align_ms", "embed_ms")


def enroll(
    manifest: object, output: object, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`python jobs/enroll.py` to its end."""
    return subprocess.run(
        command(manifest, output, *arguments),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def job_here(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    """`python jobs/NAME.py` in this process, with all its workers: no cluster is asked for."""
    main = runpy.run_path(str(ROOT / f"jobs/{name}.py"))["main"]
    arguments = [str(word) for word in words]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
        patch.setattr(Runtime, "open", InThisProcess.open)
        patch.setattr(Runtime, "nodes", InThisProcess.nodes)
        with redirect_stderr(StringIO()) as err:
            code = main(arguments)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def enroll_here(manifest: object, output: object, *arguments: object) -> Path:
    """The finished output of the enroll job in this process."""
    done = job_here("enroll", "--manifest", manifest, "--output", output, *arguments)
    assert done.returncode == 0, done.stderr
    return Path(str(output))


def until(condition: Callable[[], bool], job: subprocess.Popen[Any]) -> None:
    """Wait for what a job does before it ends."""
    while True:
        ended = job.poll() is not None
        if condition():
            return
        assert not ended, "the job ended before it could be disturbed"
        time.sleep(0.01)


def command(manifest: object, output: object, *arguments: str) -> list[str]:
    return [
        sys.executable,
        "jobs/enroll.py",
        "--manifest",
        str(manifest),
        "--output",
        str(output),
        *arguments,
    ]


def write_manifest(path: Path, photos: list[Path], **columns: list[str]) -> Path:
    """A CSV manifest with ids that are not the paths."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image_id", "image_uri", *columns))
        for index, photo in enumerate(photos):
            writer.writerow((f"id-{index:04d}", photo, *(values[index] for values in columns.values())))
    return path


def content(output: Path, table: str) -> pa.Table:
    """All rows of `images` or `faces`, in the order of ids, without what measures time."""
    rows = pq.read_table(output / table)
    key = "image_id" if table == "images" else "face_id"
    return rows.drop_columns([n for n in NOT_CONTENT if n in rows.column_names]).sort_by(key)

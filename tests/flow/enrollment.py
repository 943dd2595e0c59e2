"""Run the enroll job as a user does, and compare what it leaves."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

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

"""The job as a contestant, and its output as faces to compare."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from agreement import Faces, group
from race import FEW, Side


def job(name: str, shared: Path, *settings: str) -> Side:
    """`python jobs/enroll.py` on a private Ray, with settings `key=value`."""
    words = [word for setting in settings for word in ("--set", setting)]

    def command(manifest: Path, output: Path) -> list[str]:
        return [
            sys.executable,
            "jobs/enroll.py",
            "--manifest",
            str(manifest),
            "--output",
            str(output),
            *words,
        ]

    # A few photos would be done without Ray, and the start of it would count as work on the others.
    few_words = (
        "--set",
        f"resources.part_rows={max(1, FEW // len(os.sched_getaffinity(0)))}",
        "--executor",
        "ray",
    )
    return Side(name, command, {"FRPIPE_MODEL_DIR": str(shared / "models")}, few_words)


def faces_of(output: Path) -> Faces:
    """What the job found."""
    table = pq.read_table(output / "faces")
    boxes = np.stack([table[f"box_{side}"].to_numpy() for side in ("x1", "y1", "x2", "y2")], axis=1)
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
    return group(table["image_uri"].to_pylist(), boxes, vectors)

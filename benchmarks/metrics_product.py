"""What counting costs on top of the products that give the scores, in a block and in the whole job."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from match_data import DIM, unit_vectors
from match_memory import HASH

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array
from frpipe.gallery.spec import GallerySpec
from frpipe.jobs.evaluate.all_pairs.blocks import TILE, Counting, LabelledTemplates, scored
from frpipe.jobs.evaluate.all_pairs.job import AllPairs

_ROWS = 16_384
# Templates of one person.
_EACH = 3
_THRESHOLD = 0.3


def product(rounds: int) -> dict[str, Any]:
    """`sgemm / ours` of CPU seconds for two blocks, in turns; sgemm: the same tiles, and nothing else."""
    cv2.setNumThreads(1)
    a, b = _block(0), _block(1)
    plain, errors = Counting(), Counting((_THRESHOLD,))
    sides: dict[str, Callable[[], Any]] = {
        "sgemm": lambda: _sgemm(a, b),
        "counted": lambda: scored(a, b, plain),
        "with_errors_by_template": lambda: scored(a, b, errors),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            begin = time.process_time()
            side()
            seconds[name].append(time.process_time() - begin)
    pairs = {name: zip(seconds["sgemm"], values, strict=True) for name, values in seconds.items()}
    return {
        "ns_per_score": {name: round(min(values) / _ROWS**2 * 1e9, 2) for name, values in seconds.items()},
        **{
            f"{name}_to_sgemm": round(statistics.median(bare / own for bare, own in pairs[name]), 3)
            for name in ("counted", "with_errors_by_template")
        },
    }


def _block(number: int) -> LabelledTemplates:
    ids = np.arange(number * _ROWS, (number + 1) * _ROWS) // _EACH
    vectors = unit_vectors(_ROWS, seed=number + 1)
    return LabelledTemplates(pa.array([f"person-{i}" for i in ids]), pa.nulls(_ROWS, pa.string()), vectors)


def _sgemm(a: LabelledTemplates, b: LabelledTemplates) -> None:
    high, wide = TILE
    room = np.empty(TILE, np.float32)
    for top in range(0, _ROWS, high):
        for left in range(0, _ROWS, wide):
            np.matmul(a.vectors[top : top + high], b.vectors[left : left + wide].T, out=room)


def job(scores: int) -> dict[str, Any]:
    """The all-pairs job through Ray over a gallery of as many templates as make so many pairs."""
    rows = int(np.sqrt(2 * scores)) + 1
    with tempfile.TemporaryDirectory(prefix="frpipe-bench-") as name:
        folder = Path(name)
        _gallery(folder / "few", 2)
        _gallery(folder / "all", rows)
        fixed = _seconds(folder, "few")
        whole = _seconds(folder, "all")
    pairs = rows * (rows - 1) // 2
    return {
        "templates": rows,
        "scores": pairs,
        "fixed_s": round(fixed, 2),
        "job_s": round(whole, 2),
        "million_per_s": round(pairs / (whole - fixed) / 1e6, 1),
    }


def _seconds(folder: Path, name: str) -> float:
    begin = time.perf_counter()
    AllPairs(str(folder / f"R-{name}"), gallery=str(folder / name), thresholds=(_THRESHOLD,)).run()
    return time.perf_counter() - begin


def _gallery(uri: Path, rows: int) -> None:
    """Three templates a person, all of them strangers to each other."""
    gallery = Gallery.create(str(uri), GallerySpec(DIM, HASH, HASH, HASH))
    step = 16_384 // _EACH * _EACH
    tables = (
        pa.table(
            {
                "subject_id": [f"person-{row // _EACH:08d}" for row in range(start, min(rows, start + step))],
                "face_id": [f"face-{row:08d}" for row in range(start, min(rows, start + step))],
                "embedding": vector_array(unit_vectors(min(step, rows - start), seed=start + 1)),
            }
        )
        for start in range(0, rows, step)
    )
    lifecycle.enroll(gallery, tables)

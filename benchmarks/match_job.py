"""The whole identification job through Ray against the engine alone, on synthetic probes and a gallery."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from cpu_time import Usage, measure
from match_data import Floats, unit_vectors
from match_memory import HASH, build
from threadpoolctl import threadpool_limits

from frpipe.gallery.gallery import Gallery
from frpipe.gallery.search_view import SearchView
from frpipe.io.output import run
from frpipe.io.output.parts import PartFile, check_part, write_part
from frpipe.io.storage.folder import Folder
from frpipe.matching.topk import TopK

PROBES, FEW, K = 32_768, 16, 10
_PART = 2048
_METADATA = {f"frpipe.{name}_hash": HASH for name in ("embedder", "preprocessing", "detector")}


def job(rows: int) -> dict[str, Any]:
    """`engine / job` of seconds, with the start of Ray and without; the start is a job of a few probes."""
    with tempfile.TemporaryDirectory(prefix="frpipe-bench-") as name:
        folder = Path(name)
        gallery = build(str(folder / "gallery"), rows)
        for probes in (FEW, PROBES):
            features(folder / f"features-{probes}", probes)
        fixed, whole = (_run(folder, probes) for probes in (FEW, PROBES))
        engine_s = _engine_s(gallery)
    return {
        "probes": PROBES,
        "k": K,
        "fixed_s": round(fixed.wall_s, 2),
        "job_s": round(whole.wall_s, 2),
        "engine_s": round(engine_s, 2),
        "to_engine": round(engine_s / (whole.wall_s - fixed.wall_s), 3),
        "to_engine_with_start": round(engine_s / whole.wall_s, 3),
        "peak_pss_mb": round(whole.pss_mb),
    }


def features(folder: Path, probes: int) -> None:
    """As `features_of`, of synthetic vectors."""
    parts = -(-probes // _PART)
    vectors = [unit_vectors(min(_PART, probes - _PART * part), seed=100 + part) for part in range(parts)]
    features_of(folder, np.concatenate(vectors))


def features_of(folder: Path, vectors: Floats) -> None:
    """What an enroll run of so many photos with a face each would leave, as far as this job reads it."""
    probes = len(vectors)
    out = Folder.at(str(folder))
    run.claim(out, {"manifest": "0" * 64}, {"manifest": "synthetic", "created": "2026-01-01T00:00:00+00:00"})
    files: list[PartFile] = []
    for part, start in enumerate(range(0, probes, _PART)):
        ids = [f"photo-{row:08d}" for row in range(start, min(probes, start + _PART))]
        write_part(out, part, _images(ids), _faces(ids, vectors[start : start + _PART]), _METADATA)
        files += check_part(out, part)[:2]
    run.seal(out, files, {"faces": probes}, "")


def _images(ids: list[str]) -> pa.Table:
    nothing = pa.nulls(len(ids), pa.string())
    return pa.table(
        {
            "image_id": ids,
            "image_uri": ids,
            "subject_id": nothing,
            "status": ["ok"] * len(ids),
            "reason": nothing,
            "faces": pa.array([1] * len(ids), pa.int32()),
            "width": pa.array([100] * len(ids), pa.int32()),
            "height": pa.array([100] * len(ids), pa.int32()),
        }
    )


def _faces(ids: list[str], vectors: Floats) -> pa.Table:
    numbers = pa.array(vectors.reshape(-1))
    field = pa.field("item", pa.float32(), False)
    return pa.table(
        {
            "face_id": [f"{name}#0" for name in ids],
            "image_id": ids,
            "image_uri": ids,
            "face_index": pa.array([0] * len(ids), pa.int32()),
            "subject_id": pa.nulls(len(ids), pa.string()),
            **dict.fromkeys(
                ("box_x1", "box_y1", "box_x2", "box_y2"), pa.array([1.0] * len(ids), pa.float32())
            ),
            "embedding": pa.FixedSizeListArray.from_arrays(numbers, type=pa.list_(field, vectors.shape[1])),
        }
    )


def _run(folder: Path, probes: int) -> Usage:
    words = ["--probes", f"{folder}/features-{probes}", "--gallery", f"{folder}/gallery"]
    words += ["--output", f"{folder}/found-{probes}", "--threshold", "0.4", "--top", str(K)]
    return measure([sys.executable, "jobs/identify.py", *words], {"OMP_NUM_THREADS": "1"})


def _engine_s(gallery: Gallery) -> float:
    """The same probes and templates, in this process, on all cores; probes as they lie in memory."""
    threads = len(os.sched_getaffinity(0))
    probes = [unit_vectors(_PART, seed=100 + part) for part in range(PROBES // _PART)]
    begin = time.perf_counter()
    with threadpool_limits(1):
        for pair in zip(probes[::2], probes[1::2], strict=True):
            found = TopK(np.concatenate(pair), K, threads=threads)
            for subject_ids, vectors in SearchView(gallery.snapshot(), {}).blocks():
                found.add(subject_ids, vectors)
            found.result()
    return time.perf_counter() - begin

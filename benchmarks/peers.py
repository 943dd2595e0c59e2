"""The enroll job against a loop of insightface's FaceAnalysis with the same weights, per CPU-second."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from agreement import Faces, agreement, group
from chain import Workers
from duel import duel
from job import faces_of, job
from peer_loop import analyse, prepared
from photos import lfw
from race import Side, race

from frpipe.models.registry import Registry

DETECTOR, EMBEDDER = "scrfd_500m", "edgeface_xs_q"
# 640 is what its documentation uses; 256 is the best for photos of this size.
DET_SIZES = (640, 256)
PHOTOS_WITHOUT_RAY = 128


def peers(shared: Path, most: int | None, rounds: int) -> dict[str, Any]:
    """`ours / insightface` of photos per CPU-second: above 1 the job is faster."""
    if find_spec("insightface") is None:
        return {"skipped": "pip install --no-deps insightface==2.1"}
    photos = lfw(shared, most)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        models = _model_folder(scratch / "models")
        sides = [
            job("ours", shared, f"detect.model={DETECTOR}", f"embed.model={EMBEDDER}"),
            *(_insightface(size, models) for size in DET_SIZES),
        ]
        costs = race(sides, photos, scratch, rounds)
        ours = faces_of(scratch / "ours-0")
        report: dict[str, Any] = {"models": f"{DETECTOR} + {EMBEDDER}", "photos": len(photos)}
        report["without_ray"] = _without_ray(lfw(shared, PHOTOS_WITHOUT_RAY), models, scratch)
        for side in sides[1:]:
            theirs = costs[side.name]
            report[side.name] = {
                "rows_per_cpu_s": round(theirs.marginal_cpu_ms / costs["ours"].marginal_cpu_ms, 3),
                "rows_per_cpu_s_with_start": round(theirs.cpu_ms / costs["ours"].cpu_ms, 3),
                "agreement": agreement(ours, _faces(scratch / f"{side.name}-0")),
                **theirs.as_dict(),
            }
    return report | {"ours": costs["ours"].as_dict()}


def _without_ray(photos: list[Path], models: Path, scratch: Path) -> dict[str, Any]:
    """Both in this process, in turns of seconds: steady on a busy machine."""
    workers = Workers(DETECTOR, EMBEDDER, photos, scratch)
    names = [str(photo) for photo in photos]
    report = {}
    for size in DET_SIZES:
        app = prepared(str(models), size)
        report[f"insightface_{size}"] = duel(workers.run, partial(analyse, app, names), len(names), 3)
    return report


def _model_folder(folder: Path) -> Path:
    """insightface takes every ONNX file of a folder, the roles by their outputs."""
    folder.mkdir()
    registry = Registry.default()
    for role, name in (("detector", DETECTOR), ("embedder", EMBEDDER)):
        card = registry.card_for(role, name)
        (folder / card.file).symlink_to(registry.find(card))
    return folder


def _insightface(size: int, models: Path) -> Side:
    def command(manifest: Path, output: Path) -> list[str]:
        return [
            sys.executable,
            "benchmarks/peer_loop.py",
            *("--manifest", str(manifest), "--models", str(models)),
            *("--output", str(output), "--det-size", str(size)),
        ]

    return Side(f"insightface_{size}", command)


def _faces(output: Path) -> Faces:
    table = pq.read_table(output)
    boxes, vectors = (np.stack(table[name].to_numpy()) for name in ("box", "embedding"))
    return group(table["path"].to_pylist(), boxes, vectors)

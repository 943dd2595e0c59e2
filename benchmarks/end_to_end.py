"""The enroll job through Ray against the hand-written loop of reference.py, same models, same photos."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pyarrow.parquet as pq
from agreement import Faces, agreement, group
from graphs import rewritten
from job import faces_of, job
from photos import lfw
from race import Cost, Side, race

from frpipe.models.registry import Registry

DETECTOR = "yunet_2023mar"


@dataclass(frozen=True, slots=True)
class Pack:
    """A pair of models. scale: the (mean, std) that the embedder wants; none: raw RGB."""

    name: str
    embedder: str
    scale: tuple[str, ...] = ()


PACKS = (Pack("default", "sface_2021dec"), Pack("light", "edgeface_xs_q", ("127.5", "127.5")))


def end_to_end(shared: Path, most: int | None, rounds: int) -> dict[str, Any]:
    """Ratios `ours / reference` of rows per CPU-second and per second: above 1 the job is faster."""
    photos = lfw(shared, most)
    return {pack.name: _pack(pack, shared, photos, rounds) for pack in PACKS}


def _pack(pack: Pack, shared: Path, photos: list[Path], rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        models = [
            graph(scratch, "detector", DETECTOR),
            graph(scratch, "embedder", pack.embedder),
        ]
        sides = [
            job("ours", shared, f"detect.model={DETECTOR}", f"embed.model={pack.embedder}"),
            _reference("reference", models, pack.scale, 1),
            _reference("reference_threads", models, pack.scale, len(os.sched_getaffinity(0))),
        ]
        costs = race(sides, photos, scratch, rounds)
        same = agreement(faces_of(scratch / "ours-0"), _faces(scratch / "reference-0"))
    return {
        "models": f"{DETECTOR} + {pack.embedder}",
        "photos": len(photos),
        "rounds": rounds,
        **_ratios(costs["ours"], costs["reference"], costs["reference_threads"]),
        "agreement": same,
        **{name: cost.as_dict() for name, cost in costs.items()},
    }


def _ratios(ours: Cost, reference: Cost, threaded: Cost) -> dict[str, float]:
    return {
        "rows_per_cpu_s": round(reference.marginal_cpu_ms / ours.marginal_cpu_ms, 3),
        "rows_per_cpu_s_with_start": round(reference.cpu_ms / ours.cpu_ms, 3),
        "rows_per_s": round(threaded.marginal_wall_ms / ours.marginal_wall_ms, 3),
        "rows_per_s_with_start": round(threaded.wall_ms / ours.wall_ms, 3),
        "fixed_s": round(ours.fixed.wall_s, 2),
    }


def graph(folder: Path, role: Literal["detector", "embedder"], name: str) -> str:
    """The same graph as the job runs, so that the two differ in all else but that."""
    path = folder / f"{name}.onnx"
    onnx.save(rewritten(Registry.default().card_for(role, name)), path)
    return str(path)


def _reference(name: str, models: list[str], scale: tuple[str, ...], threads: int) -> Side:
    words = ("--scale", *scale) if scale else ()

    def command(manifest: Path, output: Path) -> list[str]:
        return [
            sys.executable,
            "benchmarks/reference.py",
            *("--manifest", str(manifest), "--output", str(output)),
            *("--detector", models[0], "--embedder", models[1], "--threads", str(threads), *words),
        ]

    return Side(name, command)


def _faces(output: Path) -> Faces:
    table = pq.read_table(output)
    boxes, vectors = (np.stack(table[name].to_numpy()) for name in ("box", "embedding"))
    return group(table["path"].to_pylist(), boxes, vectors)

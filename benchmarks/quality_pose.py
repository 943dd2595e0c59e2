"""Pose from five points, on photos whose pose is known roughly: for benchmarks/quality.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from frpipe.core.config import Config
from frpipe.vision.quality.pose import pose_of_points

Array = np.ndarray[Any, Any]
OTHER = "retinaface_mnet025"
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


def posed(data: Path, config: Config, bench: Any, lfw: Sequence[Path]) -> dict[str, Any]:
    """Percentiles of |yaw|, pitch, |roll| by set; of two detectors how far apart; the head fitted anew."""
    cfp = sorted((data / "cfp/images").glob("*/*/*.jpg"))
    other = config.model_copy(update={"detect": config.detect.model_copy(update={"model": OTHER})})
    points = {each.detect.model: _points(bench(each), cfp) for each in (config, other)}
    report: dict[str, Any] = {"lfw": _percentiles(np.array([*_points(bench(config), lfw).values()]))}
    for side in ("frontal", "profile"):
        both = [
            path for path in cfp if path.parent.name == side and all(path in some for some in points.values())
        ]
        angles = {}
        for name, some in points.items():
            marks = np.array([some[path] for path in both])
            report[f"cfp {side}, {name}"] = _percentiles(marks)
            angles[name] = np.array(pose_of_points(marks))
        one, two = angles.values()
        apart = np.abs(one - two).mean(axis=1).round(1).tolist()
        signs = float((np.sign(one[0]) == np.sign(two[0])).mean())
        report[f"cfp {side}, apart"] = {"yaw pitch roll": apart, "signs of yaw agree": round(signs, 3)}
    heads = [
        _head(np.array([*some.values()]), np.array([p.parent.name == "frontal" for p in some]))
        for some in points.values()
    ]
    report["head"] = np.mean(heads, axis=0).round(2).tolist()
    return report


def _points(bench: Any, paths: Sequence[Path]) -> dict[Path, Array]:
    outcomes = bench.locate(path.read_bytes() for path in paths)
    found = zip(paths, outcomes, strict=True)
    return {path: each.faces.points[0].astype(np.float64) for path, each in found if len(each.faces)}


def _percentiles(points: Array) -> dict[str, list[float]]:
    yaw, pitch, roll = pose_of_points(points)
    angles = {"|yaw|": np.abs(yaw), "pitch": pitch, "|roll|": np.abs(roll)}
    return {name: np.percentile(each, PERCENTILES).round(1).tolist() for name, each in angles.items()}


def _head(points: Array, is_frontal: Array) -> Array:
    """(5, 3): a rigid head by factorisation under scaled orthography (Tomasi and Kanade, 1992), symmetric.

    x to the viewer's right, y down, z away; the middle of the eyes at 0, that of the mouth at (0, 1, z).
    """
    count = len(points)
    middle = points[:, 3:].mean(axis=1) - points[:, :2].mean(axis=1)
    marks = (points - points.mean(axis=1, keepdims=True)) / np.linalg.norm(middle, axis=1)[:, None, None]
    left, sizes, right = np.linalg.svd(np.concatenate([marks[..., 0], marks[..., 1]]), full_matrices=False)
    motion = left[:, :3] * sizes[:3]
    i, j = motion[:count], motion[count:]
    rows = np.concatenate(
        [_products(i, i) - _products(j, j), _products(i, j), _products(i, i).mean(0)[None] * count**0.5]
    )
    target = np.concatenate([np.zeros(2 * count), [count**0.5]])
    a, b, c, d, e, f = np.linalg.lstsq(rows, target, rcond=None)[0]
    values, vectors = np.linalg.eigh(np.array([[a, b, c], [b, d, e], [c, e, f]]))
    metric = vectors * np.sqrt(values)
    shape, motion = np.linalg.inv(metric) @ right[:3], motion @ metric
    x = motion[:count][is_frontal].mean(axis=0)
    y = motion[count:][is_frontal].mean(axis=0)
    x /= np.linalg.norm(x)
    y = y - x * (x @ y)
    y /= np.linalg.norm(y)
    found = (np.stack([x, y, np.cross(x, y)]) @ shape).T
    found[:, 2] *= np.sign(found[:2, 2].mean() - found[2, 2])  # the nose is nearer than the eyes
    found -= found[:2].mean(axis=0)
    found /= np.linalg.norm(found[3:, :2].mean(axis=0))
    mirrored = (found * (-1, 1, 1))[[1, 0, 2, 4, 3]]
    return (found + mirrored) / 2


def _products(one: Array, other: Array) -> Array:
    x, y = one.T, other.T
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    return np.stack([x[a] * y[a] if a == b else x[a] * y[b] + x[b] * y[a] for a, b in pairs], axis=1)

"""What the networks of the stage `pad` say of photos whose colour is taken away."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2

from frpipe.metrics.intervals import clopper_pearson


def compared(bench: Any, sets: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """By set, system and tone: how many photos are taken for bona fide at the threshold, and of how many."""
    tones: Mapping[str, Callable[[Path], bytes]] = {"in colour": Path.read_bytes, "grey": _grey}
    report: dict[str, Any] = {}
    for name, paths in sets.items():
        for tone, read in tones.items():
            faces = [each for each in bench.faces(read(path) for path in paths) if each.crops]
            for system_name, system in bench.systems.items():
                passed = int((system.scores(faces) >= system.threshold).sum())
                low, high = clopper_pearson(passed, len(faces))
                report[f"{name}, {system_name}, {tone}"] = {
                    "accepted": passed,
                    "of": len(faces),
                    "low": round(float(low), 4),
                    "high": round(float(high), 4),
                }
    return report


def _grey(path: Path) -> bytes:
    return cv2.imencode(".png", cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))[1].tobytes()

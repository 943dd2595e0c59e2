"""The thresholds of embedders with a detector: similarities at false match rates, over all pairs of LFW.

    python benchmarks/thresholds.py ../shared/data retinaface_mv1_025
    python benchmarks/thresholds.py ../shared/data yunet_2023mar --embedders sface_2021dec --photos 2000

Faces are found and aligned once, as enroll does it (the face nearest the centre), and embedded by each
embedder whose weights are here. Photos under one name are mated; LFW has some under a wrong name, which tells
in rates below 1e-5. A threshold is the lowest similarity at which at most that share of the non-mated pairs
match; `tar` is the share of the mated ones that do. `interval` holds 95 % of the thresholds that 1,000
resamples of the people give: pairs share photos and people, and are not independent. The last line printed is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from frpipe.core.config import Config, EmbedConfig, PoolConfig
from frpipe.jobs.face_pipeline import pipeline_of
from frpipe.models.loading import load_embedder
from frpipe.models.registry import Registry

Array = np.ndarray[Any, Any]
RATES = (1e-3, 1e-4, 1e-5)
RESAMPLES = 1000
_STEP = 500


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with lfw")
    parser.add_argument("detector", metavar="CARD")
    parser.add_argument("--embedders", nargs="+", metavar="CARD", help="default: all whose weights are here")
    parser.add_argument("--photos", type=int, help="so many, spread over the people (default: all)")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    registry = Registry.default()
    names = options.embedders or [
        card.name for card in registry.cards().values() if card.embedder and registry.locate(card)
    ]
    people, crops = aligned(options.data, options.detector, options.photos)
    report: dict[str, Any] = {"detector": options.detector, "faces": len(people)}
    for name in names:
        card = registry.card_for("embedder", name)
        vectors = load_embedder(card, EmbedConfig(), PoolConfig()).embed(crops)
        report[name] = measured(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), people)
        suggested = card.embedder.threshold if card.embedder else None
        report[name]["card"] = suggested.similarity if suggested else None
        print(f"{name}: {json.dumps(report[name])}", flush=True)
    print(json.dumps(report))


def aligned(data: Path, detector: str, most: int | None) -> tuple[Array, Array]:
    """Number of the person of each face, and the faces (n, 112, 112, 3)."""
    paths = sorted((data / "lfw/images").glob("*/*.jpg"))
    if most is not None and most < len(paths):
        paths = [paths[index] for index in np.linspace(0, len(paths) - 1, most).astype(int)]
    settings = {"detect": {"model": detector, "policy": "centre-largest"}}
    pipeline = pipeline_of(Config.model_validate(settings))
    _, numbers = np.unique([path.parent.name for path in paths], return_inverse=True)
    people, crops = [], []
    for start in range(0, len(paths), _STEP):
        for number, photo in enumerate(pipeline.locate(paths[start : start + _STEP]), start):
            people += [numbers[number]] * len(photo.crops)
            crops += photo.crops
        print(f"  {min(start + _STEP, len(paths))} of {len(paths)} photos", file=sys.stderr, flush=True)
    return np.array(people), np.stack(crops)


def measured(vectors: Array, people: Array) -> dict[str, Any]:
    """vectors: (n, dim), of unit length.  people: (n,)."""
    rows, columns = np.triu_indices(len(people), 1)
    scores = (vectors @ vectors.T)[rows, columns]
    is_mated = people[rows] == people[columns]
    mated, others = scores[is_mated], np.sort(scores[~is_mated])[::-1]
    # Resamples reach beyond the rate by little: four times as many of the nearest pairs will do.
    least = others[min(int(4 * max(RATES) * len(others)), len(others) - 1)]
    nearest = np.flatnonzero(~is_mated & (scores >= least))
    nearest = nearest[np.argsort(-scores[nearest])]
    intervals = resampled(
        scores[nearest], people[rows[nearest]], people[columns[nearest]], np.bincount(people)
    )
    result: dict[str, Any] = {"mated": len(mated), "non_mated": len(others)}
    for rate in RATES:
        allowed = int(rate * len(others))
        if allowed:
            threshold = float(np.nextafter(others[allowed], 2))
            result[f"fmr_{rate:g}"] = {
                "threshold": round(threshold, 3),
                "interval": intervals[rate],
                "tar": round(float(np.mean(mated >= threshold)), 4) if len(mated) else None,
            }
    return result


def resampled(scores: Array, one: Array, other: Array, photos: Array) -> dict[float, list[float]]:
    """95 % of the thresholds by rate, people being drawn with replacement.

    scores: (n,) of the nearest non-mated pairs, falling.  one, other: (n,) whose they are.
    photos: (people,) how many each has. Pairs of a person drawn twice with themselves are left out: they are
    mated.
    """
    random = np.random.default_rng(0)
    found: dict[float, list[float]] = {rate: [] for rate in RATES}
    for _ in range(RESAMPLES):
        drawn = random.multinomial(len(photos), np.full(len(photos), 1 / len(photos)))
        weights = np.cumsum(drawn[one] * drawn[other])
        faces = drawn * photos
        total = (int(faces.sum()) ** 2 - int((faces**2).sum())) / 2
        for rate in RATES:
            at = int(np.searchsorted(weights, rate * total, "right"))
            found[rate].append(float(scores[min(at, len(scores) - 1)]))
    return {rate: np.percentile(each, (2.5, 97.5)).round(3).tolist() for rate, each in found.items()}


if __name__ == "__main__":
    main()

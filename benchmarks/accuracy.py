"""Recognition and detection with one look at a photo and with all of them: LFW View 1, CFP, group photos.

    FRPIPE_MODEL_DIR=../shared/models python benchmarks/accuracy.py ../shared/data
    python benchmarks/accuracy.py ../shared/data --only cfp --detectors yunet_2023mar

`old` looks at a photo once, as the first recipes did; `new` is the default. Both run in this process, over
the same photos. A pair with a side that has no face counts as decided wrong. The photos and pairs that `new`
does worse at are listed, with what is known of them. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from groups import MIN_IOU, measure, read_truth

from frpipe.core.config import Config, DetectConfig, PoolConfig
from frpipe.jobs.face_pipeline import FacePipeline, pipeline_of
from frpipe.models.detectors.base import Detector
from frpipe.models.detectors.nms import iou
from frpipe.models.loading import load_detector
from frpipe.models.registry import Registry
from frpipe.stages.locate import Located
from frpipe.vision.view import roll_of

Array = np.ndarray[Any, Any]
DETECTORS = ("yunet_2023mar", "retinaface_mnet025", "scrfd_500m", "scrfd_2.5g")
LFW_EMBEDDERS = ("sface_2021dec", "edgeface_xs_q", "mobilefacenet_faceplugin")
CFP_EMBEDDER = "edgeface_xs_q"
OLD, NEW = "old", "new"
# Crops in one call of an embedder, and photos between two lines of progress.
_EMBED_ROWS, _STEP = 512, 500


@dataclass(frozen=True, slots=True)
class Pair:
    """Two photos, below a folder; fold: where it belongs when thresholds are chosen."""

    first: str
    second: str
    mated: bool
    fold: str


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with lfw, cfp and groups")
    parser.add_argument("--only", choices=("lfw", "cfp", "groups"), help="one section")
    parser.add_argument("--detectors", nargs="+", default=DETECTORS, metavar="CARD", help="of cfp and groups")
    parser.add_argument(
        "--details", type=int, default=60, metavar="N", help="photos and pairs listed at most"
    )
    options = parser.parse_args()
    cv2.setNumThreads(1)
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "lfw": lambda: lfw(options.data / "lfw", options.details),
        "cfp": lambda: cfp(options.data / "cfp", options.detectors, options.details),
        "groups": lambda: groups(options.data / "groups/faces", options.detectors),
    }
    report = {name: run() for name, run in sections.items() if options.only in (None, name)}
    print(json.dumps(report))


def lfw(folder: Path, details: int) -> dict[str, Any]:
    """View 1: the threshold of the training pairs, tested. YuNet, and each embedder."""
    train, test = (lfw_pairs(folder / f"pairsDev{name}.txt", name.lower()) for name in ("Train", "Test"))
    located = {side: _located(DETECTORS[0], side, folder / "images", train + test) for side in (OLD, NEW)}
    report: dict[str, Any] = {"photos": _outcomes(located, details)}
    for embedder in LFW_EMBEDDERS:
        vectors = _embedded(embedder, located)
        report[embedder] = _compared(located, vectors, [(train, test)], details)
        _say(f"lfw {embedder}", report[embedder])
    return report


def cfp(folder: Path, detectors: Sequence[str], details: int) -> dict[str, Any]:
    """Frontal against profile: each of two folds at the threshold of the other, with each detector."""
    pairs = cfp_pairs(folder / "pairs_FP.csv")
    folds = sorted({pair.fold for pair in pairs})
    splits = [
        ([pair for pair in pairs if pair.fold != fold], [pair for pair in pairs if pair.fold == fold])
        for fold in folds
    ]
    report: dict[str, Any] = {}
    for detector in detectors:
        located = {side: _located(detector, side, folder / "images", pairs) for side in (OLD, NEW)}
        vectors = _embedded(CFP_EMBEDDER, located)
        report[detector] = {
            "photos": _outcomes(located, details),
            CFP_EMBEDDER: _compared(located, vectors, splits, details),
        }
        _say(f"cfp {detector}", report[detector][CFP_EMBEDDER])
    return report


def groups(folder: Path, detectors: Sequence[str]) -> dict[str, Any]:
    """Recall and precision at IoU 0.5, and the faces that one side alone has right or wrong."""
    truth = read_truth(folder)
    names = sorted(truth)
    regions = [truth[name] for name in names]
    report: dict[str, Any] = {}
    for detector in detectors:
        found = {
            side: _pipeline(detector, side, "all").locate([folder / name for name in names])
            for side in (OLD, NEW)
        }
        report[detector] = {
            side: {
                **measure([photo.faces for photo in photos], regions),
                "refused": sum(photo.faces_refused or 0 for photo in photos),
            }
            for side, photos in found.items()
        }
        lost, odd = _changes(names, regions, found)
        report[detector] |= {"found_by_one_side": lost, "false_on_one_side": odd}
        _say(f"groups {detector}", {side: report[detector][side] for side in (OLD, NEW)})
    return report


def _changes(
    names: list[str], regions: list[Array], found: dict[str, list[Located]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Regions found by one side alone, and faces that are no region's and found by one side alone."""
    lost, odd = [], []
    for number, (name, boxes) in enumerate(zip(names, regions, strict=True)):
        faces = {side: photos[number].faces.boxes for side, photos in found.items()}
        hits = {side: _best_overlap(boxes, each) >= MIN_IOU for side, each in faces.items()}
        for row in np.flatnonzero(hits[OLD] != hits[NEW]):
            side = OLD if hits[OLD][row] else NEW
            match = int(iou(boxes[row][None], faces[side]).argmax())
            lost.append({"photo": name, "found_by": side, **_facts(found[side][number], match)})
        for side, other in ((OLD, NEW), (NEW, OLD)):
            wrong = _best_overlap(faces[side], boxes) < MIN_IOU
            alone = _best_overlap(faces[side], faces[other]) < MIN_IOU
            odd += [
                {"photo": name, "found_by": side, **_facts(found[side][number], int(row))}
                for row in np.flatnonzero(wrong & alone)
            ]
    return lost, odd


def _best_overlap(boxes: Array, others: Array) -> Array:
    """Of each box (k, 4) the largest overlap with another."""
    if not len(others):
        return np.zeros(len(boxes))
    return np.array([iou(box[None], others).max() for box in boxes], np.float64)


def _pipeline(detector: str, side: str, policy: str) -> FacePipeline:
    config = Config.model_validate({"detect": {"model": detector, "policy": policy}})
    return pipeline_of(config.single_look() if side == OLD else config)


def _located(detector: str, side: str, folder: Path, pairs: Iterable[Pair]) -> dict[str, Located]:
    """The outcome of every photo of the pairs, of each its face nearest the centre."""
    names = sorted({name for pair in pairs for name in (pair.first, pair.second)})
    pipeline = _pipeline(detector, side, "centre-largest")
    found: list[Located] = []
    for start in range(0, len(names), _STEP):
        found += pipeline.locate([folder / name for name in names[start : start + _STEP]])
        print(f"  {detector} {side}: {len(found)} of {len(names)} photos", file=sys.stderr, flush=True)
    return dict(zip(names, found, strict=True))


def _embedded(embedder: str, located: dict[str, dict[str, Located]]) -> dict[str, dict[str, Array]]:
    """Unit vectors by side and photo; a crop that both sides have is embedded once."""
    pipeline = pipeline_of(Config.model_validate({"embed": {"model": embedder}}))
    crops = {
        photo.crops[0].tobytes() for photos in located.values() for photo in photos.values() if photo.crops
    }
    known: dict[bytes, Array] = {}
    todo = list(crops)
    for start in range(0, len(todo), _EMBED_ROWS):
        chunk = todo[start : start + _EMBED_ROWS]
        vectors = pipeline.embed([np.frombuffer(crop, np.uint8).reshape(112, 112, 3) for crop in chunk])
        known |= zip(chunk, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True)
    return {
        side: {name: known[photo.crops[0].tobytes()] for name, photo in photos.items() if photo.crops}
        for side, photos in located.items()
    }


def _compared(
    located: dict[str, dict[str, Located]],
    vectors: dict[str, dict[str, Array]],
    splits: list[tuple[list[Pair], list[Pair]]],
    details: int,
) -> dict[str, Any]:
    """Accuracy on the tested pairs of each side, and the pairs that only the old one decides right."""
    report: dict[str, Any] = {}
    right: dict[str, list[bool]] = {}
    tested = [pair for _, test in splits for pair in test]
    for side, known in vectors.items():
        decided: list[bool] = []
        thresholds = []
        for train, test in splits:
            thresholds.append(best_threshold(similarities(train, known), mated(train)))
            decided += is_right(similarities(test, known), mated(test), thresholds[-1]).tolist()
        right[side] = decided
        report[side] = {
            "accuracy": round(float(np.mean(decided)), 4),
            "errors": len(decided) - sum(decided),
            "pairs_without_a_face": int(np.isnan(similarities(tested, known)).sum()),
            "thresholds": [round(each, 4) for each in thresholds],
        }
    report["pairs"] = len(tested)
    lost = [pair for pair, old, new in zip(tested, right[OLD], right[NEW], strict=True) if old and not new]
    won = [pair for pair, old, new in zip(tested, right[OLD], right[NEW], strict=True) if new and not old]
    report["pairs_lost_and_won"] = [len(lost), len(won)]
    report["lost"] = [_pair_facts(pair, located, vectors) for pair in lost[:details]]
    return report


def similarities(pairs: Sequence[Pair], vectors: dict[str, Array]) -> Array:
    """Cosines; NaN where a side has no face."""
    return np.array(
        [
            vectors[pair.first] @ vectors[pair.second]
            if pair.first in vectors and pair.second in vectors
            else np.nan
            for pair in pairs
        ]
    )


def mated(pairs: Sequence[Pair]) -> Array:
    return np.array([pair.mated for pair in pairs])


def is_right(similarity: Array, mated: Array, threshold: float) -> Array:
    """Which pairs are decided right at a threshold; none that lacks a face."""
    result: Array = ((similarity >= threshold) == mated) & ~np.isnan(similarity)
    return result


def best_threshold(similarity: Array, mated: Array) -> float:
    """The similarity that decides most pairs right; the middle of the best interval."""
    values = np.sort(similarity[~np.isnan(similarity)])
    middles = (values[:-1] + values[1:]) / 2
    scores = np.array([is_right(similarity, mated, value).mean() for value in middles])
    return float(middles[scores == scores.max()].mean())


def _outcomes(located: dict[str, dict[str, Located]], details: int) -> dict[str, Any]:
    """How the photos of each side ended, and those of which only the old one has a face."""
    report: dict[str, Any] = {}
    for side, photos in located.items():
        ends = Counter(photo.reason or photo.status.value for photo in photos.values())
        report[side] = {
            **ends,
            "turned": sum(bool(photo.turn_deg) for photo in photos.values()),
            "with_refused_faces": sum(bool(photo.faces_refused) for photo in photos.values()),
        }
    old, new = located[OLD], located[NEW]
    lost = [name for name in old if old[name].crops and not new[name].crops]
    turned = [name for name in new if new[name].turn_deg]
    report |= {
        "faces_lost": len(lost),
        "faces_won": sum(bool(new[name].crops and not old[name].crops) for name in old),
        "lost": [_photo_facts(name, located) for name in lost[:details]],
        "turned": [_photo_facts(name, located) for name in turned[:details]],
    }
    return report


def _pair_facts(
    pair: Pair, located: dict[str, dict[str, Located]], vectors: dict[str, dict[str, Array]]
) -> dict[str, Any]:
    cosines = {side: float(similarities([pair], known)[0]) for side, known in vectors.items()}
    return {
        "mated": pair.mated,
        **{f"cosine_{side}": None if np.isnan(each) else round(each, 4) for side, each in cosines.items()},
        "photos": [_photo_facts(name, located) for name in (pair.first, pair.second)],
    }


def _photo_facts(name: str, located: dict[str, dict[str, Located]]) -> dict[str, Any]:
    return {"photo": name, **{side: _facts(photos[name]) for side, photos in located.items()}}


def _facts(photo: Located, face: int = 0) -> dict[str, Any]:
    """What is known of one face of a photo, or of why there is none. judged: of its crop, as it is."""
    facts: dict[str, Any] = {"status": photo.status.value}
    if photo.reason or photo.detail:
        facts["why"] = f"{photo.reason or ''} {photo.detail or ''}".strip()
    if photo.turn_deg:
        facts["turn_deg"] = photo.turn_deg
    if photo.faces_refused:
        facts["refused"] = photo.faces_refused
    if face >= len(photo.crops):
        return facts
    box = photo.faces.boxes[face]
    facts |= {
        "score": round(float(photo.faces.scores[face]), 3),
        "judged": _judged(photo.crops[face]),
        "roll": round(roll_of(photo.faces.points[face]), 1),
        "box": [round(float(edge)) for edge in box],
    }
    if photo.candidates[face].is_refined:
        facts["refined"] = True
    return facts


def _judged(crop: Array) -> float:
    """The judge's score of an aligned face, 0 where it finds none."""
    (found,) = _judge().look([cv2.resize(crop, (64, 64), interpolation=cv2.INTER_AREA)], 0.05)
    return round(float(found.scores[0]), 3) if len(found) else 0.0


@lru_cache(maxsize=1)
def _judge() -> Detector:
    return load_detector(Registry.default().card_for("detector", DETECTORS[0]), DetectConfig(), PoolConfig())


def lfw_pairs(path: Path, fold: str) -> list[Pair]:
    """LFW's own file: `name a b` for one person, `name a other b` for two."""
    pairs = []
    for line in path.read_text().splitlines()[1:]:
        if words := line.split():
            other = words[-2] if len(words) == 4 else words[0]
            first, second = _lfw_photo(words[0], words[1]), _lfw_photo(other, words[-1])
            pairs.append(Pair(first, second, len(words) == 3, fold))
    return pairs


def _lfw_photo(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}.jpg"


def cfp_pairs(path: Path) -> list[Pair]:
    with path.open(newline="") as file:
        return [Pair(row["a"], row["b"], row["mated"] == "1", row["fold"]) for row in csv.DictReader(file)]


def _say(name: str, facts: dict[str, Any]) -> None:
    short = {side: facts[side] for side in (OLD, NEW)}
    print(f"{name}: {json.dumps(short)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

"""What another detector costs and gains: time, LFW, profiles, turned and small faces, side by side.

    python benchmarks/detectors.py ../shared/data yunet_2023mar retinaface_mv1_025
    make bench-detectors BENCH="../shared/data yunet_2023mar retinaface_mv1_025"

- ms: CPU milliseconds of the locate stage a photo (250x250), one thread; detectors take turns, medians.
  ms_large: the same of photos of 12 megapixels with one face of 200 pixels.
- lfw: accuracy on View 1; the threshold is that of the training pairs.
- profile: CFP, frontal against profile; each of two folds at the threshold of the other.
- turned: photos turned by quarters; the share of which the vector is within a cosine of .8 of the upright
  photo's, and the share of pairs of different people at the embedder's threshold or above.
- small: faces of a width pasted into 4000x3000; the share that matches another photo of the person.

A photo without a face counts as decided wrong. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from accuracy import Pair, best_threshold, cfp_pairs, is_right, lfw_pairs, mated, similarities

from frpipe.core.config import Config
from frpipe.jobs.face_pipeline import FacePipeline, pipeline_of
from frpipe.stages.locate import Located

Array = np.ndarray[Any, Any]
Measure = Callable[[Config, Path], dict[str, Any]]
TIMED, TIMED_LARGE, ROUNDS = 300, 8, 3
PEOPLE = 100
QUARTERS, SMALL_PX = (90, 180, 270), (48, 64, 100)
SIDE, FACE_PX, SAME = 250, 93.4, 0.8
CANVAS = (3000, 4000)
_STEP = 500


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    measures: dict[str, Measure] = {"lfw": lfw, "profile": profile, "turned": turned, "small": small}
    parser.add_argument("data", type=Path, help="folder with lfw and cfp")
    parser.add_argument("detectors", nargs="+", metavar="CARD")
    parser.add_argument("--embedder", default="sface_2021dec", metavar="CARD")
    parser.add_argument("--only", nargs="+", choices=["ms", *measures], help="some of the measures")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    chosen = options.only or ["ms", *measures]
    report: dict[str, dict[str, Any]] = {}
    configs = {name: _config(name, options.embedder) for name in options.detectors}
    for name, config in configs.items():
        report[name] = {}
        for measure, run in measures.items():
            if measure in chosen:
                report[name][measure] = run(config, options.data)
                print(f"{name} {measure}: {json.dumps(report[name][measure])}", flush=True)
    if "ms" in chosen:
        photos = _firsts(options.data, TIMED)
        for size, timed_photos in (("ms", photos), ("ms_large", _large(photos[:TIMED_LARGE]))):
            for name, ms in timed(configs, timed_photos).items():
                report[name][size] = ms
                print(f"{name} {size}: {ms} a photo", flush=True)
    print(json.dumps(report))


def timed(configs: dict[str, Config], photos: Sequence[Path | Array]) -> dict[str, float]:
    """CPU milliseconds a photo, by detector."""
    pipelines = {name: pipeline_of(config) for name, config in configs.items()}
    spent: dict[str, list[float]] = {name: [] for name in configs}
    for _ in range(ROUNDS):
        for name, pipeline in pipelines.items():
            start = time.process_time()
            pipeline.locate(photos)
            spent[name].append((time.process_time() - start) * 1000 / len(photos))
    return {name: round(statistics.median(each), 2) for name, each in spent.items()}


def lfw(config: Config, data: Path) -> dict[str, Any]:
    folder = data / "lfw"
    train, test = (lfw_pairs(folder / f"pairsDev{name}.txt", name) for name in ("Train", "Test"))
    return _decided(pipeline_of(config), folder / "images", [(train, test)])


def profile(config: Config, data: Path) -> dict[str, Any]:
    pairs = cfp_pairs(data / "cfp" / "pairs_FP.csv")
    folds = sorted({pair.fold for pair in pairs})
    splits = [([p for p in pairs if p.fold != fold], [p for p in pairs if p.fold == fold]) for fold in folds]
    return _decided(pipeline_of(config), data / "cfp" / "images", splits)


def _decided(
    pipeline: FacePipeline, folder: Path, splits: Sequence[tuple[list[Pair], list[Pair]]]
) -> dict[str, Any]:
    """Accuracy over the tested pairs, and how many photos gave no face."""
    names = sorted(
        {n for split in splits for part in split for pair in part for n in (pair.first, pair.second)}
    )
    vectors: dict[str, Array] = {}
    for start in range(0, len(names), _STEP):
        chunk = names[start : start + _STEP]
        vectors |= zip(chunk, _vectors(pipeline, [folder / name for name in chunk]), strict=True)
        print(f"  {len(vectors)} of {len(names)} photos", file=sys.stderr, flush=True)
    known = {name: vector for name, vector in vectors.items() if not np.isnan(vector).any()}
    decided: list[bool] = []
    for train, test in splits:
        threshold = best_threshold(similarities(train, known), mated(train))
        decided += is_right(similarities(test, known), mated(test), threshold).tolist()
    return {
        "accuracy": round(float(np.mean(decided)), 4),
        "pairs": len(decided),
        "photos_without_a_face": len(vectors) - len(known),
    }


def turned(config: Config, data: Path) -> dict[str, Any]:
    pipeline = pipeline_of(config)
    photos = [_read(path) for path in _firsts(data, PEOPLE)]
    upright = _vectors(pipeline, photos)
    result: dict[str, Any] = {}
    for degrees in QUARTERS:
        found = _vectors(pipeline, [np.ascontiguousarray(np.rot90(each, -degrees // 90)) for each in photos])
        others = (found @ found.T)[np.triu_indices(len(found), 1)]
        others = others[~np.isnan(others)]
        result[str(degrees)] = {
            "right": round(float(np.mean((upright * found).sum(axis=1) >= SAME)), 3),
            "false_matches": round(float(np.mean(others >= _threshold(pipeline))), 5),
        }
    return result


def small(config: Config, data: Path) -> dict[str, Any]:
    """One photo of a person as it is, the other shrunk into a large picture of many."""
    people = [sorted(folder.glob("*.jpg")) for folder in sorted((data / "lfw/images").iterdir())]
    pairs = [(photos[0], photos[1]) for photos in people if len(photos) > 1][:PEOPLE]
    pipeline = pipeline_of(config)
    ones = _vectors(pipeline, [one for one, _ in pairs])
    seconds = [_read(two) for _, two in pairs]
    every = pipeline_of(
        config.model_copy(update={"detect": config.detect.model_copy(update={"policy": "all"})})
    )
    twos = _vectors(pipeline, seconds)
    result = {"as_it_is": round(float(np.mean((ones * twos).sum(axis=1) >= _threshold(pipeline))), 3)}
    for px in SMALL_PX:
        hits = 0
        for picture, places in _pages(seconds, round(SIDE * px / FACE_PX)):
            located = every.locate([picture])[0]
            for index, centre in places.items():
                hits += _matches(every, located, centre, px, ones[index])
        result[f"{px}_px"] = round(hits / len(pairs), 3)
    return result


def _pages(photos: Sequence[Array], side: int) -> list[tuple[Array, dict[int, Array]]]:
    """Large grey pictures with the photos in rows, and the centre of each photo in its picture."""
    columns, rows = CANVAS[1] // side, CANVAS[0] // side
    pages = []
    for first in range(0, len(photos), columns * rows):
        page, places = np.full((*CANVAS, 3), 90, np.uint8), {}
        for place, photo in enumerate(photos[first : first + columns * rows]):
            top, left = place // columns * side, place % columns * side
            page[top : top + side, left : left + side] = cv2.resize(
                photo, (side, side), interpolation=cv2.INTER_AREA
            )
            places[first + place] = np.array([left + side / 2, top + side / 2])
        pages.append((page, places))
    return pages


def _large(paths: Sequence[Path]) -> list[Array]:
    """A large picture of each photo, in its middle, its face 200 pixels wide."""
    side, pictures = round(SIDE * 200 / FACE_PX), []
    top, left = (CANVAS[0] - side) // 2, (CANVAS[1] - side) // 2
    for path in paths:
        picture = np.full((*CANVAS, 3), 90, np.uint8)
        picture[top : top + side, left : left + side] = cv2.resize(_read(path), (side, side))
        pictures.append(picture)
    return pictures


def _matches(pipeline: FacePipeline, located: Located, centre: Array, px: float, other: Array) -> bool:
    boxes = located.faces.boxes
    near = np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - centre).max(axis=1, initial=0.0) < px / 2
    crops = [crop for crop, is_near in zip(located.crops, near, strict=True) if is_near]
    return bool(crops) and bool((_unit(pipeline.embed(crops)) @ other).max() >= _threshold(pipeline))


def _vectors(pipeline: FacePipeline, photos: Sequence[Path | Array]) -> Array:
    """(n, dim) unit vectors of the face of each photo; NaN where it has none."""
    located = pipeline.locate(photos)
    crops = [photo.crops[0] for photo in located if photo.crops]
    found = np.full((len(photos), pipeline.card.embedder.dim if pipeline.card.embedder else 0), np.nan)
    if crops:
        found[[bool(photo.crops) for photo in located]] = _unit(pipeline.embed(crops))
    return found


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _threshold(pipeline: FacePipeline) -> float:
    spec = pipeline.card.embedder
    if spec is None or spec.threshold is None:
        sys.exit(f"the card of {pipeline.card.name} has no threshold to count matches at")
    return spec.threshold.similarity


def _config(detector: str, embedder: str) -> Config:
    return Config.model_validate(
        {"detect": {"model": detector, "policy": "centre-largest"}, "embed": {"model": embedder}}
    )


def _firsts(data: Path, most: int) -> list[Path]:
    """The first photo of so many people, spread over the alphabet."""
    people = [folder for folder in sorted((data / "lfw/images").iterdir()) if folder.is_dir()]
    return [sorted(folder.glob("*.jpg"))[0] for folder in people[:: len(people) // most][:most]]


def _read(path: Path) -> Array:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


if __name__ == "__main__":
    main()

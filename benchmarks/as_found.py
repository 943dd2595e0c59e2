"""What it costs to find faces of any turn and size: the locate stage, as it is against a single look.

    FRPIPE_MODEL_DIR=../shared/models python benchmarks/as_found.py
    python benchmarks/as_found.py --only no_face --detectors scrfd_500m

Costs are CPU time of this process, one thread; the configurations take turns, and medians are kept. Ratios
are `this / first` of a cost: above 1 it costs more. The last line printed is one JSON object.

- lfw: photos of one face or a few, nearly all upright. Looking again should hardly cost anything here.
- no_face: nothing tells which way these are turned, so that all four turns are looked at.
- large: photos of 12 megapixels, with faces and without, by the width of the smallest that are looked for.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# OpenCV and OpenBLAS would start threads of their own.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import simplejpeg  # noqa: E402
from large_photos import HEIGHT, QUALITY, WIDTH, enlarged, pictures  # noqa: E402
from photos import lfw as lfw_photos  # noqa: E402
from photos import shared_folder  # noqa: E402
from sklearn.datasets import load_sample_images  # noqa: E402

from frpipe.core.config import Config  # noqa: E402
from frpipe.models.detectors.base import Detector  # noqa: E402
from frpipe.models.loading import load_detector, load_embedder  # noqa: E402
from frpipe.models.registry import Registry  # noqa: E402
from frpipe.stages.locate import Located, Locator, locator_of  # noqa: E402
from frpipe.stages.models import Models  # noqa: E402

Array = np.ndarray[Any, Any]
DETECTORS = ("yunet_2023mar", "retinaface_mnet025", "scrfd_500m")
EMBEDDERS = ("sface_2021dec", "edgeface_xs_q")
SIDES_PX = (250, 640)
SMALLEST_PX = (24, 48, 96)
# A face is wiped out with so much around it, from so low a score on.
_WIPED_WIDTHS, _WIPED_SCORE = 2.0, 0.1


def main() -> None:
    options = _parser().parse_args()
    shared = shared_folder(options.shared)
    os.environ["FRPIPE_MODEL_DIR"] = str(shared / "models")
    cv2.setNumThreads(1)
    sections: dict[str, Callable[[str], dict[str, Any]]] = {
        "lfw": lambda detector: lfw(shared, detector, options.photos, options.rounds),
        "no_face": lambda detector: no_face(shared, detector, options.rounds),
        "large": lambda detector: large(shared, detector, options.rounds),
    }
    report: dict[str, Any] = {}
    for name, section in sections.items():
        if options.only not in (None, name):
            continue
        report[name] = {}
        for detector in options.detectors:
            report[name][detector] = section(detector)
            print(f"{name} {detector}: {json.dumps(report[name][detector])}", file=sys.stderr, flush=True)
    print(json.dumps(report))


def lfw(shared: Path, detector: str, most: int, rounds: int) -> dict[str, Any]:
    """Locate, and locate with embed, as it is and in part, to a single look."""
    found = [path for path in lfw_photos(shared) if path.parent.parent.name == "images"]
    photos = [path.read_bytes() for path in found[:: len(found) // most][:most]]
    sides = {
        "single_look": _config(detector).single_look(),
        "new": _config(detector),
        "turns_off": _config(detector, turns="off"),
        "refine_off": _config(detector, refine="off"),
    }
    report = _raced(sides, photos, rounds)
    located = {name: _located(sides[name], photos) for name in ("single_look", "new")}
    for name in EMBEDDERS:
        crop_ms = _embed_ms(name, [crop for each in located["new"] for crop in each.crops][:128])
        single, new = (
            report[side]["ms"] + crop_ms * sum(len(each.crops) for each in located[side]) / len(photos)
            for side in ("single_look", "new")
        )
        report[f"enroll {name}"] = {"single_look_ms": round(single, 3), "ratio": round(new / single, 4)}
    return report


def no_face(shared: Path, detector: str, rounds: int) -> dict[str, Any]:
    """Photos whose faces are wiped out, and landscapes, at several sizes, to the stage without turns."""
    sides = {"turns_off": _config(detector, turns="off"), "new": _config(detector)}
    sides["single_look"] = _config(detector).single_look()
    empty = _without_faces(shared)
    report = {}
    for side in SIDES_PX:
        photos = [_encoded(_shrunk(picture, side)) for picture in empty]
        report[f"{side} px"] = _raced(sides, _faceless(photos, detector), rounds)
    photos = [_encoded(enlarged(picture)) for picture in empty[::8]]
    report[f"{WIDTH * HEIGHT / 1e6:.0f} MP"] = _raced(sides, _faceless(photos, detector), rounds)
    return report


def large(shared: Path, detector: str, rounds: int) -> dict[str, Any]:
    """12 megapixels, by the width of the smallest faces looked for; to a single look at 640."""
    sides = {"single_look": _config(detector).single_look()}
    sides |= {f"min_face_px {px}": _config(detector, min_face_px=px) for px in SMALLEST_PX}
    empty = _faceless([_encoded(enlarged(picture)) for picture in _without_faces(shared)[::8]], detector)
    return {
        **{
            kind: _raced(sides, [_encoded(picture) for picture in found[::2]], rounds)
            for kind, found in pictures(shared).items()
            if kind != "sheets"
        },
        "without_faces": _raced(sides, empty, rounds),
    }


def _raced(sides: Mapping[str, Config], photos: Sequence[bytes], rounds: int) -> dict[str, Any]:
    """CPU time a photo of each configuration, its ratio to the first, and how much models were given."""
    locators = {name: _locator(config) for name, config in sides.items()}
    report: dict[str, Any] = {"photos": len(photos)}
    for name, locator in locators.items():
        report[name] = _looks(locator, photos)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, locator in locators.items():
            times[name].append(_cpu_ms(partial(_looked, locator, photos)))
    first = times[next(iter(sides))]
    for name, each in times.items():
        ratio = statistics.median(own / base for own, base in zip(each, first, strict=True))
        ms = round(statistics.median(each) / len(photos), 3)
        report[name] = {"ms": ms, "ratio": round(ratio, 3), **report[name]}
    return report


def _looks(locator: Locator, photos: Sequence[bytes]) -> dict[str, Any]:
    """What a photo takes: pictures shown to the detectors (the judge's among them) and their pixels."""
    views, pixels = 0, 0
    look, detect = Detector.look, Detector.detect

    def counted_look(self: Detector, pictures: Sequence[Array], threshold: float, **how: Any) -> Any:
        nonlocal views, pixels
        views += len(pictures)
        pixels += sum(picture.shape[0] * picture.shape[1] for picture in pictures)
        return look(self, pictures, threshold, **how)

    def counted_detect(self: Detector, pictures: Sequence[Array]) -> Any:
        nonlocal views, pixels
        views += len(pictures)
        pixels += sum(round(h * w * min(1, 640 / max(h, w)) ** 2) for h, w, _ in (p.shape for p in pictures))
        return detect(self, pictures)

    with (
        patch.object(Detector, "look", counted_look),
        patch.object(Detector, "detect", counted_detect),
    ):
        found = list(locator.locate(iter(photos)))
    return {
        "views": round(views / len(photos), 3),
        "megapixels": round(pixels / len(photos) / 1e6, 4),
        "faces": sum(len(photo.faces) for photo in found),
        "photos_with_refused_faces": sum(bool(photo.faces_refused) for photo in found),
        "turned": sum(bool(photo.turn_deg) for photo in found),
    }


def _embed_ms(name: str, crops: list[Array]) -> float:
    """CPU time of a crop."""
    card = Registry.default().card_for("embedder", name)
    embedder = load_embedder(card, Config().embedder, Config().resources.embed)
    stack = np.stack(crops)
    embedder.embed(stack[:8])
    return statistics.median(_cpu_ms(lambda: embedder.embed(stack)) for _ in range(3)) / len(crops)


def _config(detector: str, **settings: Any) -> Config:
    return Config.model_validate({"detect": {"model": detector, **settings}})


def _locator(config: Config) -> Locator:
    models = Models.of(config)
    return locator_of(models.config, models.detector, models.judge)


def _looked(locator: Locator, photos: Sequence[bytes]) -> list[Located]:
    return list(locator.locate(iter(photos)))


def _located(config: Config, photos: Sequence[bytes]) -> list[Located]:
    return list(_locator(config).locate(iter(photos)))


def _without_faces(shared: Path) -> list[Array]:
    """Real photos with every face, and whatever may be one, wiped out; and two landscapes."""
    paths = lfw_photos(shared)[:4995:100] + sorted((shared / "data/groups/faces").glob("*.jpg"))
    photos = [simplejpeg.decode_jpeg(path.read_bytes()) for path in paths]
    detectors = [
        load_detector(
            Registry.default().card_for("detector", name), Config().detect, Config().resources.locate
        )
        for name in DETECTORS
    ]
    for photo in photos:
        small = _shrunk(photo, 640)
        for detector in detectors:
            (faces,) = detector.look([small], _WIPED_SCORE)
            for box in faces.boxes * (photo.shape[1] / small.shape[1]):
                _wipe(photo, box)
    return [*photos, *load_sample_images().images]


def _wipe(photo: Array, box: Array) -> None:
    """Fill a box, and some around it, with the mean colour of what it hides."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * (_WIPED_WIDTHS / 2)
    x1, y1 = np.maximum(centre - half, 0).astype(int)
    x2, y2 = np.maximum(centre + half, 1).astype(int)
    photo[y1:y2, x1:x2] = photo[y1:y2, x1:x2].mean(axis=(0, 1))


def _faceless(photos: list[bytes], detector: str) -> list[bytes]:
    """Those in which a single look finds no face."""
    found = _located(_config(detector).single_look(), photos)
    return [photo for photo, each in zip(photos, found, strict=True) if not len(each.faces)]


def _shrunk(picture: Array, side: int) -> Array:
    """With its longer side at `side`, whether that is smaller or larger."""
    height, width = picture.shape[:2]
    ratio = side / max(height, width)
    size = round(width * ratio), round(height * ratio)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC)


def _encoded(picture: Array) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(picture), QUALITY, colorsubsampling="420")


def _cpu_ms(function: Callable[[], Any]) -> float:
    start = time.process_time()
    function()
    return (time.process_time() - start) * 1000


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("lfw", "no_face", "large"), help="one section")
    parser.add_argument("--detectors", nargs="+", default=DETECTORS, metavar="CARD")
    parser.add_argument("--photos", type=int, default=500, metavar="N", help="LFW photos")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each configuration")
    parser.add_argument(
        "--shared", type=Path, default=ROOT.parent / "shared", help="folder with photos and models"
    )
    return parser


if __name__ == "__main__":
    main()

"""Photos of 12 megapixels: decoding at a reduced scale against decoding whole, and what it changes.

The photos are real ones made larger: group pictures, a portrait, and sheets of LFW photos, so that faces
measure from 60 to 1,600 pixels.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import simplejpeg
from agreement import overlap
from duel import duel
from photos import lfw

from frpipe.core.config import SINGLE_LOOK_SIDE_PX, Config
from frpipe.models.detectors.base import Detector
from frpipe.models.embedders.arcface import Embedder
from frpipe.models.loading import load_embedder, load_finder
from frpipe.models.registry import Registry
from frpipe.stages import locate
from frpipe.stages.locate import Located, Locator, locator_of
from frpipe.stages.models import Models
from frpipe.vision.align import align_photo
from frpipe.vision.decode import decode
from frpipe.vision.header import read_header
from frpipe.vision.view import reduced

Array = np.ndarray[Any, Any]
WIDTH, HEIGHT, QUALITY = 4000, 3000, 90
# Pixels that an LFW photo of 250x250 gets on a sheet; its face is about 0.45 of that.
SHEET_SIDES = (250, 500, 1000)
ROUNDS = 3
# Below this width in the detector's input its landmarks wander by more than a hundredth of the face.
LEAST_DETECTED_PX = 20
EMBEDDERS = ("sface_2021dec", "edgeface_xs_q")


def large_photos(shared: Path) -> dict[str, Any]:
    """Speed of all but the models, of the whole stage, and agreement of faces and embeddings.

    Speeds are of each kind of photo, as photos are looked at by default, and with a single look at 640.
    """
    cv2.setNumThreads(1)
    kinds = {
        kind: [simplejpeg.encode_jpeg(each, QUALITY, colorsubsampling="420") for each in found]
        for kind, found in pictures(shared).items()
    }
    photos = [photo for each in kinds.values() for photo in each]
    side = _side(photos[0])
    scaled, decodes = _located(photos, scaled=True)
    whole, once = _located(photos, scaled=False)
    models = _ModelTime()
    return {
        "photos": {kind: len(each) for kind, each in kinds.items()},
        "side": side,
        "all_but_models": {kind: _all_but_models(each, models, side) for kind, each in kinds.items()},
        "all_but_models_single_look": {
            kind: _all_but_models(each, models, SINGLE_LOOK_SIDE_PX, single_look=True)
            for kind, each in kinds.items()
        },
        "locate_stage": {kind: _stage(each) for kind, each in kinds.items()},
        "locate_stage_single_look": {kind: _stage(each, single_look=True) for kind, each in kinds.items()},
        "photos_decoded_twice": round((decodes - once) / len(photos), 3),
        **_same(photos, scaled, whole),
    }


class _ModelTime:
    """Adds up the CPU time of detectors, the judge among them, and leaves it out of a measurement."""

    def __init__(self) -> None:
        self._ms = 0.0

    def without(self, function: Callable[[], Any]) -> float:
        """CPU time of a call less that of the models in it, ms."""
        look, detect = Detector.look, Detector.detect
        with (
            patch.object(Detector, "look", self._timed(look)),
            patch.object(Detector, "detect", self._timed(detect)),
        ):
            before, self._ms = _cpu_ms(), 0.0
            function()
            return _cpu_ms() - before - self._ms

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(detector: Detector, *arguments: Any, **settings: Any) -> Any:
            before = _cpu_ms()
            result = method(detector, *arguments, **settings)
            self._ms += _cpu_ms() - before
            return result

        return timed


def _all_but_models(
    photos: list[bytes], models: _ModelTime, side: int, single_look: bool = False
) -> dict[str, float]:
    """`ours / theirs` of a speed: the stage without models, and a whole decode and reduction to `side`."""
    locator = _locator(scaled=True, single_look=single_look)
    pairs = []
    for _ in range(ROUNDS):
        ours = models.without(lambda: list(locator.locate(iter(photos))))
        before = _cpu_ms()
        for photo in photos:
            reduced(simplejpeg.decode_jpeg(photo), side)
        pairs.append((ours, _cpu_ms() - before))
    return {
        "ratio": round(statistics.median(theirs / ours for ours, theirs in pairs), 3),
        "ours_ms": round(min(ours for ours, _ in pairs) / len(photos), 3),
        "theirs_ms": round(min(theirs for _, theirs in pairs) / len(photos), 3),
    }


def _stage(photos: list[bytes], single_look: bool = False) -> dict[str, float]:
    """`ours / theirs` of a speed: the stage, and the same with whole decodes."""
    ours, theirs = (_locator(scaled, single_look) for scaled in (True, False))
    return duel(
        lambda: list(ours.locate(iter(photos))),
        lambda: list(theirs.locate(iter(photos))),
        len(photos),
        rounds=ROUNDS,
    )


def pictures(shared: Path) -> dict[str, list[Array]]:
    """Photos of 12 megapixels, pixels, by kind: groups, portraits, and sheets of faces."""
    small = [simplejpeg.decode_jpeg(path.read_bytes()) for path in lfw(shared)[:4995:25]]
    paths = sorted((shared / "data/groups/faces").glob("*.jpg"))
    return {
        "groups": [enlarged(simplejpeg.decode_jpeg(path.read_bytes())) for path in paths],
        "portraits": [enlarged(photo) for photo in small[:4]],
        "sheets": [_sheet(small, side) for side in SHEET_SIDES],
    }


def enlarged(picture: Array) -> Array:
    """To 12 megapixels, sides in proportion."""
    height, width = picture.shape[:2]
    factor = (WIDTH * HEIGHT / (width * height)) ** 0.5
    return cv2.resize(picture, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_CUBIC)


def _sheet(photos: list[Array], side: int) -> Array:
    sheet = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    places = [(y, x) for y in range(0, HEIGHT, side) for x in range(0, WIDTH, side)]
    for (y, x), photo in zip(places, photos, strict=False):
        sheet[y : y + side, x : x + side] = cv2.resize(photo, (side, side), interpolation=cv2.INTER_CUBIC)
    return sheet


def _side(photo: bytes) -> int:
    """The longer side at which a photo is looked at whole."""
    models = Models.of(Config())
    if models.judge is None:
        return SINGLE_LOOK_SIDE_PX
    finder = load_finder(models.detector, models.judge, models.config.detect, models.config.resources.locate)
    header = read_header(photo)
    return finder.side_of(header.width, header.height)


def _locator(scaled: bool, single_look: bool = False) -> Locator:
    config = Config.model_validate({"decode": {"scaled": scaled}, "resources": {"window_rows": 4}})
    models = Models.of(config.single_look() if single_look else config)
    return locator_of(models.config, models.detector, models.judge)


def _located(photos: list[bytes], scaled: bool) -> tuple[list[Located], int]:
    """What the stage finds, and how many decodes it took."""
    locator = _locator(scaled)
    with patch.object(locate, "decode", wraps=decode) as counted:
        found = list(locator.locate(iter(photos)))
    return found, counted.call_count


def _cpu_ms() -> float:
    return time.process_time() * 1000


def _same(photos: list[bytes], scaled: list[Located], whole: list[Located]) -> dict[str, Any]:
    pairs = [
        pair
        for photo, one, other in zip(photos, scaled, whole, strict=True)
        for pair in _matches(photo, one, other)
    ]
    widths = np.array([pair.detected_px for pair in pairs])
    report: dict[str, Any] = {
        "faces_scaled": sum(len(photo.faces) for photo in scaled),
        "faces_whole": sum(len(photo.faces) for photo in whole),
        "faces_with_iou_of_0.9": sum(pair.iou >= 0.9 for pair in pairs),
        "iou_min": round(min(pair.iou for pair in pairs), 4),
        "face_width_in_detector_px": [round(float(np.percentile(widths, share))) for share in (0, 50, 100)],
    }
    for name in EMBEDDERS:
        card = Registry.default().card_for("embedder", name)
        embedder = load_embedder(card, Config().embedder, Config().resources.embed)
        ours, theirs, same_points = (
            _unit(embedder, [getattr(pair, kind) for pair in pairs]) for kind in ("scaled", "whole", "moved")
        )
        stage = np.sum(ours * theirs, axis=1)
        report[f"cosine {name}"] = {
            "same_landmarks": _spread(np.sum(ours * same_points, axis=1)),
            f"own_landmarks_from_{LEAST_DETECTED_PX}px": _spread(stage[widths >= LEAST_DETECTED_PX]),
            "own_landmarks": _spread(stage),
        }
    return report


@dataclass(frozen=True, slots=True)
class _Pair:
    """One face in both runs. moved: the crop out of the whole photo at the landmarks of the scaled run."""

    iou: float
    detected_px: float
    scaled: Array
    whole: Array
    moved: Array


def _matches(photo: bytes, one: Located, other: Located) -> list[_Pair]:
    """Each face of `one` with the nearest of `other`, where they overlap by half."""
    if not len(one.faces) or not len(other.faces):
        return []
    full = decode(photo, Config().decode)
    reduction = max(full.width, full.height) / _side(photo)
    shares = overlap(one.faces.boxes, other.faces.boxes)
    return [
        _Pair(
            float(shares[row, column]),
            float(other.faces.boxes[column, 2] - other.faces.boxes[column, 0]) / reduction,
            one.crops[row],
            other.crops[column],
            align_photo(full, one.faces.points[row], locate.CROP_SIDE),
        )
        for row, column in enumerate(shares.argmax(axis=1))
        if shares[row, column] >= 0.5
    ]


def _spread(cosines: Array) -> dict[str, float]:
    return {
        "min": round(float(cosines.min()), 5),
        "percentile_5": round(float(np.percentile(cosines, 5)), 5),
        "median": round(float(np.median(cosines)), 5),
        "faces": len(cosines),
    }


def _unit(embedder: Embedder, crops: list[Array]) -> Array:
    vectors = embedder.embed(np.stack(crops)).astype(np.float64)
    unit: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit

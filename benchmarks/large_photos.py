"""Photos of 12 megapixels: decoding at a reduced scale against decoding whole, and what it changes.

The photos are real ones made larger: group pictures, a portrait, and sheets of LFW photos, so that faces
measure from 60 to 1,600 pixels.
"""

from __future__ import annotations

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

from frpipe.core.config import Config
from frpipe.models.embedders.arcface import Embedder
from frpipe.models.loading import load_detector, load_embedder
from frpipe.models.registry import Registry
from frpipe.stages import locate
from frpipe.stages.locate import Located, Locator
from frpipe.vision.align import align_photo
from frpipe.vision.decode import decode, plan_shrink
from frpipe.vision.header import read_header

Array = np.ndarray[Any, Any]
WIDTH, HEIGHT, QUALITY = 4000, 3000, 90
# Pixels that an LFW photo of 250x250 gets on a sheet; its face is about 0.45 of that.
SHEET_SIDES = (250, 500, 1000)
DETECTION_SIDE = 640
# Below this width in the detector's input its landmarks wander by more than a hundredth of the face.
LEAST_DETECTED_PX = 20
EMBEDDERS = ("sface_2021dec", "edgeface_xs_q")


def large_photos(shared: Path) -> dict[str, Any]:
    """Speed of the decode for detection, of the whole stage, and agreement of faces and embeddings."""
    cv2.setNumThreads(1)
    photos = [simplejpeg.encode_jpeg(each, QUALITY, colorsubsampling="420") for each in _pictures(shared)]
    whole, once = _located(photos, scaled=False)
    scaled, decodes = _located(photos, scaled=True)
    return {
        "photos": len(photos),
        "decode_for_detection": duel(
            lambda: [_scaled(photo) for photo in photos],
            lambda: [_whole(photo) for photo in photos],
            len(photos),
            rounds=5,
        ),
        "locate_stage": duel(
            lambda: _located(photos, scaled=True),
            lambda: _located(photos, scaled=False),
            len(photos),
            rounds=3,
        ),
        "photos_decoded_twice": round((decodes - once) / len(photos), 3),
        **_same(photos, scaled, whole),
    }


def _pictures(shared: Path) -> list[Array]:
    small = [simplejpeg.decode_jpeg(path.read_bytes()) for path in lfw(shared)[:4995:25]]
    groups = sorted((shared / "data/groups/faces").glob("*.jpg"))
    pictures = [_enlarged(simplejpeg.decode_jpeg(path.read_bytes())) for path in groups]
    pictures += [_enlarged(photo) for photo in small[:4]]
    return pictures + [_sheet(small, side) for side in SHEET_SIDES]


def _enlarged(picture: Array) -> Array:
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


def _scaled(photo: bytes) -> Array:
    return _reduced(decode(photo, Config().decode, plan_shrink(read_header(photo), DETECTION_SIDE)).pixels)


def _whole(photo: bytes) -> Array:
    return _reduced(simplejpeg.decode_jpeg(photo))


def _reduced(pixels: Array) -> Array:
    height, width = pixels.shape[:2]
    ratio = DETECTION_SIDE / max(height, width)
    return cv2.resize(pixels, (round(width * ratio), round(height * ratio)), interpolation=cv2.INTER_AREA)


def _located(photos: list[bytes], scaled: bool) -> tuple[list[Located], int]:
    """What the stage finds, and how many decodes it took."""
    config = Config.model_validate({"decode": {"scaled": scaled}, "resources": {"window_rows": 4}})
    card = Registry.default().card_for("detector", config.detect.model)
    locator = Locator(config, load_detector(card, config.detect, config.resources.locate))
    with patch.object(locate, "decode", wraps=decode) as counted:
        found = list(locator.locate(iter(photos)))
    return found, counted.call_count


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
        embedder = load_embedder(card, Config().embed, Config().resources.embed)
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
    reduction = max(full.width, full.height) / DETECTION_SIDE
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

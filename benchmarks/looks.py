"""The numbers of a detector's card under `looks`, measured on LFW: what its scores say of turned, small and
large faces.

    FRPIPE_MODEL_DIR=../shared/models python benchmarks/looks.py ../shared/data/lfw/images scrfd_500m

Photos are one a person. A face of a turned photo counts as aligned wrongly where its embedding is far (cosine
below 0.6) from that of the upright photo. docs/new-model.md says how to choose the card's numbers from these.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from frpipe.core.config import DetectConfig, EmbedConfig, PoolConfig
from frpipe.core.reasons import Reject
from frpipe.models.detectors.base import Detector, Faces
from frpipe.models.detectors.candidates import FaceCandidate, candidates, landmark_error
from frpipe.models.detectors.judging import Judging
from frpipe.models.detectors.policy import choose
from frpipe.models.loading import load_detector, load_embedder
from frpipe.models.registry import Registry
from frpipe.vision.align import align
from frpipe.vision.geometry import template
from frpipe.vision.view import reduced, roll_of

Pixels = np.ndarray[Any, Any]
SIDE, FACE_PX, JUDGED_PX = 250, 93.4, 64
WRONG = 0.6
SMALL_PX = (8, 10, 12, 14, 17, 20, 24, 32, 40, 48)
FILLS, LARGE_SIDES = (0.5, 0.62, 0.75, 0.9), (256, 384, 512, 640, 768)
ROLLS_DEG = (3, 6, 10, 15, 20, 25, 30, 35, 40, 50)
LOWEST = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="LFW: a folder a person, photos of 250x250")
    parser.add_argument("detector", help="a card")
    parser.add_argument("--judge", default="yunet_2023mar", help="a card")
    parser.add_argument("--photos", type=int, default=300)
    options = parser.parse_args()
    photos = _photos(options.folder, options.photos)
    detector, judge = _loaded(options.detector), _loaded(options.judge)
    result = {
        "detector": options.detector,
        "photos": len(photos),
        **turned(photos, detector, judge),
        "rolled": rolled(photos[:100], detector),
        "small": small(photos[:100], detector),
        "large": large(photos[:100], detector),
    }
    for name, value in result.items():
        print(f"{name}: {json.dumps(value)}")
    print(json.dumps(result))


def turned(photos: list[Pixels], detector: Detector, judge: Detector) -> dict[str, Any]:
    """Percentiles of three scores: of upright faces, and of those of turned photos that came out wrong."""
    card = Registry.default().card_for("embedder", "sface_2021dec")
    embedder = load_embedder(card, EmbedConfig(), PoolConfig())
    looks = detector.card.looks
    upright: dict[int, Pixels] = {}
    rows = []
    for quarter in range(4):
        views = [np.ascontiguousarray(np.rot90(photo, -quarter)) for photo in photos]
        crops, chosen, numbers = _crops(views, detector)
        vectors = embedder.embed(np.stack(crops))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        small_crops = [
            cv2.resize(crop, (JUDGED_PX, JUDGED_PX), interpolation=cv2.INTER_AREA) for crop in crops
        ]
        judged = judge.look(small_crops, 0.05)
        if quarter == 0:
            upright = dict(zip(numbers, vectors, strict=True))
        for number, face, verdict, vector in zip(numbers, chosen, judged, vectors, strict=True):
            if number in upright:
                face.judged = float(verdict.scores.max(initial=0.0))
                face.judged_error = _judged_error(verdict)
                sure = looks is not None and Judging(judge, looks).is_sure(face)
                stands = face.roll_deg is not None and abs(face.roll_deg) < 45
                cosine = float(vector @ upright[number])
                rows.append((quarter, face.score, face.judged, cosine, sure, sure and stands))
    table = np.array(rows)
    is_upright, is_wrong = table[:, 0] == 0, (table[:, 0] > 0) & (table[:, 3] < WRONG)
    found: dict[str, Any] = {"upright": int(is_upright.sum()), "turned_and_wrong": int(is_wrong.sum())}
    if looks is not None:
        found["by_the_card"] = {
            "upright_and_sure": round(float(table[is_upright, 4].mean()), 4),
            "wrong_and_sure_to_stand_upright": int(table[is_wrong, 5].sum()),
        }
    for name, values in (
        ("score", table[:, 1]),
        ("judged", table[:, 2]),
        ("evidence", table[:, 1] + table[:, 2]),
    ):
        found[name] = {
            "upright_at_1_2_5_percent": np.percentile(values[is_upright], [1, 2, 5]).round(3).tolist(),
            "wrong_at_95_98_99_percent": np.percentile(values[is_wrong], [95, 98, 99]).round(3).tolist()
            if is_wrong.any()
            else None,
        }
    return found


def rolled(photos: list[Pixels], detector: Detector) -> dict[int, dict[str, float]]:
    """By roll of a face: that over its roll by the landmarks, and how far these stray, in eye distances."""
    result = {}
    upright = [
        choose(faces, SIDE, SIDE, "centre-largest")
        for faces in detector.look(photos, detector.score_threshold)
    ]
    for degrees in ROLLS_DEG:
        move = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), -degrees, 1.0)
        views = [cv2.warpAffine(photo, move, (SIDE, SIDE)) for photo in photos]
        gains, errors = [], []
        for faces, known in zip(detector.look(views, detector.score_threshold), upright, strict=True):
            found = choose(faces, SIDE, SIDE, "centre-largest")
            if len(found) and len(known):
                expected = known.points[0] @ move[:, :2].T + move[:, 2]
                eyes = np.hypot(*(expected[1] - expected[0]))
                errors.append(np.hypot(*(found.points[0] - expected).T).mean() / eyes)
                gains.append(degrees / max(1.0, roll_of(found.points[0]) - roll_of(known.points[0])))
        result[degrees] = {
            "found": round(len(errors) / len(photos), 3),
            "gain": round(float(np.median(gains)), 2),
            "landmark_error": round(float(np.median(errors)), 3),
        }
    return result


def small(photos: list[Pixels], detector: Detector) -> dict[int, dict[str, float]]:
    """By width of the face in the input: share proposed, and how far landmarks stray, in eye distances."""
    result = {}
    reference = detector.look(photos, detector.score_threshold)
    for px in SMALL_PX:
        factor = px / FACE_PX
        views = []
        for photo in photos:
            view = np.full((SIDE, SIDE, 3), 90, np.uint8)
            face = reduced(photo, max(8, round(SIDE * factor)))
            view[: face.shape[0], : face.shape[1]] = face
            views.append(view)
        errors, scores = [], []
        for faces, known in zip(detector.look(views, LOWEST), reference, strict=True):
            if not len(known):
                continue
            wanted = choose(known, SIDE, SIDE, "centre-largest").scaled(factor, factor)
            near = _nearest(faces, wanted, px)
            scores.append(0.0 if near is None else float(near.scores[0]))
            if near is not None:
                eyes = np.hypot(*(wanted.points[0, 1] - wanted.points[0, 0]))
                errors.append(np.hypot(*(near.points[0] - wanted.points[0]).T).mean() / eyes)
        result[px] = {
            **{
                f"found_at_{t:g}": round(float(np.mean(np.array(scores) >= t)), 3)
                for t in (0.1, 0.15, 0.2, 0.3)
            },
            "found": round(float(np.mean(np.array(scores) >= detector.score_threshold)), 3),
            "landmark_error": round(float(np.median(errors)), 3) if errors else 0.0,
        }
    return result


def large(photos: list[Pixels], detector: Detector) -> dict[int, float]:
    """By width of the face in the input: recall of faces that fill their picture."""
    hits: dict[int, list[bool]] = {}
    for fill in FILLS:
        width = int(FACE_PX / fill)
        start = (SIDE - width) // 2
        for side in LARGE_SIDES:
            views = [
                cv2.resize(
                    photo[start : start + width, start : start + width],
                    (side, side),
                    interpolation=cv2.INTER_CUBIC,
                )
                for photo in photos
            ]
            px = round(fill * side)
            hits[px] = [
                bool(((faces.boxes[:, 2] - faces.boxes[:, 0]) > 0.6 * px).any())
                for faces in detector.look(views, detector.score_threshold)
            ]
    return {px: round(float(np.mean(found)), 3) for px, found in sorted(hits.items())}


def _crops(views: list[Pixels], detector: Detector) -> tuple[list[Pixels], list[FaceCandidate], list[int]]:
    crops: list[Pixels] = []
    faces_of: list[FaceCandidate] = []
    numbers: list[int] = []
    for number, (view, faces) in enumerate(
        zip(views, detector.look(views, detector.score_threshold), strict=True)
    ):
        chosen = choose(faces, SIDE, SIDE, "centre-largest")
        try:
            crops += [align(view, points) for points in chosen.points]
        except Reject:
            continue
        faces_of += candidates(chosen, chosen.boxes[:, 2] - chosen.boxes[:, 0])
        numbers += [number] * len(chosen)
    return crops, faces_of, numbers


def _judged_error(verdict: Faces) -> float:
    return landmark_error(verdict.points[0], template(JUDGED_PX)) if len(verdict) else float("inf")


def _nearest(faces: Faces, wanted: Faces, px: float) -> Faces | None:
    centres = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    search_plan = (wanted.boxes[:, :2] + wanted.boxes[:, 2:]) / 2
    near = faces.take(np.abs(centres - search_plan).max(axis=1, initial=0.0) < px / 2)
    return near.take(slice(0, 1)) if len(near) else None


def _photos(folder: Path, most: int) -> list[Pixels]:
    firsts = [sorted(person.glob("*.jpg"))[0] for person in sorted(folder.iterdir()) if person.is_dir()]
    paths = firsts[:: max(1, len(firsts) // most)][:most]
    return [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]


def _loaded(name: str) -> Detector:
    card = Registry.default().card_for("detector", name)
    return load_detector(card, DetectConfig(), PoolConfig())


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()

"""Drawn faces, and a detector that finds them by looking at the pixels, with the weaknesses of real ones.

A face is a green disc whose red grows from its chin to its forehead. A ball has no such direction; a dim disc
looks a little like a face from far and near.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from frpipe.core.config import DetectConfig, load_config
from frpipe.models.card import LooksSpec
from frpipe.models.detectors.faces import Faces
from frpipe.models.detectors.finder import Case, Finder
from frpipe.models.detectors.nms import suppress
from frpipe.vision.decode import Photo
from frpipe.vision.geometry import ARCFACE_112, apply
from frpipe.vision.view import wrapped

Pixels = NDArray[np.uint8]
Array = NDArray[np.float64]
# A disc is so wide where the landmarks are those of the template, and its middle is there.
_TEMPLATE_PX, _TEMPLATE_CENTRE = 88.0, np.array([56.0, 68.0])
LOOKS = LooksSpec(
    judge="drawn",
    sure_score=0.91,
    judged_score=0.88,
    sure_evidence=1.78,
    judged_clear_score=0.9,
    proposal_score=0.2,
    smallest_face_px=12,
    clear_score=0.5,
    steady_face_px=40,
    steady_roll_deg=8,
    largest_face_px=240,
)
THRESHOLD = 0.7


@dataclass(frozen=True)
class Drawn:
    """A face at (x, y), `width` pixels wide, rolled clockwise; kind: face, ball or dim."""

    x: float
    y: float
    width: float
    roll_deg: float = 0.0
    kind: str = "face"

    @property
    def points(self) -> Array:
        """(5, 2): its landmarks."""
        return landmarks(np.array([self.x, self.y]), self.width, self.roll_deg)

    @property
    def box(self) -> Array:
        half = self.width / 2
        return np.array([self.x - half, self.y - half, self.x + half, self.y + half])


def landmarks(centre: Array, width: float, roll_deg: float) -> Array:
    turn = rotation(roll_deg) * (width / _TEMPLATE_PX)
    return (ARCFACE_112 - _TEMPLATE_CENTRE) @ turn.T + centre


def rotation(degrees: float) -> Array:
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def picture(width: int, height: int, *faces: Drawn) -> Pixels:
    """The faces on black, with soft edges."""
    canvas = np.zeros((height, width, 3), np.uint8)
    for face in faces:
        x1, y1, x2, y2 = np.rint(face.box + np.array([-2, -2, 3, 3])).astype(int)
        rows, columns = slice(max(y1, 0), y2), slice(max(x1, 0), x2)
        part = canvas[rows, columns]
        y, x = np.mgrid[
            rows.start : rows.start + part.shape[0], columns.start : columns.start + part.shape[1]
        ]
        across, down = x - face.x, y - face.y
        disc = np.clip(face.width / 2 - np.hypot(across, down) + 0.5, 0, 1)
        angle = np.radians(face.roll_deg)
        growth = (across * np.sin(angle) - down * np.cos(angle)) / (face.width / 2)
        red = 127 + (110 * growth if face.kind != "ball" else 0)
        part[:, :, 0] = np.where(disc > 0, disc * np.clip(red, 0, 255), part[:, :, 0])
        part[:, :, 1] = np.where(disc > 0, disc * (120 if face.kind == "dim" else 240), part[:, :, 1])
    return canvas


class DrawnDetector:
    """Finds drawn faces, and remembers the shapes of what it was shown.

    As real ones do it says less of a face that is small in its input or rolled, fits landmarks rolled less
    than the face is, and takes a face that lies upside down for an upright one.
    """

    score_threshold, nms_iou = THRESHOLD, 0.3

    def __init__(self, most_side_px: int = 2048, looks: LooksSpec | None = LOOKS) -> None:
        self.card: Any = SimpleNamespace(name="drawn", looks=looks)
        self.most_side_px = most_side_px
        self.shapes: list[tuple[int, int]] = []

    def look(self, views: Sequence[Pixels], threshold: float, *, are_parts: bool = True) -> list[Faces]:
        assert all(max(view.shape[:2]) <= self.most_side_px for view in views)
        self.shapes += [(view.shape[0], view.shape[1]) for view in views]
        return [_found(view, threshold) for view in views]

    def detect(self, views: Sequence[Pixels]) -> list[Faces]:
        return self.look(views, THRESHOLD)


def _found(view: Pixels, threshold: float) -> Faces:
    count, labels, stats, centres = cv2.connectedComponentsWithStats((view[:, :, 1] > 50).astype(np.uint8))
    boxes, scores, points = [], [], []
    for number in range(1, count):
        _, _, width, height, area = stats[number]
        side = 2 * float(np.sqrt(area / np.pi))
        if side < 4 or side > LOOKS.largest_face_px:
            continue
        left, top = stats[number][:2]
        part = slice(top, top + height), slice(left, left + width)
        mask = labels[part] == number
        red, green = view[part][:, :, 0], view[part][:, :, 1]
        roll, has_direction = _roll(red, mask, centres[number] - np.array([left, top]))
        score = _score(roll) if has_direction else 0.8
        score *= min(1.0, 0.4 + side / 40) * min(width, height) / max(width, height)
        if np.median(green[mask]) < 180:
            score = min(score, 0.4)
        if score < threshold:
            continue
        fitted = 0.8 * roll if has_direction and abs(roll) < 120 else 0.0
        boxes.append([*(centres[number] - side / 2), *(centres[number] + side / 2)])
        scores.append(score)
        points.append(landmarks(centres[number], side, fitted))
    if not boxes:
        return Faces.empty()
    faces = Faces(*(np.array(each, np.float32) for each in (boxes, scores, points)))
    return faces.take(suppress(faces.boxes, faces.scores, np.zeros(len(faces), np.intp), 0.3, 256))


def _roll(red: NDArray[np.uint8], mask: NDArray[np.bool_], centre: Array) -> tuple[float, bool]:
    """Which way red grows; whether it does."""
    rows, columns = np.nonzero(mask)
    values = red[mask].astype(np.float64)
    across = float(np.mean((columns - centre[0]) * (values - values.mean())))
    down = float(np.mean((rows - centre[1]) * (values - values.mean())))
    strength = np.hypot(across, down) / max(1e-9, len(values) ** 0.5 * values.std())
    return wrapped(float(np.degrees(np.arctan2(across, -down)))), bool(values.std() > 15 and strength > 0.05)


def _score(roll_deg: float) -> float:
    """0.97 upright, 0.6 lying on the side, 0.8 upside down."""
    return float(np.interp(abs(roll_deg), [0, 15, 90, 180], [0.97, 0.96, 0.6, 0.8]))


def photo_of(pixels: Pixels) -> Photo:
    return Photo(pixels, pixels.shape[1], pixels.shape[0], 1, "PNG", 1)


@dataclass
class Found:
    """What came of a photo: its case, and the shapes that the detector and the judge were shown."""

    case: Case
    looks: list[tuple[int, int]]
    judged: list[tuple[int, int]]
    early_looks: int


def finder(*overrides: str, most_side_px: int = 2048) -> tuple[Finder, DrawnDetector, DrawnDetector]:
    """A finder of drawn faces, its detector and its judge, with settings of `detect`."""
    detector, judge = DrawnDetector(most_side_px), DrawnDetector()
    settings: DetectConfig = load_config(None, [f"detect.{text}" for text in overrides]).detect
    return Finder(detector, judge, settings), detector, judge  # type: ignore[arg-type]


def find(pixels: Pixels, *overrides: str, most_side_px: int = 2048) -> Found:
    """Look for the faces of one photo to the end."""
    ours, detector, judge = finder(*overrides, most_side_px=most_side_px)
    case = ours.first([photo_of(pixels)])[0]
    early = len(detector.shapes)
    ours.second([case])
    return Found(case, detector.shapes, judge.shapes, early)


def turned(pixels: Pixels, quarter: int) -> tuple[Pixels, Array]:
    """The picture turned clockwise by quarters, and the frame (2, 3) from the picture into it."""
    height, width = pixels.shape[:2]
    linear = np.rint(rotation(90 * quarter))
    shift = {
        0: (0, 0),
        1: (height - 1, 0),
        2: (width - 1, height - 1),
        3: (0, width - 1),
    }[quarter % 4]
    return np.ascontiguousarray(np.rot90(pixels, -quarter)), np.column_stack([linear, shift])


def moved(points: Array, frame: Array) -> Array:
    return apply(frame, points)

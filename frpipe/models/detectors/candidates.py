"""Candidates: faces that looks at a photo have found so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from frpipe.models.detectors.faces import Faces
from frpipe.models.detectors.nms import iou, suppress
from frpipe.models.detectors.plausible import Pose, pose_of
from frpipe.vision.decode import Photo
from frpipe.vision.view import View, wrapped

Array = NDArray[np.float64]

# In a look at one face the one that is meant lies this near to the middle.
_MIDDLE_SHARE = 0.2
# The eyes of the template are 35 pixels apart, and 41 above the mouth.
_HEIGHT_IN_EYES = 1.17


@dataclass(slots=True, eq=False)
class FaceCandidate:
    """A face that is not settled yet.

    box (4,) and points (5, 2): pixels of the EXIF-upright original. seen_px: its width in the look that found
    it. judged: the judge's score of it as it would be aligned, None before it was asked; judged_error: how
    far from the template it puts the landmarks then, in eye distances. landmark_error: between two looks.
    """

    box: Array
    points: Array
    score: float
    seen_px: float
    judged: float | None = None
    judged_error: float = 0.0
    is_sure: bool = False
    is_refined: bool = False
    landmark_error: float | None = None
    _pose: Pose | None = None

    def place(self, box: Array, points: Array) -> None:
        """Move the candidate to where another look has seen the face."""
        self.box, self.points, self._pose = box, points, None

    @property
    def pose(self) -> Pose:
        """The roll of the face, and whether its landmarks can be those of a face; worked out once."""
        if self._pose is None:
            self._pose = pose_of(self.box, self.points)
        return self._pose

    @property
    def width(self) -> float:
        """The longer side of the face's box, in pixels of the original."""
        x1, y1, x2, y2 = self.box.tolist()
        return float(max(x2 - x1, y2 - y1))

    @property
    def centre(self) -> Array:
        """The centre of the face's box: (2,), x then y."""
        return (self.box[:2] + self.box[2:]) / 2

    @property
    def evidence(self) -> float:
        """The sum of both scores, 0..2."""
        return self.score + (self.judged or 0.0)

    @property
    def is_plausible(self) -> bool:
        """Whether the landmarks can be those of a face."""
        return self.pose.is_plausible

    @property
    def roll_deg(self) -> float | None:
        """The roll by the landmarks; None where they are no face's."""
        return self.pose.roll_deg

    def roll_from(self, upright_deg: float) -> float | None:
        """The roll against another, in (-180, 180]; None where the face has none."""
        roll_deg = self.roll_deg
        return None if roll_deg is None else wrapped(roll_deg - upright_deg)


@dataclass(slots=True, eq=False)
class Case:
    """A photo under way, with its candidates.

    turn_deg: clockwise, what makes it upright. coarse: what the look from afar has found, if there was one.
    doubted: faces found that no look could settle; refused: those of them that are lost by that. least_px:
    width of the smallest faces that were looked for.
    """

    photo: Photo
    turn_deg: int = 0
    faces: list[FaceCandidate] = field(default_factory=list)
    coarse: list[FaceCandidate] | None = None
    doubted: list[FaceCandidate] = field(default_factory=list)
    refused: list[FaceCandidate] = field(default_factory=list)
    least_px: float = 0.0

    @property
    def upright_deg(self) -> float:
        """The roll, in the EXIF-upright photo, of a face that stands upright in the turned one."""
        return wrapped(-self.turn_deg)

    @property
    def doubtful(self) -> list[FaceCandidate]:
        """The faces that are not sure."""
        return [face for face in self.faces if not face.is_sure]

    def lies_otherwise(self, face: FaceCandidate) -> bool:
        """Whether a face is upright in another turn of the photo than its own."""
        off = face.roll_from(self.upright_deg)
        return off is not None and abs(off) > 45

    def boxes(self) -> NDArray[np.float32]:
        """The boxes (k, 4) of all faces that were found: the photo's faces, then those that are refused."""
        every = [face.box for face in (*self.faces, *self.refused)]
        return np.array(every, np.float32).reshape(-1, 4)

    def found(self) -> Faces:
        """The photo's faces, in their order."""
        if not self.faces:
            return Faces.empty()
        return Faces(
            np.array([face.box for face in self.faces], np.float32),
            np.array([face.score for face in self.faces], np.float32),
            np.array([face.points for face in self.faces], np.float32),
        )


def candidates(faces: Faces, widths: NDArray[np.float32], *, is_sure: bool = False) -> list[FaceCandidate]:
    """Make candidates of faces in pixels of the original. widths: in the view that they were found in."""
    return [
        FaceCandidate(
            box.astype(np.float64), points.astype(np.float64), float(score), float(width), is_sure=is_sure
        )
        for box, points, score, width in zip(faces.boxes, faces.points, faces.scores, widths, strict=True)
    ]


def out_of(view: View, faces: Faces) -> list[FaceCandidate]:
    """Turn the faces of a view into candidates of its photo."""
    widths = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1, initial=0.0)
    return candidates(faces.through(view.frame), widths)


def in_the_middle(view: View, faces: Faces) -> FaceCandidate | None:
    """The best face near the centre of a view."""
    side = view.pixels.shape[0]
    centres = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    near = np.abs(centres - (side - 1) / 2).max(axis=1, initial=0.0) <= side * _MIDDLE_SHARE
    return next(iter(out_of(view, faces.take(near))), None)


def distinct(faces: Sequence[FaceCandidate], max_iou: float) -> list[FaceCandidate]:
    """Keep one box of each face, best first: of boxes that overlap by more than `max_iou` the best scored."""
    if len(faces) < 2:
        return [*faces]
    boxes = np.array([face.box for face in faces], np.float32)
    scores = np.array([face.score for face in faces], np.float32)
    kept = suppress(boxes, scores, np.zeros(len(faces), np.intp), max_iou, len(faces))
    return [faces[index] for index in kept]


def apart(
    faces: Sequence[FaceCandidate], others: Sequence[FaceCandidate], max_iou: float
) -> list[FaceCandidate]:
    """Keep the faces that are none of the others: no box overlaps theirs by more than `max_iou`."""
    if not faces or not others:
        return [*faces]
    boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 1, 4)
    known = np.array([face.box for face in others], np.float32).reshape(-1, 4)
    is_apart = iou(boxes, known).max(axis=1, initial=0.0) <= max_iou
    return [face for face, alone in zip(faces, is_apart, strict=True) if alone]


def landmark_error(first: Array, second: Array) -> float:
    """The mean distance of landmarks (5, 2), in eye distances of the second.

    Of a face in profile the eyes come together: then by its height, as if it were seen from the front.
    """
    eyes = float(np.hypot(*(second[1] - second[0])))
    height = float(np.hypot(*(second[3:].mean(axis=0) - second[:2].mean(axis=0))))
    unit = max(eyes, height / _HEIGHT_IN_EYES, 1e-6)
    return float(np.hypot(*(first - second).T).mean() / unit)

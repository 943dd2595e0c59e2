"""Faces that a detector returns, and candidates that its decoder hands over before suppression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """The faces of one photo, best score first, in pixels of the array that was given.

    boxes: (k, 4) float32 xyxy, may pass the border. scores: (k,) float32. points: (k, 5, 2) float32, x then
    y: left eye, right eye, nose, left and right corner of the mouth, left as the viewer sees it. The origin
    is the centre of the top left pixel.
    """

    boxes: Floats
    scores: Floats
    points: Floats

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Self:
        """An empty set of faces."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))

    def take(self, index: Any) -> Self:
        """Take the faces of a slice, a mask or an array of indices, in that order."""
        return type(self)(self.boxes[index], self.scores[index], self.points[index])

    def scaled(self, factor_x: float, factor_y: float) -> Self:
        """Scale the faces to an array `factor_x` times as wide and `factor_y` times as high.

        `x' = (x + 0.5) * factor - 0.5`: pixel centres are at integers and resizing keeps the outer edges in
        place, as cv2.resize does.
        """
        factor = np.array([factor_x, factor_y], np.float32)
        return self.moved(lambda points: rescale(points, factor))

    def moved(self, move: Callable[[Floats], ArrayLike]) -> Self:
        """Move the faces to another frame; `move` takes points (..., 2), x then y, there.

        Corners of boxes are moved as points are: no rotation, no reflection (`through` knows rotations).
        """
        boxes = np.asarray(move(self.boxes.reshape(-1, 2, 2)), np.float32).reshape(-1, 4)
        return type(self)(boxes, self.scores, np.asarray(move(self.points), np.float32))

    def through(self, frame: NDArray[np.float64]) -> Self:
        """Send the faces through an affine transform (2, 3) that may turn them.

        A box becomes that of the ellipse which filled it: exact where the turn is a multiple of 90 degrees.
        """
        linear, shift = frame[:, :2], frame[:, 2]
        centres = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2 @ linear.T + shift
        halves = np.sqrt(
            (np.asarray(self.boxes[:, 2:] - self.boxes[:, :2], np.float64) / 2) ** 2 @ (linear**2).T
        )
        boxes = np.concatenate([centres - halves, centres + halves], axis=1)
        points = np.asarray(self.points, np.float64) @ linear.T + shift
        return type(self)(boxes.astype(np.float32), self.scores, points.astype(np.float32))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Join several sets of faces, in their order."""
        parts = [cls.empty(), *parts]
        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.points for part in parts]),
        )


def rescale(points: Floats, factor: Floats) -> Floats:
    """Rescale points (..., 2), x then y: `(p + 0.5) * factor - 0.5`."""
    return (points + np.float32(0.5)) * factor - np.float32(0.5)


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Detections above the threshold in a batch, in pixels of the input tensor, in no order.

    owners: (k,) row of the batch. boxes: (k, 4) float32 xyxy. scores: (k,)
    float32. points: (k, 5, 2) float32.
    """

    owners: Indices
    boxes: Floats
    scores: Floats
    points: Floats

    def take(self, index: Any) -> Self:
        """Take the candidates of a mask or an array of indices."""
        return type(self)(self.owners[index], self.boxes[index], self.scores[index], self.points[index])

    def finite(self) -> Self:
        """Drop the candidates that hold a NaN or an infinity anywhere."""
        total = self.boxes.sum(axis=1) + self.points.sum(axis=(1, 2)) + self.scores
        good = np.isfinite(total)
        return self if good.all() else self.take(good)

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Join the candidates of several levels."""
        return cls(
            np.concatenate([part.owners for part in parts]),
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.points for part in parts]),
        )

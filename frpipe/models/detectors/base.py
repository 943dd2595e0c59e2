"""Run any detector: fit photos to input tensors, run them in batches, decode, suppress, map back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from frpipe.core import plugins
from frpipe.core.config import SINGLE_LOOK_BUCKETS_PX, SINGLE_LOOK_SIDE_PX, DetectConfig
from frpipe.core.errors import ModelError
from frpipe.models import card as cards
from frpipe.models.blob import to_blob
from frpipe.models.card import Card
from frpipe.models.detectors.faces import Candidates, Faces, rescale
from frpipe.models.detectors.head import Head
from frpipe.models.detectors.nms import suppress

if TYPE_CHECKING:
    from frpipe.models.session import Session

__all__ = ["FAMILIES", "Detector", "Faces"]

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Side = tuple[int, int]
Decode = Callable[[Head, float], Candidates]

FAMILIES: dict[str, Decode] = {
    name: import_module(f"frpipe.models.detectors.{name}").decode for name in cards.FAMILIES
}


# Sides of input tensors: those of a single look, and further ones for photos with small faces.
BUCKETS_PX = (*SINGLE_LOOK_BUCKETS_PX, 768, 896, 1024, 1152, 1280, 1536, 1792, 2048)
MOST_SIDE_PX = BUCKETS_PX[-1]
_LEAST_LADDER_PX = 320
MOST_IN_LOOK = 1024
"""Boxes of one look. What a photo may keep is cut once all looks at it are done."""


class _Wanted(NamedTuple):
    """The boxes that are wanted: from which score on, and how many of each photo."""

    threshold: float
    most: int


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """A photo reduced to fit its tensor, the tensor's (height, width), and the factors (x, y) back."""

    pixels: Pixels
    bucket: Side
    factor: tuple[float, float]


class Detector:
    """Find the faces of photos with any network.

    Not for use by several threads at once: it reuses its input memory. fixed_batch: fill every batch up to
    `batch_rows`, for devices that prepare anew for each shape.
    """

    def __init__(
        self, card: Card, session: Session, settings: DetectConfig, batch_rows: int, fixed_batch: bool = False
    ) -> None:
        if card.detector is None:
            raise ModelError(f"{card.name} is not a detector", "choose one with `frpipe models list`")
        self.card = card
        self._spec = card.detector
        family = card.detector.family
        self._decode: Decode = FAMILIES.get(family) or plugins.load(plugins.DETECTORS, family)
        self._session = session
        self._most = settings.max_faces
        self._threshold = _first(settings.score_threshold, card.detector.score_threshold)
        self._iou = _first(settings.nms_iou, card.detector.nms_iou)
        self._rows = batch_rows if card.input.batched else 1
        self._fixed = fixed_batch
        self._set_sides(settings)
        self._scratch = np.empty(0, np.float32)

    def _set_sides(self, settings: DetectConfig) -> None:
        largest = settings.max_side_px or SINGLE_LOOK_SIDE_PX
        if self.card.input.size == "dynamic":
            self._fixed_size = None
            self._limit = (largest, largest)
            self._sides = (sides_reaching(sorted(settings.bucket_sides_px or BUCKETS_PX), largest),) * 2
        else:
            width, height = self.card.input.size
            self._fixed_size = (height, width)
            self._limit = (min(largest, height), min(largest, width))
            self._sides = ([height], [width])

    @property
    def score_threshold(self) -> float:
        """The score from which on a box is a face: the setting's, or the card's."""
        return self._threshold

    @property
    def nms_iou(self) -> float:
        """The overlap above which two boxes are of one face."""
        return self._iou

    @property
    def most_side_px(self) -> int:
        """The longest side that its input can have."""
        return min(self._fixed_size) if self._fixed_size else MOST_SIDE_PX

    def detect(self, photos: Sequence[Pixels]) -> list[Faces]:
        """Find the faces of each photo, in the order of the photos, in pixels of the array given.

        photos: each (h, w, 3) uint8 RGB of any size. One whose longer side is above `max_side_px` is reduced
        by area; none is enlarged. Boxes and points may pass the border. The result of a photo does not
        depend on its company. Raises ModelMismatch: the graph's outputs are not those of the card.
        """
        return self._detect([self._fit(photo) for photo in photos], _Wanted(self._threshold, self._most))

    def look(self, views: Sequence[Pixels], threshold: float, *, are_parts: bool = True) -> list[Faces]:
        """Find faces in pictures that are taken as they are, from a score of `threshold` on; see `detect`.

        views: each (h, w, 3) uint8 RGB, no side above `most_side_px`. are_parts: tensors are hardly larger
        than they are; whole photos are padded to the sides of the ladder, as `detect` does, so that what is
        found in one does not change.
        """
        return self._detect(
            [self._unfitted(view, are_parts) for view in views], _Wanted(threshold, MOST_IN_LOOK)
        )

    def _unfitted(self, view: Pixels, is_part: bool) -> _Fitted:
        exact = _LEAST_LADDER_PX if is_part and not self._fixed else 0
        bucket = self._fixed_size or tuple(
            padded_side(self._sides[0], side, exact) for side in view.shape[:2]
        )
        return _Fitted(view, (bucket[0], bucket[1]), (1.0, 1.0))

    def _detect(self, fitted: list[_Fitted], wanted: _Wanted) -> list[Faces]:
        found = [Faces.empty() for _ in fitted]
        groups: dict[Side, list[int]] = defaultdict(list)
        for index, photo in enumerate(fitted):
            if photo.pixels.size:
                groups[photo.bucket].append(index)
        for bucket, members in groups.items():
            rows = self._rows_of(bucket)
            for start in range(0, len(members), rows):
                chunk = members[start : start + rows]
                faces = self._run([fitted[index] for index in chunk], bucket, wanted)
                for index, result in zip(chunk, faces, strict=True):
                    found[index] = result
        return found

    def _fit(self, photo: Pixels) -> _Fitted:
        height, width = photo.shape[:2]
        ratio = min(1.0, self._limit[0] / max(height, 1), self._limit[1] / max(width, 1))
        factor = (1.0, 1.0)
        if ratio < 1:
            size = max(1, round(width * ratio)), max(1, round(height * ratio))
            photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
            factor = (width / size[0], height / size[1])
        rows, columns = photo.shape[:2]
        bucket = (fitting_side(self._sides[0], rows), fitting_side(self._sides[1], columns))
        return _Fitted(photo, bucket, factor)

    def _rows_of(self, bucket: Side) -> int:
        """The number of photos in one call: fewer where they are large, so that its memory stays bounded."""
        return max(1, min(self._rows, self._rows * SINGLE_LOOK_SIDE_PX**2 // (bucket[0] * bucket[1])))

    def _run(self, photos: list[_Fitted], bucket: Side, wanted: _Wanted) -> list[Faces]:
        images = [photo.pixels for photo in photos]
        if self._fixed:
            images += [np.zeros((1, 1, 3), np.uint8)] * (self._rows_of(bucket) - len(images))
        blob = self._blob(images, bucket)
        head = Head(self._spec, self._session.run(blob), len(images), *bucket)
        found = self._decode(head, wanted.threshold).finite()
        kept = suppress(found.boxes, found.scores, found.owners, self._iou, wanted.most)
        return _split(found.take(kept), [photo.factor for photo in photos])

    def _blob(self, images: list[Pixels], bucket: Side) -> Floats:
        size = len(images) * 3 * bucket[0] * bucket[1]
        if self._scratch.size < size:
            self._scratch = np.empty(size, np.float32)
        return to_blob(images, self.card.input, *bucket, self._scratch)


def _split(found: Candidates, factors: list[tuple[float, float]]) -> list[Faces]:
    """Split sorted candidates into one Faces per photo, each in the frame of its own photo."""
    if any(factor != (1.0, 1.0) for factor in factors):
        last = len(factors) - 1
        each = np.array(factors, np.float32)[np.minimum(found.owners, last)]
        boxes = rescale(found.boxes.reshape(-1, 2, 2), each[:, None]).reshape(-1, 4)
        found = Candidates(found.owners, boxes, found.scores, rescale(found.points, each[:, None]))
    edges = np.searchsorted(found.owners, np.arange(len(factors) + 1))
    return [Faces(found.boxes[a:b], found.scores[a:b], found.points[a:b]) for a, b in pairwise(edges)]


def sides_reaching(sides: list[int], largest: int) -> list[int]:
    """Extend the sides by one that `largest` fits into, where none does."""
    return sides if sides[-1] >= largest else [*sides, -(-largest // 32) * 32]


def padded_side(sides: list[int], extent: int, exact: int = 0) -> int:
    """Choose a view's side: the next multiple of 32 up to `exact`, or beyond the sides; else one of these."""
    least = -(-max(extent, 1) // 32) * 32
    return least if least <= exact or extent > sides[-1] else fitting_side(sides, extent)


def fitting_side(sides: list[int], extent: int) -> int:
    """The smallest of the sides that an extent fits into."""
    return next(side for side in sides if side >= extent)


def _first(setting: float | None, default: float) -> float:
    return default if setting is None else setting

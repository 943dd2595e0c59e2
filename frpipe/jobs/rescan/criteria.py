"""Criteria for photos of a run of a single look that may end otherwise when they are looked at again.

The rule is not a guess but a proof by cases (docs/adr/0019): a photo without a cause gets the same tensors,
so the same faces; each of them is sure by its own score, large and upright, so that none is looked at again;
and no other can be proposed. Numbers on the edge count as affected, since batches change last bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.config import SINGLE_LOOK_SIDE_PX, DetectConfig
from frpipe.core.reasons import STAGE_OF, Reject, Status
from frpipe.models.card import Card, LooksSpec
from frpipe.models.detectors.base import (
    BUCKETS_PX,
    MOST_SIDE_PX,
    fitting_side,
    padded_side,
    sides_reaching,
)
from frpipe.models.detectors.finder import first_side, hides
from frpipe.models.detectors.plausible import is_plausible
from frpipe.vision.view import roll_of

Scope = Literal["all", "found"]
"""all: every listed photo.  found: those of which a row that is there may be otherwise."""


Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

IMAGE_NAMES = ("image_id", "status", "reason", "width", "height", "faces_detected", "faces")
FACE_NAMES = ("image_id", "box_x1", "box_y1", "box_x2", "box_y2", "score", "landmarks")

# Faces of a roll beyond this are not taken as they were seen first (`Finder`); a little less is affected too.
_ROLL_MARGIN_DEG = 0.5
_SCORE_MARGIN, _SIZE_MARGIN = 1e-3, 1.01
# All others, those of further stages among them, are about faces.
_STAGES_OF_PHOTOS = ("fetch", "decode", "any")
_REASONS_OF_PHOTOS = [reason.value for reason, stage in STAGE_OF.items() if stage in _STAGES_OF_PHOTOS]


class Cause(StrEnum):
    """The cause for looking at a photo again, in the order in which causes are shown."""

    LOW_SCORE = "low_score"
    SMALL = "small"
    IMPLAUSIBLE = "implausible"
    ROLLED = "rolled"
    UNJUDGED = "unjudged"
    NOT_KEPT = "not_kept"
    OTHER_INPUT = "other_input"
    CLOSE_UP = "close_up"
    REJECTED = "rejected"
    NO_FACE = "no_face"
    NOT_LOOKED_FOR = "not_looked_for"


MEANING = {
    Cause.LOW_SCORE: "a face whose score does not make it sure: it may be turned, or none",
    Cause.SMALL: "a face that the detector saw small: its landmarks may be off",
    Cause.IMPLAUSIBLE: "a face whose landmarks can be no face's",
    Cause.ROLLED: "a face that is rolled far: it, or its photo, may stand otherwise",
    Cause.UNJUDGED: "faces whose turn the score of this detector says nothing of",
    Cause.NOT_KEPT: "faces that were found and not kept, of which nothing is known",
    Cause.OTHER_INPUT: "the detector is given another scale or another padding now",
    Cause.CLOSE_UP: "looked at from afar too now: a face that fills it may have been missed",
    Cause.REJECTED: "rejected for its faces",
    Cause.NO_FACE: "no face was found: the photo may be turned",
    Cause.NOT_LOOKED_FOR: "small faces were not looked for",
}


def of_scope(scope: Scope) -> frozenset[Cause]:
    """The causes that a scope does again."""
    return frozenset(Cause) if scope == "all" else frozenset(Cause) - {Cause.NOT_LOOKED_FOR}


class Seen(NamedTuple):
    """The way in which photos of one size were seen by the single look, and would be now.

    scale: pixels of the detector's input for one of the photo.  least_px: width of the smallest faces that
    are looked for now; proposes: whether faces may be proposed that the single look did not take.
    """

    scale: float
    least_px: float
    is_same: bool
    is_close_up: bool
    proposes: bool


@dataclass(frozen=True)
class Criteria:
    """The criteria.

    single: the `detect` section of the run's recipe.  detect: the settings to look again with.
    """

    card: Card
    single: Mapping[str, Any]
    detect: DetectConfig
    seen: Callable[[int, int], Seen] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Of few sizes, as photos are.
        object.__setattr__(self, "seen", lru_cache(4096)(self._seen))

    @property
    def sure_score(self) -> float | None:
        """The score from which on a face is sure by itself; None where no score is enough."""
        looks = self._looks
        if looks.sure_score is None or self.detect.not_photographs == "keep":
            return looks.sure_score
        return None if looks.clear_score is None else max(looks.sure_score, looks.clear_score)

    def causes(self, images: pa.Table, faces: pa.Table) -> dict[Cause, Bools]:
        """Find the causes of each photo of a part. images, faces: at least IMAGE_NAMES and FACE_NAMES."""
        status = images["status"]
        ok = _bools(pc.equal(status, Status.OK.value))
        seen = self._seen_by(images)
        owners, wrong = self._of_faces(images, faces, seen)
        found: dict[Cause, Bools] = {}
        for cause, hit in wrong.items():
            found[cause] = np.bincount(owners[hit], minlength=images.num_rows) > 0
        kept = _bools(pc.equal(images["faces"], images["faces_detected"]))
        found[Cause.UNJUDGED] = ok & (self.sure_score is None)
        found[Cause.NOT_KEPT] = ok & ~kept
        found[Cause.OTHER_INPUT] = ok & np.array([each is not None and not each.is_same for each in seen])
        found[Cause.CLOSE_UP] = ok & np.array([each is not None and each.is_close_up for each in seen])
        found[Cause.NO_FACE] = _bools(pc.equal(status, Status.NO_FACE.value))
        of_photos = _bools(pc.is_in(images["reason"], value_set=pa.array(_REASONS_OF_PHOTOS)))
        found[Cause.REJECTED] = _bools(pc.equal(status, Status.REJECTED.value)) & ~of_photos
        found[Cause.NOT_LOOKED_FOR] = ok & np.array([each is not None and each.proposes for each in seen])
        return {cause: found[cause] for cause in Cause}

    def scales(self, images: pa.Table) -> Floats:
        """Scales, (rows,): pixels of the detector's input for one of each photo; 0: it was not decoded."""
        return np.array([0.0 if each is None else each.scale for each in self._seen_by(images)])

    def least_px(self, images: pa.Table) -> list[float | None]:
        """The width from which on faces are found by a single look as well as by a second, for each photo."""
        steady = self._looks.steady_face_px
        return [
            None if each is None else steady / each.scale if each.proposes else each.least_px
            for each in self._seen_by(images)
        ]

    @property
    def _looks(self) -> LooksSpec:
        if self.card.looks is None:
            raise ValueError(f"the card of {self.card.name} has no looks")
        return self.card.looks

    def _seen_by(self, images: pa.Table) -> list[Seen | None]:
        """Find how each photo was seen; None where it was not decoded."""
        sizes = zip(images["width"].to_pylist(), images["height"].to_pylist(), strict=True)
        return [None if not width or not height else self.seen(width, height) for width, height in sizes]

    def _of_faces(
        self, images: pa.Table, faces: pa.Table, seen: list[Seen | None]
    ) -> tuple[NDArray[np.intp], dict[Cause, Bools]]:
        """Find the row of each face's photo, and what is wrong with each face."""
        owners = pc.index_in(faces["image_id"], value_set=images["image_id"].combine_chunks()).to_numpy()
        boxes = np.column_stack([faces[f"box_{name}"].to_numpy() for name in ("x1", "y1", "x2", "y2")])
        points = points_of(faces)
        scores = faces["score"].to_numpy()
        scales = np.array([0.0 if each is None else each.scale for each in seen])
        widths = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0.0) * scales[owners]
        sure = self.sure_score
        plausible = np.array(
            [is_plausible(box, marks) for box, marks in zip(boxes, points, strict=True)], np.bool_
        )
        rolls = np.array([roll_or_none(marks) or 0.0 for marks in points])
        return owners, {
            Cause.LOW_SCORE: np.zeros(len(scores), np.bool_)
            if sure is None
            else scores < sure + _SCORE_MARGIN,
            Cause.SMALL: widths < self._looks.steady_face_px * _SIZE_MARGIN,
            Cause.IMPLAUSIBLE: ~plausible,
            Cause.ROLLED: plausible & (np.abs(rolls) > self._looks.steady_roll_deg - _ROLL_MARGIN_DEG),
        }

    def _seen(self, width: int, height: int) -> Seen:
        longer = max(width, height)
        before = min(longer, self._fixed_side or self.single["max_side_px"], self.single["max_side_px"])
        side = first_side(self._looks, self.detect, longer)
        scale, looks = before / longer, self._looks
        close = hides(looks, side, self._fixed_side or MOST_SIDE_PX)
        # A small proposal is at least as wide as asked for, and smaller in the input than what is steady.
        # Large ones are not seen here: docs/adr/0019.
        proposes = self.detect.min_face_px * side / longer < looks.steady_face_px * _SIZE_MARGIN
        same = side == before and all(
            self._is_padded_alike(extent, longer, side) for extent in (width, height)
        )
        least_px = looks.smallest_face_px * longer / side
        return Seen(scale, least_px, same, close, proposes)

    @property
    def _fixed_side(self) -> int | None:
        size = self.card.input.size
        return None if size == "dynamic" else min(size)

    def _is_padded_alike(self, extent: int, longer: int, side: int) -> bool:
        """Whether the tensors of both looks are as long along an axis of a photo."""
        if self._fixed_side is not None:
            return True
        inside = extent * side / longer
        # A JPEG that is decoded smaller may come to a pixel less or more.
        extents = {extent} if side == longer else {round(inside) + step for step in (-1, 0, 1)}
        if extent == longer:
            extents = {side}
        before = sides_reaching(sorted(self.single["bucket_sides_px"]), self.single["max_side_px"])
        now = sides_reaching(
            sorted(self.detect.bucket_sides_px or BUCKETS_PX), self.detect.max_side_px or SINGLE_LOOK_SIDE_PX
        )
        return all(fitting_side(before, each) == padded_side(now, each) for each in extents if each > 0)


def points_of(faces: pa.Table) -> Floats:
    """The landmarks of faces, (n, 5, 2)."""
    flat = faces["landmarks"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float64).reshape(-1, 5, 2)


def roll_or_none(points: Floats) -> float | None:
    """The roll of a face in degrees; None where its landmarks are no face's."""
    try:
        return roll_of(points)
    except Reject:
        return None


def _bools(column: pa.ChunkedArray) -> Bools:
    """Read a column of booleans; null is false."""
    found: Bools = np.asarray(pc.fill_null(column, False).to_numpy())
    return found

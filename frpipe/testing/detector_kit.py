"""Tests that any detector must pass.

Subclass `DetectorKit` in a test module; pytest collects the subclass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from frpipe.core.config import DetectConfig
from frpipe.models.card import Card
from frpipe.models.detectors.base import Detector, Faces
from frpipe.models.detectors.nms import iou, suppress
from frpipe.models.session import Session
from frpipe.testing.model_kit import ModelKit
from frpipe.testing.photos import Pixels, awkward, on_canvas
from frpipe.testing.spy import Spy
from frpipe.vision.view import reduced

Floats = NDArray[np.float32]


def assert_same(first: Faces, second: Faces, least_iou: float, most_px: float) -> None:
    """Assert that faces are the same in any order: each has a partner of that IoU, with points that near."""
    assert len(first) == len(second)
    if not len(first):
        return
    partner = iou(first.boxes[:, None], second.boxes[None])
    best = partner.argmax(axis=1)
    assert sorted(best) == list(range(len(second)))
    assert partner.max(axis=1).min() >= least_iou
    assert np.abs(first.points - second.points[best]).max() <= most_px
    assert np.abs(first.scores - second.scores[best]).max() <= 1e-3


def shifted(faces: Faces, left: int, top: int) -> Faces:
    """Move faces right by `left` and down by `top` pixels."""
    shift = np.array([left, top], np.float32)
    return faces.moved(lambda points: points + shift)


def inside(faces: Faces, photo: Pixels) -> NDArray[np.bool_]:
    """Mask, (k,) bool, of the boxes that do not pass the border."""
    far = np.array([photo.shape[1], photo.shape[0]], np.float32)
    whole: NDArray[np.bool_] = np.all((faces.boxes[:, :2] >= 0) & (faces.boxes[:, 2:] <= far), axis=1)
    return whole


class DetectorKit(ModelKit):
    """The kit of a detector.

    Override `card`, `session` and `photos`; the tolerances suit networks that see beyond a face.
    """

    shift_iou = 0.8  # of a face found again after the photo moved by a multiple of 32 pixels
    shift_score = 0.1  # whole faces this far above the threshold must be found again

    @pytest.fixture(scope="class")
    @classmethod
    def photos(cls) -> list[Pixels]:
        """Seven or more photos of several sizes, most of them with faces that the detector finds."""
        raise NotImplementedError

    def make(
        self, card: Card, session: Session, rows: int = 4, fixed: bool = False, **settings: Any
    ) -> Detector:
        """Make a detector with the kit's defaults."""
        return Detector(card, session, DetectConfig(**settings), rows, fixed)

    def test_finds_something(self, card: Card, session: Session, photos: list[Pixels]) -> None:
        assert len(photos) >= 7
        found = self.make(card, session).detect(photos)
        assert sum(len(faces) > 0 for faces in found) > len(photos) / 2

    def test_types(self, card: Card, session: Session, photos: list[Pixels]) -> None:
        for faces in self.make(card, session).detect(photos):
            count = len(faces)
            assert faces.boxes.shape == (count, 4)
            assert faces.scores.shape == (count,)
            assert faces.points.shape == (count, 5, 2)
            assert {faces.boxes.dtype, faces.scores.dtype, faces.points.dtype} == {np.dtype(np.float32)}
            assert np.all(faces.boxes[:, 2:] > faces.boxes[:, :2])

    @pytest.mark.parametrize("fixed", [False, True])
    @pytest.mark.parametrize("rows", [1, 2, 3, 7])
    def test_company_does_not_matter(
        self, card: Card, session: Session, photos: list[Pixels], rows: int, fixed: bool
    ) -> None:
        alone = [self.make(card, session, rows=1).detect([photo])[0] for photo in photos]
        order = np.random.default_rng(rows).permutation(len(photos))
        together = self.make(card, session, rows, fixed).detect([photos[index] for index in order])
        for index, faces in zip(order, together, strict=True):
            assert_same(alone[index], faces, least_iou=0.99, most_px=0.5)

    @pytest.mark.parametrize("rows", [1, 3])
    def test_company_does_not_matter_in_a_look_either(
        self, card: Card, session: Session, photos: list[Pixels], rows: int
    ) -> None:
        detector = self.make(card, session, rows)
        views = [reduced(photo, min(detector.most_side_px, side)) for photo in photos for side in (160, 300)]
        together = detector.look(views[::-1], detector.score_threshold)[::-1]
        for view, faces in zip(views, together, strict=True):
            alone = self.make(card, session, rows=1).look([view], detector.score_threshold)[0]
            assert_same(alone, faces, least_iou=0.99, most_px=0.5)

    def test_a_look_for_less_finds_the_same_and_more(
        self, card: Card, session: Session, photos: list[Pixels]
    ) -> None:
        detector = self.make(card, session)
        views = [reduced(photo, min(detector.most_side_px, 320)) for photo in photos]
        sure, all_of_them = (detector.look(views, detector.score_threshold * share) for share in (1.0, 0.3))
        for few, many in zip(sure, all_of_them, strict=True):
            assert len(many) >= len(few)
            np.testing.assert_array_equal(many.scores[: len(few)], few.scores)
            np.testing.assert_array_equal(many.points[: len(few)], few.points)

    def test_a_result_outlives_the_next_call(
        self, card: Card, session: Session, photos: list[Pixels]
    ) -> None:
        detector = self.make(card, session)
        first = detector.detect(photos[:1])[0]
        copy = first.boxes.copy()
        detector.detect(photos[1:])
        np.testing.assert_array_equal(first.boxes, copy)

    @pytest.mark.parametrize("rows", [1, 4])
    def test_survives_awkward_photos(self, card: Card, session: Session, rows: int) -> None:
        photos = awkward()
        found = self.make(card, session, rows, score_threshold=0.0, max_faces=5).detect(photos)
        assert len(found) == len(photos)
        for faces in found:
            assert np.isfinite(faces.boxes).all()
            assert np.isfinite(faces.points).all()

    def test_no_photo_no_result(self, card: Card, session: Session) -> None:
        assert self.make(card, session).detect([]) == []

    def test_best_first(self, card: Card, session: Session, photos: list[Pixels]) -> None:
        for faces in self.make(card, session).detect(photos):
            assert np.all(np.diff(faces.scores) <= 0)

    def test_keeps_the_best(self, card: Card, session: Session, photos: list[Pixels]) -> None:
        every = self.make(card, session).detect(photos)
        best = self.make(card, session, max_faces=1).detect(photos)
        for all_faces, one in zip(every, best, strict=True):
            assert_same(all_faces.take(slice(0, 1)), one, least_iou=0.999, most_px=0.01)

    def test_a_higher_threshold_keeps_the_same_best(
        self, card: Card, session: Session, photos: list[Pixels]
    ) -> None:
        assert card.detector is not None
        higher = (card.detector.score_threshold + 1) / 2
        loose = self.make(card, session).detect(photos)
        strict = self.make(card, session, score_threshold=higher).detect(photos)
        for many, few in zip(loose, strict, strict=True):
            assert_same(many.take(many.scores >= np.float32(higher)), few, least_iou=0.999, most_px=0.01)

    def test_no_two_boxes_on_one_face(self, card: Card, session: Session, photos: list[Pixels]) -> None:
        assert card.detector is not None
        for faces in self.make(card, session).detect(photos):
            owners = np.zeros(len(faces), np.intp)
            again = suppress(faces.boxes, faces.scores, owners, card.detector.nms_iou + 1e-3, 10**6)
            assert len(again) == len(faces)

    @pytest.mark.parametrize(("left", "top"), [(32, 0), (0, 64), (96, 32)])
    def test_faces_move_with_the_photo(
        self, card: Card, session: Session, photos: list[Pixels], left: int, top: int
    ) -> None:
        assert card.detector is not None
        detector = self.make(card, session)
        small = [photo for photo in photos if max(photo.shape) + 96 <= 640]
        assert small
        canvases = [on_canvas(photo, left, top, 640, 640) for photo in small]
        found = zip(small, detector.detect(small), detector.detect(canvases), strict=True)
        sure = card.detector.score_threshold + self.shift_score
        for photo, here, there in found:
            whole = here.take((here.scores >= sure) & inside(here, photo))
            if len(whole):
                wanted = shifted(whole, left, top)
                assert len(there)
                assert iou(wanted.boxes[:, None], there.boxes[None]).max(axis=1).min() >= self.shift_iou

    def test_a_reduced_photo_is_mapped_back(self, card: Card, session: Session, photos: list[Pixels]) -> None:
        """Reduction by area restores a photo with each pixel three times over."""
        for photo in [photo for photo in photos if max(photo.shape) >= 64][:4]:
            large = photo.repeat(3, axis=0).repeat(3, axis=1)
            detector = self.make(card, session, max_side_px=max(photo.shape[:2]))
            here, there = (detector.detect([pixels])[0] for pixels in (photo, large))
            assert_same(here.scaled(3, 3), there, least_iou=0.99, most_px=1.0)

    def test_never_enlarges(self, card: Card, session: Session) -> None:
        """A photo as small as 40x30 lies in the tensor pixel by pixel, with black around it."""
        spy = Spy(session)
        photo = np.random.default_rng(1).integers(1, 256, (30, 40, 3), dtype=np.uint8)
        self.make(card, spy).detect([photo])
        spec = card.input
        ordered = photo if spec.colour == "RGB" else photo[..., ::-1]
        mean, std = np.array(spec.mean), np.array(spec.std)
        restored = spy.blobs[0][0].transpose(1, 2, 0) * std + mean
        np.testing.assert_allclose(restored[:30, :40], ordered, atol=1e-3)
        np.testing.assert_allclose(restored[30:], 0, atol=1e-3)
        np.testing.assert_allclose(restored[:, 40:], 0, atol=1e-3)
        assert min(restored.shape[:2]) >= 64

    def test_input_is_left_alone(self, card: Card, session: Session, photos: Sequence[Pixels]) -> None:
        copies = [photo.copy() for photo in photos]
        self.make(card, session).detect(photos)
        for photo, copy in zip(photos, copies, strict=True):
            np.testing.assert_array_equal(photo, copy)

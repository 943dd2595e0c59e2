"""The kits on tiny random networks: what holds for frpipe's own code whatever the weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from frpipe.core.config import DetectConfig
from frpipe.core.errors import ModelError, ModelMismatch
from frpipe.models.blob import to_blob
from frpipe.models.card import Card
from frpipe.models.detectors import retinaface
from frpipe.models.detectors.base import Detector
from frpipe.models.detectors.head import Head
from frpipe.models.embedders.arcface import Embedder
from frpipe.models.session import Session, open_session
from frpipe.testing.detector_kit import DetectorKit, assert_same
from frpipe.testing.embedder_kit import EmbedderKit
from frpipe.testing.photos import Pixels, noise, red_squares
from frpipe.testing.spy import Spy
from frpipe.testing.tiny import Family, tiny_detector, tiny_embedder

SIZES = [(120, 90), (250, 250), (64, 300), (320, 200), (96, 96), (40, 500), (480, 360), (200, 250)]


class TinyDetectorKit(DetectorKit):
    family: Family
    shift_iou = 0.999
    shift_score = 0.0

    @pytest.fixture(scope="class")
    @classmethod
    def path(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("models") / f"{cls.family}.onnx"

    @pytest.fixture(scope="class")
    @classmethod
    def card(cls, path: Path) -> Card:
        return tiny_detector(cls.family, path)

    @pytest.fixture(scope="class")
    @classmethod
    def session(cls, card: Card, path: Path) -> Session:
        return open_session(path, "cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def photos(cls) -> list[Pixels]:
        return [red_squares(*size, squares=3, seed=seed) for seed, size in enumerate(SIZES)]

    def test_green_and_blue_are_no_faces(self, card: Card, session: Session, photos: list[Pixels]) -> None:
        for turn in (1, 2):
            found = self.make(card, session).detect([np.roll(photo, turn, axis=2) for photo in photos])
            assert not any(len(faces) for faces in found)

    def test_a_face_is_where_the_square_is(self, card: Card, session: Session) -> None:
        photo = np.zeros((200, 300, 3), np.uint8)
        photo[96:128, 160:192] = (250, 0, 0)
        box = self.make(card, session).detect([photo])[0].boxes[0]
        assert abs((box[0] + box[2]) / 2 - 175.5) < 24
        assert abs((box[1] + box[3]) / 2 - 111.5) < 24

    def test_left_as_the_viewer_sees_it(self, card: Card, session: Session, photos: list[Pixels]) -> None:
        for faces in self.make(card, session).detect(photos):
            assert np.all(faces.points[:, 0, 0] < faces.points[:, 1, 0])
            assert np.all(faces.points[:, 3, 0] < faces.points[:, 4, 0])
            assert np.all(faces.points[:, :2, 1].max(axis=1) < faces.points[:, 3:, 1].min(axis=1))

    def test_tensors_are_no_larger_than_need_be(self, card: Card, session: Session) -> None:
        spy = Spy(session)
        self.make(card, spy).detect([noise(100, 200), noise(900, 300)])
        assert [blob.shape[2:] for blob in spy.blobs] == [(128, 256), (640, 256)]

    def test_each_axis_has_its_own_factor(self, card: Card, session: Session) -> None:
        """97 rows become 48, not 48.5."""
        large = red_squares(97, 1280, squares=12, seed=3)
        small = cv2.resize(large, (640, 48), interpolation=cv2.INTER_AREA)
        detector = self.make(card, session)
        here, there = detector.detect([small])[0], detector.detect([large])[0]
        assert len(here) > 3
        assert_same(here.scaled(2, 97 / 48), there, least_iou=0.999, most_px=0.01)

    def test_fixed_batches_are_full(self, card: Card, session: Session, photos: list[Pixels]) -> None:
        spy = Spy(session)
        self.make(card, spy, rows=5, fixed=True).detect(photos)
        assert {len(blob) for blob in spy.blobs} == {5}

    def test_a_graph_that_mixes_frames_is_run_one_by_one(
        self, card: Card, session: Session, photos: list[Pixels]
    ) -> None:
        alone = card.model_copy(update={"input": card.input.model_copy(update={"batched": False})})
        spy = Spy(session)
        for batched, single in zip(
            self.make(card, session).detect(photos), self.make(alone, spy).detect(photos), strict=True
        ):
            assert_same(batched, single, least_iou=0.999, most_px=0.01)
        assert {len(blob) for blob in spy.blobs} == {1}

    def test_a_graph_of_one_size_gets_that_size(
        self, card: Card, session: Session, photos: list[Pixels]
    ) -> None:
        fixed = card.model_copy(update={"input": card.input.model_copy(update={"size": (320, 256)})})
        spy = Spy(session)
        found = self.make(fixed, spy).detect([*photos, red_squares(1000, 200, squares=9)])
        assert {blob.shape[2:] for blob in spy.blobs} == {(256, 320)}
        assert len(found) == len(photos) + 1

    def test_not_a_number_is_no_face(self, card: Card, session: Session, photos: list[Pixels]) -> None:
        class Broken(Spy):
            def run(self, blob: np.ndarray) -> list[np.ndarray]:
                outputs = super().run(blob)
                outputs[-1][:, ::2] = np.nan
                outputs[-1][:, 1::2] = np.inf
                return outputs

        assert card.detector is not None
        for faces in self.make(card, Broken(session)).detect(photos):
            assert np.isfinite(faces.points).all()

    def test_a_card_with_wrong_outputs_is_refused(
        self, card: Card, session: Session, photos: list[Pixels]
    ) -> None:
        assert card.detector is not None
        roles = dict(card.detector.outputs)
        for wrong in (roles | {"box": roles["points"]}, roles | {"box": (99,)}, roles | {"box": ()}):
            spec = card.detector.model_copy(update={"outputs": wrong})
            detector = self.make(card.model_copy(update={"detector": spec}), session)
            with pytest.raises(ModelMismatch):
                detector.detect(photos)


class TestYuNet(TinyDetectorKit):
    family = "yunet"


class TestScrfd(TinyDetectorKit):
    family = "scrfd"


class TestRetinaFace(TinyDetectorKit):
    family = "retinaface"


class TestEmbedder(EmbedderKit):
    @pytest.fixture(scope="class")
    @classmethod
    def path(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("models") / "embedder.onnx"

    @pytest.fixture(scope="class")
    @classmethod
    def card(cls, path: Path) -> Card:
        return tiny_embedder(path)

    @pytest.fixture(scope="class")
    @classmethod
    def session(cls, card: Card, path: Path) -> Session:
        return open_session(path, "cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def crops(cls) -> Pixels:
        crops = [red_squares(112, 112, squares=4, seed=seed) for seed in range(8)]
        return np.stack([crop // 2 + noise(112, 112, seed) // 2 for seed, crop in enumerate(crops)])

    def test_roles_are_not_interchangeable(self, card: Card, session: Session, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="not a detector"):
            Detector(card, session, DetectConfig(), 4)
        with pytest.raises(ModelError, match="not an embedder"):
            Embedder(tiny_detector("yunet", tmp_path / "d.onnx"), session, 4)


def test_classes_of_background_and_face_are_read_as_scores(tmp_path: Path) -> None:
    card = tiny_detector("retinaface", tmp_path / "tiny.onnx")
    session = open_session(tmp_path / "tiny.onnx", "cpu")
    blob = to_blob([red_squares(96, 96, squares=3, seed=0)], card.input, 96, 96)
    score, box, points = session.run(blob)
    assert card.detector is not None
    by_score = retinaface.decode(Head(card.detector, [score, box, points], 1, 96, 96), 0.5)
    outputs = {"box": (0,), "classes": (1,), "points": (2,)}
    spec = card.detector.model_copy(update={"outputs": outputs})
    both = np.concatenate([1 - score, score], axis=-1)
    by_classes = retinaface.decode(Head(spec, [box, both, points], 1, 96, 96), 0.5)
    assert len(by_score.scores)
    for name in ("owners", "boxes", "scores", "points"):
        np.testing.assert_array_equal(getattr(by_score, name), getattr(by_classes, name))

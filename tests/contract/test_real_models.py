"""The kits on the development weights and real photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from frpipe.core.config import DetectConfig, EmbedConfig, PoolConfig
from frpipe.core.errors import ModelError
from frpipe.models.card import Card
from frpipe.models.detectors.nms import iou
from frpipe.models.loading import load_detector, load_embedder
from frpipe.models.registry import Registry
from frpipe.models.session import Session, open_session
from frpipe.testing.detector_kit import DetectorKit
from frpipe.testing.embedder_kit import EmbedderKit
from frpipe.testing.photos import Pixels, flat, noise

cv2 = pytest.importorskip("cv2")

DETECTORS = [
    "yunet_2023mar",
    "yunet_n",
    "scrfd_500m",
    "scrfd_2.5g",
    "retinaface_mnet025",
    "retinaface_mv1_025",
]
EMBEDDERS = ["sface_2021dec", "edgeface_xs_q", "mobilefacenet_faceplugin", "mobilefacenet_foamliu"]


def read(path: Path) -> Pixels:
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    assert isinstance(pixels, np.ndarray)
    return pixels


class TestDetectors(DetectorKit):
    @pytest.fixture(scope="class", params=DETECTORS)
    @classmethod
    def card(cls, request: pytest.FixtureRequest, real_card: Callable[[str], Card]) -> Card:
        return real_card(request.param)

    @pytest.fixture(scope="class")
    @classmethod
    def session(cls, card: Card, real_models: Registry) -> Session:
        return open_session(real_models.find(card), "cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def photos(cls, real_photos: Path) -> list[Pixels]:
        """Portraits, a small one, and three side by side."""
        paths = sorted(real_photos.glob("*/*.jpg"))
        first, _, *others = paths[:: len(paths) // 4]  # the second of LFW has a face at its border
        single = [read(path) for path in (first, *others)]
        small = cv2.resize(single[0], (150, 150), interpolation=cv2.INTER_AREA)
        return [*single, small, cv2.flip(single[1], 1), cv2.hconcat(single[:3])]

    def test_finds_the_people_of_a_group(self, card: Card, session: Session, shared: Path) -> None:
        """Boxes of 2008_001009.jpg as annotated with the data set (left, top, width, height)."""
        folder = shared / "data" / "groups" / "faces"
        annotated = _annotated(folder / "training.xml", "2008_001009.jpg")
        found = self.make(card, session).detect([read(folder / "2008_001009.jpg")])[0]
        assert iou(annotated[:, None], found.boxes[None]).max(axis=1).min() > 0.5

    def test_left_as_the_viewer_sees_it(self, card: Card, session: Session, photos: list[Pixels]) -> None:
        for faces in self.make(card, session).detect(photos):
            points = faces.points[:1]
            assert np.all(points[:, 0, 0] < points[:, 1, 0])
            assert np.all(points[:, 3, 0] < points[:, 4, 0])
            assert np.all(points[:, :2, 1].max(axis=1) < points[:, 3:, 1].min(axis=1))

    def test_no_face_in_nothing(self, card: Card, session: Session) -> None:
        empty = [flat(250, 250, 0), flat(250, 250, 255), noise(250, 250), flat(1, 1, 9), flat(3, 600, 99)]
        assert not any(len(faces) for faces in self.make(card, session).detect(empty))


class TestEmbedders(EmbedderKit):
    @pytest.fixture(scope="class", params=EMBEDDERS)
    @classmethod
    def card(cls, request: pytest.FixtureRequest, real_card: Callable[[str], Card]) -> Card:
        return real_card(request.param)

    @pytest.fixture(scope="class")
    @classmethod
    def session(cls, card: Card, real_models: Registry) -> Session:
        return open_session(real_models.find(card), "cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def crops(cls, real_photos: Path) -> Pixels:
        """The middle of portraits, which is close to the aligned crop."""
        paths = sorted(real_photos.glob("*/*.jpg"))
        paths = paths[:: len(paths) // 7]
        return np.stack([cv2.resize(read(path)[65:190, 63:188], (112, 112)) for path in paths])


def test_loading_checks_the_role(real_models: Registry) -> None:
    with pytest.raises(ModelError, match="detector"):
        load_detector(real_models.card("sface_2021dec"), DetectConfig(), PoolConfig())
    with pytest.raises(ModelError, match="embedder"):
        load_embedder(real_models.card("yunet_2023mar"), EmbedConfig(), PoolConfig())


def test_the_defaults_load_and_run(real_models: Registry) -> None:
    detector = load_detector(real_models.card("yunet_2023mar"), DetectConfig(), PoolConfig())
    embedder = load_embedder(real_models.card("sface_2021dec"), EmbedConfig(), PoolConfig())
    assert len(detector.detect([noise(50, 50)])) == 1
    assert embedder.embed(noise(112, 112)[None]).shape == (1, embedder.dim)


def _annotated(xml: Path, photo: str) -> np.ndarray:
    from xml.etree import ElementTree

    image = next(node for node in ElementTree.parse(xml).iter("image") if node.get("file") == photo)
    rows = [[float(box.get(key, "nan")) for key in ("left", "top", "width", "height")] for box in image]
    boxes = np.array([row for row in rows if not np.isnan(row).any()], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    return boxes

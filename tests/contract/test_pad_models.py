"""The stage `pad` and its networks: the kits on tiny ones, and on the real ones where their weights are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpipe.core.errors import ModelError
from frpipe.models.card import Card, PadSpec
from frpipe.models.crop_model import CropModel
from frpipe.models.registry import Registry
from frpipe.models.session import Session, open_session
from frpipe.stages.models import model_facts
from frpipe.stages.pad.probabilities import fused, probabilities
from frpipe.stages.pad.stage import Pad
from frpipe.testing.pad_kit import PadKit
from frpipe.testing.photos import Pixels, noise
from frpipe.testing.spy import Spy
from frpipe.testing.stage_kit import StageKit
from frpipe.testing.tiny import tiny_pad
from frpipe.vision.enlarge import enlarged_crop

cv2 = pytest.importorskip("cv2")

THREE = PadSpec(
    scale=2.7,
    border="shift",
    resize="bilinear",
    outputs="logits",
    classes=("attack_2d", "bona_fide", "attack_3d"),
)
TWO = PadSpec(scale=1.5, border="reflect", outputs="probabilities", classes=("bona_fide", "attack"))
BLACK = TWO.model_copy(update={"border": "constant"})
CARDS = (
    "minifasnet_v2",
    "minifasnet_v1se",
    "minifas_se_128",
    "minifasnet_v2_batched",
    "minifasnet_v1se_batched",
)
Border = Literal["reflect", "constant", "shift"]


def _model(spec: PadSpec, path: Path, side: int = 40, seed: int = 0) -> CropModel:
    return CropModel(tiny_pad(path, spec, side, seed), open_session(path, "cpu"), 4)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, CropModel]:
    place = tmp_path_factory.mktemp("pair")
    four = THREE.model_copy(update={"scale": 4.0})
    return {"model": _model(THREE, place / "a.onnx"), "second_model": _model(four, place / "b.onnx", 48, 1)}


class TestFlagging(StageKit):
    stage = Pad
    given: ClassVar = {"min_score": 0.4}

    @pytest.fixture(scope="class")
    @classmethod
    def models(cls, pair: Mapping[str, CropModel]) -> Mapping[str, CropModel]:
        return pair


class TestHolding(TestFlagging):
    given: ClassVar = {"policy": "reject", "min_score": 0.4}
    loosened: ClassVar = {"min_score": 0.1}


class TestOneAlone(StageKit):
    stage = Pad
    given: ClassVar = {"policy": "reject", "second_model": None}

    @pytest.fixture(scope="class")
    @classmethod
    def models(cls, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, CropModel]:
        return {"model": _model(TWO, tmp_path_factory.mktemp("one") / "a.onnx")}


class TestTinyPad(PadKit):
    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("tiny") / "pad.onnx"

    @pytest.fixture(scope="class", params=[THREE, TWO], ids=["three", "two"])
    @classmethod
    def card(cls, request: pytest.FixtureRequest, place: Path) -> Card:
        return tiny_pad(place, request.param)

    @pytest.fixture(scope="class")
    @classmethod
    def session(cls, card: Card, place: Path) -> Session:
        return open_session(place, "cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def crops(cls) -> Pixels:
        return np.stack([noise(40, 40, seed) // (1 + seed % 3) for seed in range(8)])


class TestPadNetworks(PadKit):
    """On photos of people and of prints held before the same camera, whose faces stand where they stand."""

    @pytest.fixture(scope="class", params=CARDS)
    @classmethod
    def card(cls, request: pytest.FixtureRequest, real_card: Callable[[str], Card]) -> Card:
        return real_card(request.param)

    @pytest.fixture(scope="class")
    @classmethod
    def session(cls, card: Card, real_models: Registry) -> Session:
        return open_session(real_models.find(card), "cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def crops(cls, card: Card, shared: Path, real_models: Registry) -> Pixels:
        return _cut(shared / "data/spoof/print/live", card, real_models)

    @pytest.fixture(scope="class")
    @classmethod
    def attacks(cls, card: Card, shared: Path, real_models: Registry) -> Pixels:
        return _cut(shared / "data/spoof/print/attack", card, real_models)


def _cut(folder: Path, card: Card, models: Registry) -> Pixels:
    """Of every sixth photo the crop about its largest face."""
    from frpipe.core.config import load_config
    from frpipe.models.loading import load_detector

    if not folder.is_dir():
        pytest.skip("photos of attacks (../shared/data/spoof) are not on this machine")
    config = load_config()
    detector = load_detector(models.card("yunet_2023mar"), config.detect, config.resources.locate)
    photos = [cv2.imread(str(path))[..., ::-1].copy() for path in sorted(folder.glob("*/*.jpg"))[::6]]
    (wanted,) = Pad.enlarged(Pad.section(), {"model": card}).values()
    found = zip(photos, detector.detect(photos), strict=True)
    return np.stack([enlarged_crop(photo, faces.boxes[0], wanted) for photo, faces in found if len(faces)])


def _by_hand(photo: Pixels, box: Any, spec: PadSpec, side: int) -> Pixels:
    """The crop as the card says it, pixel by pixel, without a word of `frpipe.vision.enlarge`."""
    height, width = photo.shape[:2]
    x1, y1, x2, y2 = box
    if spec.border == "shift":
        scale = min(spec.scale, (height - 1) / (y2 - y1), (width - 1) / (x2 - x1))
        ends = []
        for low, high, length in ((x1, x2, width), (y1, y2, height)):
            first, last = ((low + high) / 2 + sign * (high - low) * scale / 2 for sign in (-1, 1))
            if first < 0:
                first, last = 0.0, last - first
            if last > length - 1:
                first, last = first - (last - length + 1), length - 1.0
            ends.append((int(max(first, 0) + 1e-9), int(last + 1e-9)))
        (left, right), (top, bottom) = ends
        part = photo[top : bottom + 1, left : right + 1]
    else:
        long = round(max(x2 - x1, y2 - y1) * spec.scale)
        left, top = (int(np.floor((a + b) / 2 - long / 2 + 1)) for a, b in ((x1, x2), (y1, y2)))
        part = np.zeros((long, long, 3), np.uint8)
        for row in range(long):
            for column in range(long):
                y, x = top + row, left + column
                if spec.border == "reflect":
                    y, x = _reflected(y, height), _reflected(x, width)
                if 0 <= y < height and 0 <= x < width:
                    part[row, column] = photo[y, x]
    by_area = spec.resize == "area" and min(part.shape[:2]) >= side
    way = cv2.INTER_AREA if by_area else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(part), (side, side), interpolation=way))


def _reflected(at: int, length: int) -> int:
    while not 0 <= at < length:
        at = -at if at < 0 else 2 * (length - 1) - at
    return at


@settings(max_examples=40, deadline=None)
@given(
    x=st.integers(-8, 40),
    y=st.integers(-8, 30),
    wide=st.integers(10, 26),
    high=st.integers(10, 26),
    name=st.sampled_from([*CARDS, "black"]),
)
def test_what_the_network_sees_at_a_border_is_what_the_card_says(
    x: int, y: int, wide: int, high: int, name: str
) -> None:
    photo = np.random.default_rng(5).integers(0, 256, (44, 60, 3), np.uint8)
    card = Registry.default().card("minifas_se_128" if name == "black" else name)
    card = card.model_copy(update={"pad": BLACK}) if name == "black" else card
    spec, box = card.pad, [x, y, x + wide, y + high]
    assert spec is not None
    (wanted,) = Pad.enlarged(Pad.section(), {"model": card}).values()
    crop = enlarged_crop(photo, box, wanted)
    spy = Spy(_Constant(len(spec.classes)))
    model = CropModel(card, spy, 4)
    given = CropModel(card.model_copy(update={"pad": spec.model_copy(update={"outputs": "logits"})}), spy, 4)
    probabilities(given, crop[None])
    blob = spy.blobs[0][0].transpose(1, 2, 0) * np.array(card.input.std) + np.array(card.input.mean)
    expected = _by_hand(photo, box, spec, card.input.side)
    assert model.card.input.side == len(expected)
    np.testing.assert_allclose(
        blob, expected if card.input.colour == "RGB" else expected[..., ::-1], atol=1e-3
    )


class _Constant(Session):
    """Says the same of every crop."""

    def __init__(self, classes: int) -> None:
        self.provider, self.classes = "none", classes

    def run(self, blob: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        return [np.zeros((len(blob), self.classes), np.float32)]


def test_two_that_know_the_same_classes_are_averaged_class_by_class() -> None:
    """By hand: bona fide is the most probable class of the first alone, and below a half in the mean."""
    each = [np.array([[0.3, 0.6, 0.1]]), np.array([[0.0, 0.36, 0.64]])]
    scores, labels = fused([THREE, THREE], each)
    assert scores.tolist() == pytest.approx([0.48]) and labels == ["bona_fide"]
    scores, labels = fused([THREE, THREE], [each[1], each[1]])
    assert scores.tolist() == pytest.approx([0.36]) and labels == ["attack_3d"]


def test_two_that_know_other_classes_are_averaged_as_bona_fide_and_attack() -> None:
    scores, labels = fused([THREE, TWO], [np.array([[0.3, 0.6, 0.1]]), np.array([[0.2, 0.8]])])
    assert scores.tolist() == pytest.approx([0.4]) and labels == ["attack"]


@pytest.mark.parametrize("wrong", ["classes", "outputs", "role"])
def test_weights_that_give_something_else_are_one_clear_error(tmp_path: Path, wrong: str) -> None:
    model = _model(THREE, tmp_path / "p.onnx")
    changes = {
        "classes": {"pad": THREE.model_copy(update={"classes": ("bona_fide", "attack")})},
        "outputs": {"pad": THREE.model_copy(update={"outputs": "probabilities"})},
        "role": {"pad": None, "role": "other"},
    }
    model.card = model.card.model_copy(update=changes[wrong])
    with pytest.raises(ModelError, match=r"does not give|role pad"):
        probabilities(model, noise(40, 40)[None])


def test_what_a_card_says_of_attacks_is_part_of_its_facts(tmp_path: Path) -> None:
    card = tiny_pad(tmp_path / "p.onnx", THREE)
    # That it needs colour is a warning, and changes no number.
    assert model_facts(card)["pad"] == THREE.model_dump(mode="json", exclude={"needs_colour"})
    for change, text in (
        ({"pad": None}, "where its role"),
        ({"input": {**card.input.model_dump(), "size": (40, 48)}}, "square"),
        ({"pad": {**THREE.model_dump(), "classes": ("live", "attack")}}, "bona_fide"),
    ):
        with pytest.raises(ValueError, match=text):
            Card.model_validate({**card.model_dump(), **change})

"""The stage `quality` and its networks: the kits on tiny ones, and on LightQNet where its weights are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from frpipe.core.errors import ModelError
from frpipe.models.card import Card, PoseSpec, QualitySpec
from frpipe.models.crop_model import CropModel
from frpipe.models.registry import Registry
from frpipe.models.session import Session, open_session
from frpipe.stages.chain import StageChain
from frpipe.stages.models import model_facts
from frpipe.stages.quality.stage import Quality, learned_quality, network_pose
from frpipe.stages.tabulate import tabulate
from frpipe.testing.faces import located_faces, plan_of
from frpipe.testing.photos import Pixels, noise
from frpipe.testing.pose_kit import PoseKit
from frpipe.testing.quality_kit import QualityKit
from frpipe.testing.stage_kit import StageKit
from frpipe.testing.tiny import tiny_pose, tiny_quality

cv2 = pytest.importorskip("cv2")


def _model(card: Card, path: Path) -> CropModel:
    return CropModel(card, open_session(path, "cpu"), 4)


class TestMeasures(StageKit):
    stage = Quality
    given: ClassVar = {"preset": "enrolment", "min_scores": {"ofiq_like_dynamic_range": 20}}


class TestHolding(StageKit):
    stage = Quality
    given: ClassVar = {"policy": "reject", "min_scores": {"ofiq_like_luminance_mean": 50}}
    loosened: ClassVar = {"min_scores": {"ofiq_like_luminance_mean": 10}, "max_yaw_deg": 90}


class TestWithNetworks(StageKit):
    stage = Quality

    @pytest.fixture(scope="class")
    @classmethod
    def models(cls, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, CropModel]:
        place = tmp_path_factory.mktemp("models")
        quality, pose = place / "quality.onnx", place / "pose.onnx"
        return {
            "model": _model(tiny_quality(quality), quality),
            "pose_model": _model(tiny_pose(pose), pose),
        }


class TestTinyQuality(QualityKit):
    knows_faces = False

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("tiny") / "quality.onnx"

    @pytest.fixture(scope="class", params=[96, 112])
    @classmethod
    def card(cls, request: pytest.FixtureRequest, place: Path) -> Card:
        return tiny_quality(place.with_name(f"{request.param}.onnx"), request.param)

    @pytest.fixture(scope="class")
    @classmethod
    def session(cls, card: Card, place: Path) -> Session:
        return open_session(place.with_name(card.file), "cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def crops(cls) -> Pixels:
        return np.stack([noise(112, 112, seed) // (1 + seed % 3) for seed in range(8)])


class TestQualityNetworks(QualityKit):
    @pytest.fixture(scope="class", params=["lightqnet_dm100", "ediffiqa_tiny"])
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
        photos = [cv2.imread(str(path))[65:190, 63:188, ::-1] for path in paths[:: len(paths) // 10]]
        return np.stack([cv2.resize(photo, (112, 112)) for photo in photos])


class TestTinyPose(PoseKit):
    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("tiny") / "pose.onnx"

    @pytest.fixture(scope="class")
    @classmethod
    def card(cls, place: Path) -> Card:
        return tiny_pose(place)

    @pytest.fixture(scope="class")
    @classmethod
    def session(cls, card: Card, place: Path) -> Session:
        return open_session(place, "cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def heads(cls) -> Pixels:
        """Brighter at one side than at the other."""
        ramps = [np.linspace(start, 255 - start, 64) for start in (0, 40, 90, 128, 170, 210, 255)]
        return np.stack([np.broadcast_to(each[None, :, None], (64, 64, 3)) for each in ramps]).astype(
            np.uint8
        )


def test_the_learned_score_counts_in_the_quality_score(tmp_path: Path) -> None:
    path = tmp_path / "q.onnx"
    card = tiny_quality(path).model_copy(
        update={"quality": QualitySpec(x0=10.0, w=0.1)}
    )  # every component is 0
    located = located_faces(np.stack([noise(112, 112, seed) // 4 + 90 for seed in range(3)]))
    plain, learned = (
        StageChain([Quality(Quality.section(), models)]) for models in ({}, {"model": _model(card, path)})
    )
    part = tabulate(0, plan_of(1), [located], [1], "all")
    before, after = (chain(part).faces for chain in (plain, learned))
    assert before["learned_quality"].null_count == 3 and min(before["quality_score"].to_pylist()) > 0
    assert after["learned_quality_score"].to_pylist() == after["quality_score"].to_pylist() == [0, 0, 0]


def test_a_network_gives_yaw_and_pitch_and_the_points_give_roll(tmp_path: Path) -> None:
    path = tmp_path / "p.onnx"
    model = _model(tiny_pose(path), path)
    bright_left = np.zeros((1, 64, 64, 3), np.uint8)
    bright_left[:, :, :32] = 255
    plain = network_pose(model, bright_left)
    model.card = model.card.model_copy(update={"pose": PoseSpec(yaw_sign=-1)})
    assert network_pose(model, bright_left).yaw == pytest.approx(-plain.yaw) and abs(plain.yaw.item()) > 20


def test_weights_that_give_something_else_are_one_clear_error(tmp_path: Path) -> None:
    quality, pose = tmp_path / "q.onnx", tmp_path / "p.onnx"
    tiny_quality(quality, 64), tiny_pose(pose)
    wrong_quality = CropModel(tiny_pose(pose), open_session(pose, "cpu"), 4)
    wrong_pose = CropModel(tiny_quality(quality, 64), open_session(quality, "cpu"), 4)
    with pytest.raises(ModelError, match="one number"):
        learned_quality(wrong_quality, noise(112, 112)[None])
    with pytest.raises(ModelError, match="rotation"):
        network_pose(wrong_pose, noise(64, 64)[None])


def test_what_a_card_says_of_quality_and_pose_is_part_of_its_facts(tmp_path: Path) -> None:
    card = tiny_quality(tmp_path / "q.onnx")
    assert "quality" not in model_facts(card)
    assert model_facts(card.model_copy(update={"quality": QualitySpec(x0=0.4)}))["quality"] == {
        "x0": 0.4,
        "w": 1.0,
    }
    with pytest.raises(ValueError, match="only where its role"):
        Card.model_validate({**card.model_dump(), "pose": {}})

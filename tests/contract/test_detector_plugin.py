"""A detector of a family that a package of its own brings: a function, a card, and no file of frpipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import installed
import pytest
from frozen import AMENDED, DETECTOR, Frozen, copied, settings
from pydantic import ValidationError

from frpipe.core.config import load_config
from frpipe.jobs.enroll.job import Enrollment
from frpipe.models.card import Card, DetectorSpec
from frpipe.models.registry import Registry
from frpipe.models.session import Session, open_session
from frpipe.testing.detector_kit import DetectorKit
from frpipe.testing.executors import InThisProcess
from frpipe.testing.photos import Pixels, red_squares
from frpipe.testing.tiny import tiny_detector

FAMILY = "anchor_free"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed.example(tmp_path_factory.mktemp("package") / "installed"):
        yield


class TestAnchorFree(DetectorKit):
    shift_iou = 0.999
    shift_score = 0.0

    @pytest.fixture(scope="class")
    @classmethod
    def path(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("models") / "mine.onnx"

    @pytest.fixture(scope="class")
    @classmethod
    def card(cls, package: None, path: Path) -> Card:
        drawn = tiny_detector("yunet", path)
        assert drawn.detector is not None
        spec = DetectorSpec.model_validate({**drawn.detector.model_dump(), "family": FAMILY})
        return drawn.model_copy(update={"detector": spec})

    @pytest.fixture(scope="class")
    @classmethod
    def session(cls, card: Card, path: Path) -> Session:
        return open_session(path, "cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def photos(cls) -> list[Pixels]:
        sizes = [(120, 90), (250, 250), (64, 300), (320, 200), (96, 96), (480, 360), (200, 250)]
        return [red_squares(*size, squares=3, seed=seed) for seed, size in enumerate(sizes)]


def test_photos_are_enrolled_by_its_card(package: None, tmp_path: Path) -> None:
    # The photos are drawn.
    config = load_config(None, [*settings(), "detect.not_photographs=keep"])

    def enrolled(home: Frozen) -> tuple[str, int, int]:
        report = Enrollment(str(home / "photos.csv"), str(home / "out"), config, InThisProcess()).run()
        spec = Registry.default().card(DETECTOR).detector
        assert spec is not None
        return spec.family, report.ok, report.faces

    with copied(tmp_path / "ours") as home:
        ours = enrolled(home)
    amended = {DETECTOR: {**AMENDED[DETECTOR], "detector": {"family": FAMILY}}}
    with copied(tmp_path / "theirs", amended) as home:
        theirs = enrolled(home)
    assert ours[0] == "yunet" and ours[1]
    assert theirs == (FAMILY, *ours[1:])


def test_a_family_that_nobody_brings_is_one_clear_error(package: None) -> None:
    spec = {"outputs": {}, "score_threshold": 0.5, "nms_iou": 0.3}
    with pytest.raises(ValidationError, match="no installed package brings the family 'anchored'"):
        DetectorSpec.model_validate({"family": "anchored", **spec})
    assert DetectorSpec.model_validate({"family": FAMILY, **spec}).family == FAMILY

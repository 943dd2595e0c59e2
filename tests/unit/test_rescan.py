"""Which rows of a single look second looks may change: cause by cause, and as the finder counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import frozen
import numpy as np
import pyarrow as pa
import pytest
from frozen import AMENDED, Frozen

from frpipe.cli.main import main
from frpipe.core.config import Config, load_config
from frpipe.jobs.rescan.criteria import MEANING, Cause, Criteria, of_scope
from frpipe.models.detectors.candidates import Case, FaceCandidate
from frpipe.models.detectors.finder import Finder
from frpipe.models.registry import Registry
from frpipe.vision.geometry import template

SINGLE = Config().single_look().recipe()["detect"]


def _criteria(model: str = "yunet_2023mar", **settings: Any) -> Criteria:
    config = load_config(None, [f"detect.{name}={value}" for name, value in settings.items()])
    return Criteria(Registry.default().card_for("detector", model), SINGLE, config.detect)


def _causes(criteria: Criteria, *, size: tuple[int, int] = (250, 250), **face: Any) -> set[str]:
    """Of a photo with one face, which is large, upright and sure unless `face` says otherwise."""
    ends = {"status": "ok", "reason": None, "detected": 1, "width": 100.0, "score": 0.95, "roll": 0.0} | face
    there = int(ends["status"] == "ok")
    images = pa.table(
        {
            "image_id": ["a"],
            "status": [ends["status"]],
            "reason": pa.array([ends["reason"]], pa.string()),
            "width": [size[0]],
            "height": [size[1]],
            "faces_detected": [ends["detected"]],
            "faces": [there],
        }
    )
    angle, side = np.radians(ends["roll"]), ends["width"]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (template(112) - 56) @ turn.T * side / 100 + 120
    if ends.get("collapsed"):
        points[:] = 120
    box = {f"box_{axis}{end}": [120 + sign * side / 2] for axis in "xy" for end, sign in ((1, -1), (2, 1))}
    flat = pa.array(points.ravel().astype(np.float32))
    landmarks = pa.FixedSizeListArray.from_arrays(flat, 10)
    columns = {"image_id": ["a"], **box, "score": [ends["score"]], "landmarks": landmarks}
    found = criteria.causes(images, pa.table(columns).slice(0, there))
    return {cause.value for cause, hit in found.items() if hit[0]}


@pytest.mark.parametrize(
    ("face", "causes"),
    [
        ({}, set()),
        ({"roll": 5.0}, set()),
        ({"roll": 7.0}, {"rolled"}),
        ({"roll": 20.0}, {"rolled"}),
        ({"score": 0.919}, {"low_score"}),
        ({"width": 39.0}, {"small"}),
        ({"size": (2000, 1000)}, {"small", "not_looked_for"}),
        ({"size": (2000, 1000), "width": 200.0}, {"not_looked_for"}),
        ({"size": (700, 700)}, set()),
        ({"size": (4000, 3000), "width": 900.0}, {"other_input", "close_up", "not_looked_for"}),
        ({"size": (220, 250)}, set()),
        ({"size": (160, 250)}, set()),
        ({"roll": 35.0}, {"rolled"}),
        ({"roll": 180.0}, {"rolled"}),
        ({"collapsed": True}, {"implausible"}),
        ({"detected": 3}, {"not_kept"}),
        # Of a further stage: another look may find other faces.
        ({"status": "rejected", "reason": "too_dark"}, {"rejected"}),
        ({"status": "no_face", "detected": 0}, {"no_face"}),
        ({"status": "rejected", "reason": "many_faces", "detected": 2}, {"rejected"}),
        ({"status": "rejected", "reason": "degenerate_landmarks"}, {"rejected"}),
        ({"status": "rejected", "reason": "truncated"}, set()),
    ],
)
def test_each_cause_is_found_alone(face: dict[str, Any], causes: set[str]) -> None:
    assert _causes(_criteria(), **face) == causes


def test_the_smallest_face_that_is_asked_for_decides_whether_any_was_not_looked_for() -> None:
    large = {"size": (2000, 1500), "width": 400.0}
    assert _causes(_criteria(), **large) == {"not_looked_for"}
    assert _causes(_criteria(min_face_px=130), **large) == set()


def test_a_score_of_the_check_for_photographs_is_asked_for_only_where_that_is_done() -> None:
    assert _causes(_criteria(not_photographs="keep"), score=0.915) == set()


@pytest.mark.parametrize("model", ["retinaface_mnet025", "scrfd_500m"])
def test_of_a_detector_whose_score_says_nothing_every_photo_is_affected(model: str) -> None:
    criteria = _criteria(model)
    assert criteria.sure_score is None
    assert "unjudged" in _causes(criteria)
    assert "unjudged" not in _causes(criteria, status="no_face", detected=0)


@pytest.mark.parametrize("roll_deg", [0, 4, 5, 7, 10, 20, 28, 35, 90, 180])
def test_a_face_that_is_carried_over_is_one_that_the_finder_takes_as_it_was_seen_first(
    roll_deg: float,
) -> None:
    criteria = _criteria("yunet_2023mar")
    detector: Any = SimpleNamespace(card=criteria.card, most_side_px=2048, score_threshold=0.7, nms_iou=0.3)
    turn = np.radians(roll_deg)
    marks = template(112) - template(112).mean(axis=0)
    points = marks @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + 125
    box = np.array([70.0, 60.0, 180.0, 190.0])
    face = FaceCandidate(box, points, 0.95, 110.0)
    is_taken = Finder(detector, detector, criteria.detect)._is_steady(Case(SimpleNamespace()), face)  # type: ignore[arg-type]
    if "rolled" not in _causes(criteria, roll=float(roll_deg)):
        assert is_taken


def test_every_cause_has_a_meaning_and_one_may_be_left_out() -> None:
    assert set(MEANING) == set(Cause)
    assert of_scope("all") - of_scope("found") == {Cause.NOT_LOOKED_FOR}


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Frozen]:
    with frozen.copied(tmp_path / "frozen", AMENDED) as found:
        yield found


def test_an_output_of_before_is_counted_by_cause_with_the_next_command(
    copy: Frozen, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its pictures are so small that they are padded otherwise now."""
    run = str(copy / "enroll-finished")
    assert main(["rescan", run]) == 0
    said = capsys.readouterr().out
    assert "11 photos, 9 of them (81.82%) may end otherwise" in said
    assert ["unjudged", "8", "72.73%"] in [line.split()[:3] for line in said.splitlines()]
    assert f"frpipe run enroll --replay {run} --rescan" in said
    assert "no score of tiny_yunet" in said
    assert main(["rescan", run, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["photos"], found["affected"], found["found"]) == (11, 9, 9)
    assert {each["cause"]: each["photos"] for each in found["causes"]}["no_face"] == 1

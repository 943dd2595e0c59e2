"""Which faces of a photo are kept."""

from __future__ import annotations

import numpy as np
import pytest

from frpipe.core.config import FacePolicy
from frpipe.core.reasons import Reason, Reject
from frpipe.models.detectors.faces import Faces
from frpipe.models.detectors.policy import choose


def squares(*squares: tuple[float, float, float]) -> Faces:
    """Faces from (centre x, centre y, side), best score first."""
    boxes = np.array([[x - s / 2, y - s / 2, x + s / 2, y + s / 2] for x, y, s in squares], np.float32)
    count = len(squares)
    scores = np.linspace(0.9, 0.8, count, dtype=np.float32)
    return Faces(boxes.reshape(-1, 4), scores, np.zeros((count, 5, 2), np.float32))


BYSTANDER, PERSON, FAR = (30, 125, 80), (125, 125, 70), (240, 20, 20)


@pytest.mark.parametrize(("policy", "kept"), [("all", [0, 1, 2]), ("largest", [0]), ("centre-largest", [1])])
def test_policies(policy: FacePolicy, kept: list[int]) -> None:
    faces = squares(BYSTANDER, PERSON, FAR)
    np.testing.assert_array_equal(choose(faces, 250, 250, policy).boxes, faces.boxes[kept])


def test_size_counts_near_the_centre() -> None:
    faces = squares((120, 125, 30), (150, 125, 90))
    np.testing.assert_array_equal(choose(faces, 250, 250, "centre-largest").boxes, faces.boxes[1:])


@pytest.mark.parametrize("factor", [0.25, 4])
def test_the_choice_does_not_depend_on_the_resolution(factor: float) -> None:
    faces = squares(BYSTANDER, PERSON, FAR)
    large = choose(faces.scaled(factor, factor), int(250 * factor), int(250 * factor), "centre-largest")
    np.testing.assert_array_equal(large.scores, faces.scores[1:2])


def test_ties_go_to_the_better_score() -> None:
    faces = squares((100, 100, 40), (150, 100, 40))
    assert choose(faces, 251, 201, "centre-largest").scores[0] == faces.scores[0]


def test_require_one() -> None:
    one = squares(PERSON)
    assert len(choose(one, 250, 250, "require-one")) == 1
    with pytest.raises(Reject) as why:
        choose(squares(PERSON, FAR), 250, 250, "require-one")
    assert why.value.reason is Reason.MANY_FACES
    assert why.value.detail == "2 faces"


@pytest.mark.parametrize("policy", ["all", "largest", "centre-largest", "require-one"])
def test_none_stays_none(policy: FacePolicy) -> None:
    assert len(choose(Faces.empty(), 250, 250, policy)) == 0


def test_scaling_keeps_the_outer_edges_in_place() -> None:
    """A box around all of a 10x10 array, pixel centres at integers, covers all of the 40x20 one."""
    points = np.zeros((1, 5, 2), np.float32)
    faces = Faces(np.array([[-0.5, -0.5, 9.5, 9.5]], np.float32), np.ones(1, np.float32), points)
    np.testing.assert_allclose(faces.scaled(4, 2).boxes, [[-0.5, -0.5, 39.5, 19.5]])

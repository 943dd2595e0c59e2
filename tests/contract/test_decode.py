"""Each family's decoder on outputs with one detection, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from frpipe.core.errors import ModelMismatch
from frpipe.models.card import DetectorSpec
from frpipe.models.detectors import retinaface, scrfd, yunet
from frpipe.models.detectors.faces import Candidates
from frpipe.models.detectors.head import Head

HEIGHT, WIDTH, ROWS = 64, 96, 2
STRIDES = (8, 16, 32)
ROLES: dict[str, dict[str, tuple[int, ...]]] = {
    "yunet": {"cls": (0, 1, 2), "obj": (3, 4, 5), "box": (6, 7, 8), "points": (9, 10, 11)},
    "scrfd": {"score": (0, 1, 2), "box": (3, 4, 5), "points": (6, 7, 8)},
    "retinaface": {"score": (0,), "box": (1,), "points": (2,)},
}
COLUMNS = {"cls": 1, "obj": 1, "score": 1, "box": 4, "points": 10}
POINTS = np.array([[-1, -2], [1, -2], [0, 0.5], [-1, 2], [1, 2]], np.float32)


def cells(stride: int, anchors: int) -> int:
    return (HEIGHT // stride) * (WIDTH // stride) * anchors


def head(family: str) -> Head:
    """All outputs zero."""
    anchors = 1 if family == "yunet" else 2
    counts = [cells(stride, anchors) for stride in STRIDES]
    if family == "retinaface":
        counts = [sum(counts)]
    outputs = [
        np.zeros((ROWS, count, COLUMNS[role]), np.float32) for role in ROLES[family] for count in counts
    ]
    spec = DetectorSpec.model_validate(
        {"family": family, "outputs": ROLES[family], "score_threshold": 0.5, "nms_iou": 0.4}
    )
    return Head(spec, outputs, ROWS, HEIGHT, WIDTH)


def expect(found: Candidates, score: float, box: list[float], points: np.ndarray) -> None:
    assert found.owners.tolist() == [1]
    np.testing.assert_allclose(found.scores, [score], rtol=1e-6)
    np.testing.assert_allclose(found.boxes, [box], rtol=1e-5)
    np.testing.assert_allclose(found.points, [points], rtol=1e-5)


def test_yunet() -> None:
    """Row 1, stride 16 (6 cells wide), cell (x 4, y 2): 16 * 6 pixels; a box 32 wide and 64 high."""
    given, cell = head("yunet"), 2 * 6 + 4
    given.outputs[1][1, cell] = 0.81
    given.outputs[4][1, cell] = 1.44  # beyond 1, as quantised graphs give it
    given.outputs[7][1, cell] = [0.5, -0.25, np.log(2), np.log(4)]
    given.outputs[10][1, cell] = POINTS.ravel()
    expect(yunet.decode(given, 0.6), 0.9, [56, -4, 88, 60], np.array([64, 32]) + POINTS * 16)


def test_scrfd() -> None:
    """Row 1, stride 32 (3 cells wide), cell (x 2, y 1), second anchor."""
    given, cell = head("scrfd"), (1 * 3 + 2) * 2 + 1
    given.outputs[2][1, cell] = 0.7
    given.outputs[5][1, cell] = [1, 0.5, 0.25, 2]
    given.outputs[8][1, cell] = POINTS.ravel()
    expect(scrfd.decode(given, 0.6), 0.7, [32, 16, 72, 96], np.array([64, 32]) + POINTS * 32)


def test_retinaface() -> None:
    """Row 1, stride 16, cell (x 1, y 2), second anchor (128 pixels), after the 192 anchors of stride 8."""
    given, cell = head("retinaface"), 192 + (2 * 6 + 1) * 2 + 1
    given.outputs[0][1, cell] = 0.95
    given.outputs[1][1, cell] = [1, -1, 5 * np.log(0.5), 5 * np.log(0.25)]
    given.outputs[2][1, cell] = POINTS.ravel()
    centre = np.array([24 + 12.8, 40 - 12.8])
    box = [centre[0] - 32, centre[1] - 16, centre[0] + 32, centre[1] + 16]
    expect(retinaface.decode(given, 0.6), 0.95, box, np.array([24, 40]) + POINTS * 12.8)


@pytest.mark.parametrize(
    ("family", "decode"),
    [("yunet", yunet.decode), ("scrfd", scrfd.decode), ("retinaface", retinaface.decode)],
)
def test_nothing_above_the_threshold(family: str, decode: Callable[[Head, float], Candidates]) -> None:
    assert len(decode(head(family), 0.5).scores) == 0
    assert decode(head(family), 0.5).points.shape == (0, 5, 2)


def test_outputs_without_a_batch_axis() -> None:
    given = head("scrfd")
    single = Head(given.spec, [output[0] for output in given.outputs], 1, HEIGHT, WIDTH)
    single.outputs[0][7] = 0.9
    assert scrfd.decode(single, 0.5).owners.tolist() == [0]
    with pytest.raises(ModelMismatch):
        scrfd.decode(Head(given.spec, single.outputs, 2, HEIGHT, WIDTH), 0.5)


def test_an_unknown_stride_has_no_anchors() -> None:
    given = head("retinaface")
    spec = given.spec.model_copy(update={"strides": (4, 8, 16)})
    with pytest.raises(ModelMismatch, match="stride 4"):
        retinaface.decode(Head(spec, given.outputs, ROWS, HEIGHT, WIDTH), 0.5)

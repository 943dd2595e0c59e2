"""Suppression against a plain one-photo, one-box-at-a-time account of it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from frpipe.models.detectors.nms import iou, suppress


def plain(boxes: np.ndarray, scores: np.ndarray, max_iou: float, most: int) -> list[int]:
    order = sorted(range(len(boxes)), key=lambda k: (-scores[k], boxes[k, 0], boxes[k, 1]))
    kept: list[int] = []
    for index in order:
        if len(kept) < most and all(iou(boxes[index], boxes[k]) <= max_iou for k in kept):
            kept.append(index)
    return kept


def random_boxes(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    corner = random.integers(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + random.integers(0, 40, (count, 2))], axis=1)
    scores = random.integers(1, 8, count) / 8  # few values, so that ties occur
    return boxes.astype(np.float32), scores.astype(np.float32), random.integers(0, 4, count)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 40), st.floats(0.05, 0.9), st.integers(1, 6))
def test_many_photos_at_once_is_each_by_itself(seed: int, count: int, max_iou: float, most: int) -> None:
    boxes, scores, owners = random_boxes(seed, count)
    expected: list[tuple[float, ...]] = []
    for owner in range(4):
        mine = np.flatnonzero(owners == owner)
        expected += [tuple(boxes[mine[k]]) for k in plain(boxes[mine], scores[mine], max_iou, most)]
    kept = suppress(boxes, scores, owners, max_iou, most)
    assert [tuple(box) for box in boxes[kept]] == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 40), st.floats(0.05, 0.9))
def test_twice_is_once(seed: int, count: int, max_iou: float) -> None:
    boxes, scores, owners = random_boxes(seed, count)
    once = suppress(boxes, scores, owners, max_iou, 100)
    twice = suppress(boxes[once], scores[once], owners[once], max_iou, 100)
    np.testing.assert_array_equal(twice, np.arange(len(once)))


def test_iou_by_hand() -> None:
    first = np.array([0, 0, 2, 2], np.float32)
    others = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2], [1, 1, 1, 1], [3, 3, 1, 1]], np.float32)
    np.testing.assert_allclose(iou(first, others), [1, 1 / 3, 0, 0, 0], rtol=1e-6)

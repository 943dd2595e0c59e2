"""Measures of a face."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pictures import scene

from frpipe.vision.geometry import ARCFACE_112
from frpipe.vision.quality import brightness, inter_eye_px, sharpness


def test_inter_eye_is_the_distance_of_the_first_two_points() -> None:
    assert inter_eye_px(np.array([[10, 20], [13, 24], [0, 0], [0, 0], [0, 0]], np.float32)) == pytest.approx(
        5
    )
    assert inter_eye_px(ARCFACE_112) == pytest.approx(35.24, abs=0.01)


def test_a_flat_crop_has_no_sharpness() -> None:
    assert sharpness(np.full((112, 112, 3), 90, np.uint8)) == 0


def test_sharpness_falls_with_every_blur() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    values = [sharpness(noise)] + [sharpness(cv2.GaussianBlur(noise, (0, 0), s)) for s in (0.7, 1.5, 3.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 10 * values[-1]


def test_sharpness_of_one_bright_pixel_by_hand() -> None:
    """The kernel (0 1 0, 1 -4 1, 0 1 0) leaves one -4v and four v among n values: mean 0, variance 20v²/n."""
    dot = np.zeros((11, 11, 3), np.uint8)
    dot[5, 5] = 10
    assert sharpness(dot) == pytest.approx(20 * 10**2 / 121)


def test_brightness_is_luma() -> None:
    assert brightness(np.full((8, 8, 3), 77, np.uint8)) == 77
    green, blue = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    green[:, :, 1] = blue[:, :, 2] = 200
    assert brightness(green) == pytest.approx(0.587 * 200, abs=1)
    assert brightness(blue) == pytest.approx(0.114 * 200, abs=1)
    assert brightness(scene()) > 0

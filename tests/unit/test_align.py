"""Alignment: one face, however it lies in the photo, gives one crop."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import difference, encoded, exif, face, placing, unturned

from frpipe.core.config import DecodeConfig
from frpipe.core.reasons import Reject
from frpipe.vision.align import align, align_photo, needed_shrink, to_original_pixels, to_photo_pixels
from frpipe.vision.decode import Photo, decode
from frpipe.vision.geometry import ARCFACE_112
from frpipe.vision.warp import reduce_area

CONFIG = DecodeConfig()
UPRIGHT, POINTS = face(placing(1.0, 0, 99.5, 99.5), 200, 200)
REFERENCE = align(UPRIGHT, POINTS)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1.0, 4.5), degrees=st.floats(-180, 180))
def test_a_turned_and_enlarged_face_gives_the_same_crop(scale: float, degrees: float) -> None:
    side = int(160 * scale) + 40
    photo, points = face(placing(scale, degrees, side / 2, side / 2), side, side)
    assert difference(align(photo, points), REFERENCE) < 3


def test_the_crop_has_its_points_on_the_template() -> None:
    """A dot drawn at each point shows up where the template says."""
    for point, expected in zip(POINTS, ARCFACE_112, strict=True):
        dotted = np.zeros_like(UPRIGHT)
        x, y = np.rint(point).astype(int)
        dotted[y - 1 : y + 2, x - 1 : x + 2] = 255
        crop = align(dotted, POINTS)[:, :, 0].astype(float)
        rows, columns = np.mgrid[0:112, 0:112]
        found = [(columns * crop).sum() / crop.sum(), (rows * crop).sum() / crop.sum()]
        np.testing.assert_allclose(found, expected + ([x, y] - point), atol=0.1)


def test_twice_the_size_is_the_same_crop_in_more_detail() -> None:
    photo, points = face(placing(2.0, 12, 200, 200), 400, 400)
    assert difference(reduce_area(align(photo, points, 224), 2), align(photo, points, 112)) < 1.5


def test_a_small_face_is_reduced_without_aliasing() -> None:
    """Stripes finer than a pixel of the crop become grey; sampled plainly they leave a pattern."""
    stripes = np.zeros((900, 900, 3), np.uint8)
    stripes[:, ::2] = 255
    points = ARCFACE_112 * 8.02
    assert align(stripes, points)[2:-2, 2:-2].std() < 1
    assert align(stripes, points, antialias=False)[2:-2, 2:-2].std() > 20


def test_outside_the_photo_is_black() -> None:
    white = np.full((112, 112, 3), 255, np.uint8)
    crop = align(white, ARCFACE_112 + np.array([56, 0]))
    assert (crop[:, :55] == 255).all()
    assert not crop[:, 57:].any()
    assert not align(white, ARCFACE_112 + np.array([5000, -5000])).any()


@settings(max_examples=60, deadline=None)
@given(
    scale=st.floats(0.05, 3000),
    degrees=st.floats(-180, 180),
    x=st.floats(-500, 700),
    y=st.floats(-500, 700),
    antialias=st.booleans(),
)
def test_it_never_fails_at_the_border(
    scale: float, degrees: float, x: float, y: float, antialias: bool
) -> None:
    matrix = placing(scale, degrees, x, y)
    points = ARCFACE_112 @ matrix[:, :2].T + matrix[:, 2]
    try:
        crop = align(UPRIGHT, points, antialias=antialias)
    except Reject:
        assert scale < 0.1
    else:
        assert crop.shape == (112, 112, 3)


@pytest.mark.parametrize(
    ("scale", "shrink"), [(0.5, 1), (1.9, 1), (2.1, 2), (4.2, 4), (7.9, 4), (8.1, 8), (40, 8)]
)
def test_needed_shrink_follows_the_size_of_the_face(scale: float, shrink: int) -> None:
    assert needed_shrink(ARCFACE_112 * scale) == shrink
    assert needed_shrink(ARCFACE_112 * scale, antialias=False) == 1
    assert needed_shrink(ARCFACE_112 * scale, size=224) == max(1, shrink // 2) or scale == 40


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("scale", [2.3, 4.4])
def test_the_scaled_decode_gives_the_crop_of_the_full_one(scale: float, orientation: int) -> None:
    side = int(160 * scale) + 3
    picture, points = face(placing(scale, 20, side / 2, side / 2 - 5), side + 10, side)
    data = encoded(unturned(picture, orientation), "JPEG", quality=95, exif=exif(orientation))
    full = align_photo(decode(data, CONFIG), points)
    for shrink in (2, 4, 8):
        if shrink <= needed_shrink(points):
            scaled = align_photo(decode(data, CONFIG, shrink), points)
            assert cosine(scaled, full) > 0.999
            assert difference(scaled, full) < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("width", "height"), [(401, 399), (403, 397)])
def test_cells_start_where_the_stored_picture_does(width: int, height: int, orientation: int) -> None:
    """Fine texture shows the grid of the reduction; with odd sides, a turned picture starts it elsewhere."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 1.0)
    data = encoded(unturned(picture, orientation), "JPEG", quality=95, subsampling=0, exif=exif(orientation))
    points = ARCFACE_112 * 2.4 + 60
    full, scaled = (align_photo(decode(data, CONFIG, shrink), points) for shrink in (1, 2))
    assert cosine(scaled, full) > 0.999


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(float).ravel(), b.astype(float).ravel()
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@given(
    width=st.integers(64, 5000),
    height=st.integers(64, 5000),
    orientation=st.integers(1, 8),
    shrink=st.sampled_from([1, 2, 4, 8]),
)
def test_points_go_to_the_photo_and_back(width: int, height: int, orientation: int, shrink: int) -> None:
    pixels = np.empty((-(-height // shrink), -(-width // shrink), 0), np.uint8)
    photo = Photo(pixels, width, height, orientation, "JPEG", shrink)
    points = np.array([[0.0, 0.0], [width - 1.0, height - 1.0], [17.3, 4.1]])
    there = to_photo_pixels(photo, points)
    np.testing.assert_allclose(to_original_pixels(photo, there), points, atol=1e-9)
    assert (there >= -0.5).all()
    assert (there[:, 0] <= pixels.shape[1] - 0.5).all()

"""Enlarged crops: what lies in the photo is as it is there, and each border is what it is said to be."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from frpipe.core.reasons import Reason, Reject
from frpipe.vision.decode import Photo
from frpipe.vision.enlarge import (
    Border,
    Enlarged,
    enlarged_crop,
    enlarged_from,
    enlarged_shrink,
    enlarged_window,
)

BORDERS: tuple[Border, ...] = ("reflect", "constant", "shift")
WIDTH, HEIGHT = 160, 120
PHOTO = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
PADS = {"reflect": "reflect", "constant": "constant"}


@st.composite
def boxes(draw: st.DrawFn) -> NDArray[np.float64]:
    """Boxes that lie in the photo at least in part."""
    x, y = draw(st.floats(-20, WIDTH - 2)), draw(st.floats(-20, HEIGHT - 2))
    return np.array([x, y, x + draw(st.floats(22, 90)), y + draw(st.floats(22, 90))])


def plain(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resized by OpenCV: by area where both axes shrink, else bilinearly."""
    way = cv2.INTER_AREA if min(pixels.shape[:2]) >= side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), (side, side), interpolation=way))


@settings(max_examples=60, deadline=None)
@given(
    half=st.floats(4, 12), x=st.floats(50, 100), y=st.floats(50, 70), scale=st.sampled_from([1.0, 2.7, 4.0])
)
def test_a_window_inside_the_photo_is_a_plain_resize(half: float, x: float, y: float, scale: float) -> None:
    box = [x - half, y - half, x + half, y + half]
    for border in BORDERS:
        wanted = Enlarged(scale, 40, border)
        x1, y1, x2, y2 = enlarged_window(box, wanted, WIDTH, HEIGHT)
        assert 0 <= x1 < x2 <= WIDTH and 0 <= y1 < y2 <= HEIGHT
        assert x2 - x1 == pytest.approx(2 * half * scale, abs=2)
        assert (x1 + x2 - 1) / 2 == pytest.approx(x, abs=1) and (y1 + y2 - 1) / 2 == pytest.approx(y, abs=1)
        assert np.array_equal(enlarged_crop(PHOTO, box, wanted), plain(PHOTO[y1:y2, x1:x2], 40))


@settings(max_examples=80, deadline=None)
@given(box=boxes(), scale=st.floats(0.5, 4), border=st.sampled_from(["reflect", "constant"]))
def test_beyond_the_photo_is_the_crop_of_a_padded_photo(
    box: NDArray[np.float64], scale: float, border: Border
) -> None:
    wanted, pad = Enlarged(scale, 48, border), 500
    padded = np.pad(PHOTO, ((pad, pad), (pad, pad), (0, 0)), mode=PADS[border])  # type: ignore[call-overload]
    x1, y1, x2, y2 = enlarged_window(box, wanted, WIDTH, HEIGHT)
    assert x2 - x1 == y2 - y1
    expected = plain(padded[y1 + pad : y2 + pad, x1 + pad : x2 + pad], 48)
    assert np.array_equal(enlarged_crop(PHOTO, box, wanted), expected)


@settings(max_examples=80, deadline=None)
@given(box=boxes(), scale=st.floats(0.5, 6))
def test_shift_stays_in_the_photo_and_keeps_its_proportions(box: NDArray[np.float64], scale: float) -> None:
    wanted = Enlarged(scale, 48, "shift")
    x1, y1, x2, y2 = enlarged_window(box, wanted, WIDTH, HEIGHT)
    assert 0 <= x1 < x2 <= WIDTH and 0 <= y1 < y2 <= HEIGHT
    wide, high = box[2:] - box[:2]
    least = min(scale, (WIDTH - 1) / wide, (HEIGHT - 1) / high)
    assert x2 - x1 == pytest.approx(wide * least, abs=2) and y2 - y1 == pytest.approx(high * least, abs=2)
    assert np.array_equal(enlarged_crop(PHOTO, box, wanted), plain(PHOTO[y1:y2, x1:x2], 48))


@settings(max_examples=30, deadline=None)
@given(box=boxes(), scale=st.floats(0.5, 4), border=st.sampled_from(BORDERS))
def test_bilinear_is_the_same_window_resized_otherwise(
    box: NDArray[np.float64], scale: float, border: Border
) -> None:
    wanted, pad = Enlarged(scale, 24, border, "bilinear"), 500
    assert enlarged_shrink(box * 40, wanted) == 1
    x1, y1, x2, y2 = enlarged_window(box, wanted, WIDTH, HEIGHT)
    padded = np.pad(PHOTO, ((pad, pad), (pad, pad), (0, 0)), mode=PADS.get(border, "edge"))  # type: ignore[call-overload]
    part = np.ascontiguousarray(padded[y1 + pad : y2 + pad, x1 + pad : x2 + pad])
    expected = cv2.resize(part, (24, 24), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(enlarged_crop(PHOTO, box, wanted), expected)


def test_shift_is_what_the_reference_gives() -> None:
    """By hand: 2.7 times a box of 40 x 50 is 108 x 135, too high; 119 / 50 = 2.38 times it is 95.2 x 119."""
    wanted = Enlarged(2.7, 80, "shift")
    assert enlarged_window([10, 40, 50, 90], wanted, WIDTH, HEIGHT) == (0, 0, 96, 120)
    assert enlarged_window([110, 40, 150, 90], wanted, WIDTH, HEIGHT) == (63, 0, 160, 120)


@pytest.mark.parametrize("border", ["reflect", "constant"])
def test_a_window_of_many_times_the_crop_is_made_up_in_little_memory(border: Border) -> None:
    """Nearly that of the padded photo: it is reduced before it is filled up."""
    photo = cv2.resize(PHOTO[:12, :16], (4000, 3000), interpolation=cv2.INTER_CUBIC)
    wanted, box = Enlarged(2.0, 32, border), [200, 300, 2300, 2900]
    x1, y1, x2, y2 = enlarged_window(box, wanted, 4000, 3000)
    pad = 2500
    padded = np.pad(photo, ((pad, pad), (pad, pad), (0, 0)), mode=PADS[border])  # type: ignore[call-overload]
    expected = plain(padded[y1 + pad : y2 + pad, x1 + pad : x2 + pad], 32)
    assert np.abs(enlarged_crop(photo, box, wanted).astype(int) - expected).mean() < 3


@settings(max_examples=40, deadline=None)
@given(box=boxes(), quarter=st.integers(-3, 4), border=st.sampled_from(BORDERS))
def test_the_photo_is_turned_before_it_is_cut(box: NDArray[np.float64], quarter: int, border: Border) -> None:
    """Turned and cut is cut from the turned photo, with the box where it lies then."""
    wanted = Enlarged(2.0, 40, border)
    found = enlarged_from(Photo(PHOTO, WIDTH, HEIGHT, 1, "PNG", 1), box, wanted, 90 * quarter)
    x1, y1, x2, y2 = box
    for _ in range(quarter % 4):
        width = HEIGHT if _ % 2 == 0 else WIDTH
        x1, y1, x2, y2 = width - 1 - y2, x1, width - 1 - y1, x2
    expected = enlarged_crop(np.ascontiguousarray(np.rot90(PHOTO, -quarter)), [x1, y1, x2, y2], wanted)
    # A hair in float64 may move an edge by a pixel.
    assert found.shape == (40, 40, 3) and np.abs(found.astype(int) - expected).mean() < 45


def test_a_scaled_decode_gives_nearly_the_crop_of_the_full_one() -> None:
    large = cv2.resize(PHOTO[:30, :40], (1600, 1200), interpolation=cv2.INTER_CUBIC)
    half = cv2.resize(large, (800, 600), interpolation=cv2.INTER_AREA)
    box = [500, 400, 900, 820]
    for border in BORDERS:
        wanted = Enlarged(2.7, 80, border)
        assert enlarged_shrink(box, wanted) == 8
        whole = enlarged_from(Photo(large, 1600, 1200, 1, "JPEG", 1), box, wanted)
        scaled = enlarged_from(Photo(half, 1600, 1200, 1, "JPEG", 2), box, wanted)
        assert np.abs(whole.astype(int) - scaled).mean() < 4
    assert enlarged_shrink([0, 0, 30, 40], Enlarged(2.7, 80, "reflect")) == 1
    assert enlarged_shrink([0, 0, 60, 40], Enlarged(2.7, 80, "reflect")) == 2
    assert enlarged_shrink([0, 0, 60, 40], Enlarged(2.7, 80, "shift")) == 1


@pytest.mark.parametrize("box", [[10, 10, 10, 20], [np.nan, 0, 5, 5], [200, 10, 260, 60], [10, -90, 60, -10]])
def test_a_box_that_lies_nowhere_in_the_photo_is_rejected(box: list[float]) -> None:
    for border in BORDERS:
        with pytest.raises(Reject) as caught:
            enlarged_crop(PHOTO, box, Enlarged(2.7, 80, border))
        assert caught.value.reason is Reason.BOX_OUTSIDE


@pytest.mark.parametrize(
    ("scale", "side", "border"),
    [(0.0, 80, "shift"), (np.inf, 80, "shift"), (2.7, 0, "shift"), (2.7, 9999, "shift"), (2.7, 80, "wrap")],
)
def test_what_cannot_be_cut_is_refused(scale: float, side: int, border: Border) -> None:
    with pytest.raises(ValueError, match="is no"):
        Enlarged(scale, side, border)
    with pytest.raises(ValueError, match="is no"):
        Enlarged(2.7, 80, "shift", "cubic")  # type: ignore[arg-type]

"""The square crop: nothing is squashed, and the border is never an error."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pictures import scene

from frpipe.core.reasons import Reason, Reject
from frpipe.vision.crop import square_crop

WHITE = np.full((300, 400, 3), 255, np.uint8)


def reason_of(box: list[float], margin: float = 0.0) -> Reason:
    with pytest.raises(Reject) as caught:
        square_crop(WHITE, box, margin=margin)
    return caught.value.reason


@settings(max_examples=30, deadline=None)
@given(
    radius=st.integers(30, 110),
    stretch=st.floats(0.3, 1.0),
    upright=st.booleans(),
    margin=st.floats(0, 0.5),
)
def test_a_circle_stays_a_circle(radius: int, stretch: float, upright: bool, margin: float) -> None:
    photo = np.zeros((300, 400, 3), np.uint8)
    cv2.circle(photo, (200, 150), radius, (255, 255, 255), -1, cv2.LINE_AA)
    half = np.array([stretch, 1.0] if upright else [1.0, stretch]) * radius * 1.1
    crop = square_crop(photo, [200 - half[0], 150 - half[1], 200 + half[0], 150 + half[1]], 448, margin)
    mass = crop[:, :, 0] / 255.0
    across, down = mass[224].sum(), mass[:, 224].sum()
    assert across == pytest.approx(down, rel=0.01)
    assert across == pytest.approx((2 * radius + 1) * 448 / (2.2 * radius * (1 + margin)), rel=0.02)


def test_the_centre_is_kept_and_the_longer_side_decides() -> None:
    photo = scene(400, 300)
    crop = square_crop(photo, [150.5, 100.5, 200.5, 200.5], size=100)
    # The square is x 125.5..225.5, y 100.5..200.5: whole pixels, so it is a plain slice.
    np.testing.assert_array_equal(crop, photo[101:201, 126:226])


def test_margin_is_a_share_of_the_side() -> None:
    photo = scene(400, 300)
    with_margin = square_crop(photo, [160, 110, 240, 190], size=64, margin=0.25)
    np.testing.assert_array_equal(with_margin, square_crop(photo, [150, 100, 250, 200], size=64))


def test_outside_is_black() -> None:
    crop = square_crop(WHITE, [-50.5, 99.5, 49.5, 199.5], size=100)
    assert not crop[:, :50].any()
    assert (crop[:, 50:] == 255).all()


@settings(max_examples=100, deadline=None)
@given(
    x=st.floats(-300, 500),
    y=st.floats(-300, 400),
    width=st.floats(1, 3000),
    height=st.floats(1, 3000),
)
@example(x=1.483523793486971e-07, y=1.483523793486971e-07, width=1.0, height=1.0)  # its far corner is rounded
def test_a_box_that_meets_the_photo_never_fails(x: float, y: float, width: float, height: float) -> None:
    meets = x < 399.5 and y < 299.5 and x + width > -0.5 and y + height > -0.5
    if meets:
        assert square_crop(WHITE, [x, y, x + width, y + height]).shape == (224, 224, 3)
    else:
        assert reason_of([x, y, x + width, y + height]) is Reason.BOX_OUTSIDE


@pytest.mark.parametrize(
    "box",
    [
        [400, 0, 500, 100],
        [-100, -100, -1, -1],
        [10, 10, 10, 50],
        [50, 10, 10, 50],
        [np.nan, 0, 10, 10],
        [0, 0, np.inf, 10],
        [0, 0, 1e9, 10],
        [5, 5, 5 + 1e-9, 5 + 1e-9],
    ],
)
def test_a_box_without_photo_is_refused(box: list[float]) -> None:
    assert reason_of(box) is Reason.BOX_OUTSIDE


def test_a_margin_that_leaves_nothing_is_refused() -> None:
    assert reason_of([10, 10, 60, 60], margin=-1.0) is Reason.BOX_OUTSIDE

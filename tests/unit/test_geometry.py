"""Similarity transforms: what is put in comes out, and what is no face is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import placing

from frpipe.core.reasons import Reason, Reject
from frpipe.vision.geometry import ARCFACE_112, apply, invert, reduction, similarity, template

placings = st.builds(
    placing,
    scale=st.floats(0.1, 40),
    degrees=st.floats(-180, 180),
    x=st.floats(-5000, 5000),
    y=st.floats(-5000, 5000),
)


def reason_of(points: object) -> Reason:
    with pytest.raises(Reject) as caught:
        similarity(points, ARCFACE_112)  # type: ignore[arg-type]
    return caught.value.reason


@given(matrix=placings)
def test_the_transform_that_moved_the_points_is_found(matrix: np.ndarray) -> None:
    moved = apply(matrix, ARCFACE_112)
    np.testing.assert_allclose(similarity(ARCFACE_112, moved), matrix, atol=1e-6)
    np.testing.assert_allclose(apply(similarity(moved, ARCFACE_112), moved), ARCFACE_112, atol=1e-6)


@given(matrix=placings)
def test_an_inverse_undoes(matrix: np.ndarray) -> None:
    points = np.array([[0.0, 0.0], [111.0, 3.0], [-40.0, 900.0]])
    np.testing.assert_allclose(apply(invert(matrix), apply(matrix, points)), points, atol=1e-6)


@given(matrix=placings, noise=st.lists(st.floats(-4, 4), min_size=10, max_size=10))
def test_it_is_the_least_squares_one_of_umeyama(matrix: np.ndarray, noise: list[float]) -> None:
    source = ARCFACE_112 + np.reshape(noise, (5, 2))
    target = apply(matrix, ARCFACE_112)
    np.testing.assert_allclose(similarity(source, target), umeyama(source, target), atol=1e-5)


def umeyama(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Equations 40 to 42 of the paper, by singular values."""
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    u, d, vt = np.linalg.svd(b.T @ a / len(a))
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    scale = (d * signs).sum() / (a**2).sum(axis=1).mean()
    linear = scale * u @ np.diag(signs) @ vt
    return np.column_stack([linear, target.mean(axis=0) - linear @ source.mean(axis=0)])


@given(matrix=placings)
def test_no_reflection_is_ever_found(matrix: np.ndarray) -> None:
    found = similarity(ARCFACE_112 * [1, 0.2], apply(matrix, ARCFACE_112))
    assert np.linalg.det(found[:, :2]) > 0


@given(scale=st.floats(0.05, 50), degrees=st.floats(-180, 180))
def test_reduction_counts_source_pixels(scale: float, degrees: float) -> None:
    assert reduction(invert(placing(scale, degrees, 7, 9))) == pytest.approx(scale)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_points_that_are_not_finite_are_refused(bad: float) -> None:
    points = ARCFACE_112.copy()
    points[2, 1] = bad
    assert reason_of(points) is Reason.DEGENERATE_LANDMARKS


def test_points_in_one_spot_are_refused() -> None:
    assert reason_of(np.full((5, 2), 77.0)) is Reason.DEGENERATE_LANDMARKS
    assert reason_of(ARCFACE_112 / 100) is Reason.DEGENERATE_LANDMARKS


def test_a_mirrored_face_is_refused() -> None:
    assert reason_of(ARCFACE_112 * [-1, 1]) is Reason.DEGENERATE_LANDMARKS


def test_a_profile_is_not_refused() -> None:
    profile = ARCFACE_112.copy()
    profile[:, 0] = [60, 64, 80, 61, 64]
    similarity(profile, ARCFACE_112)
    similarity(ARCFACE_112 * [0, 1], ARCFACE_112)


def test_a_larger_template_covers_the_same_face() -> None:
    np.testing.assert_array_equal(template(), ARCFACE_112)
    # Pixel 0 of the small crop is the mean of pixels 0 and 1 of the large one.
    np.testing.assert_allclose((template(224) - 0.5) / 2, ARCFACE_112)

"""Scores fused and normalised: by hand, by properties, and beside scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from frpipe.metrics.costs import cllr
from frpipe.metrics.cross_fit import Parts
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.fusion import cross_fitted_fusion, fit_fusion
from frpipe.metrics.normalisation import LEAST_COHORT, CohortScores, cohort_scores, normalised
from frpipe.metrics.operating import Insufficient


def _two(seed: int, mated: int, nonmated: int, shared: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two scores of each comparison; shared: how much of their noise is the same."""
    rng = np.random.default_rng(seed)

    def scores(count: int, mean: float) -> np.ndarray:
        common = rng.normal(0, 0.1, (count, 1))
        return mean + math.sqrt(shared) * common + math.sqrt(1 - shared) * rng.normal(0, 0.1, (count, 2))

    return scores(mated, 0.2), scores(nonmated, 0.0)


def test_the_weights_are_those_of_logistic_regression() -> None:
    mated, nonmated = _two(0, 400, 1600, 0.3)
    found = fit_fusion(mated, nonmated)
    x, truth = np.concatenate([mated, nonmated]), np.repeat([1, 0], [400, 1600])
    peer = LogisticRegression(C=1e12, tol=1e-12, max_iter=1000, class_weight="balanced").fit(x, truth)
    assert found.slope == pytest.approx(peer.coef_[0], rel=1e-3)
    assert found.offset == pytest.approx(peer.intercept_[0], rel=1e-3)


def test_a_score_that_is_there_twice_counts_once() -> None:
    mated, nonmated = (side[:, :1] for side in _two(1, 300, 900))
    once, twice = fit_fusion(mated, nonmated), fit_fusion(np.repeat(mated, 2, 1), np.repeat(nonmated, 2, 1))
    assert twice.slope.sum() == pytest.approx(once.slope.sum(), rel=1e-6)
    assert twice.llr([[0.1, 0.1]]) == pytest.approx(once.llr([[0.1]]), rel=1e-6)


def test_two_scores_that_err_apart_are_better_together() -> None:
    mated, nonmated = _two(2, 500, 3000)
    costs = []
    for columns in ([0], [1], [0, 1]):
        ratios = fit_fusion(mated[:, columns], nonmated[:, columns])
        costs.append(cllr(ratios.llr(mated[:, columns]), ratios.llr(nonmated[:, columns])))
    assert costs[2] < 0.8 * min(costs[:2])


def test_kinds_that_a_plane_parts_have_finite_weights() -> None:
    rng = np.random.default_rng(3)
    # Neither score parts them alone; their sum does.
    x = rng.uniform(0, 1, (400, 2))
    truth = x.sum(1) > 1
    x += np.where(truth, 0.05, -0.05)[:, None]
    found = fit_fusion(x[truth], x[~truth])
    assert found.separated and np.isfinite(found.slope).all() and (found.slope > 0).all()


def test_nobody_is_fused_by_weights_that_saw_them() -> None:
    rng = np.random.default_rng(4)
    a = rng.integers(0, 40, 2000)
    b = np.where(rng.random(2000) < 0.4, a, rng.integers(0, 40, 2000))
    scores, mated = rng.normal((a == b)[:, None] * 0.5, 0.2, (2000, 2)), a == b
    parts = Parts.of_people(a, b)
    first = cross_fitted_fusion(scores, mated, parts)
    assert not isinstance(first, Insufficient)
    one = 17
    changed = np.where(((a == a[one]) | (b == b[one]))[:, None], -scores, scores)
    second = cross_fitted_fusion(changed, mated, parts)
    assert not isinstance(second, Insufficient)
    mine = np.flatnonzero((parts.a == parts.a[one]) & (parts.b == parts.a[one]))
    unchanged = mine[(changed[mine] == scores[mine]).all(1)]
    assert len(unchanged) and second[unchanged] == pytest.approx(first[unchanged])


def test_too_few_pairs_are_not_fused() -> None:
    scores, mated = np.zeros((30, 2)), np.arange(30) < 15
    assert isinstance(cross_fitted_fusion(scores, mated, Parts.of_rows(mated, 2)), Insufficient)


@pytest.mark.parametrize("bad", [np.zeros((0, 2)), np.zeros((3, 1)), np.full((3, 2), np.nan)])
def test_what_cannot_be_fused_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ScoresError):
        fit_fusion(bad, np.ones((3, 2)))


# normalisation


def test_by_hand() -> None:
    """A cohort scores -0.1 and 0.1 in equal shares: mean 0; moved by 0.2 and half as wide for the probe."""
    base = np.tile([-0.1, 0.1], LEAST_COHORT // 2)
    deviation = 0.1 * math.sqrt(LEAST_COHORT / (LEAST_COHORT - 1))
    reference, probe = CohortScores.of([base]), CohortScores.of([0.2 + base / 2])
    z, t = 0.4 / deviation, 0.2 / (deviation / 2)
    assert normalised([0.4], reference, probe, "z") == pytest.approx([z])
    assert normalised([0.4], reference, probe, "t") == pytest.approx([t])
    assert normalised([0.4], reference, probe, "s") == pytest.approx([(z + t) / 2])


def test_the_adaptive_one_looks_at_the_most_alike() -> None:
    scores = np.concatenate([np.full(40, -0.5), [0.1, 0.2, 0.3]])
    found = CohortScores.of([scores], top=3)
    assert (found.top_mean[0], found.top_deviation[0]) == pytest.approx((0.2, 0.1))
    assert normalised([0.4], found, found, "as") == pytest.approx([2])


def test_s_does_not_know_which_side_is_the_reference() -> None:
    rng = np.random.default_rng(5)
    one, other = (CohortScores.of(rng.normal(0, 0.1, (6, 50)), top=10) for _ in range(2))
    score = rng.normal(0.3, 0.1, 6)
    for how in ("s", "as"):
        assert (normalised(score, one, other, how) == normalised(score, other, one, how)).all()
    assert (normalised(score, one, other, "z") == normalised(score, other, one, "t")).all()


def test_a_failed_comparison_stays_one_and_a_flat_cohort_is_refused() -> None:
    flat = CohortScores.of(np.full((1, 30), 0.2))
    assert np.isnan(normalised([np.nan], flat, flat, "s")).all()
    with pytest.raises(ScoresError, match="nothing to normalise"):
        normalised([0.1], flat, flat, "z")
    with pytest.raises(ScoresError, match="cohort"):
        CohortScores.of(np.zeros((1, LEAST_COHORT - 1)))


def test_vectors_are_scored_in_blocks_as_in_one() -> None:
    rng = np.random.default_rng(6)
    vectors, cohort = rng.normal(size=(1500, 8)), rng.normal(size=(60, 8))
    found, whole = cohort_scores(vectors, cohort, 20), CohortScores.of(vectors @ cohort.T, 20)
    assert found.mean == pytest.approx(whole.mean) and found.top_deviation == pytest.approx(
        whole.top_deviation
    )

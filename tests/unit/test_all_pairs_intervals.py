"""Intervals of rates whose comparisons were counted by person and not kept."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.tallied import Tallied


def _tallied(wrong: np.ndarray, a: np.ndarray, b: np.ndarray | None, couple: int | None) -> Tallied:
    people = int(max(a.max(), 0 if b is None else b.max())) + 1
    sides = (a,) if b is None else (a, b)
    errors, trials = (
        sum(np.bincount(side, weight, people) for side in sides).astype(np.int64)  # type: ignore[union-attr]
        for weight in (wrong, np.ones(len(wrong)))
    )
    return Tallied(errors, trials, couple)


def _all_pairs(people: int, each: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors of all non-mated pairs of people who differ in how easily they are taken for others."""
    a, b = np.array([(i, j) for i, j in combinations(np.repeat(np.arange(people), each), 2) if i != j]).T
    easy = rng.normal(0, 0.8, people)
    return rng.random(len(a)) < 1 / (1 + np.exp(4 - easy[a] - easy[b])), a, b


@pytest.mark.parametrize(("people", "each"), [(60, 1), (25, 3)])
def test_nonmated_intervals_are_those_of_the_comparisons_or_wider(people: int, each: int) -> None:
    for seed in range(5):
        wrong, a, b = _all_pairs(people, each, np.random.default_rng(seed))
        found = _tallied(wrong, a, b, each * each)
        assert (found.count, found.total) == (wrong.sum(), len(wrong))
        ours, exact = found.interval(found.count, found.count), clustered_rate(wrong, a, b)
        assert ours.low <= exact.low + 1e-12 and ours.high >= exact.high - 1e-12
        assert ours.high - ours.low <= (1.05 if each == 1 else 1.5) * (exact.high - exact.low)


def test_mated_intervals_are_those_of_the_comparisons() -> None:
    rng = np.random.default_rng(0)
    a = np.repeat(np.arange(80), 6)
    wrong = rng.random(len(a)) < np.repeat(rng.beta(1, 9, 80), 6)
    found = _tallied(wrong, a, None, None)
    ours, exact = found.interval(found.count, found.count), clustered_rate(wrong, a)
    assert (ours.low, ours.high) == pytest.approx((exact.low, exact.high))


def test_without_errors_trials_are_those_that_share_nobody() -> None:
    wrong, a, b = _all_pairs(40, 1, np.random.default_rng(0))
    found = _tallied(np.zeros_like(wrong), a, b, 1)
    exact = clustered_rate(np.zeros_like(wrong), a, b)
    ours = found.interval(0, 0)
    assert (ours.low, ours.high, ours.method) == (exact.low, exact.high, exact.method)


def test_what_rounding_leaves_open_widens_the_interval() -> None:
    wrong, a, b = _all_pairs(40, 1, np.random.default_rng(1))
    found = _tallied(wrong, a, b, 1)
    plain = found.interval(found.count, found.count)
    assert found.interval(found.count - 3, found.count).low < plain.low
    assert found.interval(found.count, found.count + 3).high > plain.high


def test_counts_that_cannot_be_are_refused() -> None:
    one, two = np.array([1, 0]), np.array([2, 0])
    with pytest.raises(ScoresError, match="different people"):
        Tallied(two, one)
    with pytest.raises(ScoresError, match="no comparisons"):
        Tallied(np.zeros(2, np.int64), np.zeros(2, np.int64))

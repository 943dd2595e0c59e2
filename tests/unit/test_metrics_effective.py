"""Bounds of small rates hold the truth where trials share people, and are the usual ones elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri, stdtrit
from scipy.stats import norm

from frpipe.metrics.clustered import Pairing
from frpipe.metrics.effective import EffectiveTrials
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.intervals import upper_bound


def pairing(a: np.ndarray, b: np.ndarray) -> Pairing:
    return Pairing.of((a, b))[0]


def everybody(people: int) -> Pairing:
    return pairing(*np.triu_indices(people, 1))


def test_trials_that_share_nobody_are_independent_trials() -> None:
    rng = np.random.default_rng(0)
    found = EffectiveTrials.of(rng.normal(size=3000), pairing(np.arange(3000), np.arange(3000) + 3000), 0.001)
    assert found.effective == found.trials == 3000
    assert found.upper([0, 5]).tolist() == upper_bound([0, 5], 3000).tolist()
    assert found.allowed(0.001) == 0
    assert found.allowed(0.0009) is None


def test_people_who_do_not_differ_cost_next_to_nothing() -> None:
    found = [
        EffectiveTrials.of(np.random.default_rng(seed).normal(size=19900), everybody(200), 0.001)
        for seed in range(20)
    ]
    assert np.median([19900 / one.effective for one in found]) < 1.1


def test_the_effect_is_that_of_the_highest_scores_by_hand() -> None:
    # Ten searches of four people; the three highest scores, of the target and one more, are two of person 0.
    people = np.array([0, 0, 0, 1, 1, 1, 2, 2, 3, 3])
    scores = np.array([0.9, 0.8, 0.1, 0.2, 0.7, 0.3, 0.15, 0.25, 0.05, 0.35])
    amount = 9  # ceil(0.2 * 10) + 20, and one less than all at most
    wrong = scores >= np.sort(scores)[10 - amount]
    rest = wrong - 0.9
    sums = np.bincount(people, rest)
    effect = (sums**2).sum() / (rest**2).sum()
    clusters = (sums**2).sum() ** 2 / (sums**4).sum()
    few = (stdtrit(max(clusters - 1, 1), 0.95) / ndtri(0.95)) ** 2
    found = EffectiveTrials.of(scores, pairing(people, people), 0.2)
    assert found.effective == pytest.approx(max(10 / (max(1, effect) * few), 4))


def test_searches_of_one_person_are_one_trial() -> None:
    alone = pairing(np.zeros(50, int), np.zeros(50, int))
    assert EffectiveTrials.of(np.arange(50.0), alone, 0.1).effective == 1
    # One reference with everybody: nothing shows how references differ.
    one = pairing(np.zeros(500, int), np.arange(500) + 1)
    assert EffectiveTrials.of(np.arange(500.0), one, 0.1).effective == 1


def test_each_of_a_persons_searches_alike_is_one_trial_a_person() -> None:
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(300), 10)
    found = EffectiveTrials.of(np.repeat(rng.normal(size=300), 10), pairing(people, people), 0.05)
    assert 300 <= found.effective < 400


def test_without_errors_sharing_shrinks_what_is_known() -> None:
    rng = np.random.default_rng(2)
    who, both = rng.normal(size=100), everybody(100)
    shared = who[both.a] + who[both.b] + rng.normal(size=4950)
    found = EffectiveTrials.of(shared, both, 0.002)
    assert float(found.upper(0)) > 1.5 * float(upper_bound(0, 4950))
    assert found.allowed(0.0007) is None and float(upper_bound(0, 4950)) < 0.0007


def test_equal_scores_and_lists_that_do_not_fit() -> None:
    both = everybody(10)
    assert EffectiveTrials.of(np.zeros(45), both, 0.1).effective == 5
    with pytest.raises(ScoresError, match="length"):
        EffectiveTrials.of(np.zeros(4), both, 0.1)
    with pytest.raises(ScoresError, match="no comparisons"):
        EffectiveTrials.of([], pairing(np.zeros(0, int), np.zeros(0, int)), 0.1)


@pytest.mark.parametrize("errors", [3, 30])
def test_the_bound_holds_where_people_differ_and_the_plain_one_does_not(errors: int) -> None:
    """All pairs of 80 people, a fifth of the variance theirs: as benchmarks/coverage.py, which says more."""
    both, times = everybody(80), 250
    trials = len(both.a)
    threshold, held, plain = norm.isf(errors / trials), 0, 0
    for seed in range(times):
        rng = np.random.default_rng(seed)
        who = rng.normal(size=80) * np.sqrt(0.1)
        scores = who[both.a] + who[both.b] + np.sqrt(0.8) * rng.normal(size=trials)
        count = int((scores >= threshold).sum())
        held += float(EffectiveTrials.of(scores, both, errors / trials).upper(count)) >= errors / trials
        plain += float(upper_bound(count, trials)) >= errors / trials
    assert held >= 0.94 * times > plain

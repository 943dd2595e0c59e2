"""Intervals hold the truth as often as they say, and counts weigh as they should."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri, stdtrit
from scipy.stats import binomtest

from frpipe.metrics.bootstrap import bootstrap_curve, bootstrap_rate, curve_replicates, draws
from frpipe.metrics.clustered import Pairing, clustered_rate
from frpipe.metrics.curve import Curve
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.intervals import Interval, clopper_pearson, upper_bound
from frpipe.metrics.operating import EqualError, equal_error
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Scores
from frpipe.metrics.verification import roc

Trial = tuple[np.ndarray, np.ndarray, np.ndarray | None, float]
Maker = Callable[[int], Trial]
Check = Callable[[Trial, int], bool]
IntervalOf = Callable[..., Interval]


@settings(deadline=None)
@given(st.integers(1, 500), st.data(), st.sampled_from([0.9, 0.95, 0.99]))
def test_bounds_are_those_of_the_exact_binomial_test(trials: int, data: st.DataObject, level: float) -> None:
    count = data.draw(st.integers(0, trials))
    low, high = clopper_pearson(count, trials, level)
    peer = binomtest(count, trials).proportion_ci(level, "exact")
    assert (float(low), float(high)) == pytest.approx((peer.low, peer.high), abs=1e-9)


def test_no_errors_are_the_rule_of_three_on_one_side() -> None:
    for trials in (100, 3000, 10**6):
        assert trials * float(upper_bound(0, trials)) == pytest.approx(3, rel=0.03)
        assert trials * float(clopper_pearson(0, trials)[1]) == pytest.approx(3.7, rel=0.03)


def test_bounds_of_many_rates_at_once_and_of_none() -> None:
    low, high = clopper_pearson([0, 5, 10, 0], [10, 10, 10, 0])
    assert (low[0], high[2], low[3], high[3]) == (0, 1, 0, 1)
    assert low[1] + high[1] == pytest.approx(1)


@pytest.mark.parametrize(("count", "trials", "level"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_impossible_counts_and_levels_are_refused(count: int, trials: int, level: float) -> None:
    with pytest.raises(ScoresError):
        clopper_pearson(count, trials, level)


def test_a_rate_is_printed_with_its_counts() -> None:
    assert str(Rate(3, 3000)) == "0.001 [0.0002063, 0.00292] (3 of 3,000)"
    assert Rate(3, 3000).as_dict()["trials"] == 3000


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=1, max_size=9))
def test_a_comparison_weighs_as_often_as_its_pair_would_occur(pairs: list[tuple[str, str]]) -> None:
    a, b = zip(*pairs, strict=True)
    (pairing,) = Pairing.of((a, b))
    people = sorted({*a, *b})
    drawn = np.random.default_rng(len(pairs)).integers(0, 4, len(people)).astype(float)
    copies = dict(zip(people, drawn, strict=True))
    expected = [copies[x] if x == y else copies[x] * copies[y] for x, y in pairs]
    assert pairing.weights(drawn).tolist() == expected


def test_draws_are_of_as_many_people_and_the_same_for_a_seed() -> None:
    blocks = np.concatenate(list(draws(7, 100, seed=3)))
    assert blocks.shape == (100, 7)
    assert (blocks.sum(axis=1) == 7).all()
    assert np.array_equal(blocks, np.concatenate(list(draws(7, 100, seed=3))))
    assert not np.array_equal(blocks, np.concatenate(list(draws(7, 100, seed=4))))


def test_any_number_of_threads_gives_the_same() -> None:
    rng = np.random.default_rng(0)
    people, a, b = rng.integers(0, 40, 100), *rng.integers(0, 40, (2, 300))
    scores = Scores.of(rng.normal(1, 1, 100), rng.normal(0, 1, 300))
    one, *more = (
        curve_replicates(scores, people, (a, b), [Curve.auc], replicates=200, seed=3, threads=threads)
        for threads in (1, 2, 7)
    )
    assert all(np.array_equal(one, each) for each in more)
    # Fewer replicates are the first of more.
    few = curve_replicates(scores, people, (a, b), [Curve.auc], replicates=70, seed=3)
    assert np.array_equal(one[:70], few)


def test_the_vectorised_bootstrap_is_the_slow_one() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 12, (2, 200))
    errors = rng.random(200) < 0.3
    (pairing,) = Pairing.of((a, b))
    rates = [
        np.average(errors, weights=pairing.weights(drawn)) for block in draws(12, 200, 5) for drawn in block
    ]
    found = bootstrap_rate(errors, a, b, replicates=200, seed=5)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(rates, [0.025, 0.975])), abs=1e-12)


def test_people_are_drawn_and_not_comparisons() -> None:
    # Ten people of 100 comparisons each: one always fails, the others never.
    people = np.repeat(np.arange(10), 100)
    shared = bootstrap_rate(people == 0, people)
    alone = Rate(100, 1000).interval()
    assert shared.high >= 0.3 > alone.high
    assert clustered_rate(people == 0, people).high > 0.3


@pytest.mark.parametrize("interval", [bootstrap_rate, clustered_rate])
def test_without_errors_the_bound_is_that_of_people_who_share_nothing(interval: IntervalOf) -> None:
    people = np.repeat(np.arange(50), 20)
    found = interval(np.zeros(1000), people)
    assert (found.low, found.high) == pytest.approx((0, float(clopper_pearson(0, 50)[1])))
    assert "50 independent" in found.method
    i, j = np.triu_indices(50, 1)
    assert interval(np.zeros(len(i)), i, j).high == pytest.approx(float(clopper_pearson(0, 25)[1]))


def test_trials_that_share_nobody_are_independent_trials() -> None:
    errors = np.arange(400) % 10 == 0
    found, plain = clustered_rate(errors, np.arange(400)), Rate(40, 400).interval()
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=1e-3)


def test_the_closed_form_adds_up_all_pairs_of_comparisons_that_share_a_person() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 15, (2, 120))
    errors = rng.random(120) < rng.beta(1, 2, 15)[np.minimum(a, b)]
    rest = errors - errors.mean()
    shared = (a[:, None] == a) | (a[:, None] == b) | (b[:, None] == a) | (b[:, None] == b)
    variance = np.where(shared, np.outer(rest, rest), 0).sum() / 120**2
    rate = errors.mean()
    assert 120 * variance > rate * (1 - rate)
    trials = rate * (1 - rate) / variance * (ndtri(0.025) / stdtrit(14, 0.025)) ** 2
    low, high = clopper_pearson(rate * trials, trials)
    found = clustered_rate(errors, a, b)
    assert (found.low, found.high) == pytest.approx((float(low), float(high)), abs=1e-12)


def test_curves_of_whole_weights_are_those_of_repeated_scores() -> None:
    rng = np.random.default_rng(1)
    mated, nonmated = rng.integers(0, 6, 20) / 5, rng.integers(-2, 4, 30) / 5
    people, a, b = rng.integers(0, 5, 20), *rng.integers(0, 5, (2, 30))
    seen: list[Curve] = []

    def area(curve: Curve) -> float:
        seen.append(curve)
        return curve.auc()

    bootstrap_curve(Scores.of(mated, nonmated), people, (a, b), area, replicates=5)
    same, other = Pairing.of((people, people), (a, b))
    for curve, drawn in zip(seen, next(draws(5, 5)), strict=True):
        times = [part.weights(drawn).astype(int) for part in (same, other)]
        repeated = roc(Scores.of(np.repeat(mated, times[0]), np.repeat(nonmated, times[1])))
        assert curve.auc() == pytest.approx(repeated.auc())
        x, y = equal_error(curve), equal_error(repeated)
        assert isinstance(x, EqualError) and isinstance(y, EqualError)
        assert x.value == pytest.approx(y.value)
        assert curve.fnmr_at(0.2) == pytest.approx(repeated.fnmr_at(0.2))


def test_the_interval_of_an_area_holds_it() -> None:
    rng = np.random.default_rng(2)
    people = np.repeat(np.arange(60), 3)
    i, j = np.triu_indices(60, 1)
    scores = Scores.of(rng.normal(1, 0.5, 180), rng.normal(0, 0.5, len(i)))
    found = bootstrap_curve(scores, people, (i, j), Curve.auc, replicates=200)
    assert found.low < roc(scores).auc() < found.high
    assert found.high - found.low < 0.1


@pytest.mark.parametrize("interval", [bootstrap_rate, clustered_rate])
def test_lists_that_do_not_fit_are_refused(interval: IntervalOf) -> None:
    with pytest.raises(ScoresError, match="length"):
        interval([True], [1, 2])
    with pytest.raises(ScoresError, match="length"):
        interval([True], [1], [1, 2])
    with pytest.raises(ScoresError, match="no comparisons"):
        interval([], [])
    with pytest.raises(ScoresError, match="length"):
        bootstrap_curve(Scores.of([1], [0]), [1, 2], ([1], [2]), Curve.auc)


def _independent(seed: int) -> Trial:
    errors = np.random.default_rng(seed).random(2000) < 0.05
    return errors, np.arange(2000), None, 0.05


def _mated(seed: int) -> Trial:
    """200 people of five comparisons; each person has an error rate of their own, 0.1 on average."""
    rng = np.random.default_rng(seed)
    errors = rng.random((200, 5)) < rng.beta(1, 9, 200)[:, None]
    return errors.ravel(), np.repeat(np.arange(200), 5), None, 0.1


def _nonmated(seed: int) -> Trial:
    """All pairs of 100 people, some of whom are like many others."""
    rng = np.random.default_rng(seed)
    easy, (i, j) = rng.normal(0, 0.3, 100), np.triu_indices(100, 1)
    return rng.random(len(i)) < ndtr(easy[i] + easy[j] - 1.5), i, j, float(ndtr(-1.5 / np.sqrt(1.18)))


def _bootstrap(trial: Trial, seed: int) -> bool:
    errors, a, b, truth = trial
    found = bootstrap_rate(errors, a, b, replicates=400, seed=seed)
    return found.low <= truth <= found.high


def _clustered(trial: Trial, seed: int) -> bool:
    errors, a, b, truth = trial
    found = clustered_rate(errors, a, b)
    return found.low <= truth <= found.high


def _naive(trial: Trial, seed: int) -> bool:
    errors, _, _, truth = trial
    found = Rate(int(errors.sum()), len(errors)).interval()
    return found.low <= truth <= found.high


def _coverage(trial: Maker, holds: Check, times: int) -> float:
    return float(np.mean([holds(trial(seed), seed + 1) for seed in range(times)]))


COVERED = [
    (_independent, _naive),
    (_mated, _bootstrap),
    (_mated, _clustered),
    (_nonmated, _bootstrap),
    (_nonmated, _clustered),
]


@pytest.mark.parametrize(("trial", "holds"), COVERED)
def test_intervals_hold_the_truth_nearly_as_often_as_they_say(trial: Maker, holds: Check) -> None:
    assert 0.88 <= _coverage(trial, holds, 200) <= 0.995


def test_an_interval_that_ignores_people_does_not() -> None:
    assert _coverage(_nonmated, _naive, 200) < 0.7


@pytest.mark.slow
@pytest.mark.parametrize(("trial", "holds"), COVERED)
def test_intervals_hold_the_truth_as_often_as_they_say(trial: Maker, holds: Check) -> None:
    assert 0.93 <= _coverage(trial, holds, 3000) <= 0.97

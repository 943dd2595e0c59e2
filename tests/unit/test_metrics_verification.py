"""One-to-one metrics against slow, obvious ones."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.operating import AtTarget, EqualError, Insufficient
from frpipe.metrics.rate import Rate, generalised
from frpipe.metrics.scores import Scores
from frpipe.metrics.verification import (
    at_threshold,
    auc_exact,
    auc_grid,
    best_threshold,
    d_prime,
    eer,
    histogram,
    roc,
    tar_at_fmr,
)

# Few values, so that ties within and across the two kinds are common; and some that differ by one bit.
VALUE = st.one_of(
    st.integers(-4, 4).map(lambda n: n / 4), st.sampled_from([0.1, float(np.nextafter(0.1, 1)), 0.3])
)
SOME = st.lists(VALUE, min_size=1, max_size=12)


def _share(values: Sequence[float], threshold: float) -> Fraction:
    return Fraction(sum(value >= threshold for value in values), len(values))


def _auc(mated: Sequence[float], nonmated: Sequence[float]) -> Fraction:
    halves = sum(2 * (a > b) + (a == b) for a in mated for b in nonmated)
    return Fraction(halves, 2 * len(mated) * len(nonmated))


@settings(deadline=None)
@given(SOME, SOME, VALUE)
def test_rates_at_a_threshold(mated: list[float], nonmated: list[float], threshold: float) -> None:
    found = at_threshold(Scores.of(mated, nonmated), threshold)
    assert found.tar.value == float(_share(mated, threshold))
    assert found.fmr.value == float(_share(nonmated, threshold))
    right = sum(v >= threshold for v in mated) + sum(v < threshold for v in nonmated)
    assert found.accuracy == Rate(right, len(mated) + len(nonmated))


@settings(deadline=None)
@given(SOME, SOME, VALUE)
def test_distances_give_what_their_similarities_give(
    mated: list[float], nonmated: list[float], threshold: float
) -> None:
    alike = Scores.of(mated, nonmated)
    apart = Scores.of([-v for v in mated], [-v for v in nonmated], kind="distance")
    a, b = at_threshold(alike, threshold), at_threshold(apart, -threshold)
    assert (a.fmr, a.fnmr) == (b.fmr, b.fnmr)
    assert auc_exact(alike) == auc_exact(apart)
    assert roc(apart).threshold.tolist() == (-roc(alike).threshold).tolist()


def test_a_distance_just_over_the_threshold_is_not_rounded_into_it() -> None:
    limit = 0.1
    over = float(np.nextafter(limit, 1))
    assert 1 - over == 1 - limit or over > limit
    assert at_threshold(Scores.of([limit, over], [1.0], kind="distance"), limit).tar == Rate(1, 2)


def test_a_score_on_the_threshold_is_accepted_on_both_sides() -> None:
    found = at_threshold(Scores.of([0.4, 0.2], [0.4, 0.1]), 0.4)
    assert (found.tar, found.fmr) == (Rate(1, 2), Rate(1, 2))


@settings(deadline=None)
@given(SOME, SOME)
def test_the_curve_is_the_steps_and_the_area_the_share_of_pairs_won(
    mated: list[float], nonmated: list[float]
) -> None:
    curve = roc(Scores.of(mated, nonmated))
    assert curve.threshold.tolist() == [np.inf, *sorted({*mated, *nonmated}, reverse=True)]
    assert curve.tar.tolist() == [float(_share(mated, t)) for t in curve.threshold]
    assert curve.fmr.tolist() == [float(_share(nonmated, t)) for t in curve.threshold]
    assert curve.auc() == pytest.approx(float(_auc(mated, nonmated)), abs=1e-15)
    x, y = curve.det()
    assert np.trapezoid(1 - y, x) == pytest.approx(curve.auc(), abs=1e-12)


@settings(deadline=None)
@given(SOME, SOME, st.lists(VALUE, max_size=5))
def test_the_curve_at_thresholds_between_its_points(
    mated: list[float], nonmated: list[float], asked: list[float]
) -> None:
    thresholds = [*asked, -5.0, 5.0, 0.05]
    fmr, fnmr = roc(Scores.of(mated, nonmated)).at(thresholds)
    assert fmr.tolist() == [float(_share(nonmated, t)) for t in thresholds]
    assert (1 - fnmr).tolist() == pytest.approx([float(_share(mated, t)) for t in thresholds])


def _crossing(mated: Sequence[float], nonmated: Sequence[float]) -> Fraction:
    """Where the line through the points (FMR, FNMR) of all thresholds meets FMR = FNMR."""
    steps = [10.0, *sorted({*mated, *nonmated}, reverse=True)]
    points = [(_share(nonmated, t), 1 - _share(mated, t)) for t in steps]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 >= y1:
            share = (y0 - x0) / ((y0 - x0) + (x1 - y1))
            return x0 + share * (x1 - x0)
    raise AssertionError("a curve ends at FMR 1, FNMR 0")


@settings(deadline=None)
@given(SOME, SOME)
def test_the_equal_error_is_where_the_curve_crosses(mated: list[float], nonmated: list[float]) -> None:
    found = eer(Scores.of(mated, nonmated))
    assert isinstance(found, EqualError)
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(float(_crossing(mated, nonmated)), abs=1e-12)
    at = at_threshold(Scores.of(mated, nonmated), found.threshold)
    assert at.fmr.value is not None and at.fnmr.value is not None
    assert at.fmr.value >= at.fnmr.value


def test_equal_errors_of_known_scores() -> None:
    apart = eer(Scores.of([0.9, 0.8], [0.1, 0.2]))
    same = eer(Scores.of([0.5], [0.5]))
    crossed = eer(Scores.of([0.9, 0.8, 0.7, 0.2], [0.75, 0.1, 0.05, 0.0]))
    assert isinstance(apart, EqualError) and apart.value == 0
    assert isinstance(same, EqualError) and (same.value, same.low, same.high) == (0.5, 0, 1)
    assert isinstance(crossed, EqualError) and crossed.value == 0.25


def test_no_equal_error_where_the_curve_ends_before() -> None:
    lost = Scores.of([0.9], [0.8, 0.1], mated_lost=3, nonmated_lost=2)
    assert isinstance(eer(lost, failures=True), Insufficient)


@settings(deadline=None)
@given(SOME, SOME, st.sampled_from(["accuracy", "youden"]))
def test_the_best_threshold_beats_every_other(mated: list[float], nonmated: list[float], rule: str) -> None:
    scores = Scores.of(mated, nonmated)

    def gain(threshold: float) -> Fraction:
        rates = at_threshold(scores, threshold)
        if rule == "accuracy":
            return Fraction(rates.accuracy.count, rates.accuracy.trials)
        return _share(mated, threshold) - _share(nonmated, threshold)

    best = best_threshold(scores, rule)  # type: ignore[arg-type]
    equals = [t for t in [np.inf, *mated, *nonmated] if gain(t) >= gain(best.threshold)]
    assert all(gain(t) == gain(best.threshold) for t in equals)
    assert max(equals) == best.threshold


def test_the_two_rules_differ_where_the_kinds_are_not_equally_many() -> None:
    scores = Scores.of([0.9, 0.4], [0.5, 0.45, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert best_threshold(scores, "accuracy").threshold == 0.9
    assert best_threshold(scores, "youden").threshold == 0.4


def test_failures_count_as_rejections_beside_the_rates_without_them() -> None:
    found = at_threshold(Scores.of([0.9, 0.1], [0.8, 0.1, 0.1], mated_lost=2, nonmated_lost=1), 0.5)
    assert (found.fnmr, found.frr) == (Rate(1, 2), Rate(3, 4))
    assert (found.fmr, found.far) == (Rate(1, 3), Rate(1, 4))
    assert (found.accuracy, found.accuracy_all) == (Rate(3, 5), Rate(4, 8))


def test_generalised_rates_follow_from_the_shares_of_failures() -> None:
    found = generalised(0.1, 0.2, fta=0.5, fte=0.2)
    assert (found.far, found.frr) == pytest.approx((0.05, 0.6))
    assert (found.gfar, found.gfrr) == pytest.approx((0.04, 0.2 + 0.8 * 0.6))


def _at(found: AtTarget | Insufficient) -> AtTarget:
    assert isinstance(found, AtTarget)
    return found


def test_a_target_is_met_by_the_most_lenient_threshold() -> None:
    nonmated = np.arange(3000) / 3000
    hit, more = (_at(r) for r in tar_at_fmr(Scores.of([0.9995, 0.999, 0.5], nonmated), [0.001, 0.01]))
    assert (hit.fmr, hit.tar, hit.threshold) == (Rate(3, 3000), Rate(2, 3), 0.999)
    assert (hit.support, more.support) == ("rule of 3", "rule of 30")
    assert more.fmr == Rate(30, 3000)


@settings(deadline=None)
@given(SOME, st.lists(VALUE, min_size=10, max_size=40), st.sampled_from([0.3, 0.5, 1.0]))
def test_rates_at_a_target_against_all_thresholds(
    mated: list[float], nonmated: list[float], target: float
) -> None:
    (found,) = tar_at_fmr(Scores.of(mated, nonmated), [target])
    meeting = [t for t in [np.inf, *mated, *nonmated] if _share(nonmated, t) <= Fraction(str(target))]
    assert _at(found).tar.value == float(max(_share(mated, t) for t in meeting))


def test_too_few_trials_give_a_reason_and_no_number() -> None:
    scores = Scores.of([0.9] * 50, np.zeros(2999))
    (found,) = tar_at_fmr(scores, [0.001])
    assert isinstance(found, Insufficient)
    assert (found.have, found.need) == (2999, 3000)
    assert str(found) == "insufficient data: 2,999 non-mated trials, 0.001 needs 3,000"


def test_d_prime_says_which_variance() -> None:
    scores = Scores.of([1.0, 3.0], [0.0, 1.0])
    assert d_prime(scores, "population") == pytest.approx(1.5 / np.sqrt((1 + 0.25) / 2))
    assert d_prime(scores) == pytest.approx(1.5 / np.sqrt((2 + 0.5) / 2))
    assert isinstance(d_prime(Scores.of([1.0], [0.0, 1.0])), Insufficient)
    assert isinstance(d_prime(Scores.of([1.0, 1.0], [0.5, 0.5])), Insufficient)


def test_histograms_are_in_the_kind_of_the_scores() -> None:
    found = histogram(Scores.of([0.1, 0.5], [1.0], kind="distance"), [0, 0.5, 1])
    assert (found.mated.tolist(), found.nonmated.tolist()) == ([1, 1], [0, 1])


def test_a_grid_in_the_wrong_order_is_refused() -> None:
    with pytest.raises(ScoresError, match="ascend"):
        auc_grid([1, 0], [1, 0])


@pytest.mark.parametrize(
    ("mated", "nonmated", "more"),
    [
        ([np.nan], [0.1], {}),
        ([0.1], [np.inf], {}),
        ([[0.1]], [0.1], {}),
        ([0.1], [0.1], {"kind": "score"}),
        ([0.1], [0.1], {"mated_lost": -1}),
    ],
)
def test_what_is_no_score_is_refused(mated: list[float], nonmated: list[float], more: dict[str, int]) -> None:
    with pytest.raises(ScoresError) as refused:
        Scores.of(mated, nonmated, **more)  # type: ignore[arg-type]
    assert refused.value.remedy


def test_a_rate_of_nothing_has_no_value_and_a_curve_needs_both_kinds() -> None:
    found = at_threshold(Scores.of([], [0.1]), 0.5)
    assert found.fnmr.value is None and str(found.fnmr) == "no trials"
    assert (found.fnmr.interval().low, found.fnmr.interval().high) == (0, 1)
    with pytest.raises(ScoresError, match="no mated"):
        roc(Scores.of([], [0.1]))


def test_areas_and_points_are_those_of_scikit_learn() -> None:
    from sklearn import metrics

    for seed in range(20):
        rng = np.random.default_rng(seed)
        mated, nonmated = rng.integers(0, 12, 15) / 10, rng.integers(-4, 9, 25) / 10
        truth, score = np.repeat([1, 0], [15, 25]), np.concatenate([mated, nonmated])
        curve = roc(Scores.of(mated, nonmated))
        fpr, tpr, thresholds = metrics.roc_curve(truth, score, drop_intermediate=False)
        assert curve.threshold.tolist() == thresholds.tolist()
        assert (curve.fmr.tolist(), curve.tar.tolist()) == (pytest.approx(fpr), pytest.approx(tpr))
        assert curve.auc() == pytest.approx(metrics.roc_auc_score(truth, score))

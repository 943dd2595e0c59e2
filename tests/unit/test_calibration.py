"""Log-likelihood ratios, what they cost, and the hull: by hand, by properties and beside scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from frpipe.metrics.calibration import fit_isotonic, fit_logistic
from frpipe.metrics.costs import Application, act_dcf, cllr
from frpipe.metrics.cross_fit import LEAST, Parts, cross_fitted
from frpipe.metrics.curve import Curve
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.hull import Hull
from frpipe.metrics.operating import EqualError, Insufficient, equal_error
from frpipe.metrics.reliability import reliability
from frpipe.metrics.scores import Scores

Doubles = NDArray[np.float64]
# Five mated and five non-mated; two runs of both kinds, one with a tie.
MATED, NONMATED = [0.2, 0.5, 0.8, 0.9, 0.9], [0.1, 0.1, 0.3, 0.5, 0.6]


def _drawn(seed: int, mated: int = 60, nonmated: int = 200, digits: int = 1) -> Scores:
    """Overlapping scores, of which most are tied at one digit."""
    rng = np.random.default_rng(seed)
    sides = rng.normal(1, 1, mated), rng.normal(-0.5, 1, nonmated)
    return Scores.of(*(side.round(digits) for side in sides))


# Cllr and DCF, by hand


def test_ratios_that_say_nothing_cost_a_bit() -> None:
    assert cllr([0, 0, 0], [0]) == pytest.approx(1)


def test_cllr_by_hand() -> None:
    """Odds of 3 for the mated: log2(4/3) each; odds of 1/3 and 1 for others: log2(4/3) and 1."""
    found = cllr([math.log(3)] * 2, [-math.log(3), 0])
    assert found == pytest.approx((math.log2(4 / 3) + (math.log2(4 / 3) + 1) / 2) / 2)


def test_certainty_costs_nothing_if_right_and_everything_if_wrong() -> None:
    assert cllr([np.inf], [-np.inf]) == 0
    assert cllr([np.inf, -np.inf], [-np.inf]) == np.inf


def test_costs_by_hand() -> None:
    """Prior 0.1, a miss costs 3: weights 0.3 and 0.9, the threshold log 3; rejecting all costs 0.3."""
    application = Application(0.1, miss=3)
    assert application.threshold == pytest.approx(math.log(3))
    # One of four mated is below log 3; one of two others is at it, which is accepted.
    cost = act_dcf([1, 1.2, 2, 9], [application.threshold, -5], application)
    assert cost == pytest.approx((0.3 * 1 / 4 + 0.9 * 1 / 2) / 0.3)
    assert act_dcf([-9.0], [-9.0], application) == pytest.approx(1)


@pytest.mark.parametrize(
    ("application", "mated", "nonmated", "need"),
    [
        (Application(0.01), 5, 296, 297),
        (Application(0.01), 5, 297, None),
        (Application(0.5), 3, 3, None),
        (Application(0.99), 296, 5, 297),
    ],
)
def test_costs_that_too_few_trials_support_are_not_given(
    application: Application, mated: int, nonmated: int, need: int | None
) -> None:
    found = application.insufficient(mated, nonmated)
    assert (found.need if found else None) == need


@pytest.mark.parametrize("values", [(0.0,), (1.0,), (float("nan"),), (0.1, 0.0), (0.1, 1.0, -1.0)])
def test_a_prior_or_cost_that_is_none_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ScoresError):
        Application(*values)


@pytest.mark.parametrize("ratios", [[], [float("nan")], [[0.0]]])
def test_ratios_that_are_none_are_refused(ratios: ArrayLike) -> None:
    with pytest.raises(ScoresError):
        cllr(ratios, [0.0])


# The hull


def test_the_hull_by_hand() -> None:
    """0.1 0.1 n | 0.2 m 0.3 n pooled, as are 0.5 m n and 0.6 n: 0.5, 0.5 and 0 fall | 0.8 0.9 0.9 m.

    0.2 to 0.6 have shares 1, 0, 1/2, 0, which only fall: one run of two mated and three others.
    """
    hull = Hull.of(Scores.of(MATED, NONMATED))
    assert hull.low.tolist() == [0.1, 0.2, 0.8]
    assert hull.high.tolist() == [0.1, 0.6, 0.9]
    assert (hull.mated.tolist(), hull.nonmated.tolist()) == ([0, 2, 3], [2, 3, 0])
    assert hull.llr.tolist() == pytest.approx([-np.inf, math.log(2 / 3), np.inf])
    curve = hull.curve()
    assert curve.fmr.tolist() == pytest.approx([0, 0, 0.6, 1])
    assert curve.fnmr.tolist() == pytest.approx([1, 0.4, 0, 0])
    # From (0, 0.4) to (0.6, 0) the line meets FMR = FNMR where x = 0.4 - x 2/3.
    assert hull.eer() == pytest.approx(0.24)
    # Two of five mated, and three of five others, have odds 2/3.
    assert hull.min_cllr() == pytest.approx((0.4 * math.log2(1 + 3 / 2) + 0.6 * math.log2(1 + 2 / 3)) / 2)
    # Corners cost 0.4 and 0.6 at even priors; at a prior of 0.1 an alarm is nine misses.
    assert hull.min_dcf(Application(0.5)) == pytest.approx(0.4)
    assert hull.min_dcf(Application(0.1)) == pytest.approx(0.4)
    assert hull.min_dcf(Application(0.8)) == pytest.approx(0.6)


def test_equal_scores_are_one_whichever_kind_comes_first() -> None:
    """All at one score: nothing can be told apart. Others put first would give perfect ratios."""
    hull = Hull.of(Scores.of([0.5, 0.5], [0.5, 0.5, 0.5]))
    assert (hull.mated.tolist(), hull.nonmated.tolist()) == ([2], [3])
    assert (hull.min_cllr(), hull.eer()) == (pytest.approx(1), pytest.approx(0.5))
    assert Hull.of(Scores.of([1, 0.5], [0.5, 0])).min_cllr() == pytest.approx(0.5)


def test_separated_scores_cost_nothing_at_best() -> None:
    hull = Hull.of(Scores.of([3, 2], [1, 0]))
    assert (hull.min_cllr(), hull.eer(), hull.min_dcf(Application(0.01))) == (0, 0, 0)


def test_scores_turned_round_tell_nothing() -> None:
    hull = Hull.of(Scores.of([1, 0], [3, 2]))
    assert (hull.min_cllr(), hull.eer()) == (pytest.approx(1), pytest.approx(0.5))


@pytest.mark.parametrize("seed", range(6))
def test_runs_are_the_best_monotone_shares(seed: int) -> None:
    """The share at each value is max over starts, min over ends, of means between (Robertson et al. 1988)."""
    scores = _drawn(seed, 12, 20)
    values = np.unique(np.concatenate([scores.mated, scores.nonmated]))
    up, over = ([int((part == v).sum()) for v in values] for part in (scores.mated, scores.nonmated))

    def share(start: int, end: int) -> float:
        return sum(up[start : end + 1]) / (sum(up[start : end + 1]) + sum(over[start : end + 1]))

    size = len(values)
    best = [max(min(share(a, b) for b in range(at, size)) for a in range(at + 1)) for at in range(size)]
    hull = Hull.of(scores)
    shares = hull.mated / (hull.mated + hull.nonmated)
    run = np.searchsorted(hull.low, values, "right") - 1
    assert shares[run].tolist() == pytest.approx(best)
    assert (np.diff(shares) > 0).all()
    assert (hull.mated.sum(), hull.nonmated.sum()) == (12, 20)


@pytest.mark.parametrize("digits", [1, 8])
@pytest.mark.parametrize("seed", range(4))
def test_runs_are_those_of_scikit_learn(seed: int, digits: int) -> None:
    scores = _drawn(seed, digits=digits)
    x = np.concatenate([scores.mated, scores.nonmated])
    theirs = IsotonicRegression().fit_transform(x, np.repeat([1.0, 0.0], (60, 200)))
    hull = Hull.of(scores)
    shares = hull.mated / (hull.mated + hull.nonmated)
    assert shares[np.searchsorted(hull.low, x, "right") - 1] == pytest.approx(theirs)


@pytest.mark.parametrize("digits", [1, 8])
@pytest.mark.parametrize("seed", range(4))
def test_the_hull_is_under_the_curve_and_its_eer_the_worst_of_the_best(seed: int, digits: int) -> None:
    scores = _drawn(seed, digits=digits)
    curve, hull = Curve.of(scores), Hull.of(scores)
    corners = hull.curve()
    assert (np.interp(curve.fmr, corners.fmr, corners.fnmr) <= curve.fnmr + 1e-12).all()
    staircase = equal_error(curve)
    assert isinstance(staircase, EqualError)
    assert hull.eer() <= staircase.high + 1e-12
    priors = np.linspace(0, 1, 4001)
    best = [float((p * curve.fnmr + (1 - p) * curve.fmr).min()) for p in priors]
    assert hull.eer() == pytest.approx(max(best), abs=2e-4)
    for prior in (0.01, 0.3, 0.9):
        application = Application(prior, 2, 1)
        assert hull.min_dcf(application) == pytest.approx(
            application.costs(curve.fnmr, curve.fmr).min(), abs=1e-12
        )


@pytest.mark.parametrize(
    "turn", [np.exp, np.arctan, lambda x: 3 * x - 7, lambda x: x**3], ids=["exp", "arctan", "line", "cube"]
)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_best_does_not_depend_on_the_scale(seed: int, turn: Callable[[Doubles], Doubles]) -> None:
    scores = _drawn(seed)
    turned = Scores.of(turn(scores.mated), turn(scores.nonmated))
    assert Hull.of(turned).min_cllr() == Hull.of(scores).min_cllr()
    distances = Scores.of(-turn(scores.mated), -turn(scores.nonmated), kind="distance")
    assert Hull.of(distances).min_cllr() == Hull.of(scores).min_cllr()
    assert Hull.of(distances).eer() == Hull.of(scores).eer()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fit", [fit_logistic, fit_isotonic])
def test_no_map_costs_less_than_the_best_monotone_one(seed: int, fit: Callable[..., object]) -> None:
    scores = _drawn(seed)
    found = fit(scores)
    own = cllr(found.llr(scores.mated), found.llr(scores.nonmated))  # type: ignore[attr-defined]
    assert Hull.of(scores).min_cllr() <= own + 1e-12 <= 1


# Maps


@pytest.mark.parametrize("prior", [0.5, 0.05])
@pytest.mark.parametrize("seed", range(3))
def test_the_line_is_that_of_scikit_learn(seed: int, prior: float) -> None:
    scores = _drawn(seed)
    m, n = len(scores.mated), len(scores.nonmated)
    x, y = np.concatenate([scores.mated, scores.nonmated])[:, None], np.repeat([1, 0], (m, n))
    weight = np.repeat([prior / m, (1 - prior) / n], (m, n)) * (m + n)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, y, sample_weight=weight)
    found = fit_logistic(scores, prior)
    assert found.slope == pytest.approx(float(theirs.coef_[0, 0]), rel=1e-4)
    offset = float(theirs.intercept_[0]) - math.log(prior / (1 - prior))
    assert found.offset == pytest.approx(offset, rel=1e-3, abs=1e-3)
    assert not found.separated


def test_the_line_by_hand() -> None:
    """Two scores: 3 of 4 mated at 1, 1 of 4 others at 1. The ratios are log 3 at 1 and -log 3 at 0."""
    found = fit_logistic(Scores.of([1, 1, 1, 0], [0, 0, 0, 1]))
    assert (found.slope, found.offset) == (pytest.approx(2 * math.log(3)), pytest.approx(-math.log(3)))
    assert found.llr([1, 0]).tolist() == pytest.approx([math.log(3), -math.log(3)])


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_the_line_goes_with_the_scale_of_scores(scale: float, shift: float) -> None:
    scores = _drawn(1)
    plain = fit_logistic(scores)
    turned = fit_logistic(Scores.of(scale * (scores.mated + shift), scale * (scores.nonmated + shift)))
    assert turned.slope * scale == pytest.approx(plain.slope, rel=1e-5)
    distances = fit_logistic(Scores.of(-scores.mated, -scores.nonmated, kind="distance"))
    assert distances.llr(-scores.mated) == pytest.approx(plain.llr(scores.mated))
    assert distances.slope == pytest.approx(-plain.slope)


@pytest.mark.parametrize(
    ("mated", "nonmated"), [([3, 2], [1, 0]), ([2, 1], [1, 0]), ([1, 0], [3, 2]), ([5.0], [4.0])]
)
def test_scores_that_do_not_overlap_have_a_finite_line(mated: list[float], nonmated: list[float]) -> None:
    """The loss with Platt's truths has slope 0 where the line ends."""
    found = fit_logistic(Scores.of(mated, nonmated))
    assert found.separated
    m, n = len(mated), len(nonmated)
    p, q = (1 / (1 + np.exp(-found.llr(side))) for side in (mated, nonmated))
    up, over = (p - (m + 1) / (m + 2)) / m, (q - 1 / (n + 2)) / n
    assert up.sum() + over.sum() == pytest.approx(0, abs=1e-7)
    assert up @ np.array(mated) + over @ np.array(nonmated) == pytest.approx(0, abs=1e-7)


def test_two_scores_apart_have_the_softened_truths() -> None:
    found = fit_logistic(Scores.of([1.0], [0.0]))
    assert found.llr([1, 0]).tolist() == pytest.approx([math.log(2), -math.log(2)])


def test_scores_that_are_all_equal_say_nothing() -> None:
    assert fit_logistic(Scores.of([2, 2], [2])).llr([2, 5]).tolist() == [0, 0]
    # (1, 1) below is less than 2 of 3 and stays apart; (1, 1) above is pooled: odds of 3/2, which were 2.
    assert fit_isotonic(Scores.of([2, 2], [2])).llr([2, 5]).tolist() == pytest.approx([math.log(3 / 4)] * 2)


def test_steps_by_hand() -> None:
    """One of each kind joins the lowest and the highest run: (1, 3), (2, 3), (4, 1) of five and five.

    1/4 < 2/5 < 4/5, so nothing more is pooled. Between runs lines are straight, beyond them level.
    """
    found = fit_isotonic(Scores.of(MATED, NONMATED))
    ratios = [math.log(1 / 3), math.log(2 / 3), math.log(4)]
    assert found.llr([0.1, 0.2, 0.4, 0.6, 0.8, 0.9]).tolist() == pytest.approx(
        [ratios[0], ratios[1], ratios[1], ratios[1], ratios[2], ratios[2]]
    )
    assert found.llr([-5, 5]).tolist() == pytest.approx([ratios[0], ratios[2]])
    assert found.llr([0.7]).tolist() == pytest.approx([(ratios[1] + ratios[2]) / 2])
    turned = fit_isotonic(Scores.of(-np.array(MATED), -np.array(NONMATED), kind="distance"))
    assert turned.llr([-0.1, -0.7, -0.9]) == pytest.approx(found.llr([0.1, 0.7, 0.9]))


@pytest.mark.parametrize("seed", range(4))
def test_steps_rise_and_are_finite(seed: int) -> None:
    scores = _drawn(seed, 15, 15)
    found = fit_isotonic(scores).llr(np.linspace(-9, 9, 500))
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()


def test_a_kind_that_is_missing_is_refused() -> None:
    for fit in (fit_logistic, fit_isotonic, Hull.of):
        with pytest.raises(ScoresError):
            fit(Scores.of([1.0], []))
    with pytest.raises(ScoresError):
        fit_logistic(Scores.of([1.0], [0.0]), prior=1)


# Cross-fitting


def test_people_are_calibrated_by_others_alone() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 60, (2, 4000))
    mated = rng.random(4000) < 0.3
    b = np.where(mated, a, np.where(b == a, (b + 1) % 60, b))
    score = np.arange(4000.0)
    parts = Parts.of_people(a, b)
    assert parts.count == 5
    seen: list[tuple[Doubles, object]] = []

    class Nothing:
        def __init__(self, scores: Scores) -> None:
            self.people = {*a[np.r_[scores.mated, scores.nonmated].astype(int)]}
            self.people |= {*b[np.r_[scores.mated, scores.nonmated].astype(int)]}

        def llr(self, score: ArrayLike) -> Doubles:
            rows = np.asarray(score).astype(int)
            assert not self.people & {*a[rows], *b[rows]}
            seen.append((np.asarray(score), None))
            return np.asarray(score, np.float64)

    found = cross_fitted(score, mated, parts, Nothing)
    assert not isinstance(found, Insufficient)
    assert (found == score).all()
    assert len(seen) == 15


def test_folds_are_calibrated_by_the_others() -> None:
    scores = _drawn(3)
    score = np.concatenate([scores.mated, scores.nonmated])
    mated, fold = np.arange(260) < 60, np.array(["a", "b"])[np.arange(260) % 2]
    found = cross_fitted(score, mated, Parts.of_folds(fold), fit_logistic)
    of_b = fit_logistic(Scores.of(score[mated & (fold == "b")], score[~mated & (fold == "b")]))
    assert np.asarray(found)[fold == "a"].tolist() == of_b.llr(score[fold == "a"]).tolist()


def test_rows_are_dealt_each_kind_for_itself() -> None:
    mated = np.arange(100) < 20
    parts = Parts.of_rows(mated)
    assert np.bincount(parts.a[mated]).tolist() == [4] * 5
    assert np.bincount(parts.a[~mated]).tolist() == [16] * 5


def test_too_few_to_calibrate_by_are_said() -> None:
    found = cross_fitted([1, 2, 3, 4], [True, True, False, False], Parts.of_folds([1, 2, 1, 2]), fit_logistic)
    assert isinstance(found, Insufficient)
    assert (found.have, found.need) == (1, LEAST)
    one = cross_fitted(np.arange(90.0), np.arange(90) % 2 == 0, Parts.of_folds([1] * 90), fit_logistic)
    assert isinstance(one, Insufficient)
    with pytest.raises(ScoresError):
        cross_fitted([1.0], [True, False], Parts.of_folds([1, 2]), fit_logistic)


# Reliability


def test_bins_by_hand() -> None:
    """Ratios of two values: log 3 (3 of 4 mated, 1 of 4 others) and -log 3. What is said is what came."""
    up, over = [math.log(3)] * 3 + [-math.log(3)], [math.log(3)] + [-math.log(3)] * 3
    low, high = reliability(up, over, bins=2)
    assert (low.mated, low.nonmated, high.mated, high.nonmated) == (1, 3, 3, 1)
    assert (low.said, low.came, high.said, high.came) == pytest.approx([-math.log(3)] * 2 + [math.log(3)] * 2)
    assert low.low < low.came < low.high


def test_calibrated_ratios_lie_on_the_diagonal_whatever_the_share_of_mated() -> None:
    """Normal scores of equal variance: llr of N(d/2, d) over N(-d/2, d) is the score itself."""
    rng = np.random.default_rng(0)
    up, over = rng.normal(2, 2, 40_000), rng.normal(-2, 2, 200_000)
    bins = reliability(up, over)
    assert len(bins) == 10
    assert all(one.low - 0.02 <= one.said <= one.high + 0.02 for one in bins)
    assert sum(one.mated for one in bins) == 40_000
    wrong = reliability(3 * up, 3 * over)
    assert sum(one.low <= one.said <= one.high for one in wrong) < 3


def test_a_bin_of_one_kind_has_an_open_end() -> None:
    low, high = reliability([5.0] * 4, [-5.0] * 4, bins=2)
    assert (low.came, high.came) == (-np.inf, np.inf)
    assert (low.low, high.high) == (-np.inf, np.inf)
    assert np.isfinite([low.high, high.low]).all()
    with pytest.raises(ScoresError):
        reliability([np.inf], [0.0])

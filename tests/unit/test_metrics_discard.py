"""Error versus discard and error by bin: values computed by hand, properties, and a second way to count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpipe.metrics.binned_rate import quantile_edges, rate_by_bin
from frpipe.metrics.bootstrap import replicates_of
from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.discard import (
    DiscardArea,
    Discards,
    discard_areas,
    discard_curve,
    ideal_area,
    kept,
    pair_quality,
)
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.operating import Insufficient

# Errors at qualities 1 and 3 of 1, 2, 3, 4.
ERRORS, QUALITY = [True, False, True, False], [1.0, 2.0, 3.0, 4.0]


def test_by_hand() -> None:
    curve = discard_curve(ERRORS, QUALITY)
    assert curve.fraction.tolist() == [0, 0.25, 0.5, 0.75]
    assert curve.error.tolist() == [1 / 2, 1 / 3, 1 / 2, 0]
    # 0.25 / 2 + 0.25 / 3, then 0.1 / 2.
    assert curve.area(0.5) == pytest.approx(5 / 24)
    assert curve.area(0.6) == pytest.approx(5 / 24 + 0.05)
    assert curve.at([0, 0.2, 0.25, 0.3, 0.99]).tolist() == [1 / 2, 1 / 2, 1 / 3, 1 / 3, 0]


def test_the_ideal_by_hand() -> None:
    # Of a rate of 1/2: 1/2 + ln(1/2) / 2 where all errors are gone.
    assert ideal_area(0.5, 0.5) == pytest.approx(0.5 - 0.5 * np.log(2))
    assert ideal_area(0.5, 0.9) == ideal_area(0.5, 0.5)
    assert ideal_area(0.5, 0.2) == pytest.approx(0.2 + 0.5 * np.log(0.8))
    assert ideal_area(0.0, 0.3) == 0
    assert ideal_area(1.0, 0.3) == pytest.approx(0.3)


def test_equal_qualities_are_discarded_together_and_never_all() -> None:
    curve = discard_curve(ERRORS, [1, 1, 1, 2])
    assert (curve.fraction.tolist(), curve.error.tolist()) == ([0, 0.75], [0.5, 0])
    flat = discard_curve(ERRORS, [7, 7, 7, 7])
    assert (flat.fraction.tolist(), flat.error.tolist()) == ([0], [0.5])
    assert flat.gain(0.3) == 0


def test_what_was_not_measured_is_discarded_first() -> None:
    curve = discard_curve(ERRORS, [np.nan, 2, np.nan, 4])
    assert (curve.fraction.tolist(), curve.error.tolist()) == ([0, 0.5, 0.75], [0.5, 0, 0])
    assert pair_quality([1, np.nan, 3], [2, 1, 1]).tolist() == pytest.approx([1, np.nan, 1], nan_ok=True)


def test_a_measure_that_knows_all_gains_one_and_its_opposite_loses() -> None:
    errors = np.arange(10_000) < 500
    know = np.arange(10_000.0)
    best, worst = discard_curve(errors, know), discard_curve(errors, -know)
    for limit in (0.02, 0.2, 0.3):
        assert best.gain(limit) == pytest.approx(1, abs=0.01)
        assert worst.gain(limit) < 0
    assert np.isnan(discard_curve([False, False], [1, 2]).gain(0.2))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=40))
def test_at_every_fraction_it_is_the_rate_of_what_is_left(pairs: list[tuple[bool, int]]) -> None:
    errors, quality = (np.array(part) for part in zip(*pairs, strict=True))
    curve = discard_curve(errors, quality)
    for fraction in (0.0, 0.1, 0.25, 0.5, 0.9):
        levels = [q for q in np.unique(quality) if (quality < q).mean() <= fraction + 1e-9]
        left = quality >= max(levels)
        assert curve.at(fraction) == pytest.approx(errors[left].mean())
        assert np.array_equal(kept(quality, fraction), left)
    # An order is all that counts, and chance cannot be beaten by more than the ideal allows.
    again = discard_curve(errors, np.exp(quality))
    assert np.array_equal(curve.error, again.error)
    assert curve.area(0.3) >= ideal_area(float(errors.mean()), 0.3) - 1e-12


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(1, 3)), min_size=1, max_size=15))
def test_weights_are_copies(rows: list[tuple[bool, int, int]]) -> None:
    errors, quality, weights = (np.array(part) for part in zip(*rows, strict=True))
    weighted = Discards.of(errors, quality).curve(weights.astype(float))
    copied = discard_curve(np.repeat(errors, weights), np.repeat(quality, weights))
    assert weighted.fraction == pytest.approx(copied.fraction)
    assert weighted.error == pytest.approx(copied.error)


def _made(knows: float, people: int = 120, each: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors, a quality that knows something of them, and persons."""
    rng = np.random.default_rng(3)
    persons = np.repeat(np.arange(people), each)
    hidden = rng.normal(size=people * each) + rng.normal(size=people)[persons]
    quality = knows * hidden + rng.normal(size=len(hidden))
    return hidden < -2.2, quality, persons


def test_intervals_tell_a_measure_that_knows_from_one_that_does_not() -> None:
    gains = {}
    for knows in (0.0, 2.0):
        found = discard_areas(*_made(knows), [0.2, 0.3], replicates=300)
        assert not isinstance(found, Insufficient)
        for one in found:
            assert one.area_interval.low < one.area < one.area_interval.high
            assert one.ideal < one.chance
            assert one.gain == pytest.approx((one.chance - one.area) / (one.chance - one.ideal))
        gains[knows] = found[0]
    assert gains[0.0].gain_interval.low < 0 < gains[0.0].gain_interval.high
    assert gains[2.0].gain_interval.low > 0.3
    assert isinstance(gains[2.0], DiscardArea) and gains[2.0].limit == 0.2


def test_the_same_seed_gives_the_same_interval() -> None:
    first, second = (discard_areas(*_made(1.0), [0.2], replicates=50) for _ in range(2))
    assert first == second


def test_errors_of_few_people_are_not_enough() -> None:
    errors, quality, persons = np.zeros(100, bool), np.arange(100.0), np.repeat(np.arange(20), 5)
    errors[:20] = True  # of the first four
    found = discard_areas(errors, quality, persons, [0.2])
    assert isinstance(found, Insufficient) and (found.have, found.need) == (4, 5)
    assert "insufficient data: errors of 4 people" in str(found)


@pytest.mark.parametrize(("errors", "quality"), [([], []), ([True], [1, 2])])
def test_what_does_not_fit_is_refused(errors: list[bool], quality: list[float]) -> None:
    with pytest.raises(ScoresError):
        discard_curve(errors, quality)


def test_a_limit_is_a_fraction() -> None:
    with pytest.raises(ScoresError, match="between 0 and 1"):
        discard_areas(*_made(0.0), [1.0])


def test_bins_by_hand() -> None:
    values = [0, 10, 15, 15, 29, 30, 45, np.nan]
    errors = [0, 1, 0, 1, 1, 0, 1, 1]
    found = rate_by_bin(errors, np.arange(8), values, [0, 15, 30, 45])
    assert [(one.rate.count, one.rate.trials) for one in found] == [(1, 2), (2, 3), (1, 2)]
    assert found[1].interval == clustered_rate([0, 1, 1], np.arange(3))
    # 5 of 8 in all: 3 / 0.625 = 4.8 trials would tell.
    assert [one.lacking and one.lacking.need for one in found] == [5, 5, 5]


def test_a_bin_with_enough_trials_has_a_rate_and_an_empty_one_has_none() -> None:
    errors, values = np.arange(100) % 10 == 0, np.repeat([1.0, 5.0], [60, 40])
    found = rate_by_bin(errors, np.arange(100), values, [0, 2, 4, 6])
    assert [one.lacking is None for one in found] == [True, False, True]
    assert (found[1].interval, str(found[1].lacking)) == (None, "insufficient data: no trials")


def test_edges_of_quantiles() -> None:
    assert quantile_edges(np.arange(101.0), 4).tolist() == [0, 25, 50, 75, 100]
    assert quantile_edges([1, 1, 1, 1, 2], 5).tolist() == [1, pytest.approx(1.2), 2]
    (edge, after) = quantile_edges([3, 3, np.nan])
    assert edge == 3 < after
    with pytest.raises(ScoresError):
        quantile_edges([np.nan])


@pytest.mark.parametrize("edges", [[1], [2, 1], [1, 1]])
def test_edges_ascend(edges: list[float]) -> None:
    with pytest.raises(ScoresError, match="ascend"):
        rate_by_bin([True], [0], [1.0], edges)


@pytest.mark.parametrize("errors", [[True] * 20, [True] * 5 + [False]])
def test_where_nothing_can_be_gained_there_is_no_gain(errors: list[bool]) -> None:
    count = len(errors)
    found = discard_areas(errors, np.arange(count), np.arange(count), [0.2], replicates=50)
    assert not isinstance(found, Insufficient)
    # Nor is there one of the draws in which all people who are drawn err.
    assert np.isnan(found[0].gain) == all(errors)
    assert found[0].chance == pytest.approx(np.mean(errors) * 0.2)


def test_infinite_values_lie_in_the_outer_bins() -> None:
    values = [-np.inf, 1.0, 2.0, 3.0, np.inf, np.nan]
    edges = quantile_edges(values, 2)
    assert edges.tolist() == [-np.inf, 2.0, np.inf]
    bins = rate_by_bin([True] * 6, np.arange(6), values, edges)
    assert [one.rate.trials for one in bins] == [2, 3]
    assert quantile_edges([np.inf, np.inf]).tolist() == [np.finfo(float).max, np.inf]


def test_of_more_than_a_million_comparisons_persons_are_drawn_fewer_times() -> None:
    assert [replicates_of(count) for count in (10, 1_000_000, 2_000_000, 10**9)] == [1000, 1000, 500, 200]

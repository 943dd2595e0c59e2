"""Distributions and their distance, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from frpipe.core.night_config import DriftStep
from frpipe.jobs.nightly.distribution import KEPT, NightSample, chance, distance
from frpipe.jobs.nightly.drift import compare

RNG = np.random.default_rng(3)
HOW = DriftStep(least_values=100)


@pytest.mark.parametrize(("n", "m", "shift"), [(50, 70, 0.0), (300, 200, 0.4), (1, 1, 1.0)])
def test_the_distance_is_that_of_scipy(n: int, m: int, shift: float) -> None:
    one, other = RNG.normal(size=n), RNG.normal(shift, size=m)
    assert distance(NightSample.of(one), NightSample.of(other)) == pytest.approx(
        stats.ks_2samp(one, other).statistic
    )


def test_the_distance_by_hand_with_ties() -> None:
    # Below 1: 1/2 and 0; below 2: 1 and 2/3.
    assert distance(NightSample.of([1, 2]), NightSample.of([2, 2, 3])) == pytest.approx(2 / 3 - 1 / 6)
    assert distance(NightSample.of([1, 2]), NightSample.of([1, 2, 2, 1])) == 0


def test_of_a_yes_or_no_the_distance_is_the_difference_of_the_shares() -> None:
    one, other = NightSample.of_share(30, 100), NightSample.of_share(40, 400)
    assert distance(one, other) == pytest.approx(0.2)
    assert (one.count, other.count) == (100, 400)


def test_thinning_moves_the_distance_by_less_than_a_thousandth() -> None:
    one, other = RNG.normal(size=30_000), RNG.normal(0.2, 1.1, size=9_000)
    thin = [NightSample.of(values) for values in (one, other)]
    assert [len(sample.values) for sample in thin] == [KEPT, KEPT]
    assert [sample.count for sample in thin] == [30_000, 9_000]
    assert distance(*thin) == pytest.approx(stats.ks_2samp(one, other).statistic, abs=0.001)


def test_nights_are_pooled_by_how_many_values_they_had() -> None:
    pooled = NightSample.pooled([NightSample.of(np.zeros(6000)), NightSample.of(np.ones(2000))])
    assert pooled.count == 8000
    assert pooled.summary()["mean"] == pytest.approx(0.25)


def test_equal_distributions_are_beyond_chance_about_once_in_a_thousand() -> None:
    trials = [(RNG.normal(size=300), RNG.normal(size=400)) for _ in range(500)]
    samples = [(NightSample.of(one), NightSample.of(other)) for one, other in trials]
    assert sum(distance(*pair) > chance(*pair) for pair in samples) <= 4
    assert chance(*samples[0]) == pytest.approx(1.9495 * np.sqrt(700 / 120_000))


def _verdict(tonight: NightSample, *nights: NightSample) -> object:
    return compare(tonight, [{"m": night} for night in nights], "m", HOW)["verdict"]


def test_verdicts() -> None:
    before = NightSample.of(RNG.normal(size=1000))
    assert _verdict(NightSample.of(RNG.normal(size=800)), before) == "steady"
    assert _verdict(NightSample.of(RNG.normal(1.0, size=800)), before) == "moved"
    assert _verdict(NightSample.of(RNG.normal(1.0, size=99)), before) == "insufficient data"
    assert _verdict(NightSample.of(RNG.normal(size=800))) == "insufficient data"
    assert _verdict(NightSample.of([]), before) == "insufficient data"


def test_a_small_distance_of_very_many_values_is_steady() -> None:
    many = [NightSample.of_share(10_000, 1_000_000), NightSample.of_share(14_000, 1_000_000)]
    assert distance(*many) > chance(*many)
    assert _verdict(*many) == "steady"


def test_insufficient_data_gives_no_distance_to_judge() -> None:
    found = compare(NightSample.of([0.1]), [], "m", HOW)
    assert found["distance"] is None
    assert found["tonight"]["count"] == 1

"""Presentation attack detection: values computed by hand, properties, and scikit-learn's DET curve."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import det_curve

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.presentation import (
    BpcerAtApcer,
    Presentations,
    bpcer_at_apcer,
    bpcer_interval,
    det,
    iapar,
    pad_rates,
)

# Prints are caught, replays are not.
BY_HAND = Presentations.of(
    [0.9, 0.8, 0.7, 0.4],
    {"replay": [0.85, 0.6, 0.5, 0.2], "print": [0.3, 0.1]},
    bona_fide_lost=1,
    attacks_lost={"print": 2},
)


def test_rates_by_hand() -> None:
    found = pad_rates(BY_HAND, 0.5)
    assert {name: (rate.count, rate.trials) for name, rate in found.apcer.items()} == {
        "print": (0, 2), "replay": (3, 4),
    }  # fmt: skip
    assert (found.bpcer.count, found.bpcer.trials) == (1, 4)
    assert (found.bpnrr.count, found.bpnrr.trials) == (1, 5)
    assert {name: (rate.count, rate.trials) for name, rate in found.apnrr.items()} == {
        "print": (2, 4), "replay": (0, 4),
    }  # fmt: skip
    assert found.worst == "replay"


def test_a_score_at_the_threshold_is_bona_fide() -> None:
    found = pad_rates(Presentations.of([0.5], {"print": [0.5]}), 0.5)
    assert (found.bpcer.count, found.apcer["print"].count) == (0, 1)


def test_the_worst_of_equals_is_the_first_by_name_and_of_none_nobody() -> None:
    equal = Presentations.of([1.0], {"b": [0.9], "a": [0.9]})
    assert pad_rates(equal, 0.5).worst == "a"
    silent = Presentations.of([1.0], {"a": []}, attacks_lost={"a": 3})
    rates = pad_rates(silent, 0.5)
    assert rates.worst is None and rates.apnrr["a"].value == 1


def test_the_worst_species_decides_a_fixed_apcer() -> None:
    bona_fide = np.linspace(0.41, 0.8, 40)
    attacks = {"print": np.linspace(0.0, 0.39, 40), "replay": np.linspace(0.1, 0.49, 40)}
    found = bpcer_at_apcer(Presentations.of(bona_fide, attacks), 0.1)
    assert isinstance(found, BpcerAtApcer)
    # 4 of 40 replays may pass: those of 0.46 to 0.49. The next score up is a bona fide one of the same value.
    assert found.threshold == pytest.approx(0.46) and found.species == "replay"
    assert (found.apcer.count, found.bpcer.count) == (4, 5)
    assert found.support == "rule of 3"


def test_few_attacks_of_one_species_are_insufficient() -> None:
    attacks = {"print": np.zeros(300), "mask": np.zeros(59)}
    given_them = Presentations.of(np.ones(10), attacks)
    found = bpcer_at_apcer(given_them, 0.05)
    assert isinstance(found, Insufficient)
    assert str(found) == "insufficient data: 59 attacks of mask, 0.05 needs 60"
    assert isinstance(bpcer_at_apcer(given_them, 0.1), BpcerAtApcer)
    assert isinstance(bpcer_at_apcer(Presentations.of([], attacks), 0.1), Insufficient)


@settings(deadline=None, max_examples=50)
@given(st.data(), st.sampled_from([0.1, 0.3, 1.0]))
def test_no_species_is_above_the_target_and_no_laxer_threshold_does(
    data: st.DataObject, target: float
) -> None:
    scores = st.lists(st.integers(0, 20), min_size=30, max_size=40)
    given_them = Presentations.of(data.draw(scores), {name: data.draw(scores) for name in ("a", "b")})
    found = bpcer_at_apcer(given_them, target)
    assert isinstance(found, BpcerAtApcer)

    def most(threshold: float) -> float:
        return max(rate.value or 0 for rate in pad_rates(given_them, threshold).apcer.values())

    assert most(found.threshold) <= target
    laxer = [s for s in np.arange(21.0) if s < found.threshold and most(s) <= target]
    assert all(pad_rates(given_them, s).bpcer == found.bpcer for s in laxer)


def test_the_curve_of_a_species_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    bona_fide, attack = rng.normal(1, 1, 200).round(1), rng.normal(0, 1, 150).round(1)
    labels = np.repeat([1, 0], [200, 150])
    fpr, fnr, thresholds = det_curve(labels, np.concatenate([bona_fide, attack]))
    ours = det(Presentations.of(bona_fide, {"print": attack}), "print")
    finite = np.isfinite(thresholds)
    place = [np.flatnonzero(ours[0] == threshold)[0] for threshold in thresholds[finite]]
    assert ours[1][place] == pytest.approx(fpr[finite])
    assert ours[2][place] == pytest.approx(fnr[finite])


def test_the_worst_curve_is_above_each() -> None:
    rng = np.random.default_rng(6)
    given_them = Presentations.of(rng.random(50), {name: rng.random(40) for name in "abc"})
    thresholds, apcer, bpcer = det(given_them)
    assert (np.diff(apcer) >= 0).all() and (np.diff(bpcer) <= 0).all()
    assert (apcer[0], bpcer[0], apcer[-1], bpcer[-1]) == (0, 1, 1, 0)
    for threshold, worst in zip(thresholds[1:], apcer[1:], strict=True):
        assert worst == max(rate.value or 0 for rate in pad_rates(given_them, threshold).apcer.values())
    with pytest.raises(ScoresError):
        det(Presentations.of([1.0], {}))


def test_the_interval_holds_the_rate_and_is_wider_with_fewer_people() -> None:
    rng = np.random.default_rng(7)
    mood = rng.normal(size=40)
    people = np.repeat(np.arange(40), 10)
    bona_fide = 2 + 2 * mood[people] + rng.normal(size=400)
    attacks = {"print": rng.normal(size=400)}
    given_them = Presentations.of(bona_fide, attacks)
    rate = bpcer_at_apcer(given_them, 0.05)
    assert isinstance(rate, BpcerAtApcer) and rate.bpcer.value is not None
    known = bpcer_interval(given_them, people, {"print": people}, 0.05, replicates=200)
    alone = bpcer_interval(given_them, np.arange(400), {"print": np.arange(400)}, 0.05, replicates=200)
    assert known.low < rate.bpcer.value < known.high
    assert known.high - known.low > 1.3 * (alone.high - alone.low)


def test_attacks_on_the_whole_system_by_hand() -> None:
    found = iapar([True, True, False, True], [0.9, 0.2, 0.9, np.nan], 0.5)
    assert (found.count, found.trials) == (1, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bona_fide": [np.nan], "attacks": {"a": [1.0]}},
        {"bona_fide": [1.0], "attacks": {"a": [np.inf]}},
        {"bona_fide": [1.0], "attacks": {"a": [1.0]}, "bona_fide_lost": -1},
        {"bona_fide": [1.0], "attacks": {"a": [1.0]}, "attacks_lost": {"b": 1}},
    ],
)
def test_what_is_no_presentation_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ScoresError):
        Presentations.of(**wrong)


def test_thresholds_are_numbers_and_targets_rates() -> None:
    for call in (
        lambda: pad_rates(BY_HAND, np.nan),
        lambda: bpcer_at_apcer(BY_HAND, 0.0),
        lambda: iapar([True], [0.5], np.nan),
        lambda: iapar([True], [0.5, 0.4], 0.5),
    ):
        with pytest.raises(ScoresError):
            call()

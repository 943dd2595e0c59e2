"""Thresholds chosen on other folds than they are scored on."""

from __future__ import annotations

import numpy as np
import pytest

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.folds import cross_validated
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Scores
from frpipe.metrics.verification import at_threshold, best_threshold


def test_each_fold_is_scored_at_the_threshold_of_the_others() -> None:
    rng = np.random.default_rng(0)
    mated, fold = np.tile([True, False], 30), np.repeat(np.arange(5), 12)
    score = np.where(mated, rng.normal(0.6, 0.2, 60), rng.normal(0.2, 0.2, 60))
    found = cross_validated(score, mated, fold)
    for number, rates in enumerate(found.folds):
        held = fold == number
        chosen = best_threshold(Scores.of(score[~held & mated], score[~held & ~mated])).threshold
        assert rates == at_threshold(Scores.of(score[held & mated], score[held & ~mated]), chosen)
    assert found.mean == pytest.approx(found.accuracies.mean())
    assert found.standard_error == pytest.approx(np.std(found.accuracies, ddof=1) / np.sqrt(5))


def test_a_threshold_chosen_on_the_fold_itself_would_look_better() -> None:
    rng = np.random.default_rng(1)
    mated, fold = np.tile([True, False], 100), np.repeat(np.arange(20), 10)
    score = rng.normal(0, 1, 200)
    own = [
        best_threshold(Scores.of(score[(fold == n) & mated], score[(fold == n) & ~mated])).accuracy
        for n in range(20)
    ]
    assert cross_validated(score, mated, fold).mean < 0.56
    assert np.mean([rate.count / rate.trials for rate in own]) > 0.6


def test_failed_comparisons_are_reported_both_ways() -> None:
    score = [0.9, 0.1, np.nan, 0.1, 0.9, np.nan]
    found = cross_validated(score, [True, False, True, False, True, False], list("aabbba"))
    assert [rates.accuracy for rates in found.folds] == [Rate(2, 2), Rate(2, 2)]
    assert [rates.accuracy_all for rates in found.folds] == [Rate(3, 3), Rate(2, 3)]


def test_distances_keep_their_direction() -> None:
    found = cross_validated([0.1, 0.9, 0.2, 0.8], [True, False] * 2, [0, 0, 1, 1], kind="distance")
    assert found.folds[0].threshold == 0.2
    assert found.folds[1].kind == "distance"


@pytest.mark.parametrize(
    ("score", "fold", "said"),
    [([0.9, 0.1], [0, 0], "1 folds"), ([0.9, 0.1, np.nan], [0, 0, 1], "no mated|fold")],
)
def test_folds_that_cannot_be_scored_are_refused(score: list[float], fold: list[int], said: str) -> None:
    with pytest.raises(ScoresError, match=said):
        cross_validated(score, [True, False, True][: len(score)], fold)

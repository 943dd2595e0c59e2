"""Rates of groups, side by side."""

from __future__ import annotations

import numpy as np
import pytest

from frpipe.metrics.cohorts import Ratio, by_label, cohort_rates
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Scores
from frpipe.metrics.verification import auc_exact


def _trials(**groups: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    errors = [np.arange(trials) < count for count, trials in groups.values()]
    return np.concatenate(errors), np.repeat(list(groups), [trials for _, trials in groups.values()])


def test_each_group_has_its_counts_and_its_ratio_to_the_largest() -> None:
    few, many = cohort_rates(*_trials(few=(20, 200), many=(50, 1000)))
    assert (few.label, few.rate, many.rate) == ("few", Rate(20, 200), Rate(50, 1000))
    assert isinstance(few.ratio, Ratio) and isinstance(many.ratio, Ratio)
    assert few.ratio.value == pytest.approx(2)
    # Katz by hand: exp(ln 2 -+ 1.96 sqrt(1/20 - 1/200 + 1/50 - 1/1000)).
    assert (few.ratio.interval.low, few.ratio.interval.high) == pytest.approx((1.2181, 3.2837), abs=1e-3)
    assert many.ratio.value == 1


def test_the_reference_may_be_named() -> None:
    few, many = cohort_rates(*_trials(few=(20, 200), many=(50, 1000)), reference="few")
    assert isinstance(many.ratio, Ratio) and many.ratio.value == pytest.approx(0.5)
    assert isinstance(few.ratio, Ratio) and few.ratio.value == 1


def test_a_ratio_of_next_to_no_errors_is_not_a_number() -> None:
    none, some = cohort_rates(*_trials(none=(0, 400), some=(50, 1000)))
    assert isinstance(none.ratio, Insufficient) and none.ratio.have == 0
    assert none.rate.interval().high < 0.01
    assert isinstance(some.ratio, Ratio)


def test_any_metric_by_label() -> None:
    labels, mated = np.repeat(["a", "b"], 4), np.tile([True, False], 4)
    score = np.array([0.9, 0.1, 0.8, 0.2, 0.1, 0.9, 0.2, 0.8])
    found = by_label(labels, lambda m: auc_exact(Scores.of(score[m & mated], score[m & ~mated])))
    assert found == {"a": 1.0, "b": 0.0}


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ScoresError, match="length"):
        cohort_rates([True], ["a", "b"])
    with pytest.raises(ScoresError, match="reference"):
        cohort_rates([True], ["a"], reference="c")

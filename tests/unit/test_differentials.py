"""How errors differ between groups: the measures by hand, the matrix, and what an evaluation says of both."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from frpipe.evaluation.differentials import differential_numbers
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.measures import BETWEEN, DIFFERENTIALS
from frpipe.evaluation.number import Number
from frpipe.evaluation.pairs import PairTrials
from frpipe.evaluation.plots.cohorts import cohorts
from frpipe.evaluation.plots.matrix import matrix_plots
from frpipe.evaluation.report.differentials import differentials_section
from frpipe.metrics.differentials import (
    GroupedRates,
    garbe,
    gini,
    grouped_rates,
    worst_over_best,
    worst_over_mean,
)
from frpipe.metrics.operating import Insufficient

THRESHOLD = 0.5


def test_the_measures_by_hand() -> None:
    """Of 1, 2 and 4 percent: geometric mean 2, so 2; 4 over 1; differences 1, 2 and 3 percent, twice each."""
    rates = [0.01, 0.02, 0.04]
    assert worst_over_mean(rates) == pytest.approx(2)
    assert worst_over_best(rates) == pytest.approx(4)
    assert gini(rates) == pytest.approx(2 * 0.06 / (2 * 9 * (0.07 / 3)) * 3 / 2)
    assert garbe(rates, [0.1, 0.1, 0.1]) == pytest.approx(gini(rates) / 2)


def test_equal_rates_do_not_differ_and_one_that_has_all_errors_differs_most() -> None:
    assert (worst_over_mean([0.2] * 4), worst_over_best([0.2] * 4), gini([0.2] * 4)) == pytest.approx(
        (1, 1, 0)
    )
    assert gini([0.0, 0.0, 0.3]) == pytest.approx(1)
    assert math.isnan(worst_over_mean([0.0, 0.1])) and math.isnan(gini([0.0, 0.0]))


def test_cells_have_their_counts_and_people_are_drawn_once_for_all() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 50, 900), rng.integers(0, 50, 900)
    cell = np.repeat([0, 0, 1], 300)
    wrong = rng.random(900) < np.where(cell == 0, 0.1, 0.3)
    found = grouped_rates(wrong, cell, 3, (a, b))
    assert [(rate.count, rate.trials) for rate in found.rates] == [
        (wrong[:600].sum(), 600), (wrong[600:].sum(), 300), (0, 0),
    ]  # fmt: skip
    # The same comparisons twice are drawn alike.
    twice = grouped_rates(
        np.tile(wrong[:600], 2), np.repeat([0, 1], 600), 2, (np.tile(a[:600], 2), np.tile(b[:600], 2))
    )
    assert (twice.drawn[:, 0] == twice.drawn[:, 1]).all()
    assert twice.differential("gini") == pytest.approx((0.0, twice.differential("gini")[1]))  # type: ignore[index]


def test_few_errors_are_no_basis() -> None:
    rng = np.random.default_rng(1)
    a = rng.integers(0, 30, 400)
    wrong = np.arange(400) < 4
    found = grouped_rates(wrong, np.repeat([0, 1], 200), 2, (a, a))
    assert isinstance(found.differential("gini"), Insufficient)
    assert isinstance(found.some([0]).differential("gini"), Insufficient)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Two groups, the worse of twice the rate: of 40 samples at most 6 intervals may miss."""
    missed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        a = rng.integers(0, 300, 4000)
        cell = a % 2
        wrong = rng.random(4000) < np.where(cell, 0.2, 0.1)
        found = grouped_rates(wrong, cell, 2, (a, a), seed)
        small = GroupedRates(found.rates, found.drawn[:300])
        value = small.differential("worst_over_best")
        assert not isinstance(value, Insufficient)
        missed += not value[1].low <= 2 <= value[1].high
    assert missed <= 6


def _trials(seed: int = 0, count: int = 6000) -> PairTrials:
    """People of two groups; pairs within `red` are more alike; mated pairs of `blue` less."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 200, count)
    mated = np.arange(count) < count // 3
    b = np.where(mated, a, (a + rng.integers(1, 200, count)) % 200)
    group = np.where(np.arange(200) % 2, "red", "blue").astype(object)
    same = (group[a] == group[b]) & (group[a] == "red")
    mean = np.where(mated, np.where(group[a] == "blue", 0.7, 0.9), np.where(same, 0.3, 0.2))
    score = rng.normal(mean, 0.15)
    names = [np.array([f"{side}{n}" for n in range(count)], object) for side in "ab"]
    nobody = np.zeros(count, bool)
    shared = np.where(group[a] == group[b], group[a], "")
    return PairTrials(
        *names, mated, score, nobody, nobody, a, b, groups={"colour": shared},
        sides={"colour": (group[a], group[b])},
    )  # fmt: skip


@pytest.fixture(scope="module")
def numbers() -> list[Number]:
    return list(differential_numbers(_trials(), THRESHOLD))


def test_the_matrix_holds_each_two_groups_once_and_each_pair_once(numbers: list[Number]) -> None:
    trials = _trials()
    cells = {number.group: number for number in numbers if number.measure == BETWEEN}
    assert set(cells) == {"blue / blue", "blue / red", "red / red"}
    a, b = trials.sides["colour"]
    for name, cell in cells.items():
        one, two = str(name).split(" / ")
        own = ~trials.mated & (((a == one) & (b == two)) | ((a == two) & (b == one)))
        assert (cell.count, cell.trials) == (
            int((own & (trials.similarity >= THRESHOLD)).sum()),
            int(own.sum()),
        )
        assert cell.low is not None and cell.low <= cell.value <= cell.high  # type: ignore[operator]
    assert cells["red / red"].value > 1.5 * cells["blue / blue"].value  # type: ignore[operator]


def test_the_differentials_are_of_pairs_within_a_group(numbers: list[Number]) -> None:
    cells = {number.group: number.value for number in numbers if number.measure == BETWEEN}
    found = {number.measure: number for number in numbers if number.measure in DIFFERENTIALS}
    assert set(found) == set(DIFFERENTIALS)
    ratio = found["FMR_worst_over_best"]
    assert ratio.value == pytest.approx(cells["red / red"] / cells["blue / blue"])  # type: ignore[operator]
    assert ratio.low < ratio.value < ratio.high  # type: ignore[operator]
    both = found["FMR_gini"].value, found["FNMR_gini"].value
    assert found["GARBE"].value == pytest.approx(sum(both) / 2)  # type: ignore[arg-type]


def test_they_have_a_picture_and_a_table_and_are_no_groups(numbers: list[Number]) -> None:
    evaluation = Evaluation("x", "verification", {}, numbers, {}, {})
    (plot,) = matrix_plots([evaluation])
    assert len(plot.rows) == 3 and "colour" in plot.title
    assert plot.svg() == replace(plot).svg() and "<image" not in plot.svg()
    assert "GARBE" in differentials_section([evaluation])
    assert cohorts([evaluation]) == []


def test_one_group_or_unknown_sides_give_nothing() -> None:
    trials = _trials()
    a, _ = trials.sides["colour"]
    for sides in ((a, a), (np.full(len(a), "", object),) * 2):
        only = PairTrials(
            trials.a, trials.b, trials.mated, trials.similarity, trials.lost_a, trials.lost_b,
            trials.person_a, trials.person_b, sides={"x": (np.full(len(a), sides[0][0], object),) * 2},
        )  # fmt: skip
        assert list(differential_numbers(only, THRESHOLD)) == []

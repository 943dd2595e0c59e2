"""Measures of quality in evaluations: error versus discard, and errors by bin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_evaluation_identification import lecture
from test_evaluation_verification import trials

from frpipe.core.errors import ConfigError
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.identification import IdentificationQuestion
from frpipe.evaluation.number import Number
from frpipe.evaluation.pairs import PairTrials
from frpipe.evaluation.plots.figures import figures
from frpipe.evaluation.quality import COLUMN, QualityMeasure
from frpipe.evaluation.report.page import page
from frpipe.evaluation.verification import VerificationQuestion
from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.discard import discard_curve

GOOD, RANDOM, ANGLE = QualityMeasure("good"), QualityMeasure("random"), QualityMeasure.parse("yaw_deg")


def measured(pairs: int = 4000) -> PairTrials:
    """Pairs with a measure that knows something of the score, one that does not, and an angle."""
    given, rng = trials(pairs, gap=0.25), np.random.default_rng(4)
    hidden = given.similarity + rng.normal(0, 0.05, pairs)
    quality = {
        "good": hidden,
        "random": rng.normal(size=pairs),
        "yaw_deg": ANGLE.quality(np.where(hidden < np.median(hidden), 50.0, -5.0)),
    }
    return replace(given, quality=quality)


def answer(given: PairTrials, *measures: QualityMeasure, **asked: Any) -> Evaluation:
    asked = {"targets": (0.1, 0.01), "thresholds": (0.2,)} | asked
    return VerificationQuestion(quality=measures, **asked).answer("x", given, {})


@pytest.fixture(scope="module")
def found() -> Evaluation:
    return answer(measured(), GOOD, RANDOM, ANGLE)


def number(found: Evaluation, measure: str, group: str, at: float) -> Number:
    return next(n for n in found.numbers if (n.measure, n.group, n.at) == (measure, group, at))


class TestMeasure:
    @pytest.mark.parametrize(
        ("text", "better"),
        [("sharpness", "high"), ("noise:low", "low"), ("pose_yaw_deg", "zero"), ("tilt:zero", "zero"),
         ("pose_yaw_deg:high", "high")],
    )  # fmt: skip
    def test_which_values_are_better(self, text: str, better: str) -> None:
        assert QualityMeasure.parse(text).better == better

    @pytest.mark.parametrize("text", ["", ":low", "sharpness:up"])
    def test_what_names_none_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match="names no measure"):
            QualityMeasure.parse(text)

    def test_quality_is_higher_where_values_are_better(self) -> None:
        values = np.array([-30.0, 0.0, 10.0])
        assert QualityMeasure("x").quality(values).tolist() == [-30, 0, 10]
        assert QualityMeasure("x", "low").quality(values).tolist() == [30, 0, -10]
        assert ANGLE.quality(values).tolist() == [-30, 0, -10]
        assert ANGLE.values(ANGLE.quality(values)).tolist() == [30, 0, 10]


class TestVerification:
    def test_the_threshold_is_of_the_strictest_target_that_all_trials_carry(self, found: Evaluation) -> None:
        threshold = found.number("TAR", 0.01).threshold  # type: ignore[union-attr]
        bins = [n for n in found.numbers if n.column == "yaw_deg"]
        assert {n.at for n in bins} == {threshold}
        assert any("at FMR ≤ 0.01 of all trials" in words for words in found.warnings)

    def test_what_is_left_is_the_rate_of_what_is_left(self, found: Evaluation) -> None:
        given, threshold = measured(), found.number("TAR", 0.01).threshold  # type: ignore[union-attr]
        wrong = given.similarity[given.mated] < threshold
        quality = given.quality["good"][given.mated]
        left = number(found, "FNMR_discard", "good", 0.2)
        rest = np.argsort(quality)[int(0.2 * len(quality)) :]
        assert left.value == pytest.approx(wrong[rest].mean())
        people = given.person_a[given.mated]
        assert left.high == pytest.approx(clustered_rate(wrong[rest], people[rest]).high)
        area = number(found, "EDC_pAUC", "good", 0.3)
        assert area.value == pytest.approx(discard_curve(wrong, quality).area(0.3))

    def test_a_measure_that_helps_is_told_from_one_that_does_not(self, found: Evaluation) -> None:
        good, random = (number(found, "EDC_gain", name, 0.2) for name in ("good", "random"))
        assert good.low is not None and good.low > 0.2
        assert random.low is not None and random.low < 0 < (random.high or 0)

    def test_bins_are_of_the_worse_side_in_the_unit_of_the_column(self, found: Evaluation) -> None:
        bins = {n.group: n for n in found.numbers if n.column == "yaw_deg"}
        assert next(iter(bins)) == "1: 0 to 10" and bins["1: 0 to 10"].trials
        assert bins["5: 45 to 60"].trials
        assert bins["1: 0 to 10"].trials + bins["5: 45 to 60"].trials == 2000  # type: ignore[operator]
        assert "no trials" in str(bins["7: 90 to 180"].note)
        assert len([n for n in found.numbers if n.column == "good"]) == 5

    def test_few_errors_are_said_to_be_few(self) -> None:
        given = replace(measured(), similarity=trials(4000, gap=2.0).similarity)
        easy = answer(given, GOOD)
        gain = number(easy, "EDC_gain", "good", 0.2)
        assert gain.value is None and "insufficient data" in str(gain.note)

    def test_mated_pairs_alone_are_judged_at_the_runs_threshold(self) -> None:
        given = measured()
        alone = answer(given.some(given.mated), GOOD)
        assert number(alone, "EDC_gain", "good", 0.2).value is not None
        assert any("at the run's similarity 0.2" in words for words in alone.warnings)

    def test_what_was_not_measured_is_counted(self) -> None:
        given = measured()
        lacking = np.where(np.arange(4000) < 7, np.nan, given.quality["good"])
        said = answer(replace(given, quality={"good": lacking}), GOOD).warnings
        assert "7 mated trials have no good: discarded first, and in no bin" in said

    def test_nothing_is_judged_unasked(self) -> None:
        plain = answer(measured())
        assert not any(n.column == COLUMN for n in plain.numbers)
        assert not any(name.startswith("edc") for name in plain.curves)

    def test_a_plot_a_line_a_measure_and_the_page_holds_it(self, found: Evaluation) -> None:
        plots = figures([found])
        (plot,) = (plot for plot in plots if plot.name == "discard-1")
        assert [row[0] for row in plot.rows] == ["good", "random", "yaw_deg"]
        assert plot.columns == ("measure", "5% discarded", "10% discarded", "20% discarded", "30% discarded")
        html = page([found], [], plots, title="t", created="now")
        assert "EDC_gain at 20% discarded" in html and "Groups by quality measure" in html


def test_searches_have_the_quality_of_their_probe() -> None:
    given = lecture()
    quality = {"good": np.arange(10.0)}
    question = IdentificationQuestion(thresholds=(0.6,), targets=(0.1,), quality=(GOOD,))
    found = question.answer("x", replace(given, quality=quality), {})
    bins = [n for n in found.numbers if n.column == "good"]
    assert {n.measure for n in bins} == {"FNIR"}
    # The first five are mated: C is taken for D, D scores too little.
    assert [(n.count, n.trials) for n in bins] == [(0, 1), (0, 1), (1, 1), (1, 1), (0, 1)]
    assert any(plot.name == "discard-1" for plot in figures([found]))


def test_a_subset_keeps_its_qualities() -> None:
    some = measured().some(np.arange(3))
    assert [len(values) for values in some.quality.values()] == [3, 3, 3]


def test_where_every_mated_pair_is_an_error_there_is_nothing_to_gain() -> None:
    found = answer(measured(400), GOOD, targets=(), thresholds=(5.0,))
    gain = number(found, "EDC_gain", "good", 0.2)
    assert gain.value is None and "nothing to gain" in gain.note
    assert number(found, "FNMR_discard", "good", 0.2).value == 1

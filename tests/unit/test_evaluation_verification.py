"""Evaluations of comparisons: what an auditor reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.stats import binom

from frpipe.evaluation.cards import Strangers, threshold_card
from frpipe.evaluation.compare import differences, judged
from frpipe.evaluation.number import Number
from frpipe.evaluation.pairs import PairTrials
from frpipe.evaluation.verification import VerificationQuestion
from frpipe.metrics.bootstrap import draws
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.verification import best_threshold

PROVENANCE = {"embedder_hash": "e" * 64, "preprocessing_hash": "f" * 64}


def trials(pairs: int = 400, gap: float = 0.5, seed: int = 0, people: int = 60) -> PairTrials:
    """Half mated; `gap` between the mean scores, whose spread is 0.1."""
    rng = np.random.default_rng(seed)
    mated = np.arange(pairs) < pairs // 2
    a = rng.integers(0, people, pairs)
    b = np.where(mated, a, (a + rng.integers(1, people, pairs)) % people)
    names = [
        np.array([f"{side}{n}/{k}" for k, n in enumerate(who)], object) for side, who in (("p", a), ("p", b))
    ]
    nobody = np.zeros(pairs, bool)
    return PairTrials(names[0], names[1], mated, rng.normal(mated * gap, 0.1), nobody, nobody, a, b)


def lost(given: PairTrials, rows: list[int]) -> PairTrials:
    missing = np.isin(np.arange(len(given)), rows)
    return replace(given, similarity=np.where(missing, np.nan, given.similarity), lost_b=missing)


def answer(given: PairTrials, **asked: object):  # type: ignore[no-untyped-def]
    return VerificationQuestion(**asked).answer("x", given, PROVENANCE)  # type: ignore[arg-type]


def test_every_rate_has_its_counts_and_an_interval_around_it() -> None:
    found = answer(trials(), thresholds=(0.25,))
    rates = [n for n in found.numbers if n.trials]
    assert {n.measure for n in rates} >= {"FMR", "FNMR", "FAR", "FRR", "accuracy", "TAR", "FTA", "FTE"}
    for n in rates:
        assert n.value == n.count / n.trials  # type: ignore[operator]
        assert n.low <= n.value <= n.high  # type: ignore[operator]


def test_a_failed_comparison_counts_in_far_and_frr_and_not_in_fmr_and_fnmr() -> None:
    whole = trials()
    found = answer(lost(whole, [0, 1, 399]), thresholds=(-1.0,))
    counted = {n.measure: (n.count, n.trials) for n in found.numbers if n.at == -1.0}
    # At this threshold everything that was completed is accepted.
    assert counted["FNMR"] == (0, 198)
    assert counted["FRR"] == (2, 200)
    assert counted["FMR"] == (199, 199)
    assert counted["FAR"] == (199, 200)
    assert counted["accuracy_all"] == (199, 400)
    assert found.number("FTA").count == 3  # type: ignore[union-attr]
    assert found.number("FTE").count == 0  # type: ignore[union-attr]
    assert found.counts["mated_lost"], found.counts["nonmated_lost"] == (2, 1)


def test_a_target_beyond_the_trials_is_no_number() -> None:
    found = answer(trials(), targets=(0.1, 1e-6))
    beyond, within = found.number("TAR", 1e-6), found.number("TAR", 0.1)
    assert beyond is not None and beyond.value is None and "insufficient data" in str(beyond.note)
    assert within is not None and within.value is not None and within.support == "rule of 3"


def test_shared_people_make_intervals_wider() -> None:
    rng = np.random.default_rng(5)
    given = trials(2000, people=12)
    # What is peculiar to a person moves all of their scores.
    moved = given.similarity + rng.normal(0, 0.1, 12)[given.person_a]
    few = replace(given, similarity=moved)
    apart = np.arange(2000)
    many = replace(few, person_a=apart, person_b=np.where(few.mated, apart, apart + 5000))
    narrow, wide = (answer(one, thresholds=(0.25,)).number("FNMR", 0.25) for one in (many, few))
    assert wide.value == narrow.value  # type: ignore[union-attr]
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)  # type: ignore[union-attr,operator]


class TestFolds:
    def test_the_mean_is_over_folds_and_says_its_standard_error(self) -> None:
        given = trials()
        folds = np.array([f"{row % 10}" for row in range(len(given))], object)
        found = answer(replace(given, fold=folds))
        number = found.number("folds_accuracy")
        assert number is not None and number.value == pytest.approx(0.99, abs=0.02)
        assert "standard error" in str(number.note) and "10 folds" in str(number.method)
        assert found.number("folds_youden") is not None

    def test_failures_lower_the_accuracy_with_failures_alone(self) -> None:
        given = trials()
        folds = np.array([f"{row % 4}" for row in range(len(given))], object)
        found = answer(replace(lost(given, [0, 1, 2, 3]), fold=folds))
        completed, every = (found.number(f"folds_accuracy{name}") for name in ("", "_all"))
        # Each fold lost one of its hundred comparisons, a mated one.
        assert every.value == pytest.approx(completed.value * 99 / 100)  # type: ignore[union-attr,operator]

    def test_training_pairs_choose_a_threshold_and_are_not_scored(self) -> None:
        train, test = trials(seed=1), trials(100, seed=2)
        found = answer(test, training=train)
        chosen = best_threshold(train.scores()).threshold
        number = found.number("accuracy", chosen)
        assert number is not None and number.trials == 100 and "training" in str(number.note)

    def test_other_pairs_may_choose_the_thresholds(self) -> None:
        given, chooser = trials(seed=1), trials(seed=2)
        folds = np.array([f"{row % 2}" for row in range(len(given))], object)
        own, other = replace(given, fold=folds), replace(chooser, fold=folds)
        # Thresholds from pairs that are all far more alike accept nothing here.
        far = replace(other, similarity=other.similarity + 5)
        assert answer(own, chosen_on=far).number("folds_accuracy").value == 0.5  # type: ignore[union-attr]
        assert answer(own, chosen_on=other).number("folds_accuracy").value > 0.9  # type: ignore[union-attr]

    def test_pairs_without_a_fold_are_of_none(self) -> None:
        given = trials()
        folds = np.array([f"{row % 4}" for row in range(len(given))], object)
        some = np.arange(len(given)) % 2 == 0
        found = answer(replace(given, fold=np.where(some, folds, "")))
        assert "2 folds" in str(found.number("folds_accuracy").method)  # type: ignore[union-attr]

    def test_folds_that_carry_no_accuracy_do_not_end_the_evaluation(self) -> None:
        given = trials()
        found = answer(
            replace(given, fold=np.where(given.mated, "x", "y").astype(object)), thresholds=(0.25,)
        )
        number = found.number("folds_accuracy")
        assert number is not None and number.value is None and number.note
        assert found.number("FMR", 0.25).value is not None  # type: ignore[union-attr]

    @pytest.mark.parametrize("folds", [None, "other"])
    def test_thresholds_are_not_taken_from_where_they_were_not_asked_from(self, folds: str | None) -> None:
        given = trials()
        own = replace(given, fold=np.array([f"{row % 2}" for row in range(len(given))], object))
        chooser = replace(given, fold=None if folds is None else own.fold + folds)  # type: ignore[operator]
        with pytest.raises(ScoresError):
            answer(own, chosen_on=chooser)


def test_scores_that_do_not_overlap_are_not_called_certain() -> None:
    found = answer(trials(gap=3))
    area, tar = found.number("AUC_exact"), found.number("TAR", 0.1)
    assert area.value == 1 and area.low is None and "no interval" in str(area.note)  # type: ignore[union-attr]
    assert tar.value == 1 and tar.low < 0.97  # type: ignore[union-attr,operator]


def test_photos_taken_for_people_do_not_fill_the_memory() -> None:
    assert next(draws(1_000_000)).nbytes <= 32_000_000


class TestGroups:
    def grouped(self) -> PairTrials:
        given = trials(2000, gap=0.2)
        labels = np.array([("day", "night", "")[row % 3] for row in range(len(given))], object)
        # At night mates look less alike.
        night = (labels == "night") & given.mated
        return replace(given, similarity=given.similarity - 0.1 * night, groups={"light": labels})

    def numbers(self) -> dict[tuple[str, str | None], Number]:
        found = answer(self.grouped(), thresholds=(0.1,))
        return {(n.measure, n.group): n for n in found.numbers if n.column == "light"}

    def test_each_label_has_its_rates_and_no_label_none(self) -> None:
        numbers = self.numbers()
        assert {group for _, group in numbers} == {"day", "night"}
        assert numbers["FNMR", "night"].value > numbers["FNMR", "day"].value  # type: ignore[operator]

    def test_ratios_are_over_the_largest_group(self) -> None:
        numbers = self.numbers()
        ratio = numbers["FNMR_ratio", "night"]
        expected = numbers["FNMR", "night"].value / numbers["FNMR", "day"].value  # type: ignore[operator]
        assert ratio.value == pytest.approx(expected)
        assert ratio.low < ratio.value < ratio.high and ("FNMR_ratio", "day") not in numbers  # type: ignore[operator]

    def test_a_group_of_one_kind_has_no_curve_and_says_so(self) -> None:
        given = trials()
        labels = np.where(given.mated, "only mated", "").astype(object)
        found = answer(replace(given, groups={"c": labels}), thresholds=(0.1,))
        (auc,) = (n for n in found.numbers if n.group == "only mated" and n.measure == "AUC_exact")
        assert auc.value is None and auc.note


class TestComparison:
    def of(self, first: PairTrials, second: PairTrials):  # type: ignore[no-untyped-def]
        estimates = VerificationQuestion(targets=(0.1, 1e-9)).estimates()
        return judged(list(differences(("a", first.sample()), ("b", second.sample()), estimates)))

    def test_a_system_does_not_differ_from_itself(self) -> None:
        given = trials()
        for one in self.of(given, given):
            assert one.value in (0.0, None) and not one.significant

    def test_a_clearly_better_system_is_found(self) -> None:
        given = trials(gap=0.15)
        noise = np.random.default_rng(9).normal(0, 0.02, len(given))
        better = replace(given, similarity=given.similarity + 0.15 * given.mated + noise)
        (auc,) = (one for one in self.of(given, better) if one.measure == "AUC_exact")
        assert auc.value > 0 and auc.low > 0 and auc.significant and auc.p < 0.01

    def test_a_target_beyond_the_trials_is_not_compared(self) -> None:
        given = trials()
        (beyond,) = (one for one in self.of(given, given) if one.at == 1e-9)
        assert beyond.value is None and beyond.note == "insufficient data"

    def test_however_many_are_compared_one_may_be_significant(self) -> None:
        given, better = trials(gap=0.15), trials(gap=0.6)
        same = replace(better, a=given.a, b=given.b, person_a=given.person_a, person_b=given.person_b)
        estimates = VerificationQuestion(targets=()).estimates()
        found = differences(("a", given.sample()), ("b", same.sample()), estimates, compared=60)
        assert all(one.p <= 0.05 / 60 for one in found)  # type: ignore[operator]

    def test_one_person_shows_no_difference(self) -> None:
        given = trials()
        alone = replace(given, person_a=given.person_a * 0, person_b=given.person_b * 0)
        better = replace(alone, similarity=alone.similarity + 0.1 * alone.mated)
        assert all(one.value is None and not one.significant for one in self.of(alone, better))

    def test_many_comparisons_ask_for_more(self) -> None:
        one = self.of(trials(), trials())[0]
        many = [replace(one, p=0.01)] + [replace(one, p=0.9)] * 9
        assert judged([replace(one, p=0.01)])[0].significant
        assert not judged(many)[0].significant


class TestThresholdCard:
    CREATED = datetime(2026, 1, 1, tzinfo=UTC)

    def card(self, given: PairTrials, target: float, shared: bool = False):  # type: ignore[no-untyped-def]
        # Each comparison of two people of its own, but where a test says otherwise.
        if not shared:
            given = replace(
                given, person_a=np.arange(len(given)), person_b=np.arange(len(given)) + len(given)
            )
        evaluation = answer(given)
        return threshold_card(evaluation, Strangers.of(given), target, self.CREATED)

    def test_its_rate_is_below_the_target_with_confidence(self) -> None:
        given = trials(4000)
        card = self.card(given, 0.05)
        accepted = np.count_nonzero(given.similarity[~given.mated] >= card.similarity)
        # So few errors would be rare, in 2,000 trials, if the rate were the target; one more would not.
        assert binom.cdf(accepted, 2000, 0.05) <= 0.05 < binom.cdf(accepted + 1, 2000, 0.05)
        assert card.trials == 2000 and card.target.rate == "FMR" and card.embedder_hash == "e" * 64

    def test_it_is_never_extrapolated(self) -> None:
        with pytest.raises(ScoresError, match="2,995 independent ones are needed"):
            self.card(trials(), 0.001)

    def test_equal_scores_at_the_top_leave_none(self) -> None:
        given = trials(4000)
        flat = replace(given, similarity=np.where(given.mated, given.similarity, 1.0))
        with pytest.raises(ScoresError, match="highest score"):
            self.card(flat, 0.05)

    def test_trials_that_share_people_make_a_stricter_threshold(self) -> None:
        given = trials(20_000, people=40)
        # One person in ten looks like many others.
        wolf = np.isin(given.person_a, [0, 1, 2, 3]) & ~given.mated
        given = replace(given, similarity=given.similarity + 0.2 * wolf)
        alone, together = self.card(given, 0.05), self.card(given, 0.05, shared=True)
        assert together.similarity > alone.similarity
        assert "share no person" in alone.source and "worth" in together.source
        assert alone.trials == together.trials == 10_000

    def test_comparisons_of_two_people_are_worth_one_trial(self) -> None:
        given = trials(4000)
        one = replace(given, person_b=np.zeros(4000, int), person_a=np.ones(4000, int))
        with pytest.raises(ScoresError, match="worth 1 independent"):
            self.card(one, 0.05, shared=True)

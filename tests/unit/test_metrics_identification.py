"""One-to-many metrics against slow, obvious ones, and the mistakes that other tools make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.identification import at_threshold, cmc, fnir_at_fpir, roc
from frpipe.metrics.operating import AtTarget, Insufficient
from frpipe.metrics.rate import Rate
from frpipe.metrics.searches import Searches, searches_of

GALLERY = ["A", "B", "C", "D"]


@dataclass
class Case:
    """lists: of each probe (subject, score) in any order; failed probes have none."""

    truth: list[str]
    lists: list[dict[str, float]]
    failed: list[int]
    blank: list[str]

    def searches(self) -> Searches:
        rows = [(p, s, v) for p, some in enumerate(self.lists) for s, v in some.items()]
        probe, subject, score = zip(*rows, strict=True) if rows else ((), np.zeros(0, str), ())
        enrolled = [name for name in GALLERY if name not in self.blank]
        return searches_of(
            probe, subject, score, self.truth, enrolled, failed=self.failed, not_enrolled=self.blank
        )

    def done(self) -> list[tuple[str, list[tuple[str, float]]]]:
        """Truth and ranked list of each completed search."""
        ranked = [sorted(some.items(), key=lambda item: (-item[1], item[0])) for some in self.lists]
        return [
            (truth, some)
            for probe, (truth, some) in enumerate(zip(self.truth, ranked, strict=True))
            if probe not in self.failed and truth not in self.blank
        ]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    truth = draw(st.lists(st.sampled_from([*GALLERY, "x", "y"]), min_size=1, max_size=10))
    blank = draw(st.sampled_from([[], ["B"], ["A", "D"]]))
    failed = sorted(draw(st.sets(st.integers(0, len(truth) - 1))))
    value = st.integers(-2, 2).map(lambda n: n / 2)
    names = [name for name in GALLERY if name not in blank]
    lists = [
        {} if probe in failed else draw(st.dictionaries(st.sampled_from(names), value))
        for probe in range(len(truth))
    ]
    return Case(truth, lists, failed, blank)


def _hit(truth: str, ranked: list[tuple[str, float]], rank: int, threshold: float) -> bool:
    return any(name == truth and score >= threshold for name, score in ranked[:rank])


@settings(deadline=None)
@given(cases(), st.sampled_from([-1.0, -0.2, 0.0, 0.5, 1.0]), st.integers(1, 4))
def test_rates_at_a_threshold_and_a_rank(case: Case, threshold: float, rank: int) -> None:
    found = at_threshold(case.searches(), threshold, rank)
    mated = [(truth, some) for truth, some in case.done() if truth in GALLERY]
    strangers = [some for truth, some in case.done() if truth not in GALLERY]
    misses = sum(not _hit(truth, some, rank, threshold) for truth, some in mated)
    alarms = sum(bool(some) and some[0][1] >= threshold for some in strangers)
    wrong = sum(bool(some) and some[0][0] != truth and some[0][1] >= threshold for truth, some in mated)
    lost = sum(truth in GALLERY for truth in case.truth) - len(mated)
    silent = sum(truth not in GALLERY for truth in case.truth) - len(strangers)
    assert (found.fnir, found.fpir) == (Rate(misses, len(mated)), Rate(alarms, len(strangers)))
    assert found.fnir_all == Rate(misses + lost, len(mated) + lost)
    assert found.fpir_all == Rate(alarms, len(strangers) + silent)
    assert found.named_wrong == Rate(wrong, len(mated))
    assert found.gallery == 4
    if strangers:
        assert found.selectivity is not None
        above = sum(score >= threshold for some in strangers for _, score in some)
        assert found.selectivity.mean == pytest.approx(above / len(strangers))


@settings(deadline=None)
@given(cases(), st.booleans())
def test_the_curve_is_the_rates_at_every_threshold(case: Case, failures: bool) -> None:
    searches = case.searches()
    rates = at_threshold(searches, 0.0)
    if not (rates.fnir.trials and rates.fpir.trials):
        return
    curve = roc(searches, failures=failures)
    for threshold, fpir, fnir in zip(curve.threshold, curve.fmr, curve.fnmr, strict=True):
        at = at_threshold(searches, threshold)
        expected = (at.fpir_all, at.fnir_all) if failures else (at.fpir, at.fnir)
        assert (fpir, fnir) == (expected[0].value, expected[1].value)


@settings(deadline=None)
@given(cases())
def test_the_exact_area_is_the_share_of_pairs_where_the_mate_wins(case: Case) -> None:
    mated = [
        some[0][1] if some and some[0][0] == truth else None
        for truth, some in case.done()
        if truth in GALLERY
    ]
    strangers = [some[0][1] if some else -np.inf for truth, some in case.done() if truth not in GALLERY]
    if not mated or not strangers:
        return
    won = sum((a > b) + (a == b) / 2 for a in mated if a is not None for b in strangers)
    assert roc(case.searches()).auc() == pytest.approx(won / len(mated) / len(strangers))


@settings(deadline=None)
@given(cases())
def test_the_cumulative_match_curve(case: Case) -> None:
    mated = [(truth, some) for truth, some in case.done() if truth in GALLERY]
    hits = [sum(_hit(truth, some, k, -np.inf) for truth, some in mated) for k in (1, 2, 3, 4)]
    assert cmc(case.searches(), 4) == [Rate(count, len(mated)) for count in hits]


def test_an_alarm_is_a_search_and_not_a_pair() -> None:
    strangers = np.tile([0.6, 0.5, 0.1, 0.1, 0.1], (10, 1))
    found = at_threshold(Searches.of([1], [0.9], strangers, gallery=1000), 0.5)
    assert found.fpir.value == 1.0
    assert (strangers >= 0.5).mean() == 0.4
    assert found.selectivity is not None and found.selectivity.mean == 2


def test_a_mate_at_rank_two_is_no_hit_at_rank_one() -> None:
    searches = Searches.of([1, 2], [0.9, 0.8], [0.1], gallery=5, other=[0.2, 0.85])
    assert at_threshold(searches, 0.5).tpir == Rate(1, 2)
    assert at_threshold(searches, 0.5, rank=2).tpir == Rate(2, 2)
    assert at_threshold(searches, 0.5).named_wrong == Rate(1, 2)


def test_candidates_of_one_score_are_ranked_by_id() -> None:
    found = searches_of([0, 0, 1, 1], ["B", "A", "A", "B"], [0.5] * 4, ["A", "B"], GALLERY)
    assert found.rank.tolist() == [1, 2]


def test_distances_give_what_their_similarities_give() -> None:
    rows = ([0, 0, 1, 1], ["A", "B", "A", "C"])
    alike = searches_of(*rows, [0.75, 0.5, 0.25, 0.125], ["A", "x"], GALLERY)
    apart = searches_of(*rows, [0.25, 0.5, 0.75, 0.875], ["A", "x"], GALLERY, kind="distance")
    for similarity in (0.2, 0.25, 0.5, 0.8):
        a, b = at_threshold(alike, similarity), at_threshold(apart, 1 - similarity)
        assert (a.fnir, a.fpir, a.selectivity) == (b.fnir, b.fpir, b.selectivity)


def test_a_list_that_is_cut_makes_selectivity_a_lower_bound() -> None:
    found = at_threshold(Searches.of([1], [0.9], [[0.8, 0.7], [0.8, 0.1]], gallery=9), 0.5)
    assert found.selectivity is not None
    assert (found.selectivity.mean, found.selectivity.cut) == (1.5, 1)


def test_misses_at_a_target_rate_of_alarms() -> None:
    searches = Searches.of([1, 1, 0], [0.95, 0.5, np.nan], np.arange(100) / 100, gallery=50)
    tenth, thousandth = fnir_at_fpir(searches, [0.1, 0.001])
    assert isinstance(tenth, AtTarget) and isinstance(thousandth, Insufficient)
    assert (tenth.fmr, tenth.fnmr, tenth.threshold) == (Rate(10, 100), Rate(2, 3), 0.9)
    assert thousandth.need == 3000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rank": [-1]}, "a rank is not in"),
        ({"rank": [6]}, "a rank is not in"),
        ({"rank": [1.0]}, "whole numbers"),
        ({"mate": [np.nan]}, "no score"),
        ({"mate": [0.5, 0.5]}, "2"),
        ({"strangers": [[0.1, 0.2]]}, "best first"),
        ({"strangers": [np.inf]}, "infinite"),
        ({"mated_lost": -1}, "negative"),
    ],
)
def test_what_cannot_be_a_search_is_refused(change: dict[str, object], said: str) -> None:
    given_: dict[str, object] = {"rank": [1], "mate": [0.5], "strangers": [0.1], "gallery": 5, **change}
    with pytest.raises(ScoresError, match=said):
        Searches.of(**given_)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("probe", "subject", "said"),
    [([0, 0], ["A", "A"], "twice"), ([0, 3], ["A", "B"], "no truth"), ([0], ["A", "B"], "differ")],
)
def test_lists_that_do_not_fit_are_refused(probe: list[int], subject: list[str], said: str) -> None:
    with pytest.raises(ScoresError, match=said):
        searches_of(probe, subject, [0.5, 0.4], ["A"], GALLERY)

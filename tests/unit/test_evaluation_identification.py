"""Evaluations of searches: mated, non-mated, and failed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from frpipe.evaluation.identification import IdentificationQuestion
from frpipe.evaluation.sample import at_target
from frpipe.evaluation.searches import SearchTrials
from frpipe.metrics.curve import Curve
from frpipe.metrics.lecture import ENROLLED, SEARCHES


def lecture() -> SearchTrials:
    """The lecture's ten searches, a candidate each."""
    truth, named, score = (np.array(column) for column in zip(*SEARCHES, strict=True))
    return SearchTrials(
        np.array([f"photo-{n}" for n in range(10)], object),
        truth.astype(object),
        np.zeros(10, bool),
        np.arange(10),
        named.astype(object),
        score.astype(np.float64),
        np.array(ENROLLED, object),
        np.array([], object),
    )


def answer(trials: SearchTrials, **asked: object):  # type: ignore[no-untyped-def]
    return IdentificationQuestion(**asked).answer("x", trials, {})  # type: ignore[arg-type]


def test_the_lecture_comes_out() -> None:
    found = answer(lecture(), thresholds=(0.6,))
    assert found.number("AUC_grid").value == pytest.approx(0.58, abs=1e-9)  # type: ignore[union-attr]
    assert found.number("AUC_exact").value == pytest.approx(0.58, abs=1e-9)  # type: ignore[union-attr]
    assert found.number("FNIR", 0.6).value == pytest.approx(0.4)  # type: ignore[union-attr]
    assert found.number("FPIR", 0.6).value == pytest.approx(0.4)  # type: ignore[union-attr]
    assert found.number("CMC", 1).value == pytest.approx(0.8)  # type: ignore[union-attr]
    assert found.number("named_wrong", 0.6).value == pytest.approx(0.2)  # type: ignore[union-attr]


def test_a_failed_probe_is_a_miss_and_no_alarm() -> None:
    given = lecture()
    failed = np.isin(np.arange(10), [0, 7])
    without = replace(
        given,
        failed=failed,
        probe=given.probe[~failed],
        subject=given.subject[~failed],
        similarity=given.similarity[~failed],
    )
    found = answer(without, thresholds=(0.6,))
    rates = {n.measure: (n.count, n.trials) for n in found.numbers if n.at == 0.6}
    assert rates["FNIR"] == (2, 4)
    assert rates["FNIR_all"] == (3, 5)
    assert rates["FPIR"] == (1, 4)
    assert rates["FPIR_all"] == (1, 5)
    assert found.number("FTA").count == 2  # type: ignore[union-attr]


def test_a_person_who_failed_to_enrol_stays_in_the_gallery() -> None:
    given = lecture()
    found = answer(replace(given, enrolled=given.enrolled[:4], not_enrolled=given.enrolled[4:]))
    assert found.counts["gallery"] == 5
    assert found.counts["mated_lost"] == 1
    assert found.number("FTE").value == pytest.approx(0.2)  # type: ignore[union-attr]


def test_a_rank_beyond_the_lists_is_not_claimed() -> None:
    assert answer(lecture(), listed=1).number("CMC", 5) is None


def test_groups_are_of_probes_against_the_whole_gallery() -> None:
    given = lecture()
    labels = np.array(["even", "odd"] * 5, object)
    found = answer(replace(given, groups={"c": labels}), thresholds=(0.6,))
    rates = {n.group: (n.count, n.trials) for n in found.numbers if n.measure == "FNIR" and n.column}
    # A, C and E; B and D.
    assert rates == {"even": (1, 3), "odd": (1, 2)}


def test_searches_of_strangers_alone_have_a_false_alarm_rate_and_no_curve() -> None:
    given = lecture().some(np.arange(5, 10))
    found = answer(given, thresholds=(0.6,))
    assert found.number("FPIR", 0.6).trials == 5  # type: ignore[union-attr]
    assert found.number("FNIR", 0.6).value is None  # type: ignore[union-attr]
    assert "open_roc" not in found.curves


def test_a_mate_who_is_not_first_is_found_at_no_rate() -> None:
    sample = lecture().sample()
    drawn = at_target("TPIR", 1.0).of(Curve.of(sample.scores))
    assert drawn == pytest.approx(0.8)


@pytest.mark.parametrize("seed", range(3))
def test_intervals_hold_the_numbers_of_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = np.array([f"s{n:03d}" for n in range(50)], object)
    truth = np.concatenate([np.repeat(people[:40], 4), np.repeat([f"x{n}" for n in range(40)], 4)]).astype(
        object
    )
    probes = len(truth)
    scores = rng.normal(0.1, 0.1, (probes, 40))
    scores[np.arange(160), np.repeat(np.arange(40), 4)] += 0.3
    order = np.argsort(-scores, axis=1)[:, :10]
    trials = SearchTrials(
        np.array([f"p{n}" for n in range(probes)], object),
        truth,
        np.zeros(probes, bool),
        np.repeat(np.arange(probes), 10),
        people[order].ravel(),
        np.take_along_axis(scores, order, 1).ravel(),
        people[:40],
        people[:0],
    )
    found = answer(trials, listed=10, targets=(0.1,), thresholds=(0.35,))
    for n in found.numbers:
        if n.value is not None and n.low is not None:
            assert n.low <= n.value <= n.high, n

"""Ranks, the two modes of NIST FRTE, and smaller galleries, against what the whole lists say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from frpipe.core.errors import ConfigError
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.galleries import COLUMN
from frpipe.evaluation.identification import IdentificationQuestion
from frpipe.evaluation.number import Number
from frpipe.evaluation.searches import SearchTrials
from frpipe.io.storage.folder import Folder
from frpipe.jobs.evaluate.job import Asked, IdentificationMetrics
from frpipe.jobs.evaluate.search_results import SearchResults
from frpipe.metrics.errors import ScoresError

PROBES, PEOPLE = 400, 60


def whole(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(p, n) similarities of all probes with all people; the first half are mated, with the person p % n."""
    rng = np.random.default_rng(seed)
    similarity = rng.normal(0.2, 0.1, (PROBES, PEOPLE))
    truth = np.where(np.arange(PROBES) < PROBES // 2, np.arange(PROBES) % PEOPLE, -1)
    mated = np.flatnonzero(truth >= 0)
    similarity[mated, truth[mated]] += 0.25
    return similarity, truth


def trials(listed: int) -> SearchTrials:
    similarity, truth = whole()
    best = np.argsort(-similarity, axis=1)[:, :listed]
    names = np.array([f"s{number:02d}" for number in range(PEOPLE)], object)
    return SearchTrials(
        np.array([f"photo-{number}" for number in range(PROBES)], object),
        np.array([names[t] if t >= 0 else f"x{p}" for p, t in enumerate(truth)], object),
        np.zeros(PROBES, bool),
        np.repeat(np.arange(PROBES), listed),
        names[best.ravel()],
        np.take_along_axis(similarity, best, 1).ravel(),
        names,
        names[:0],
    )


def answer(given: SearchTrials, listed: int, **asked: object) -> Evaluation:
    return IdentificationQuestion((0.4,), (0.1,), listed, **asked).answer("x", given, {})  # type: ignore[arg-type]


def number(found: Evaluation, measure: str, at: float | None = None) -> Number:
    one = found.number(measure, at)
    assert one is not None
    return one


def place_of_mates() -> np.ndarray:
    similarity, truth = whole()
    mated = np.flatnonzero(truth >= 0)
    own = similarity[mated, truth[mated]]
    return (similarity[mated] > own[:, None]).sum(axis=1) + 1


@pytest.mark.parametrize("rank", [1, 3, 20])
def test_a_mate_within_the_rank_counts_as_found(rank: int) -> None:
    similarity, truth = whole()
    mated = np.flatnonzero(truth >= 0)
    own = similarity[mated, truth[mated]]
    found = answer(trials(20), 20, rank=rank)
    assert number(found, "FNIR", 0.4).count == int(((place_of_mates() > rank) | (own < 0.4)).sum())
    limit = number(found, "TPIR", 0.1).threshold
    assert limit is not None
    assert number(found, "TPIR", 0.1).count == int(((place_of_mates() <= rank) & (own >= limit)).sum())
    assert number(found, "FPIR", 0.4).count == int((similarity[truth < 0].max(axis=1) >= 0.4).sum())


def test_both_modes_stand_beside_each_other_whatever_the_rank() -> None:
    found = answer(trials(20), 20, rank=3)
    for rank in (1, 3, 10, 20):
        one = number(found, "FNIR_investigation", rank)
        assert (one.count, one.trials) == (int((place_of_mates() > rank).sum()), PROBES // 2)
        assert one.low is not None and one.high is not None and one.low <= (one.value or 0) <= one.high
    of_list = answer(trials(20), 20, rank=20)
    assert number(found, "FNIR_identification", 0.1).value == pytest.approx(
        1 - (number(of_list, "TPIR", 0.1).value or 0)
    )
    assert number(found, "FNIR_identification", 0.1).at == 0.1


def test_a_rank_beyond_the_lists_is_refused() -> None:
    with pytest.raises(ScoresError, match="rank 21, and lists hold at most 20 candidates"):
        answer(trials(20), 20, rank=21)


def test_a_smaller_gallery_is_a_search_of_those_people_alone() -> None:
    found = answer(trials(PEOPLE), PEOPLE, galleries=[20, 60])
    of_all = [n for n in found.numbers if n.column == COLUMN and n.group == "60"]
    assert {(n.measure, n.count, n.trials) for n in of_all} == {
        ("FNIR", n.count, n.trials) if n.measure == "FNIR" else (n.measure, n.count, n.trials)
        for n in [
            number(answer(trials(PEOPLE), PEOPLE, rank=PEOPLE), "FNIR", 0.4),
            number(found, "FPIR", 0.4),
            number(found, "FNIR_identification", 0.1),
        ]
    }
    twenty = {n.measure: n for n in found.numbers if n.column == COLUMN and n.group == "20"}
    fpir, every = twenty["FPIR"], number(found, "FPIR", 0.4)
    assert fpir.trials == every.trials and (fpir.value or 0) < (every.value or 0)
    assert 0 < (twenty["FNIR"].trials or 0) < PROBES // 2


def test_the_same_people_are_drawn_whatever_the_order_and_the_length_of_lists() -> None:
    given = trials(PEOPLE)
    turned = replace(given, enrolled=given.enrolled[::-1])
    numbers = [
        [n for n in answer(some, listed, galleries=[20]).numbers if n.column == COLUMN]
        for some, listed in ((given, PEOPLE), (turned, PEOPLE))
    ]
    assert numbers[0] == numbers[1]


def test_lists_that_are_too_short_for_a_gallery_give_no_number() -> None:
    exact = {
        n.measure: n for n in answer(trials(PEOPLE), PEOPLE, galleries=[20]).numbers if n.column == COLUMN
    }
    for listed in (3, 30):
        short = answer(trials(listed), listed, galleries=[20])
        for one in (n for n in short.numbers if n.column == COLUMN):
            if one.value is None:
                assert "search with a larger --top" in (one.note or "")
            else:
                assert (one.count, one.trials) == (exact[one.measure].count, exact[one.measure].trials)
        if listed == 3:
            assert any(n.value is None for n in short.numbers if n.column == COLUMN)


@pytest.mark.parametrize("size", [0, 61])
def test_a_gallery_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(ScoresError, match="out of 60"):
        answer(trials(5), 5, galleries=[size])


def test_too_few_searches_for_a_target_are_said_of_each_gallery() -> None:
    found = IdentificationQuestion((), (0.001,), PEOPLE, galleries=[20]).answer("x", trials(PEOPLE), {})
    (one,) = [n for n in found.numbers if n.column == COLUMN]
    assert one.value is None and "insufficient data" in (one.note or "")


def test_areas_on_a_grid_hold_where_scores_are_negative() -> None:
    rng = np.random.default_rng(0)
    given = trials(PEOPLE)
    low = replace(given, similarity=given.similarity - 0.6 + rng.normal(0, 1e-3, len(given.similarity)))
    for some in (given, low):
        found = answer(some, PEOPLE)
        areas = [number(found, name).value or 0 for name in ("AUC_grid", "AUC_exact")]
        assert areas[0] == pytest.approx(areas[1], abs=0.05)


def test_the_job_reports_ranks_and_galleries_and_goes_on_with_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = {"embedder_hash": "e" * 64, "preprocessing_hash": "f" * 64}
    result = SearchResults("r", trials(20), 0.4, 20, "", "d", {"result": "r", **hashes})
    monkeypatch.setattr(SearchResults, "open", lambda *_: result)

    def asked(name: str) -> Asked:
        return Asked(["r"], str(tmp_path / name), targets=(0.1,))

    IdentificationMetrics(asked("both"), rank=3, galleries=(20,)).run()
    numbers = pq.read_table(tmp_path / "both/numbers.parquet").to_pylist()
    measures = {one["measure"] for one in numbers}
    assert {"FNIR_investigation", "FNIR_identification"} <= measures
    assert {one["group"] for one in numbers if one["column"] == COLUMN} == {"20"}
    assert "rank 3" in {one["note"] for one in numbers if one["measure"] == "FNIR"}
    page = (tmp_path / "both/report.html").read_text(encoding="utf-8")
    assert "FNIR(N, R, 0), investigation mode" in page and "FNIR(N, L, T), identification mode" in page
    plain = IdentificationMetrics(asked("plain")).plan(Folder.at(str(tmp_path / "plain"))).identity
    assert not {"rank", "galleries"} & plain.keys()
    with pytest.raises(ConfigError, match="count from 1"):
        IdentificationMetrics(asked("odd"), rank=0).run()

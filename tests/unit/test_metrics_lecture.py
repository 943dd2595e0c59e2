"""The lecture's two tables, and the ways to get other numbers from the same data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from frpipe.cli.main import main
from frpipe.metrics import lecture
from frpipe.metrics.identification import roc as search_roc
from frpipe.metrics.scores import Scores
from frpipe.metrics.searches import Searches, searches_of
from frpipe.metrics.verification import at_threshold, auc_exact, auc_grid

TAR: list[float] = [0, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 1, 1]
TRR: list[float] = [1, 1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0]
TPIR: list[float] = [0, 0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.8, 0.8, 0.8, 0.8]
TNIR: list[float] = [1, 0.8, 0.8, 0.6, 0.6, 0.6, 0.6, 0.4, 0.2, 0.2, 0]


def _near(value: float | list[float] | tuple[float, ...]) -> object:
    return pytest.approx(value, abs=1e-9)


def test_the_verification_table() -> None:
    found = lecture.verification()
    assert found.true_accept.tolist() == _near(TAR)
    assert found.true_reject.tolist() == _near(TRR)
    assert (found.auc_grid, found.auc_exact) == _near((0.9, 0.9))


def test_the_identification_table() -> None:
    found = lecture.identification()
    assert found.true_accept.tolist() == _near(TPIR)
    assert found.true_reject.tolist() == _near(TNIR)
    assert (found.auc_grid, found.auc_exact) == _near((0.58, 0.58))


def test_the_curve_of_identification_ends_at_the_rank_one_rate_and_is_not_stretched() -> None:
    found = lecture.identification()
    assert found.true_accept[-1] == 0.8
    assert auc_grid(1 - found.true_reject, found.true_accept / found.true_accept[-1]) == _near(0.725)


@pytest.mark.parametrize(("kept", "area"), [(slice(None, -1), 0.42), (slice(1, None), 0.54)])
def test_without_an_end_point_the_area_would_be_another(kept: slice, area: float) -> None:
    found = lecture.identification()
    assert auc_grid(1 - found.true_reject[kept], found.true_accept[kept]) == _near(area)


def test_a_wrong_name_taken_for_a_hit_would_give_another_area() -> None:
    scores = Scores.of([s for *_, s in lecture.SEARCHES[:5]], [s for *_, s in lecture.SEARCHES[5:]])
    found = lecture.LectureTable.of(search_roc(_as_rank_one(scores)))
    assert found.auc_grid == _near(0.72)


def test_scores_taken_for_distances_would_turn_the_curve_over() -> None:
    assert auc_exact(Scores.of(lecture.SAME, lecture.DIFFERENT, kind="distance")) == _near(0.1)


def test_grid_and_exact_area_agree_on_the_slide_by_chance_alone() -> None:
    changed = [(t, n, 0.995 if (t, s) == ("E", 0.98) else s) for t, n, s in lecture.SEARCHES]
    truth, named, score = zip(*changed, strict=True)
    searches = searches_of(range(10), named, score, truth, lecture.ENROLLED)
    found = lecture.LectureTable.of(search_roc(searches))
    assert (found.auc_grid, found.auc_exact) == _near((0.58, 0.62))


@pytest.mark.parametrize(("threshold", "accepted"), [(0.40, 0), (0.45, 1), (0.68, 1)])
def test_the_slide_of_the_stranger_holds_distances(threshold: float, accepted: int) -> None:
    best = Scores.of([0.45], [], kind="distance")
    assert at_threshold(best, threshold).tar.count == accepted


def test_the_command_prints_both_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "lecture"]) == 0
    said = capsys.readouterr().out
    assert "0.9            0.4  1.0" in said
    assert "AUC on this grid 0.90" in said
    assert "AUC on this grid 0.58" in said
    assert main(["metrics", "lecture", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["verification"]["TAR"] == _near(TAR)
    assert data["identification"]["TNIR"] == _near(TNIR)
    assert data["identification"]["auc_grid"] == _near(0.58)


def test_the_example_of_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    example = page.partition("## From Python")[2]
    exec(example.split("```python\n")[1].split("```")[0], {})
    said = capsys.readouterr().out
    assert "rule of 30" in said
    assert "insufficient data: 5,000 non-mated trials, 1e-06 needs 3,000,000" in said


def _as_rank_one(scores: Scores) -> Searches:
    return Searches.of(np.ones(5, int), scores.mated, scores.nonmated, gallery=5)

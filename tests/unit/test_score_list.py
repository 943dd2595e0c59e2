"""Scores of one's own: what is read, what is refused, and that the lecture's tables come out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from frpipe.cli.main import main
from frpipe.core.errors import FrpipeError
from frpipe.evaluation.scored import Operating, scored
from frpipe.jobs.evaluate.score_columns import ScoreColumns
from frpipe.jobs.evaluate.score_list import ScoreList
from frpipe.metrics import lecture
from frpipe.metrics.curve import Curve
from frpipe.metrics.scores import Scores

PAIRS = [
    ("GT", "score"),
    *(("Same", s) for s in lecture.SAME),
    *(("Different", s) for s in lecture.DIFFERENT),
]
SEARCHES = [
    ("mated", "right", "score"),
    *((truth in lecture.ENROLLED, truth == named, score) for truth, named, score in lecture.SEARCHES),
]


def _list(path: Path, rows: Sequence[Sequence[object]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return str(path)


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    return _list(tmp_path / "pairs.csv", PAIRS)


@pytest.fixture
def searches(tmp_path: Path) -> str:
    return _list(tmp_path / "searches.csv", SEARCHES)


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> dict:  # type: ignore[type-arg]
    assert main(["metrics", "scores", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def _refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["metrics", "scores", *words]) != 0
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_the_lectures_pairs_give_the_lectures_table(pairs: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = _json(capsys, pairs)
    own = lecture.verification()
    assert found["columns"] == {"label": "GT", "similarity": "score", "right": None}
    assert found["table"]["threshold"] == own.threshold.tolist()
    assert found["table"]["TAR"] == pytest.approx(own.true_accept.tolist())
    assert found["table"]["TRR"] == pytest.approx(own.true_reject.tolist())
    assert (found["auc_grid"], found["auc_exact"]) == pytest.approx((0.9, 0.9))


def test_the_lectures_searches_give_the_lectures_table(
    searches: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _json(capsys, searches, "--at", "0.7")
    own = lecture.identification()
    assert found["task"] == "identification"
    assert found["table"]["TPIR"] == pytest.approx(own.true_accept.tolist())
    assert found["table"]["TNIR"] == pytest.approx(own.true_reject.tolist())
    assert (found["auc_grid"], found["auc_exact"]) == pytest.approx((0.58, 0.58))
    assert (found["at"]["TPIR"]["count"], found["at"]["TNIR"]["count"]) == (2, 3)
    assert found["at"]["named_wrong"]["count"] == 1


def test_distances_give_the_same_rates_the_other_way_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = [("label", "d"), *((label, round(1 - score, 2)) for label, score in PAIRS[1:])]  # type: ignore[operator]
    path = _list(tmp_path / "d.csv", turned)
    found = _json(capsys, path, "--distance", "d", "--at", "0.61")
    assert found["table"]["threshold"] == (np.arange(11) / 10).tolist()
    assert found["table"]["TAR"] == pytest.approx(lecture.verification().true_accept.tolist())
    assert found["auc_exact"] == pytest.approx(0.9)
    assert (found["at"]["TAR"]["count"], found["at"]["TRR"]["count"]) == (4, 4)
    assert main(["metrics", "scores", path, "--distance", "d"]) == 0
    said = capsys.readouterr().out
    assert "distance <=" in said
    assert "distance ≤" in said


def test_the_table_is_printed_with_the_columns_that_were_taken(
    pairs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["metrics", "scores", pairs]) == 0
    said = capsys.readouterr().out
    assert "label from GT, similarity from score" in said
    assert [line.split() for line in said.splitlines() if line.startswith("0.3 ")] == [["0.3", "0.8", "0.8"]]
    assert "(4 of 5), FMR 0.2" in said


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_other_forms_of_lists_give_the_same(
    form: str, tmp_path: Path, pairs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pa.table(
        {"label": [label == "Same" for label, _ in PAIRS[1:]], "score": [s for _, s in PAIRS[1:]]}
    )
    path = tmp_path / f"list.{form}"
    if form == "parquet":
        pq.write_table(table, path)
    else:
        path.write_text("\n".join(map(json.dumps, table.to_pylist())))
    found, of_csv = _json(capsys, str(path)), _json(capsys, pairs)
    assert {**found, "columns": None} == {**of_csv, "columns": None}


def test_an_empty_score_is_a_failed_trial_and_in_no_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _list(tmp_path / "lost.csv", [*PAIRS, ("same", ""), ("different", ""), ("different", "")])
    found = _json(capsys, path)
    assert found["counts"] == {"mated": 5, "nonmated": 5, "mated_lost": 1, "nonmated_lost": 2}
    assert found["auc_exact"] == pytest.approx(0.9)
    assert main(["metrics", "scores", path]) == 0
    assert "3 that failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([*PAIRS, ("maybe", 0.5)], "row 11 of list.csv holds 'maybe' in GT"),
        ([*PAIRS, ("", 0.5)], "row 11 of list.csv has nothing in GT"),
        ([*PAIRS, ("same", "nan")], "row 11 of list.csv holds 'nan' in score"),
        ([*PAIRS, ("same", "inf")], "row 11 of list.csv holds 'inf' in score"),
        ([*PAIRS, ("same", "0,5")], "row 11 of list.csv holds '0,5' in score"),
        (PAIRS[:6], "no non-mated trial has a score"),
        ([PAIRS[0], *PAIRS[6:]], "no mated trial has a score"),
        (PAIRS[:1], "has columns and no rows"),
        ([("GT", "points"), ("same", 1)], "known to hold scores (its columns: GT, points)"),
        ([("who", "score"), ("same", 1)], "known to hold labels (its columns: who, score)"),
        (
            [("GT", "score", "distance"), ("same", 1, 0)],
            "several columns that may hold scores: score, distance",
        ),
        ([("label", "mated", "score"), (1, 1, 1)], "several columns that may hold the label: label, mated"),
        (
            [*SEARCHES, (False, True, 0.5)],
            "row 11 of list.csv is right, and the person is not in the gallery",
        ),
        ([*SEARCHES, (True, "", 0.5)], "row 11 of list.csv has nothing in right"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(
    rows: Sequence[Sequence[object]], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in _refused(capsys, _list(tmp_path / "list.csv", rows))


def test_a_column_that_is_not_there_is_named_with_those_that_are(
    pairs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no column d (its columns: GT, score)" in _refused(capsys, pairs, "--distance", "d")


@pytest.mark.parametrize("at", ["high", "fmr=2", "fmr=0", "tar=0.1", "nan"])
def test_a_threshold_that_is_none_is_refused(at: str, pairs: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["metrics", "scores", pairs, "--at", at])
    assert "argument --at" in capsys.readouterr().err


def test_too_few_trials_for_a_target_are_said(pairs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "insufficient data: 5 non-mated trials, 0.001 needs 3,000" in _refused(
        capsys, pairs, "--at", "fmr=0.001"
    )


def test_a_target_is_kept_to(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = [("label", "score"), *((1, s) for s in rng.normal(0.6, 0.1, 300))]
    path = _list(tmp_path / "many.csv", [*rows, *((0, s) for s in rng.normal(0.0, 0.2, 3000))])
    found = _json(capsys, path, "--at", "fmr=0.01")
    assert found["at"]["chosen"] == "FMR at most 0.01"
    assert found["at"]["TRR"]["trials"] - found["at"]["TRR"]["count"] <= 30
    assert any("chosen on these very scores" in words for words in found["warnings"])
    assert found["at"]["TAR"]["count"] == sum(s >= found["at"]["threshold"] for label, s in rows[1:])  # type: ignore[operator]


def test_scores_that_go_the_other_way_are_asked_about(pairs: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = _json(capsys, pairs, "--distance", "score")
    assert any("are these similarities" in words for words in found["warnings"])


def test_searches_that_are_all_wrong_have_a_table_of_zeros(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("mated", "right", "score"), (1, 0, 0.9), (1, 0, 0.8), (0, "", 0.1), (0, "", "0.2")]
    found = _json(capsys, _list(tmp_path / "all-wrong.csv", rows))
    assert {*found["table"]["TPIR"]} == {0}
    assert (found["auc_exact"], found["eer"]["value"]) == (0, 1)


@pytest.mark.parametrize(
    ("kind", "scores", "grid"),
    [
        ("similarity", [-0.25, 0.9], np.arange(10, -4, -1) / 10),
        ("distance", [0.1, 1.25], np.arange(14) / 10),
        ("similarity", [3.0, 87.0], np.arange(90, -1, -10.0)),
        ("distance", [120.0, 1930.0], np.arange(0, 2001, 200.0)),
        ("similarity", [5.0, 5.0], [6.0, 5.0]),
    ],
)
def test_the_grid_covers_all_scores_of_any_range(
    kind: str, scores: list[float], grid: Sequence[float]
) -> None:
    curve = Curve.of(Scores.of(scores, scores, kind=kind))  # type: ignore[arg-type]
    assert lecture.grid(curve).tolist() == pytest.approx(list(grid))
    table = lecture.LectureTable.of(curve, lecture.grid(curve))
    assert table.true_accept[-1] == 1
    assert table.true_reject[-1] == 0


@pytest.mark.parametrize("name", ["pairs", "searches"])
def test_curves_are_drawn_with_their_area_and_the_threshold(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, page = request.getfixturevalue(name), tmp_path / "curves.html"
    assert main(["metrics", "scores", path, "--at", "0.39", "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    up, over = ("TAR", "TRR") if name == "pairs" else ("TPIR", "TNIR")
    assert f"{up} over {over}, and the area below" in text
    assert "similarity ≥ 0.3900" in text
    assert text.count("<figure") == 4
    assert "AUC" in text
    picture = tmp_path / "curves.png"
    assert main(["metrics", "scores", path, "-o", str(picture)]) == 0
    with Image.open(io.BytesIO(picture.read_bytes())) as image:
        assert image.width > 2 * image.height
    assert str(picture) in capsys.readouterr().out


def test_a_distance_is_marked_where_it_is_on_every_axis(tmp_path: Path) -> None:
    turned = [("label", "distance"), *((label, round(1 - float(score), 2)) for label, score in PAIRS[1:])]
    found = ScoreList.read(_list(tmp_path / "d.csv", turned), ScoreColumns())
    answer = scored("distance", found.mated, found.score, None, Operating("value", 0.25))
    evaluation = answer.evaluation("system")
    assert [number.at for number in evaluation.numbers if number.at is not None] == [0.75, 0.75]
    assert answer.accepted_at(0.75) == "distance ≤ 0.2500"
    histogram = evaluation.curves["mated"]
    assert float(histogram.x[histogram.y > 0].max()) == pytest.approx(0.99, abs=0.011)


def test_scores_of_any_scale_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("label", "score"), *((1, s) for s in (80, 90, 95)), *((0, s) for s in (10, 20, 85))]
    page = tmp_path / "curves.html"
    assert main(["metrics", "scores", _list(tmp_path / "list.csv", rows), "-o", str(page)]) == 0
    assert page.read_text(encoding="utf-8").count("<figure") == 3
    assert "similarity ≥ 85" in capsys.readouterr().out


def test_another_kind_of_file_is_refused_before_anything_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert "neither a PNG nor an HTML page" in _refused(capsys, "nothing.csv", "-o", "curves.pdf")


def test_of_similarities_and_distances_the_similarities_are_taken_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("mated", "similarity", "distance"), (1, 0.9, 0.1), (0, 0.2, 0.8)]
    found = _json(capsys, _list(tmp_path / "both.csv", rows))
    assert found["columns"] == {"label": "mated", "similarity": "similarity", "right": None}


def test_the_reader_stands_alone(pairs: str) -> None:
    found = ScoreList.read(pairs, ScoreColumns())
    assert (found.mated.sum(), found.score.dtype, found.right) == (5, np.float64, None)
    answer = scored("similarity", found.mated, found.score, None, Operating("value", 0.39))
    assert answer.point is not None
    assert answer.point.accept.rate.count == 4
    with pytest.raises(FrpipeError):
        ScoreList.read(pairs, ScoreColumns(similarity="score", distance="score"))

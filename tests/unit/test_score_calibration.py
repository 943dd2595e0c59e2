"""Calibration of a list of scores, as a user asks for it: what is read, said, drawn and refused."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frpipe.cli.jobs import metrics as job
from frpipe.cli.main import main
from frpipe.evaluation.calibrated import Known, calibrated
from frpipe.metrics.operating import Insufficient

HEADER = "mated", "score", "subject_a", "subject_b", "site", "part"
Row = tuple[object, ...]


def _rows(count: int = 1500) -> list[Row]:
    """Comparisons of 60 people; the scores of one site are shifted, so that a line of all fits it badly."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 60, count)
    b = np.where(rng.random(count) < 0.3, a, rng.integers(0, 60, count))
    score = np.where(a == b, rng.normal(0.5, 0.15, count), rng.normal(0.1, 0.12, count))
    score += np.where(a % 2, 0.15, 0)  # above 1 too: scores of no particular range
    sites = np.where(a % 2, "east", "west")
    columns = (a == b).astype(int), score.round(4), a, b, sites, np.arange(count) % 3
    return [*zip(*(column.tolist() for column in columns), strict=True)]


ROWS = _rows()


def _list(path: Path, rows: Sequence[Row], header: Row = HEADER) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    return _list(tmp_path / "pairs.csv", ROWS)


def _calibration(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["metrics", "scores", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["calibration"]
    assert isinstance(found, dict)
    return found


def _refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["metrics", "scores", *words]) != 0
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_costs_are_given_beside_the_least_possible(pairs: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = _calibration(capsys, pairs, "--cost", "0.01", "--cost", "0.1,5,1")
    assert found["cross_fitted"] == "by subject"
    assert {*found["methods"]} == {"logistic", "isotonic"}
    for method in found["methods"].values():
        assert 0 < found["min_cllr"] < method["cllr"] < 1
        assert all(least <= own for least, own in zip(found["min_dcf"], method["act_dcf"], strict=True))
    assert [each["prior"] for each in found["applications"]] == [0.01, 0.1]
    assert found["applications"][1]["cost_miss"] == 5
    assert 0 < found["eer_hull"] < 0.5
    assert found["line"]["slope"] > 0


def test_they_are_printed_as_a_table(pairs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "scores", pairs, "--cost", "0.1,5,1"]) == 0
    said = capsys.readouterr().out
    assert "cross-fitted by subject" in said
    assert "subject_a from subject_a, subject_b from subject_b" in said
    assert re.search(r"^calibration +Cllr +DCF at prior 0.1, costs 5 and 1$", said, re.MULTILINE)
    for name in ("logistic", "isotonic", "least possible"):
        assert re.search(rf"^{name} +0\.\d+ +0\.\d+$", said, re.MULTILINE)
    assert re.search(r"^LLR = [\d.]+ x similarity [+-][\d.]+ \(nats", said, re.MULTILINE)
    assert "Who is compared is not known" not in said


def test_the_job_says_the_same(pairs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "scores", pairs]) == 0
    own = capsys.readouterr().out
    assert job.main(["scores", pairs]) == 0
    assert capsys.readouterr().out == own
    assert job.main(["scores", f"{pairs}.gone"]) != 0
    assert "Traceback" not in capsys.readouterr().err


def test_folds_go_before_people(pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _calibration(capsys, pairs, "--fold", "part")["cross_fitted"] == "by fold (3)"
    named = _list(tmp_path / "named.csv", ROWS, (*HEADER[:5], "Fold"))
    assert _calibration(capsys, named)["cross_fitted"] == "by fold (3)"


@pytest.mark.parametrize(
    ("header", "words", "how"),
    [
        (("mated", "score", "first_subject", "second_subject", "site", "part"), (), "by subject"),
        (("mated", "score", "subject", "x", "site", "part"), (), "by subject"),
        (("mated", "score", "x", "y", "site", "part"), ("--subject", "x,y"), "by subject"),
        (("mated", "score", "x", "y", "site", "part"), ("--subject", "x"), "by subject"),
        (("mated", "score", "subject_a", "y", "site", "part"), (), "by rows"),
    ],
)
def test_people_are_found_by_their_columns(
    header: Row, words: Sequence[str], how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _calibration(capsys, _list(tmp_path / "list.csv", ROWS, header), *words)
    assert found["cross_fitted"] == how
    assert any("by rows" in warning for warning in found["warnings"]) == (how == "by rows")


def test_distances_have_the_same_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pairs: str
) -> None:
    turned = [(mated, round(1 - float(str(score)), 4), *rest) for mated, score, *rest in ROWS]
    path = _list(tmp_path / "distances.csv", turned, ("mated", "distance", *HEADER[2:]))
    found, own = _calibration(capsys, path), _calibration(capsys, pairs)
    assert found["min_cllr"] == pytest.approx(own["min_cllr"])
    assert found["methods"]["logistic"]["cllr"] == pytest.approx(own["methods"]["logistic"]["cllr"])
    assert found["line"]["slope"] == pytest.approx(-own["line"]["slope"])
    assert found["line"]["offset"] == pytest.approx(own["line"]["offset"] + own["line"]["slope"])


def test_a_failed_comparison_is_in_no_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pairs: str
) -> None:
    path = _list(tmp_path / "lost.csv", [*ROWS, (1, "", 1, 1, "east", 0), (0, "", 1, 2, "east", 0)])
    assert _calibration(capsys, path) == _calibration(capsys, pairs)


def test_groups_have_their_errors_and_costs(pairs: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = _calibration(capsys, pairs, "--by", "site", "--at", "0.3")["groups"]
    assert [group["group"] for group in found] == ["east", "west"]
    for group in found:
        own = [row for row in ROWS if row[4] == group["group"]]
        mated = [float(str(row[1])) for row in own if row[0]]
        assert group["FNMR"]["trials"] == len(mated)
        assert group["FNMR"]["count"] == sum(score < 0.3 for score in mated)
        assert group["FMR"]["trials"] == len(own) - len(mated)
        # A line for both costs each of them more than its own scores would.
        assert group["cllr"] > group["min_cllr"] + 0.02
    assert main(["metrics", "scores", pairs, "--by", "site"]) == 0
    assert re.search(r"^east +\d+ +0\.\d+", capsys.readouterr().out, re.MULTILINE)


def test_a_group_of_one_kind_has_no_cost_and_rows_without_a_group_are_in_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*ROWS, (1, 0.7, 1, 1, "north", 0), (0, 0.1, 1, 2, "", 0)]
    path = _list(tmp_path / "list.csv", rows)
    north = _calibration(capsys, path, "--by", "site")["groups"][1]
    assert (north["group"], north["cllr"], north["FMR"]["trials"]) == ("north", None, 0)
    assert len(_calibration(capsys, path, "--by", "site")["groups"]) == 3


def test_reliability_is_drawn(pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    assert main(["metrics", "scores", pairs, "--by", "site", "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "Reliability of the log-likelihood ratio" in text
    assert "cross-fitted by subject" in text
    assert text.count("<figure") == 4
    assert ">west<" in text
    assert main(["metrics", "scores", pairs, "-o", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()


def test_too_few_are_said_and_the_rest_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(1, 0.9, 1, 1, "", ""), (1, 0.4, 2, 2, "", ""), (0, 0.5, 1, 2, "", ""), (0, 0.1, 2, 1, "", "")]
    path, page = _list(tmp_path / "few.csv", rows), tmp_path / "page.html"
    found = _calibration(capsys, path)
    assert found["methods"]["need"] == 10
    assert found["min_dcf"][0]["need"] == 297
    assert found["warnings"] == []
    # The two in the middle are the wrong way round: a run of one of each, which costs a bit for half of all.
    assert found["min_cllr"] == pytest.approx(0.5)
    assert main(["metrics", "scores", path, "-o", str(page)]) == 0
    assert "min Cllr 0.5 bits; Cllr: insufficient data: " in capsys.readouterr().out
    assert "Reliability" not in page.read_text(encoding="utf-8")


def test_people_known_of_some_rows_are_left_out_unless_they_were_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _list(tmp_path / "gap.csv", [*ROWS, (0, 0.1, "", 2, "east", "")])
    assert main(["metrics", "scores", path, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["calibration"]["cross_fitted"] == "by rows"
    assert "subject_a is empty in some rows" in said.err
    words = f"row {len(ROWS) + 1} of gap.csv has nothing in"
    assert f"{words} subject_a" in _refused(capsys, path, "--subject", "subject_a,subject_b")
    assert f"{words} part" in _refused(capsys, path, "--fold", "part")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--subject", "a,b,c"), "no column a"),
        (("--subject", "subject_a,subject_b,site"), "a comparison has two sides"),
        (("--fold", "folds"), "no column folds"),
        (("--by", "score"), "groups, and at most 50 are told apart"),
        (("--right", "mated", "--label", "part", "--fold", "site"), "of comparisons"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    words: Sequence[str], said: str, pairs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in _refused(capsys, pairs, *words)


@pytest.mark.parametrize("cost", ["0", "1", "0.1,2", "0.1,0,1", "nan", "0.1,inf,1", "low"])
def test_a_cost_that_is_none_is_refused(cost: str, pairs: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["metrics", "scores", pairs, "--cost", cost])
    assert "argument --cost" in capsys.readouterr().err


def test_searches_are_not_calibrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(1, 0.9, 1, "s"), (1, 0.4, 0, "t"), (0, 0.5, "", "u"), (0, 0.1, "", "v")]
    path = _list(tmp_path / "searches.csv", rows, ("mated", "score", "right", "subject"))
    assert main(["metrics", "scores", path, "--json"]) == 0
    assert "calibration" not in json.loads(capsys.readouterr().out)
    assert "--cost is of comparisons" in _refused(capsys, path, "--cost", "0.1")


@pytest.mark.parametrize(
    "turn",
    [
        lambda x: x,
        lambda x: 50 * x + 7,
        lambda x: 1.7e308 * (x - 0.4),
        lambda x: 1e-310 * x,
        lambda x: 1e9 + x,
    ],
    ids=["cosine", "points", "the largest", "the smallest", "far from zero"],
)
def test_ratios_do_not_depend_on_the_scale_of_scores(turn: Callable[[Any], Any]) -> None:
    mated, score = (np.array([row[place] for row in ROWS]) for place in (0, 1))
    people = [np.array([row[place] for row in ROWS]) for place in (2, 3)]
    known = Known(None, *people)
    own = calibrated("similarity", mated.astype(bool), score, known, 0.3)
    found = calibrated("similarity", mated.astype(bool), turn(score), known, turn(0.3))
    assert not isinstance(own.methods, Insufficient)
    assert not isinstance(found.methods, Insufficient)
    for name in ("logistic", "isotonic"):
        assert found.methods[name].cllr == pytest.approx(own.methods[name].cllr, rel=1e-5)
    json.dumps(found.as_dict(), allow_nan=False)

"""Lists of scores that name people and folds: intervals, accuracy over folds, and scores that failed."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frpipe.cli.main import main
from frpipe.metrics.bootstrap import bootstrap_curve
from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.curve import Curve
from frpipe.metrics.folds import cross_validated
from frpipe.metrics.scores import Scores

Row = tuple[Any, ...]
HEADER: Row = ("mated", "score", "subject_a", "subject_b", "fold", "site")


def _rows(count: int = 900) -> list[Row]:
    rng = np.random.default_rng(4)
    a = rng.integers(0, 40, count)
    b = np.where(rng.random(count) < 0.4, a, rng.integers(0, 40, count))
    own = rng.normal(0, 0.1, 40)
    score = (np.where(a == b, 0.5, 0.15) + own[a] + own[b] + rng.normal(0, 0.1, count)).round(3)
    columns = (a == b).astype(int), score, a, b, np.arange(count) % 3, np.where(a % 2, "east", "west")
    return [*zip(*(column.tolist() for column in columns), strict=True)]


ROWS = _rows()


def _list(path: Path, rows: Sequence[Row], header: Row = HEADER) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["metrics", "scores", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    return _list(tmp_path / "pairs.csv", ROWS)


def _columns() -> tuple[Any, ...]:
    mated, score, a, b, fold, site = (np.array(column) for column in zip(*ROWS, strict=True))
    return mated.astype(bool), score, a, b, fold, site


def test_intervals_are_by_the_people_that_the_list_names(
    pairs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _json(capsys, pairs, "--at", "0.4")
    mated, score, a, b, *_ = _columns()
    own = clustered_rate((score < 0.4)[mated], a[mated])
    at = found["at"]
    assert (at["TAR"]["low"], at["TAR"]["high"]) == pytest.approx((1 - own.high, 1 - own.low))
    own = clustered_rate((score >= 0.4)[~mated], a[~mated], b[~mated])
    assert (at["TRR"]["low"], at["TRR"]["high"]) == pytest.approx((1 - own.high, 1 - own.low))
    assert at["TRR"]["method"] == own.method
    # Ids are texts, and people are drawn in the order of their ids.
    a, b = a.astype(str), b.astype(str)
    area = bootstrap_curve(
        Scores.of(score[mated], score[~mated]), a[mated], (a[~mated], b[~mated]), Curve.auc
    )
    assert found["intervals"]["auc"]["low"] == pytest.approx(area.low, abs=1e-9)
    assert found["intervals"]["auc"]["high"] == pytest.approx(area.high, abs=1e-9)
    assert 0 < found["intervals"]["eer"]["low"] < found["eer"]["value"] < found["intervals"]["eer"]["high"]
    assert not any("people of its own" in words for words in found["warnings"])


def test_without_people_each_row_is_taken_for_people_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _list(tmp_path / "rows.csv", [row[:2] for row in ROWS], HEADER[:2])
    found = _json(capsys, path, "--at", "0.4")
    assert found["intervals"] == {}
    assert "method" not in found["at"]["TAR"]
    assert any("people of its own" in words for words in found["warnings"])
    named = _json(capsys, _list(tmp_path / "named.csv", ROWS), "--at", "0.4")
    widths = [part["at"]["TRR"]["high"] - part["at"]["TRR"]["low"] for part in (found, named)]
    assert widths[0] < widths[1]


def test_groups_have_intervals_by_people(pairs: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = _json(capsys, pairs, "--at", "0.4", "--by", "site")["calibration"]["groups"]
    mated, score, a, b, _, site = _columns()
    for group in found:
        among = (site == group["group"]) & ~mated
        own = clustered_rate((score >= 0.4)[among], a[among], b[among])
        assert (group["FMR"]["low"], group["FMR"]["high"]) == pytest.approx((own.low, own.high))
        assert group["FMR"]["count"] == int((score >= 0.4)[among].sum())
    assert main(["metrics", "scores", pairs, "--by", "site", "--at", "0.4"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("east "))
    assert line.count("[") == 2


def test_folds_give_an_accuracy_at_thresholds_of_the_others(
    pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mated, score, _, _, fold, _ = _columns()
    own = cross_validated(score, mated, fold.astype(str))
    found = _json(capsys, pairs)["folds"]
    assert [*found] == ["folds_accuracy"]
    assert found["folds_accuracy"]["value"] == pytest.approx(own.mean)
    assert "over 3 folds" in found["folds_accuracy"]["note"]
    page = tmp_path / "page.html"
    assert main(["metrics", "scores", pairs, "-o", str(page)]) == 0
    words = f"accuracy over folds {own.mean:.4g} ["
    assert words in capsys.readouterr().out
    assert words in page.read_text(encoding="utf-8")
    lost = _json(capsys, _list(tmp_path / "lost.csv", [*ROWS, (1, "", 1, 1, 0, "east")]))["folds"]
    assert lost["folds_accuracy"]["value"] > lost["folds_accuracy_all"]["value"]


def test_one_fold_gives_no_accuracy_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _list(tmp_path / "one.csv", [(*row[:4], "a", row[5]) for row in ROWS])
    found = _json(capsys, path)["folds"]["folds_accuracy"]
    assert found["value"] is None
    assert "1 folds" in found["note"]


def test_searches_have_intervals_by_the_probes_person(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    who = np.repeat(np.arange(60), 5)
    easy = (rng.random(60) < 0.7)[who]
    mated = who < 40
    score = (np.where(mated & easy, 0.8, 0.3) + rng.normal(0, 0.05, len(who))).round(3)
    right = np.where(mated, easy, False)
    columns = mated.astype(int), score, right.astype(int), who
    rows = [*zip(*(column.tolist() for column in columns), strict=True)]
    path = _list(tmp_path / "searches.csv", rows, ("mated", "score", "right", "subject"))
    found = _json(capsys, path, "--at", "0.5")
    misses = (~right | (score < 0.5))[mated]
    own = clustered_rate(misses, who[mated])
    assert found["at"]["TPIR"]["low"] == pytest.approx(1 - own.high)
    assert found["at"]["TPIR"]["high"] == pytest.approx(1 - own.low)
    assert found["columns"]["subject"] == "subject"
    plain = _list(tmp_path / "plain.csv", [row[:3] for row in rows], ("mated", "score", "right"))
    alone = _json(capsys, plain, "--at", "0.5")["at"]["TPIR"]
    assert alone["high"] - alone["low"] < found["at"]["TPIR"]["high"] - found["at"]["TPIR"]["low"]
    assert main(["metrics", "scores", path, "--subject", "subject,mated"]) != 0
    assert "second people are of comparisons" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["csv", "parquet", "single"])
@pytest.mark.parametrize(("sign", "word"), [(-1.0, "-1"), (-0.1, "-0.1"), (float("nan"), "nan")])
def test_failed_scores_are_counted_and_in_no_rate(
    form: str, sign: float, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*((1, s) for s in (0.9, 0.8, sign)), *((0, s) for s in (0.1, 0.2, sign, sign))]
    path = tmp_path / ("list.csv" if form == "csv" else "list.parquet")
    if form == "csv":
        _list(path, rows, ("label", "score"))
    else:
        kind = pa.float32() if form == "single" else pa.float64()
        label, score = ([row[place] for row in rows] for place in (0, 1))
        pq.write_table(pa.table({"label": label, "score": pa.array(score, kind)}), path)
    found = _json(capsys, str(path), "--failed-score", word)
    assert found["counts"] == {"mated": 2, "nonmated": 2, "mated_lost": 1, "nonmated_lost": 2}
    assert found["auc_exact"] == 1


def test_another_word_than_nan_stays_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _list(tmp_path / "list.csv", [(1, 0.9), (0, 0.1), (0, "lost")], ("label", "score"))
    assert main(["metrics", "scores", path, "--failed-score", "nan"]) != 0
    assert "row 3 of list.csv holds 'lost'" in capsys.readouterr().err


def test_labels_that_people_contradict_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _list(tmp_path / "odd.csv", [*ROWS, (1, 0.5, 1, 2, 0, "east"), (0, 0.1, 3, 3, 0, "east")])
    assert main(["metrics", "scores", path]) == 0
    assert "2 rows of another label than subject_a and subject_b say" in capsys.readouterr().err

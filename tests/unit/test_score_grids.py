"""Scores of any size: the thresholds of their table, and how these are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from frpipe.cli.main import main
from frpipe.metrics.curve import Curve
from frpipe.metrics.lecture import LectureTable, grid
from frpipe.metrics.scores import Kind, Scores

SIZES = {
    "the largest": ([1.7e308, 1e308], [-1.7e308, 0.0]),
    "as far apart as can be": ([1.7e308], [-1.7e308]),
    "beyond where one is told from the next": ([1e24], [1e24]),
    "neighbours": ([1e17], [float(np.nextafter(1e17, 2e17))]),
    "all equal": ([5.0], [5.0]),
    "non-mated the highest": ([5.0, 7.0], [7.0, 20.0]),
    "large and close": ([1000000.5, 1000000.75], [1000000.25]),
}


@pytest.mark.parametrize("kind", ["similarity", "distance"])
@pytest.mark.parametrize("mated, nonmated", SIZES.values(), ids=SIZES)
def test_thresholds_lie_around_all_scores(mated: list[float], nonmated: list[float], kind: Kind) -> None:
    sign = 1 if kind == "similarity" else -1
    parts = [[sign * score for score in part] for part in (mated, nonmated)]
    curve = Curve.of(Scores.of(*parts, kind=kind))
    found = grid(curve)
    assert 2 <= len(found) <= 20 and np.isfinite(found).all()
    ascending = found if kind == "distance" else found[::-1]
    assert len(np.unique(found)) == len(found) and (np.diff(ascending) > 0).all()
    assert ascending[0] <= min(map(min, parts)) and ascending[-1] >= max(map(max, parts))
    table = LectureTable.of(curve, found)
    assert (table.true_reject[0], table.true_reject[-1], table.true_accept[-1]) == (1, 0, 1)


@pytest.mark.parametrize("mated, nonmated", SIZES.values(), ids=SIZES)
def test_what_is_printed_is_short_and_read_back(
    mated: list[float], nonmated: list[float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{label},{score!r}" for label, part in ((1, mated), (0, nonmated)) for score in part]
    path = tmp_path / "list.csv"
    path.write_text("\n".join(["label,similarity", *rows]) + "\n")
    assert main(["metrics", "scores", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 120 and not any("nan" in line.split() for line in lines)
    thresholds = [line.split()[0] for line in lines[3 : lines.index("", 3) if "" in lines[3:] else None]]
    thresholds = thresholds[: next(at for at, word in enumerate(thresholds) if word == "AUC")]
    assert len({*map(float, thresholds)}) == len(thresholds) >= 2
    assert main(["metrics", "scores", str(path), "--json", "-o", str(tmp_path / "CURVES.PNG")]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=_refused)
    assert found["table"]["threshold"] and (tmp_path / "CURVES.PNG").stat().st_size
    assert main(["metrics", "scores", str(path), "-o", str(tmp_path / "curves.html")]) == 0


def test_a_question_ends_in_its_own_mark_and_no_word_with_strokes_is_a_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "list.csv"
    path.write_text("label,similarity\n1,0.1\n0,0.9\n")
    assert main(["metrics", "scores", str(path)]) == 0
    assert "turned round?\n" in capsys.readouterr().out
    assert main(["metrics", "scores", str(path), "--at", "fmr=0.001"]) == 13
    assert "1 non-mated trial, 0.001 needs 3,000" in capsys.readouterr().err
    path.write_text("label,similarity\n1,1_0\n0,0.1\n")
    assert main(["metrics", "scores", str(path)]) == 3
    assert "row 1 of list.csv holds '1_0' in similarity" in capsys.readouterr().err


def _refused(word: str) -> NoReturn:
    raise AssertionError(f"{word} is no JSON")

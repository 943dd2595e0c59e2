"""A matrix of scores: by hand, against slow and obvious ways, and what is refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from frpipe.cli.jobs import metrics as job
from frpipe.cli.main import main
from frpipe.evaluation.scored import Operating
from frpipe.evaluation.scored_matrix import scored_matrix
from frpipe.metrics.bootstrap import curve_replicates
from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.curve import Curve
from frpipe.metrics.mated_slots import pair_replicates
from frpipe.metrics.operating import EqualError, equal_error
from frpipe.metrics.score_matrix import ScoreMatrix
from frpipe.metrics.scores import Scores
from frpipe.metrics.searches import searches_of

# Ann is first of her row, Bob second, and nobody in the gallery is Cid.
HAND: list[list[Any]] = [
    ["", "ann", "bob", "dan"],
    ["ann", 0.9, 0.1, 0.3],
    ["bob", 0.6, 0.5, 0.2],
    ["cid", 0.4, 0.7, 0.0],
]


def _csv(path: Path, rows: Sequence[Sequence[object]], separator: str = ",") -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    return str(path)


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["metrics", "matrix", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def _refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["metrics", "matrix", *words]) != 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    return said.err


def _random(seed: int = 0, failed: bool = True, places: int = 2) -> ScoreMatrix:
    """Some 40 probes, of whom 30 are among 35 of a gallery; many equal scores, and some that failed."""
    rng = np.random.default_rng(seed)
    probe = [f"p{number:02}" for number in rng.permutation(40)]
    gallery = [f"p{number:02}" for number in rng.permutation(45)[:35]]
    own = rng.normal(0, 0.5, 50)
    ids = [np.array([int(name[1:]) for name in names]) for names in (probe, gallery)]
    score = rng.normal(0, 1, (40, 35)) + own[ids[0]][:, None] + own[ids[1]][None, :]
    score = (score + 2.5 * (ids[0][:, None] == ids[1][None, :])).round(places)
    if failed:
        score[rng.random(score.shape) < 0.05] = np.nan
        score[3], score[:, 7] = np.nan, np.nan
    return ScoreMatrix(probe, gallery, score)


def _list(matrix: ScoreMatrix) -> tuple[Any, ...]:
    """The completed comparisons as a list: mated, score, and who is compared."""
    a, b = np.meshgrid(np.array(matrix.probe), np.array(matrix.gallery), indexing="ij")
    done = ~np.isnan(matrix.score)
    return (a == b)[done], matrix.score[done], a[done], b[done]


@pytest.fixture
def hand(tmp_path: Path) -> str:
    return _csv(tmp_path / "hand.csv", HAND)


def test_three_probes_by_hand(hand: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = _json(capsys, hand, "--at", "0.55", "--rank", "2")
    assert (found["probes"], found["gallery"], found["probes_with_a_mate"]) == (3, 3, 2)
    assert found["comparisons"] == 9
    one, many = found["verification"], found["identification"]
    assert one["counts"] == {"mated": 2, "nonmated": 7}
    # 0.9 is above all seven; 0.5 is above five, and below 0.6 and 0.7: 12 of 14 pairs of scores.
    assert one["auc_exact"] == pytest.approx(12 / 14)
    assert (one["at"]["TAR"]["count"], one["at"]["TRR"]["count"]) == (1, 5)
    # Above 0.5 no mate is missed but 0.5 itself: FNMR 1/2; at 0.5 FNMR is 0 and FMR 2/7.
    assert one["eer"]["value"] == pytest.approx(2 / 7)
    assert many["counts"] == {
        "gallery": 3,
        "mated": 2,
        "nonmated": 1,
        "mated_lost": 0,
        "nonmated_lost": 0,
    }
    assert many["cmc"] == [0.5, 1.0, 1.0]
    assert many["FNIR_investigation"]["1"]["count"] == 1
    assert many["FNIR_investigation"]["2"]["count"] == 0
    # At 0.55 Ann is found, Bob is not, and Cid is taken for Bob.
    at = many["open_set"]["at"]
    assert (at["TPIR"]["count"], at["TNIR"]["count"], at["named_wrong"]["count"]) == (1, 0, 1)
    assert at["TPIR"]["trials"] == 2
    assert many["note"] is None
    assert many["FNIR_at_FPIR"][0]["insufficient"] == "1 non-mated trial, 0.1 needs 30"


def test_the_rank_that_counts_is_said(hand: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "matrix", hand, "--rank", "2", "--at", "0.3"]) == 0
    said = capsys.readouterr().out
    assert "a mate within rank 2 counts as found" in said
    assert "FNIR(3, 2, T)" in said
    # Bob is second of his row, and his 0.5 is above 0.3.
    assert "TPIR 1 [" in said


def test_the_hand_matrix_is_printed(hand: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "matrix", hand]) == 0
    said = capsys.readouterr().out
    assert "3 probes against a gallery of 3 ids: 2 probes have a mate in it" in said
    assert "9 comparisons (similarity), 0 comparisons failed" in said
    assert "verification: 2 mated, 7 non-mated comparisons" in said
    assert "identification: 2 mated, 1 non-mated searches" in said
    assert "FNIR(3, R, 0)" in said
    assert job.main(["matrix", hand]) == 0
    assert capsys.readouterr().out == said


def test_without_strangers_it_is_investigation_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _csv(tmp_path / "closed.csv", [HAND[0], *HAND[1:3], ["dan", 0.1, 0.2, 0.8]])
    found = _json(capsys, path)["identification"]
    assert (found["open_set"], found["FNIR_at_FPIR"]) == (None, [])
    assert "investigation" in found["note"]
    assert found["cmc"] == [pytest.approx(2 / 3), 1.0, 1.0]
    assert main(["metrics", "matrix", path, "-o", str(tmp_path / "closed.html")]) == 0
    assert "No probe without a mate" in capsys.readouterr().out.replace("no probe", "No probe")
    assert "no probe without a mate was searched" in (tmp_path / "closed.html").read_text(encoding="utf-8")


def test_distances_give_the_same_the_other_way_round(
    hand: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = [HAND[0], *([row[0], *(round(1 - score, 2) for score in row[1:])] for row in HAND[1:])]
    own = _json(capsys, hand, "--at", "0.55")
    other = _json(capsys, _csv(tmp_path / "d.csv", turned), "--distance", "--at", "0.45")
    assert other["kind"] == "distance"
    for part in (own, other):
        assert part["verification"]["at"]["TAR"]["count"] == 1
    assert other["identification"]["cmc"] == own["identification"]["cmc"]
    for measure in ("TPIR", "TNIR"):
        assert (
            other["identification"]["open_set"]["at"][measure]
            == own["identification"]["open_set"]["at"][measure]
        )


def test_failed_scores_are_failures_and_no_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        ["", "ann", "bob", "dan", "eve"],
        ["ann", 0.9, 0.1, -1, -1],
        ["bob", 0.6, 0.5, -1, 0.2],
        ["cid", -1, -1, -1, -1],
        ["dan", 0.4, 0.7, -1, 0.1],
        ["eve", 0.4, 0.7, -1, -1],
    ]
    found = _json(capsys, _csv(tmp_path / "failed.csv", rows), "--failed-score", "-1")
    assert (found["FTA"]["count"], found["FTA"]["trials"]) == (1, 5)
    assert (found["FTE"]["count"], found["FTE"]["trials"]) == (1, 4)
    assert found["verification"]["counts"] == {
        "mated": 2,
        "nonmated": 8,
        "mated_lost": 2,
        "nonmated_lost": 8,
    }
    # Dan failed to enrol: his search fails. Of Eve her own comparison alone failed: her search misses her.
    counts = found["identification"]["counts"]
    assert (counts["mated"], counts["mated_lost"], counts["nonmated_lost"]) == (3, 1, 1)
    assert found["identification"]["cmc"] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 2 / 3])


def test_nan_fails_where_it_is_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [HAND[0], ["ann", 0.9, "", "nan"], *HAND[2:]]
    path = _csv(tmp_path / "nan.csv", rows)
    found = _json(capsys, path, "--failed-score", "nan")
    assert found["verification"]["counts"]["nonmated_lost"] == 2
    table = pd.DataFrame(
        [[0.9, np.nan, np.nan], HAND[2][1:], HAND[3][1:]], index=["ann", "bob", "cid"], columns=HAND[0][1:]
    )
    table.to_parquet(tmp_path / "nan.parquet")
    assert _json(capsys, str(tmp_path / "nan.parquet"), "--failed-score", "nan") == found
    assert "row 1, column 2 of nan.parquet" in _refused(capsys, str(tmp_path / "nan.parquet"))


@pytest.mark.parametrize(
    "form", ["tsv", "semicolons", "csv.gz", "parquet", "indexed", "named", "npy", "fortran", "single"]
)
def test_every_form_says_the_same(
    form: str, hand: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = _json(capsys, hand)
    scores = np.array([row[1:] for row in HAND[1:]])
    probes, gallery = [row[0] for row in HAND[1:]], HAND[0][1:]
    words: list[str] = []
    if form == "tsv":
        path = _csv(tmp_path / "m.tsv", HAND, "\t")
    elif form == "semicolons":
        path = str(tmp_path / "m.csv")
        rows = [";".join(map(str, row)) for row in HAND]
        Path(path).write_bytes(("\r\n".join(["\ufeff" + rows[0], *rows[1:]]) + "\r\n\r\n").encode())
    elif form == "csv.gz":
        path = str(tmp_path / "m.csv.gz")
        Path(path).write_bytes(gzip.compress(Path(hand).read_bytes()))
    elif form == "parquet":
        path = str(tmp_path / "m.parquet")
        pq.write_table(pa.table({"who": probes, **dict(zip(gallery, scores.T, strict=True))}), path)
    elif form == "indexed":
        path = str(tmp_path / "m.parquet")
        pd.DataFrame(scores, index=probes, columns=gallery).to_parquet(path)
    elif form == "named":
        path = str(tmp_path / "m.parquet")
        pd.DataFrame(scores, index=pd.Index(probes, name="probe"), columns=gallery).to_parquet(path)
    else:
        path, words = str(tmp_path / "m.npy"), []
        for name, ids in (("probes", probes), ("gallery", gallery)):
            (tmp_path / f"{name}.txt").write_text("".join(f"{one}\n" for one in ids), encoding="utf-8")
            words += [f"--{name}", str(tmp_path / f"{name}.txt")]
        made = {"npy": scores, "fortran": np.asfortranarray(scores), "single": scores.astype(np.float32)}
        np.save(path, made[form])
    found = _json(capsys, path, *words)
    if form == "single":
        assert found["identification"]["cmc"] == own["identification"]["cmc"]
        assert found["verification"]["auc_exact"] == own["verification"]["auc_exact"]
    else:
        assert found == own


def test_ids_are_one_in_any_unicode_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    composed, apart = (unicodedata.normalize(form, "김") for form in ("NFC", "NFD"))
    rows = [["", composed, "bob"], [apart, 0.9, 0.1], ["bob", 0.2, 0.8]]
    assert _json(capsys, _csv(tmp_path / "nfc.csv", rows))["probes_with_a_mate"] == 2
    twice = [["", composed, "bob"], [apart, 0.9, 0.1], [composed, 0.2, 0.8]]
    assert "row 2 has the id of 1" in _refused(capsys, _csv(tmp_path / "twice.csv", twice))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "is empty"),
        ([["ids"], ["ann"]], "names nobody in the gallery"),
        (HAND[:1], "has no scores"),
        ([*HAND, ["dan", 0.1, 0.2]], "row 4 of bad.csv has 3 cells, and the first line 4"),
        ([*HAND, ["dan", 0.1, 0.2, 0.3, 0.4]], "row 4 of bad.csv has 5 cells"),
        ([*HAND, ["dan", 0.1, "x", 0.2]], "row 4, column 3 of bad.csv holds 'x', which is no finite number"),
        ([*HAND, ["dan", 0.1, "1_0", 0.2]], "row 4, column 3 of bad.csv holds '1_0'"),
        ([*HAND, ["dan", "nan", 0.1, 0.2]], "row 4, column 2 of bad.csv holds 'nan'"),
        ([*HAND, ["dan", 0.1, 0.1, "inf"]], "row 4, column 4 of bad.csv holds 'inf'"),
        ([*HAND, ["dan", 0.1, 0.1, ""]], "row 4, column 4 of bad.csv is empty"),
        ([*HAND, ["ann", 0.1, 0.1, 0.2]], "bad.csv: row 4 has the id of 1"),
        ([*HAND, [" ", 0.1, 0.1, 0.2]], "bad.csv: row 4 has no id"),
        ([["", "ann", "bob", "ann"], *HAND[1:]], "bad.csv: column 4 has the id of 2"),
        ([["", "ann", "", "dan"], *HAND[1:]], "bad.csv: column 3 has no id"),
        ([["", "xan", "yob", "zan"], *HAND[1:]], "nothing is mated"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(
    rows: list[list[Any]], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in _refused(capsys, _csv(tmp_path / "bad.csv", rows))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfea,b\n", "not UTF-8"),
        (b"id,a\na,1\n\xff,2\n", "not UTF-8"),
        (b'id,a\n"a,1\n', "bad.csv"),
        (b"id,a\na\x00,1\n", "bad.csv"),
    ],
)
def test_broken_texts_are_refused(
    data: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.csv").write_bytes(data)
    assert words in _refused(capsys, str(tmp_path / "bad.csv"))


def test_numpy_needs_ids_that_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, ids = str(tmp_path / "m.npy"), str(tmp_path / "ids.txt")
    np.save(path, np.eye(3))
    Path(ids).write_text("ann\nbob\n", encoding="utf-8")
    lists = ("--probes", ids, "--gallery", ids)
    assert "--probes FILE --gallery FILE" in _refused(capsys, path)
    assert "is 3 x 3, and there are 2 probe ids and 2 gallery ids" in _refused(capsys, path, *lists)
    Path(ids).write_text("ann\n\nbob\n", encoding="utf-8")
    assert "ids.txt: line 2 has no id" in _refused(capsys, path, *lists)
    Path(ids).write_text("ann\nbob\nann\n", encoding="utf-8")
    assert "ids.txt: line 3 has the id of 1" in _refused(capsys, path, *lists)
    Path(ids).write_text("ann\nbob\ncid\n", encoding="utf-8")
    np.save(path, np.array([[1, 2, 3], [1, np.nan, 3], [1, 2, 3]]))
    assert "row 2, column 2 of m.npy holds 'nan'" in _refused(capsys, path, *lists)
    for array in (np.zeros(3), np.array([["a"]]), np.array([[None]])):
        np.save(path, array, allow_pickle=True)
        assert "m.npy holds" in _refused(capsys, path, *lists)
    whole = Path(path).read_bytes()
    for shape in ((-3, -3), (0, 3)):
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": shape})
        Path(path).write_bytes(head.getvalue() + bytes(8 * max(0, shape[0] * shape[1])))
        assert "m.npy" in _refused(capsys, path, *lists)
    np.save(path, np.eye(3))
    Path(path).write_bytes(Path(path).read_bytes()[:-5])
    assert "its header says 72" in _refused(capsys, path, *lists)
    Path(path).write_bytes(whole[:20])
    assert "no .npy file" in _refused(capsys, path, *lists)
    assert "no file" in _refused(capsys, f"{tmp_path}/gone.npy", *lists)
    assert "holds its ids itself" in _refused(capsys, _csv(tmp_path / "m.csv", HAND), *lists)


def test_parquet_of_other_kinds_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "m.parquet")
    pq.write_table(pa.table({"id": ["a", "b"], "a": [0.1, 0.2], "b": ["x", "y"]}), path)
    assert "column 3 of m.parquet holds string and no numbers" in _refused(capsys, path)
    pq.write_table(pa.table({"id": [0.5, 0.6], "a": [0.1, 0.2]}), path)
    assert "column 1 of m.parquet holds double and no ids" in _refused(capsys, path)
    pq.write_table(pa.table({"id": ["a", None], "a": [0.1, 0.2]}), path)
    assert "m.parquet: row 2 has no id" in _refused(capsys, path)
    Path(path).write_bytes(b"no parquet")
    assert "no Parquet file" in _refused(capsys, path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rank", "4"), "rank 4, and the gallery has 3"),
        (("--at", "fmr=0.001"), "insufficient data"),
        (("-o", "curves.pdf"), "neither a PNG nor an HTML page"),
    ],
)
def test_questions_without_an_answer_are_refused(
    words: Sequence[str], said: str, hand: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in _refused(capsys, hand, *words)


def test_a_matrix_that_failed_altogether_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [["", "ann", "bob"], ["ann", -1, -1], ["bob", -1, -1]]
    assert "no mated trial has a score" in _refused(
        capsys, _csv(tmp_path / "m.csv", rows), "--failed-score", "-1"
    )


def test_a_dry_run_counts_and_writes_nothing(
    hand: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert main(["metrics", "matrix", hand, "--dry-run", "-o", str(page)]) == 0
    said = capsys.readouterr().out
    assert "2 probes have a mate" in said
    assert "verification" not in said
    assert not page.exists()
    assert _json(capsys, hand, "--dry-run")["comparisons"] == 9


@pytest.mark.parametrize("suffix", ["html", "png"])
def test_curves_are_drawn(suffix: str, hand: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"curves.{suffix}"
    assert main(["metrics", "matrix", hand, "-o", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    if suffix == "html":
        text = path.read_text(encoding="utf-8")
        assert "CMC: mates within a rank" in text
        assert "TPIR over TNIR" in text
        assert "ann" not in text
    else:
        assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("seed", range(3))
def test_areas_and_curves_agree_with_scikit_learn(seed: int) -> None:
    matrix = _random(seed)
    mated, score, *_ = _list(matrix)
    found = scored_matrix(matrix, Operating()).verification
    assert found.table.auc_exact == pytest.approx(roc_auc_score(mated, score))
    fmr, tar, threshold = roc_curve(mated, score, drop_intermediate=False)
    assert found.curve.threshold == pytest.approx(threshold)
    assert found.curve.fmr == pytest.approx(fmr)
    assert found.curve.tar == pytest.approx(tar)


@pytest.mark.parametrize("kind", ["similarity", "distance"])
@pytest.mark.parametrize("seed", range(3))
def test_searches_are_those_of_candidate_lists(seed: int, kind: Any) -> None:
    some = _random(seed, places=1)
    matrix = ScoreMatrix(some.probe, some.gallery, some.score if kind == "similarity" else -some.score, kind)
    row, column = np.nonzero(~np.isnan(matrix.score))
    gallery = np.array(matrix.gallery)
    own = searches_of(
        row,
        gallery[column],
        matrix.score[row, column],
        matrix.probe,
        gallery[~matrix.gallery_failed],
        failed=np.flatnonzero(matrix.probe_failed),
        not_enrolled=gallery[matrix.gallery_failed],
        kind=kind,
    )
    found = matrix.searches
    assert (found.rank == own.rank).all()
    assert (found.mate == own.mate).all()
    assert own.other is not None
    assert found.other is not None
    assert (found.other == own.other).all()
    assert (found.best_stranger == own.best_stranger).all()
    assert (found.gallery, found.mated_lost, found.nonmated_lost) == (
        own.gallery,
        own.mated_lost,
        own.nonmated_lost,
    )


@pytest.mark.parametrize("threshold", [-9.0, 0.0, 1.5, 2.5, 9.0])
@pytest.mark.parametrize("failed", [True, False])
def test_intervals_are_those_of_the_same_comparisons_as_a_list(threshold: float, failed: bool) -> None:
    matrix = _random(1, failed)
    mated, score, a, b = _list(matrix)
    own = clustered_rate((score >= threshold)[~mated], a[~mated], b[~mated])
    found = matrix.nonmated_interval(threshold)
    assert (found.low, found.high) == pytest.approx((own.low, own.high), abs=1e-12)
    assert found.method == own.method
    own = clustered_rate((score < threshold)[mated], a[mated])
    found = matrix.mated_interval(threshold)
    assert (found.low, found.high) == pytest.approx((own.low, own.high), abs=1e-12)


def _equal(curve: Curve) -> float:
    found = equal_error(curve)
    return found.value if isinstance(found, EqualError) else np.nan


METRICS = [Curve.auc, _equal, lambda curve: curve.fnmr_at(0.01)]


def test_people_are_drawn_as_they_are_for_a_list() -> None:
    """With every id completed on some side, the same draws give the same numbers."""
    matrix = _random(2, failed=False)
    mated, score, a, b = _list(matrix)
    persons = a[mated], a[~mated], b[~mated]
    scores = Scores(score[mated], score[~mated])
    slow = curve_replicates(scores, persons[0], persons[1:], METRICS)
    fast = pair_replicates("similarity", scores.mated, scores.nonmated, persons, METRICS)
    assert fast == pytest.approx(slow, nan_ok=True)
    assert matrix.replicates(METRICS) == pytest.approx(slow, nan_ok=True)

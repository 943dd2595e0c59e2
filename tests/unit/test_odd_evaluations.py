"""Evaluations of odd sets: each gives what can be given, and says what cannot."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from album_runs import Shot, enrolled, face
from test_evaluation_identification import lecture
from test_evaluation_results import asked, finished, rows
from test_evaluation_verification import trials

from frpipe.evaluation.searches import SearchTrials
from frpipe.evaluation.verification import VerificationQuestion
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.spec import GallerySpec
from frpipe.jobs.evaluate import output
from frpipe.jobs.evaluate.all_pairs.comparison_counts import ComparisonCounts
from frpipe.jobs.evaluate.all_pairs.job import AllPairs
from frpipe.jobs.evaluate.all_pairs.source import People
from frpipe.jobs.evaluate.job import IdentificationMetrics, VerificationMetrics
from frpipe.jobs.evaluate.pair_results import PairColumns, PairResults
from frpipe.jobs.evaluate.search_results import SearchResults, _trials
from frpipe.jobs.identify.single import _threshold
from frpipe.matching.threshold import threshold_of
from frpipe.metrics.curve import Curve
from frpipe.metrics.operating import Insufficient, at_target
from frpipe.metrics.scores import Scores
from frpipe.models.registry import Registry
from frpipe.runtime.runtime import Runtime

PAIRS = 200
MATED = np.arange(PAIRS) < PAIRS // 2
CURVES = ("AUC_exact", "EER", "TAR")


def some(mask: np.ndarray, **changed: Any) -> dict[str, Any]:
    """Rows of a result."""
    table = pa.table(rows(PAIRS)).filter(pa.array(mask))
    return {name: table[name] for name in table.column_names} | changed


@pytest.fixture(autouse=True)
def plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn where a kind of curve is missing; elsewhere they only take time."""
    if not request.node.name.startswith(("test_one_kind", "test_odd_searches")):
        monkeypatch.setattr(output, "figures", lambda _: [])


def evaluated(place: Path, columns: dict[str, Any] | pa.Table, **more: Any) -> tuple[dict[str, Any], Path]:
    """What the report says of the system, and the report's folder."""
    result, out = finished(place / "v", columns), place / "report"
    report = VerificationMetrics(asked(result, out, **more), PairColumns()).run().as_dict()
    assert (out / "_SUCCESS").exists() and (out / "report.html").stat().st_size > 1000
    return report["systems"][0], out


def numbers(out: Path) -> dict[str, dict[str, Any]]:
    """The last number of each measure."""
    table = pq.read_table(out / "numbers.parquet")
    return {number["measure"]: number for number in table.to_pylist()}


@pytest.mark.parametrize(
    ("mask", "given", "rate", "lacking"),
    [
        (MATED, "FNMR", "FMR", "no non-mated comparisons"),
        (~MATED, "FMR", "FNMR", "no mated comparisons"),
        (np.arange(PAIRS) == 0, "FNMR", "FMR", "no non-mated comparisons"),
    ],
    ids=["mated only", "non-mated only", "one pair"],
)
def test_one_kind_of_pairs_gives_its_own_rates(
    tmp_path: Path, mask: np.ndarray, given: str, rate: str, lacking: str
) -> None:
    said, out = evaluated(tmp_path, some(mask))
    found = numbers(out)
    assert found[given]["trials"] == np.count_nonzero(mask) and found[given]["value"] is not None
    assert (found[rate]["value"], found[rate]["note"]) == (None, "no trials")
    assert {(found[name]["value"], found[name]["note"]) for name in CURVES} == {(None, lacking)}
    assert any(warning.startswith(f"{lacking}: there are no curves") for warning in said["warnings"])


def test_pairs_of_one_person_and_no_pairs_at_all_are_evaluated(tmp_path: Path) -> None:
    one = some(MATED, subject_a=["s"] * 100, subject_b=["s"] * 100)
    said, _ = evaluated(tmp_path / "one", one)
    assert (said["counts"]["mated"], said["counts"]["persons"]) == (100, 1)
    said, _ = evaluated(tmp_path / "none", pa.table(rows(PAIRS)).slice(0, 0))
    assert said["counts"]["mated"] == 0 and "no mated and no non-mated comparisons" in said["warnings"][0]


def test_pairs_that_all_failed_are_evaluated(tmp_path: Path) -> None:
    lost = some(MATED | ~MATED, status=["missing_a"] * PAIRS, similarity=pa.nulls(PAIRS, pa.float64()))
    said, out = evaluated(tmp_path, lost)
    assert said["counts"]["mated_lost"] == 100
    assert (numbers(out)["FRR"]["count"], numbers(out)["FRR"]["trials"]) == (100, 100)


def test_non_mated_pairs_alone_make_a_card(tmp_path: Path) -> None:
    _, out = evaluated(tmp_path, some(~MATED), cards=(0.1,))
    (card,) = (out / "cards").iterdir()
    found = json.loads(card.read_text())
    scores = np.sort(np.asarray(some(~MATED)["similarity"]))[::-1]
    errors = int(np.count_nonzero(scores >= found["value"]))
    assert found["trials"] == 100 and f"by {errors:,} errors" in found["source"] and errors < 10


@pytest.mark.parametrize("mated", [False, True])
def test_a_fold_of_one_kind_is_said(tmp_path: Path, mated: bool) -> None:
    kind = MATED if mated else ~MATED
    folds = np.where(kind & (np.arange(PAIRS) % 2 == 0), "b", "a")
    said, out = evaluated(tmp_path, some(MATED | ~MATED, fold=folds))
    name = "non-mated" if mated else "mated"
    assert f"the fold b has no {name} comparisons: an accuracy over folds says little" in said["warnings"]
    assert numbers(out)["folds_accuracy"]["note"]


def test_training_pairs_of_one_kind_choose_nothing(tmp_path: Path) -> None:
    folds = np.where(MATED & (np.arange(PAIRS) % 2 == 0), "train", "")
    said, out = evaluated(tmp_path, some(MATED | ~MATED, fold=folds))
    assert "the training pairs choose no threshold: no non-mated comparisons" in said["warnings"]
    assert numbers(out)["accuracy"]["trials"] == 150


def test_folds_that_others_cannot_choose_for_do_not_end_the_evaluation() -> None:
    given = trials(PAIRS)
    folds = np.array([f"{row % 2}" for row in range(PAIRS)], object)
    own = replace(given, fold=folds)
    found = VerificationQuestion(chosen_on=own.some(MATED)).answer("x", own, {})
    assert "no threshold for a fold" in str(found.number("folds_accuracy").note)  # type: ignore[union-attr]


def test_pairs_that_are_listed_again_carry_no_stricter_target(tmp_path: Path) -> None:
    """A hundred non-mated pairs, three times, mirrored once: 0.03 takes a hundred, 0.01 three hundred."""
    once = pa.table(rows(PAIRS))
    turned = {"a": "b", "b": "a", "subject_a": "subject_b", "subject_b": "subject_a"}
    mirrored = once.rename_columns([turned.get(name, name) for name in once.column_names])
    thrice = pa.concat_tables([once, once, mirrored.select(once.column_names)])
    said, out = evaluated(tmp_path, thrice)
    assert (said["counts"]["nonmated"], said["counts"]["nonmated_distinct"]) == (300, 100)
    assert any(warning.startswith("400 pairs are listed before") for warning in said["warnings"])
    page = (out / "report.html").read_text()
    assert "non-mated, each two photos once 100" in page
    question = VerificationQuestion(targets=(0.03, 0.01))
    results = PairResults.open(str(tmp_path / "v"), PairColumns())
    enough, few = (question.answer("x", results.trials, {}).number("TAR", at) for at in (0.03, 0.01))
    assert enough is not None and enough.value is not None and enough.support == "rule of 3"
    assert few is not None and few.value is None
    assert str(few.note).endswith("100 distinct non-mated trials, 0.01 needs 300")


def test_the_rule_of_three_takes_the_number_of_distinct_trials() -> None:
    curve = Curve.of(Scores.of([0.9], np.linspace(0, 0.5, 300)))
    assert not isinstance(at_target(curve, 0.01), Insufficient)
    assert isinstance(at_target(curve, 0.01, distinct=100), Insufficient)


def test_ids_that_may_be_meant_as_one_are_said(tmp_path: Path) -> None:
    names = np.asarray(rows(PAIRS)["subject_a"])
    result = finished(tmp_path / "v", some(MATED | ~MATED, subject_a=np.where(MATED, " " + names, names)))
    warnings = PairResults.open(result, PairColumns()).warnings
    assert any("from another only in case, blanks" in warning for warning in warnings)
    photos = pa.array(["1", " 1", "2", "2"])
    counts = ComparisonCounts.of(_Source([People(photos, pa.nulls(4, pa.string()), photos)]))
    (warning,) = counts.warnings
    assert warning.startswith("1 id differs from another only in case, blanks")


class _Source:
    """A source of one block."""

    block_rows, left_out = 4, dict[str, int]()

    def __init__(self, blocks: list[People]) -> None:
        self.blocks = blocks

    def people(self, number: int) -> People:
        return self.blocks[number]


def test_a_score_that_is_no_number_is_a_failure_and_said(tmp_path: Path) -> None:
    similarity = np.array(rows(PAIRS)["similarity"])
    similarity[3] = np.nan
    said, _ = evaluated(tmp_path, some(MATED | ~MATED, similarity=similarity))
    assert said["warnings"] == ["1 pair has no score, though both sides had a face: counted as failures"]
    assert (said["counts"]["mated"], said["counts"]["mated_lost"]) == (99, 1)


def _probes(names: list[str], candidates: list[list[tuple[str, float]]]) -> pa.Table:
    lists = [[{"subject_id": who, "similarity": score} for who, score in each] for each in candidates]
    kind = pa.list_(pa.struct([("subject_id", pa.string()), ("similarity", pa.float64())]))
    photos = [f"photo-{number}" for number in range(len(names))]
    status = ["ok"] * len(names)
    columns = {"image_id": photos, "probe_subject_id": names, "status": status}
    return pa.table({**columns, "candidates": pa.array(lists, kind)})


def test_a_candidate_without_a_score_is_left_out_and_an_alike_id_is_said() -> None:
    table = _probes(["1", "2"], [[("1", np.nan), (" 1", 0.9)], [("2", 0.8)]])
    found, warnings = _trials(table, np.array([" 1", "1", "2"], object), np.zeros(0, object), (), "")
    assert found.similarity.tolist() == [0.9, 0.8]
    assert warnings[0] == "1 candidate has no score: left out"
    assert "from another only in case, blanks" in warnings[1]


@pytest.mark.parametrize(
    ("given", "lacking"),
    [
        (lecture().some(np.arange(10) < 5), "FPIR"),
        (lecture().some(np.arange(10) >= 5), "FNIR"),
        (lecture().some(np.arange(10) == 0), "FPIR"),
        (replace(lecture(), failed=np.ones(10, bool), probe=np.zeros(0, int), subject=np.zeros(0, object),
                 similarity=np.zeros(0)), "FNIR"),
        (replace(lecture(), enrolled=np.zeros(0, object), probe=np.zeros(0, int),
                 subject=np.zeros(0, object), similarity=np.zeros(0)), "FNIR"),
    ],
    ids=["mated only", "strangers only", "one probe", "all failed", "empty gallery"],
)  # fmt: skip
def test_odd_searches_are_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: SearchTrials, lacking: str
) -> None:
    result = SearchResults("r", given, 0.5, 1, "", "d", {"result": "r"})
    monkeypatch.setattr(SearchResults, "open", lambda *_: result)
    IdentificationMetrics(asked("r", tmp_path / "report")).run()
    found = numbers(tmp_path / "report")
    assert (found[lacking]["value"], found[lacking]["note"]) == (None, "no trials")
    assert found["TPIR"]["value"] is None and found["TPIR"]["note"]


@pytest.mark.parametrize(("people", "lacking"), [(("a", "a"), "no non-mated"), (("a", "b"), "no mated")])
def test_all_pairs_of_one_kind_say_what_there_is_not(
    tmp_path: Path, people: tuple[str, str], lacking: str
) -> None:
    shots = {f"{number}.jpg": Shot(name, [face(number)]) for number, name in enumerate(people)}
    features, out = enrolled(tmp_path / "features", shots), str(tmp_path / "report")
    AllPairs(out, features=features, thresholds=(0.5,), runtime=Runtime(choice="local")).run()
    found = numbers(tmp_path / "report")
    assert {found[name]["note"] for name in CURVES} == {f"{lacking} comparisons"}


def test_an_empty_gallery_is_called_empty(tmp_path: Path) -> None:
    card = Registry.default().card("sface_2021dec")
    assert "nobody to search" in str(threshold_of(card.sha256, embedder_card=card, searched=0).warning)
    assert "3 templates" in str(threshold_of(card.sha256, embedder_card=card, searched=3).warning)
    gallery = Gallery.create(str(tmp_path / "g"), GallerySpec(128, card.sha256, "p" * 64, "d" * 64))
    limit = _threshold(gallery.snapshot(), gallery.spec, None, None)
    assert limit.warning == "there is nobody to search: every probe is a stranger"

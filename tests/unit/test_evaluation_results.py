"""From results on disk to a report: what a hostile or careless user hands in. No Ray, no photos."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_evaluation_identification import lecture
from test_evaluation_verification import trials

from frpipe.core.errors import ConfigError, OutputError
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.identification import IdentificationQuestion
from frpipe.evaluation.verification import VerificationQuestion
from frpipe.io.output import run
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.evaluate import photo_facts
from frpipe.jobs.evaluate.job import Asked, EvaluationPlan, IdentificationMetrics, VerificationMetrics
from frpipe.jobs.evaluate.output import file_name
from frpipe.jobs.evaluate.pair_results import PairColumns, PairResults
from frpipe.jobs.evaluate.photo_facts import PhotoFacts
from frpipe.jobs.evaluate.search_results import SearchResults
from frpipe.jobs.evaluate.systems import System, compared, named
from frpipe.metrics.errors import ScoresError

HASHES = {"embedder_hash": "e" * 64, "preprocessing_hash": "f" * 64}
FACTS = {"features": "gone", "feature_run": "r", "faces": "largest", "threshold": {"similarity": 0.25}}


def rows(pairs: int = 200) -> dict[str, Any]:
    """The columns of a result, half of it mated."""
    given = trials(pairs)
    people = [np.array([f"s{n:02d}" for n in side], object) for side in (given.person_a, given.person_b)]
    empty = [None] * pairs
    return {
        "a": "first of " + given.a,
        "b": "second of " + given.b,
        "mated": given.mated,
        "subject_a": people[0],
        "subject_b": people[1],
        "similarity": given.similarity,
        "status": ["compared"] * pairs,
        "reason_a": pa.array(empty, pa.string()),
        "reason_b": pa.array(empty, pa.string()),
    }


def finished(place: Path, columns: dict[str, Any] | pa.Table, job: str = "verify", **facts: Any) -> str:
    out = Folder.at(str(place))
    run.claim(out, {"job": job, "pairs": "p" * 64}, {})
    units = Units(out, "pairs" if job == "verify" else "probes")
    units.publish(0, pa.table(columns) if isinstance(columns, dict) else columns, {})
    run.seal(out, units.files(), {**FACTS, **HASHES, **facts}, "")
    return str(place)


def opened(place: Path, columns: dict[str, Any]) -> PairResults:
    return PairResults.open(finished(place, columns), PairColumns())


def asked(result: str, output: Path, **more: Any) -> Asked:
    return Asked([result], str(output), targets=(0.1,), worst=False, **more)


class TestOutput:
    def test_a_card_that_the_data_refuse_does_not_keep_the_folder(self, tmp_path: Path) -> None:
        result, output = finished(tmp_path / "v", rows()), tmp_path / "report"
        with pytest.raises(ScoresError, match="are needed"):
            VerificationMetrics(asked(result, output, cards=(1e-6,)), PairColumns()).run()
        assert not output.exists()
        said: list[str] = []
        first, again = (
            VerificationMetrics(asked(result, output, cards=(0.1,)), PairColumns(), say=said.append).run()
            for _ in range(2)
        )
        assert first == again and said[-1].endswith("nothing to do")
        # What is done already is not evaluated once more to find that out.
        assert sum("evaluating" in line for line in said) == 1

    def test_results_that_cannot_be_compared_do_not_keep_the_folder(self, tmp_path: Path) -> None:
        others = rows() | {side: np.char.add("other ", rows()[side].astype(str)) for side in ("a", "b")}
        results = [finished(tmp_path / "v", rows()), finished(tmp_path / "w", others)]
        question = Asked(results, str(tmp_path / "report"), names=("one", "two"), targets=(0.1,))
        with pytest.raises(ConfigError, match="no trial in common"):
            VerificationMetrics(question, PairColumns()).run()
        assert not (tmp_path / "report").exists()

    @pytest.mark.parametrize(
        "wrong",
        [
            {"thresholds": [np.nan]},
            {"thresholds": [1.2]},
            {"targets": [0.0]},
            {"cards": [1.0]},
            {"confidence": 1.0},
        ],
    )
    def test_numbers_out_of_range_are_refused_at_once(self, tmp_path: Path, wrong: dict[str, Any]) -> None:
        question = Asked(["nowhere"], str(tmp_path / "report"), **wrong)
        with pytest.raises(ConfigError):
            VerificationMetrics(question, PairColumns()).run()

    def test_names_that_are_one_file_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="all different"):
            named(["x", "y"], ["a/b", "a_b"])
        assert named(["x", "y"], ["模型一", "模型二"])
        # A hidden file would never be found again, and the run never be done.
        assert not file_name("..-0.001").startswith(".") and "/" not in file_name("../up")

    def test_a_closed_set_is_evaluated(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        mated = lecture().some(np.arange(5))
        result = SearchResults("r", mated, None, 1, "", "d", {"result": "r", **HASHES})
        monkeypatch.setattr(SearchResults, "open", lambda *_: result)
        report = IdentificationMetrics(asked("r", tmp_path / "report")).run()
        assert any(line.startswith("CMC at 1: 0.8") for line in report["systems"][0]["headlines"])
        with pytest.raises(ScoresError):
            IdentificationMetrics(asked("r", tmp_path / "card", cards=(0.1,))).run()


class TestPairs:
    def test_a_file_that_changed_is_refused_and_kept(self, tmp_path: Path) -> None:
        result = finished(tmp_path / "v", rows())
        (part,) = (tmp_path / "v/pairs").iterdir()
        part.write_bytes(part.read_bytes()[:-1] + b"x")
        with pytest.raises(OutputError, match="is not the file that was checked"):
            PairResults.open(result, PairColumns())
        assert part.exists()

    def test_a_file_that_is_not_listed_is_not_read(self, tmp_path: Path) -> None:
        result = finished(tmp_path / "v", rows())
        pq.write_table(pa.table(rows()), tmp_path / "v/pairs/part-000007.parquet")
        assert len(PairResults.open(result, PairColumns()).trials) == 200

    def test_a_result_of_another_job_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="result of jobs/verify"):
            PairResults.open(finished(tmp_path / "v", rows(), "identify"), PairColumns())

    def test_nobody_is_not_one_person(self, tmp_path: Path) -> None:
        columns = rows()
        for side in ("subject_a", "subject_b"):
            columns[side][[0, 150]] = None
        found = opened(tmp_path / "v", columns)
        assert not found.trials.mated[150]
        assert found.trials.person_a[150] != found.trials.person_b[150]
        assert found.trials.person_a[0] == found.trials.person_b[0] != found.trials.person_a[150]
        (warning,) = found.warnings
        assert warning.startswith("who is on 4 of ") and "too narrow" in warning
        del columns["mated"]
        with pytest.raises(ConfigError, match="nothing says"):
            opened(tmp_path / "w", columns)

    def test_pairs_listed_again_do_not_make_a_card_surer(self, tmp_path: Path) -> None:
        once = pa.table(rows())
        turned = {"a": "b", "b": "a", "subject_a": "subject_b", "subject_b": "subject_a"}
        other = once.rename_columns([turned.get(name, name) for name in once.column_names])
        twice = pa.concat_tables([once, other.select(once.column_names)])
        result = finished(tmp_path / "v", twice)
        (warning,) = PairResults.open(result, PairColumns()).warnings
        assert warning.startswith("200 pairs are listed before")
        VerificationMetrics(asked(result, tmp_path / "report", cards=(0.1,)), PairColumns()).run()
        (card,) = (tmp_path / "report/cards").iterdir()
        assert json.loads(card.read_text())["trials"] == 100

    def test_photos_of_another_run_name_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        other = SimpleNamespace(run_id="another", folder=None)
        monkeypatch.setattr(photo_facts, "FeatureRun", SimpleNamespace(open=lambda _: other))
        with pytest.raises(OutputError, match="another run"):
            PhotoFacts.of("features", run_id="r")


def test_who_failed_to_enrol_in_a_part_of_the_gallery_is_not_guessed(tmp_path: Path) -> None:
    place = finished(tmp_path / "s", {"x": [1]}, "identify", where={"site": "A"})
    with pytest.raises(ConfigError, match="--where"):
        SearchResults.open(place, (), "staff")


class TestSystems:
    def of(self, name: str, found: Any, question: Any) -> System:
        return System(Evaluation(name, "verification", {}, [], {}, {}), found, question.estimates(), "")

    def test_people_are_drawn_alike_whatever_the_results_call_them(self) -> None:
        question, first, second = VerificationQuestion(targets=(0.1,)), trials(), trials(gap=0.4)
        second = replace(second, a=first.a, b=first.b, person_a=first.person_a, person_b=first.person_b)
        # This one knows of nobody: each photo is a person.
        blind = replace(second, person_a=np.arange(400), person_b=np.arange(400) + 400 * ~second.mated)
        wanted, got = (
            compared([self.of("a", first, question), self.of("b", one, question)]) for one in (second, blind)
        )
        assert wanted == got

    def test_a_search_that_is_mated_in_one_gallery_alone_is_not_compared(self) -> None:
        question, whole = IdentificationQuestion(targets=(0.5,)), lecture()
        without = replace(whole, enrolled=whole.enrolled[1:])
        found = compared([self.of("a", whole, question), self.of("b", without, question)])
        assert {one.trials for one in found} == {9}

    def test_closed_sets_have_no_difference_of_curves(self) -> None:
        question, mated = IdentificationQuestion(targets=()), lecture().some(np.arange(5))
        found = compared([self.of(name, mated, question) for name in "ab"])
        assert {one.note for one in found} == {"insufficient data"}


def test_a_run_that_another_process_has_finished_meanwhile_is_not_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluations, and the start of a cluster, take their time; who comes second finds the work done."""
    job = VerificationMetrics(asked(finished(tmp_path / "v", rows()), tmp_path / "report"), PairColumns())
    reopened: list[str] = []

    def faster(_: object) -> None:
        monkeypatch.undo()
        job.run()
        monkeypatch.setattr(run, "reopen", lambda out: reopened.append(out.uri))

    monkeypatch.setattr(EvaluationPlan, "before_claim", faster)
    assert job.run().as_dict() == json.loads((tmp_path / "report/report.json").read_text())
    assert reopened == []

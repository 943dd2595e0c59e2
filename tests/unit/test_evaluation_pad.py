"""Evaluations of presentation attack detection, from a list or an enroll output to a page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_evaluation_results import HASHES

from frpipe.core.errors import ConfigError, ManifestError, OutputError
from frpipe.core.schema import later_image_fields
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.pad import SPECIES, PadQuestion
from frpipe.evaluation.plots.figures import figures
from frpipe.evaluation.presentations import PadTrials
from frpipe.io.output import run
from frpipe.io.output.parts import PartFile, to_parquet
from frpipe.io.storage.folder import Folder
from frpipe.jobs.evaluate import pad_results
from frpipe.jobs.evaluate.job import Asked
from frpipe.jobs.evaluate.pad_job import PadMetrics
from frpipe.jobs.evaluate.pad_results import PadColumns, PadResults

# 4 bona fide, one refused and one more without a response; prints are caught, a third of replays is not.
SPECIES_OF = ["", "", "", "", "", "print", "print", "replay", "replay", "replay"]
SCORES = [0.9, 0.8, 0.7, 0.2, np.nan, 0.1, 0.3, 0.6, 0.2, 0.1]


def trials(**more: Any) -> PadTrials:
    people = np.array([0, 1, 2, 3, 4, 0, 1, 0, 1, 2])
    return PadTrials(np.array(SPECIES_OF, object), np.array(SCORES), people, **more)


def answer(given: PadTrials, **asked: Any) -> Evaluation:
    return PadQuestion(**asked).answer("x", given, {})


def counts(found: Evaluation, column: str | None = None) -> dict[str, tuple[int | None, int | None]]:
    return {
        n.measure if n.group is None else f"{n.measure} {n.group}": (n.count, n.trials)
        for n in found.numbers
        if n.column == column
    }


def made(each: int = 100) -> PadTrials:
    """So many of each kind, of twenty people."""
    rng = np.random.default_rng(1)
    species = np.repeat(np.array(["", "print", "replay"], object), each)
    means = np.repeat([0.8, 0.2, 0.4], each)
    return PadTrials(species, rng.normal(means, 0.15), np.arange(3 * each) % 20)


def test_by_hand() -> None:
    found = answer(trials(), thresholds=(0.5,))
    assert counts(found) == {
        "APCER": (1, 3), "BPCER": (1, 4), "BPCER_fixed": (None, None), "APNRR": (0, 5), "BPNRR": (1, 5),
    }  # fmt: skip
    assert counts(found, SPECIES) == {
        "APCER print": (0, 2), "APNRR print": (0, 2), "APCER replay": (1, 3), "APNRR replay": (0, 3),
    }  # fmt: skip
    worst = found.number("APCER", 0.5)
    assert worst is not None and worst.note == "worst of 2 species: replay"
    assert found.counts["bona_fide_without_response"] == 1
    assert any("attacks are on 3 persons" in words for words in found.warnings)


def test_the_whole_system_accepts_what_passes_and_matches() -> None:
    alike = np.array([0.9, 0.1, 0.9, 0.9, np.nan, 0.9, 0.9, 0.9, 0.9, 0.9])
    found = answer(trials(similarity=alike), match=0.5)
    assert counts(found)["IAPAR"] == (1, 3)
    assert counts(found)["FRR_system"] == (3, 5)
    assert found.number("RIAPAR", 0.5).value == pytest.approx(1 / 3 + 3 / 5)  # type: ignore[union-attr]
    assert counts(found, SPECIES)["IAPAR print"] == (0, 2)
    assert "IAPAR" not in counts(answer(trials()))


def test_a_fixed_apcer_has_an_interval_or_says_what_is_lacking() -> None:
    found = answer(made())
    twenty, hundred = found.number("BPCER_fixed", 0.05), found.number("BPCER_fixed", 0.01)
    assert twenty is not None and twenty.value is not None and twenty.low is not None
    assert twenty.low <= twenty.value <= (twenty.high or 0) and (twenty.note or "").startswith("BPCER20")
    assert hundred is not None and hundred.note == "insufficient data: 100 attacks of print, 0.01 needs 300"


def test_people_who_come_again_make_intervals_wider() -> None:
    rng = np.random.default_rng(2)
    people = np.repeat(np.arange(20), 20)
    scores = 0.6 + rng.normal(0, 0.2, 20)[people] + rng.normal(0, 0.05, 400)
    species = np.where(np.arange(400) < 360, "", "print").astype(object)
    together, alone = (
        answer(PadTrials(species, scores, who)).number("BPCER", 0.5) for who in (people, np.arange(400))
    )
    assert together is not None and alone is not None
    widths = [(n.high or 0) - (n.low or 0) for n in (together, alone)]
    assert widths[0] > 1.5 * widths[1]


def test_groups_have_rates_of_their_own() -> None:
    groups = {"camera": np.array(["a", "b"] * 150, object)}
    given = made()
    found = answer(PadTrials(given.species, given.score, given.person, None, groups))
    by_camera = counts(found, "camera")
    assert {name.split()[-1] for name in by_camera} == {"a", "b"}
    assert by_camera["BPCER a"][1] == by_camera["BPCER b"][1] == 50


@pytest.mark.parametrize("kept", ["bona fide", "attacks"])
def test_one_kind_alone_gives_what_it_can(kept: str) -> None:
    given = made()
    found = answer(given.some(given.bona_fide == (kept == "bona fide")))
    assert not found.curves and any("no DET" in words for words in found.warnings)
    one, other = ("BPCER", "APCER") if kept == "bona fide" else ("APCER", "BPCER")
    assert found.number(one, 0.5).value is not None  # type: ignore[union-attr]
    assert found.number(other, 0.5).value is None  # type: ignore[union-attr]
    assert figures([found])


def test_plots_show_the_worst_species_and_each() -> None:
    found = answer(made())
    plots = {plot.name: plot for plot in figures([found])}
    assert set(plots) == {"pad-det", "pad-species-1", "targets", "cohort-1"}
    assert plots["pad-species-1"].columns[1:] == ("BPCER, worst species", "BPCER, print", "BPCER, replay")
    assert plots["pad-det"].svg() == replace(plots["pad-det"]).svg()
    (row,) = (row for row in plots["pad-det"].rows if row[0] == "0.05")
    assert float(row[1].split()[0]) == pytest.approx(found.number("BPCER_fixed", 0.05).value, abs=5e-3)  # type: ignore[union-attr]


HEADER = "pad_score,label,subject_id,camera\n"
ROWS = ["0.9,bona_fide,p1,a", "0.8,Bona Fide,p2,b", ",bona-fide,p3,a", "0.1,print,p1,b", "0.7,replay,p2,a"]


def listed(place: Path, rows: list[str] = ROWS, header: str = HEADER) -> str:
    path = place / "scores.csv"
    path.write_text(header + "\n".join(rows) + "\n")
    return str(path)


class TestList:
    def test_labels_scores_and_people(self, tmp_path: Path) -> None:
        found = PadResults.open(listed(tmp_path), PadColumns(by=("camera",))).trials
        assert found.species.tolist() == ["", "", "", "print", "replay"]
        assert np.isnan(found.score[2]) and found.score[3] == 0.1
        assert found.person.tolist() == [0, 1, 2, 0, 1]
        assert found.groups["camera"].tolist() == ["a", "b", "a", "b", "a"]

    def test_parquet_is_the_same(self, tmp_path: Path) -> None:
        columns = {"pad_score": [0.9, None, 0.1], "label": ["bona_fide", "bona_fide", "print"]}
        pq.write_table(pa.table(columns), tmp_path / "scores.parquet")
        found = PadResults.open(str(tmp_path / "scores.parquet"), PadColumns())
        assert found.trials.presentations().bona_fide_lost == 1
        assert any("who is in 3 presentations is not known" in words for words in found.warnings)

    def test_rows_without_a_label_are_left_out_and_counted(self, tmp_path: Path) -> None:
        found = PadResults.open(listed(tmp_path, [*ROWS, "0.5,,p9,a"]), PadColumns())
        assert len(found.trials) == 5
        assert "1 row has no label: left out" in found.warnings

    def test_a_column_may_be_named_for_two_purposes(self, tmp_path: Path) -> None:
        found = PadResults.open(listed(tmp_path), PadColumns(by=("label", "subject_id"))).trials
        assert found.groups["label"].tolist()[3:] == ["print", "replay"]
        assert found.groups["subject_id"].tolist() == ["p1", "p2", "p3", "p1", "p2"]

    def test_species_that_may_be_meant_as_one_are_warned_of(self, tmp_path: Path) -> None:
        rows = [*ROWS, "0.2,Print,p1,a", "0.2,re_play,p1,a"]
        found = PadResults.open(listed(tmp_path, rows), PadColumns())
        assert "species of attacks that may be meant as one: Print and print" in found.warnings
        assert not PadResults.open(listed(tmp_path), PadColumns()).warnings

    def test_labels_without_a_bona_fide_one_are_named(self, tmp_path: Path) -> None:
        found = PadResults.open(listed(tmp_path, ["0.9,live,p1,a", "0.1,print,p1,b"]), PadColumns())
        (words,) = found.warnings
        assert "no presentation is labelled bona_fide" in words and "live, print" in words

    @pytest.mark.parametrize(
        ("rows", "columns", "error", "words"),
        [
            (["high,print,p1,a"], PadColumns(), ConfigError, "no numbers"),
            (["inf,print,p1,a"], PadColumns(), ConfigError, "no numbers"),
            (["0.5,,p1,a"], PadColumns(), ConfigError, "labels no presentation"),
            (ROWS, PadColumns(score="label"), ConfigError, "no numbers"),
            (ROWS, PadColumns(score="liveness"), ManifestError, "no column liveness"),
            (ROWS, PadColumns(by=("light",)), ManifestError, "no column light"),
        ],
    )
    def test_what_is_wrong_is_said(
        self, tmp_path: Path, rows: list[str], columns: PadColumns, error: type[Exception], words: str
    ) -> None:
        with pytest.raises(error, match=words):
            PadResults.open(listed(tmp_path, rows), columns)


BOXES = {"box_x1": [0.0], "box_y1": [0.0], "box_x2": [10.0], "box_y2": [10.0]}


def enrolled(place: Path, lost: str | None = None) -> str:
    """Five photos: one of two faces, one of a held face, one without any.

    lost: the photo whose largest face was left out.
    """
    ids = ["live", "two", "held", "none", "fake"]
    images = pa.table(
        {
            "image_id": ids,
            "subject_id": ["p1", "p2", "p3", "p4", "p1"],
            "kind": ["bona_fide", "bona_fide", "bona_fide", "bona_fide", "print"],
        }
    )

    for field in later_image_fields() if lost else ():
        why = ["poor" if name == lost else None for name in ids]
        images = images.append_column(field, pa.array(why, pa.string()))

    def rows(names: list[str], sizes: list[float], scores: list[float]) -> pa.Table:
        boxes = {"box_x1": [0.0] * len(names), "box_y1": [0.0] * len(names)}
        boxes |= {"box_x2": sizes, "box_y2": sizes}
        score = pa.array(scores, pa.float32())
        kinds = ["print" if name == "fake" else "bona_fide" for name in names]
        return pa.table({"image_id": names, "kind": kinds, **boxes, "pad_score": score})

    tables = {
        "images/part-000000.parquet": images,
        "faces/part-000000.parquet": rows(
            ["two", "live", "two", "fake"], [5.0, 9.0, 8.0, 9.0], [0.1, 0.9, 0.75, 0.25]
        ),
        "held/part-000000.parquet": rows(["held"], [9.0], [0.125]),
    }
    out = Folder.at(str(place))
    run.claim(out, {"job": "enroll"}, {})
    files = []
    for name, table in tables.items():
        data = to_parquet(table, {})
        out.write(name, data)
        files.append(
            PartFile(name, table.num_rows, len(data), __import__("hashlib").sha256(data).hexdigest())
        )
    run.seal(out, files, dict(HASHES), "")
    return str(place)


class TestEnrolled:
    @pytest.fixture(autouse=True)
    def _any_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its recipe is not looked at here; tests/flow has a real run."""

        class Source:
            def __init__(self, uri: str) -> None:
                self.folder = Folder.at(uri)

        monkeypatch.setattr(pad_results.FeatureRun, "open", Source)

    def test_a_photo_is_a_presentation(self, tmp_path: Path) -> None:
        found = PadResults.open(enrolled(tmp_path / "out"), PadColumns(label="kind"))
        assert found.trials.score[[0, 1, 2, 4]].tolist() == [0.9, 0.75, 0.125, 0.25] or (
            found.trials.score[[0, 1, 2, 4]] == pytest.approx([0.9, 0.75, 0.125, 0.25], abs=1e-6)
        )
        assert np.isnan(found.trials.score[3])
        assert found.trials.species.tolist() == ["", "", "", "", "print"]
        assert found.trials.person.tolist() == [0, 1, 2, 3, 0]
        assert any("1 photo has several faces" in words for words in found.warnings)

    def test_a_bystander_is_not_presented_in_place_of_the_largest_face(self, tmp_path: Path) -> None:
        found = PadResults.open(enrolled(tmp_path / "out", lost="two"), PadColumns(label="kind"))
        assert np.isnan(found.trials.score).tolist() == [False, True, False, True, False]
        assert found.warnings == [
            "1 photo has lost the largest face, which was left out: presentations without a response"
        ]

    def test_an_output_without_scores_or_labels_is_refused(self, tmp_path: Path) -> None:
        out = enrolled(tmp_path / "out")
        with pytest.raises(OutputError, match="no column 'liveness'"):
            PadResults.open(out, PadColumns(score="liveness", label="kind"))
        with pytest.raises(ConfigError, match="no column 'label'"):
            PadResults.open(out, PadColumns())


class TestJob:
    def test_from_a_list_to_a_page_and_again(self, tmp_path: Path) -> None:
        asked = Asked([listed(tmp_path)], str(tmp_path / "report"), names=("detector",))
        first, again = (PadMetrics(asked, PadColumns()).run() for _ in range(2))
        assert first == again
        page = (tmp_path / "report/report.html").read_text()
        assert "Presentation attack detection: detector" in page
        assert "classified as bona fide when score" in page and "similarity ≥" not in page
        assert "p1" not in page
        assert "APCER at score 0.5: 1" in (tmp_path / "report/report.md").read_text()

    def test_two_detectors_on_one_page(self, tmp_path: Path) -> None:
        one = listed(tmp_path)
        (tmp_path / "other").mkdir()
        other = listed(tmp_path / "other", [row.replace("0.7", "0.2") for row in ROWS])
        asked = Asked([one, other], str(tmp_path / "report"), names=("one", "other"))
        report = PadMetrics(asked, PadColumns()).run()
        assert [system["name"] for system in report["systems"]] == ["one", "other"]

    @pytest.mark.parametrize(
        ("columns", "thresholds", "scores"),
        [(PadColumns(similarity="s"), (), ()), (PadColumns(), (0.4,), ()), (PadColumns(), (), (np.nan,))],
    )
    def test_half_a_question_is_refused(
        self, tmp_path: Path, columns: PadColumns, thresholds: tuple[float, ...], scores: tuple[float, ...]
    ) -> None:
        asked = Asked([listed(tmp_path)], str(tmp_path / "report"), thresholds=thresholds)
        with pytest.raises(ConfigError):
            PadMetrics(asked, columns, scores).run()

    def test_a_dry_run_writes_nothing(self, tmp_path: Path) -> None:
        asked = Asked([listed(tmp_path)], str(tmp_path / "report"))
        assert "5 trials" in PadMetrics(asked, PadColumns()).dry_run().text()
        assert not (tmp_path / "report").exists()

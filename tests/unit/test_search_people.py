"""Whose face a probe is: the column of results, and searches that count for nobody but their person."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from album_runs import Shot, enrolled, face
from staged_runs import HERE

from frpipe.core.schema import IS_SUBJECT
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.identification import IdentificationQuestion
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.contract import ReportResult
from frpipe.jobs.erase.columns import without
from frpipe.jobs.evaluate.photo_facts import PhotoFacts
from frpipe.jobs.evaluate.search_results import SearchResults, searches_of_people
from frpipe.jobs.identify import job as identify_job
from frpipe.jobs.identify.job import Identifying, SearchExecution

ANNA, BELA, CORA = range(3)
STAFF = {f"{name}.jpg": Shot(name, [face(who)]) for who, name in enumerate(("anna", "bela", "cora"))}
PROBES = {
    "anna-2.jpg": Shot("anna", [face(10, near=ANNA)]),
    "bela-beside-cora.jpg": Shot("bela", [face(11, near=BELA), face(12, near=CORA)]),
    "cora-behind-anna.jpg": Shot("cora", [face(13, near=ANNA)], left_out="poor"),
    "dora-behind-both.jpg": Shot("dora", [face(14, near=ANNA), face(15, near=BELA)], left_out="poor"),
    "eve.jpg": Shot("eve", [face(16)]),
    "cora-2.jpg": Shot.rejected("cora"),
    "unknown.jpg": Shot(None, [face(17)]),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery, and probes."""
    folder = tmp_path_factory.mktemp("people")
    enrolled(folder / "probes", PROBES)
    Consolidation(enrolled(folder / "staff", STAFF), str(folder / "G")).run()
    return folder


def search(place: Path, out: Path) -> ReportResult:
    how = SearchExecution(probe_rows=1, workers=1)
    words = str(place / "probes"), str(place / "G"), str(out)
    return Identifying(*words, threshold=0.6, execution=how, runtime=HERE).run()


def counted(found: Evaluation) -> dict[str, tuple[int | None, int | None]]:
    return {number.measure: (number.count, number.trials) for number in found.numbers}


def rows(out: Path) -> pa.Table:
    return pq.read_table(out / "probes")


def test_every_face_is_searched_for_and_one_of_a_photo_is_its_persons(place: Path, tmp_path: Path) -> None:
    report = search(place, tmp_path / "found")
    assert (report["probes"], report["photos_without_probe"]) == (8, 1)
    table = rows(tmp_path / "found")
    assert dict(zip(table["face_id"].to_pylist(), table[IS_SUBJECT].to_pylist(), strict=True)) == {
        "anna-2.jpg#0": True, "bela-beside-cora.jpg#0": True, "bela-beside-cora.jpg#1": False,
        "cora-behind-anna.jpg#0": False, "dora-behind-both.jpg#0": False, "dora-behind-both.jpg#1": False,
        "eve.jpg#0": True, "unknown.jpg#0": True, None: None,
    }  # fmt: skip
    assert report["identified"] == 6


def test_a_bystander_is_no_search_for_the_person_and_a_photo_without_them_is_one_that_failed(
    place: Path, tmp_path: Path
) -> None:
    search(place, tmp_path / "found")
    found = SearchResults.open(str(tmp_path / "found"))
    numbers = counted(IdentificationQuestion(thresholds=(0.6,)).answer("x", found.trials, {}))
    # Found: anna, bela. Lost: cora, twice. A stranger: eve, and dora, who is lost.
    assert (numbers["FNIR"], numbers["FPIR"]) == ((0, 2), (0, 1))
    assert (numbers["FNIR_all"], numbers["FPIR_all"], numbers["FTA"]) == ((2, 4), (0, 2), (3, 6))
    assert found.warnings == [
        "1 probe is of nobody known, and left out",
        "4 probes are of others than the photo's person, and left out",
        "2 photos have lost the face of their person, which was left out or is held back: each is a search "
        "without a probe",
    ]


def test_a_result_of_older_code_is_finished_and_read_as_it_was(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "found"
    with monkeypatch.context() as older:
        older.setattr(identify_job, "columns_of", lambda _: ())
        search(place, out)
    whole = rows(out)
    identity = run.begun(Folder.at(str(out)))["identity"]
    assert IS_SUBJECT not in whole.column_names and "columns" not in identity
    (out / "_SUCCESS").unlink()
    sorted((out / "probes").iterdir())[1].unlink()
    search(place, out)
    assert rows(out).equals(whole)
    found = SearchResults.open(str(out))
    numbers = counted(IdentificationQuestion(thresholds=(0.6,)).answer("x", found.trials, {}))
    assert (numbers["FNIR"], numbers["FPIR"]) == ((2, 4), (2, 3))
    assert found.warnings[1].startswith("2 photos have several faces, and each counts")
    search(place, tmp_path / "new")
    assert json.loads((tmp_path / "new/run.json").read_text())["identity"]["columns"] == [IS_SUBJECT]
    assert rows(tmp_path / "new").drop_columns([IS_SUBJECT]).equals(whole)


def test_an_erasure_takes_all_faces_of_a_persons_photos(place: Path, tmp_path: Path) -> None:
    search(place, tmp_path / "found")
    kept = without(ErasedIds.of("key", ["bela", "dora"], []), rows(tmp_path / "found"))
    assert kept["image_id"].to_pylist() == [
        name for name, shot in PROBES.items() if shot.subject not in {"bela", "dora"}
    ]


def test_probes_that_are_all_of_others_are_one_failed_search_a_photo() -> None:
    kind = pa.list_(pa.struct([("subject_id", pa.string()), ("similarity", pa.float64())]))
    table = pa.table(
        {
            "image_id": ["a", "a", "b"],
            "face_id": ["a#0", "a#1", "b#0"],
            "probe_subject_id": ["anna", "anna", ""],
            "status": ["ok"] * 3,
            IS_SUBJECT: [False, False, True],
            "candidates": pa.array([[{"subject_id": "anna", "similarity": 0.9}]] * 3, kind),
        }
    )
    found, _ = searches_of_people(table)
    assert found.select(["image_id", "face_id", "status", "candidates"]).to_pylist() == [
        {"image_id": "a", "face_id": None, "status": "rejected", "candidates": None}
    ]


def test_a_face_that_is_named_bears_the_photos_name_if_it_is_the_persons(place: Path) -> None:
    """One that is in no file may be the person's, held back or left out."""
    names = ["bela-beside-cora.jpg", "bela-beside-cora.jpg#0", "bela-beside-cora.jpg#1", "eve.jpg#7"]
    names += ["cora-behind-anna.jpg", "cora-behind-anna.jpg#0"]
    facts = PhotoFacts.of(str(place / "probes"))
    found = facts.of_photos("subject_id", np.array(names, object)).tolist()
    assert found == ["bela", "bela", "", "eve", "cora", ""]
    assert facts.of_photos("image_id", np.array(names, object))[5] == "cora-behind-anna.jpg"

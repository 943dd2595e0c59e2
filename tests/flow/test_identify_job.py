"""Bulk identification on real features: the candidates of brute force, and no probe lost on the way."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cluster import Cluster
from enrollment import ROOT, enroll_here, job_here, write_manifest
from real_photos import people_with
from s3server import S3, s3  # noqa: F401 - a fixture

from frpipe.cli.main import main
from frpipe.core.schema import markdown
from frpipe.core.threshold import Target, ThresholdCard
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.spec import AES, GallerySpec
from frpipe.io import threshold_file
from frpipe.io.storage.folder import Folder
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.evaluate.search_results import SearchResults
from frpipe.jobs.identify import worker as search
from frpipe.jobs.identify.job import Identifying, SearchExecution
from frpipe.jobs.identify.schema import PROBE_COLUMNS, PROBE_SCHEMA
from frpipe.runtime.runtime import Runtime

PEOPLE, STRANGERS, PER_PERSON = 6, 3, 2
# Numbers of the probes behind the mated ones and the strangers.
CROWD, BROKEN, FACELESS = range(PEOPLE + STRANGERS, PEOPLE + STRANGERS + 3)
PARTS = ("--set", "resources.part_rows=3")
UNITS = 4
Job = Callable[..., tuple[int, str, str]]
Scores = list[list[tuple[str, float]]]

# A driver that dies as soon as it hears of a unit; one of them ends, the others never do.
KILLED = """
import os, signal, sys, time
from frpipe.jobs.progress import Progress
from frpipe.jobs.evaluate.search_results import SearchResults
from frpipe.jobs.identify import worker as search
def slow(first, *words):
    work = search.Searcher(*words)
    def searched(table):
        try:
            open(first, "x").close()
        except FileExistsError:
            time.sleep(600)
        return work(table)
    return searched
partial = search.partial
search.partial = lambda _, *words: partial(slow, os.environ["FIRST"], *words)
def dying(self, done, counts=None, work=None):
    os.kill(os.getpid(), signal.SIGKILL)
Progress.add = dying
sys.path.insert(0, "jobs")
import identify
sys.exit(identify.main())
"""


@pytest.fixture(scope="module")
def people(real_photos: Path) -> list[list[Path]]:
    """People with three photos each."""
    return people_with(3, real_photos)[: PEOPLE + STRANGERS]


@pytest.fixture(scope="module")
def enrolled(people: list[list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of two photos of each person of the gallery, one face a photo."""
    folder = tmp_path_factory.mktemp("enrolled")
    photos = [photo for person in people[:PEOPLE] for photo in person[:PER_PERSON]]
    departments = [("Sales", "Research")[n // PER_PERSON % 2] for n in range(len(photos))]
    names = [photo.parent.name for photo in photos]
    manifest = write_manifest(folder / "m.csv", photos, subject_id=names, Department=departments)
    return enroll_here(manifest, folder / "out", "--set", "detect.policy=centre-largest")


@pytest.fixture(scope="module")
def plain(enrolled: Path, tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """As the consolidate job makes it."""
    path = str(tmp_path_factory.mktemp("plain") / "G")
    Consolidation(str(enrolled), path).run()
    return Gallery.open(path)


@pytest.fixture(scope="module")
def spec(plain: Gallery) -> GallerySpec:
    """Of a gallery of many small shards."""
    return replace(plain.spec, rows_per_shard=3)


@pytest.fixture(scope="module")
def gallery(plain: Gallery, spec: GallerySpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For reading. It grew in two steps, so that nobody's templates lie in one shard."""
    path = tmp_path_factory.mktemp("gallery") / "G"
    grown, rows = Gallery.create(str(path), spec), pa.concat_tables(plain.snapshot().tables())
    for step in range(PER_PERSON):
        lifecycle.enroll(grown, [rows.take(list(range(step, rows.num_rows, PER_PERSON)))], "append")
    assert len(grown.snapshot().version.shards) >= 6
    return path


@pytest.fixture(scope="module")
def manifest(people: list[list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The third photo of everybody, two people side by side, half a file, and a white wall."""
    folder = tmp_path_factory.mktemp("probes")
    crowd, broken, faceless = (folder / name for name in ("crowd.png", "broken.jpg", "faceless.png"))
    cv2.imwrite(str(crowd), cv2.hconcat([cv2.imread(str(person[2])) for person in people[:2]]))
    broken.write_bytes(people[0][0].read_bytes()[:2000])
    cv2.imwrite(str(faceless), np.tile(np.arange(120, dtype=np.uint8)[:, None, None], (1, 120, 3)))
    photos = [person[2] for person in people]
    names = [photo.parent.name for photo in photos]
    return write_manifest(
        folder / "m.csv", [*photos, crowd, broken, faceless], subject_id=[*names, "", "", ""]
    )


@pytest.fixture(scope="module")
def probes(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return enroll_here(manifest, tmp_path_factory.mktemp("features") / "out", *PARTS)


@pytest.fixture
def job() -> Job:
    """The job in this process."""

    def run(*words: object) -> tuple[int, str, str]:
        done = job_here("identify", *words)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture(scope="module")
def finished(probes: Path, gallery: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run on a cluster."""
    output = tmp_path_factory.mktemp("finished") / "out"
    done = _on(cluster, *_words(probes, gallery, output))
    assert done.returncode == 0, done.stderr
    return output


def _on(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    """`python jobs/identify.py` on a cluster."""
    command = [sys.executable, "jobs/identify.py", *words, "--address", cluster.address]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _words(probes: object, gallery: object, output: object, *more: object) -> list[str]:
    units = ("--probe-rows", 1, "--top", 5)
    words = ("--probes", probes, "--gallery", gallery, "--output", output, *units, *more)
    return [str(word) for word in words]


def _rows(output: object) -> list[dict[str, Any]]:
    """As any reader sees them."""
    table = duckdb.sql(f"SELECT * FROM '{output}/probes/*.parquet' ORDER BY image_id, face_id")
    rows: list[dict[str, Any]] = table.to_arrow_table().to_pylist()
    return rows


def _report(output: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((output / "report.json").read_text())
    return report


def _brute(probes: Path, enrolled: Path, k: int = 5, score: str = "max", keep: str = "true") -> Scores:
    """Each probe's persons, best first, from the Parquet files alone, in float64."""
    columns = "subject_id, embedding, face_id"
    faces = duckdb.sql(f"SELECT {columns} FROM '{enrolled}/faces/*.parquet' WHERE {keep}").df()
    found = pd.read_parquet(probes / "faces").sort_values(["image_id", "face_id"])
    vectors = np.stack(found["embedding"].tolist()).astype(np.float64)
    similarity = vectors @ np.stack(faces["embedding"].tolist()).astype(np.float64).T
    table = pd.DataFrame(similarity.T).groupby(faces["subject_id"].to_numpy()).agg(score)
    people = [sorted(table[n].items(), key=lambda item: (-item[1], item[0]))[:k] for n in table.columns]
    return [[(str(name), float(value)) for name, value in each] for each in people]


def _same(output: object, expected: Scores) -> None:
    rows = [row for row in _rows(output) if row["face_id"]]
    assert len(rows) == len(expected)
    for row, persons in zip(rows, expected, strict=True):
        found = row["candidates"]
        assert [each["subject_id"] for each in found] == [name for name, _ in persons]
        assert [each["rank"] for each in found] == list(range(1, len(persons) + 1))
        values = [each["similarity"] for each in found]
        assert np.allclose(values, [value for _, value in persons], rtol=0, atol=1e-6)
        assert [each["distance"] for each in found] == [1 - value for value in values]


# what comes out


def test_open_set_names_those_who_are_enrolled_and_nobody_else(finished: Path) -> None:
    rows = {row["image_id"]: row for row in _rows(finished) if row["status"] == "ok"}
    for row in rows.values():
        accepted = row["rank1_similarity"] >= row["threshold_similarity"]
        assert row["decision"] == ("identified" if accepted else "stranger")
        assert row["rank1_subject_id"] == row["candidates"][0]["subject_id"]
        assert row["rank1_distance"] == row["candidates"][0]["distance"]
    mated = [rows[f"id-{n:04d}"] for n in range(PEOPLE)]
    assert sum(r["decision"] == "identified" for r in mated) >= PEOPLE - 1
    assert sum(r["rank1_subject_id"] == r["probe_subject_id"] for r in mated) >= PEOPLE - 1
    others = [rows[f"id-{n:04d}"] for n in range(PEOPLE, PEOPLE + STRANGERS)]
    assert sum(row["decision"] == "stranger" for row in others) >= STRANGERS - 1


def test_photos_without_a_face_have_a_row_and_say_why(finished: Path) -> None:
    rows = _rows(finished)
    failures = {row["image_id"]: row for row in rows if row["face_id"] is None}
    assert {key: (row["status"], row["reason"]) for key, row in failures.items()} == {
        f"id-{BROKEN:04d}": ("rejected", "truncated"),
        f"id-{FACELESS:04d}": ("no_face", None),
    }
    assert all(
        row["decision"] is row["candidates"] is row["rank1_subject_id"] is None for row in failures.values()
    )
    crowd = [row for row in rows if row["image_id"] == f"id-{CROWD:04d}"]
    assert [row["face_id"] for row in crowd][:2] == [f"id-{CROWD:04d}#0", f"id-{CROWD:04d}#1"]
    assert len({row["rank1_subject_id"] for row in crowd}) >= 2


def test_every_face_has_one_row_in_the_schemas_form(finished: Path, probes: Path) -> None:
    files = json.loads((finished / "files.json").read_text())["files"]
    assert len(files) == UNITS
    table = pq.read_table(finished / files[0]["name"])
    assert table.schema.remove_metadata().equals(PROBE_SCHEMA)
    report, rows = _report(finished), _rows(finished)
    assert report["rows"] == len(rows) == sum(file["rows"] for file in files)
    assert report["probes"] == _report(probes)["faces"] == len({r["face_id"] for r in rows if r["face_id"]})
    assert report["identified"] + report["strangers"] == report["probes"]
    assert (report["templates"], report["subjects"]) == (PEOPLE * PER_PERSON, PEOPLE)
    assert (finished / "_SUCCESS").exists()


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--probe-rows", 4096, "--workers", 1, "--top", 500),
        ("--probe-rows", 4096, "--workers", 2),  # one unit: each worker takes half of the gallery
        ("--probe-rows", 5, "--workers", 2, "--kernel", "int8"),
        ("--probe-rows", 5, "--workers", 2, "--kernel", "subspace"),
        ("--probe-rows", 5, "--workers", 1, "--kernel", "subspace-int8"),
        ("--top", 1),
    ],
)
def test_however_it_is_cut_it_is_brute_force(
    words: tuple[object, ...], probes: Path, enrolled: Path, gallery: Path, job: Job, tmp_path: Path
) -> None:
    code, _, err = job(*_words(probes, gallery, tmp_path / "out", *words))
    assert code == 0, err
    k = int(str(words[words.index("--top") + 1])) if "--top" in words else 5
    _same(tmp_path / "out", _brute(probes, enrolled, k))
    assert re.search(r"probes +[\d,]+/s +0:00 left", err)


@pytest.mark.parametrize("kernel", ["fp32", "int8", "subspace", "subspace-int8"])
def test_a_mean_is_the_mean_of_all_templates_of_a_person(
    kernel: str, probes: Path, enrolled: Path, gallery: Path, job: Job, tmp_path: Path
) -> None:
    assert job(*_words(probes, gallery, tmp_path / "out", "--score", "mean", "--kernel", kernel))[0] == 0
    _same(tmp_path / "out", _brute(probes, enrolled, score="mean"))


@pytest.mark.parametrize("kernel", ["subspace", "subspace-int8", "auto"])
def test_rows_are_the_same_to_the_last_bit_by_whatever_kernel(
    kernel: str, probes: Path, gallery: Path, job: Job, tmp_path: Path
) -> None:
    for name in ("fp32", kernel):
        code, _, err = job(*_words(probes, gallery, tmp_path / name, "--kernel", name))
        assert code == 0, err
    assert _rows(tmp_path / kernel) == _rows(tmp_path / "fp32")


@pytest.mark.parametrize("kernel", ["fp32", "subspace-int8"])
def test_candidates_below_the_least_similarity_are_not_listed_and_the_output_says_so(
    kernel: str, probes: Path, gallery: Path, job: Job, tmp_path: Path
) -> None:
    assert job(*_words(probes, gallery, tmp_path / "all"))[0] == 0
    whole = _rows(tmp_path / "all")
    least = sorted(each["similarity"] for row in whole for each in row["candidates"] or [])[-9]
    words = ("--threshold", 0.99, "--min-similarity", least, "--kernel", kernel)
    code, out, err = job(*_words(probes, gallery, tmp_path / "out", *words))
    assert code == 0, err
    assert "those below are not listed" in out
    assert _report(tmp_path / "out")["min_similarity"] == least
    found = _rows(tmp_path / "out")
    assert sum(len(row["candidates"] or []) for row in found) == 9
    for row, before in zip(found, whole, strict=True):
        listed = [each for each in before["candidates"] or [] if each["similarity"] >= least]
        assert (row["candidates"] or []) == listed
        assert row["rank1_subject_id"] == (listed[0]["subject_id"] if listed else None)
        assert (row["decision"] is None) == (row["face_id"] is None)
    assert "were not listed" in SearchResults.open(str(tmp_path / "out")).warnings[-1]
    code, _, err = job(*_words(probes, gallery, tmp_path / "out", "--threshold", 0.99))
    assert code == 6, "another least similarity is another output"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--threshold", 0.3, "--min-similarity", 0.4), "above the threshold 0.3"),
        (("--closed", "--min-similarity", 0.4), "always names the nearest"),
        (("--min-similarity", 1.5), "from -1 to 1"),
    ],
)
def test_a_least_similarity_that_would_hide_a_decision_is_refused(
    words: tuple[object, ...], said: str, probes: Path, gallery: Path, job: Job, tmp_path: Path
) -> None:
    code, _, err = job(*_words(probes, gallery, tmp_path / "out", *words))
    assert code == 2
    assert said in err
    assert not (tmp_path / "out").exists()


def test_where_leaves_the_others_out(
    probes: Path, enrolled: Path, gallery: Path, job: Job, tmp_path: Path
) -> None:
    where = ("--where", "Department=Sales")
    assert job(*_words(probes, gallery, tmp_path / "out", *where))[0] == 0
    _same(tmp_path / "out", _brute(probes, enrolled, keep="Department = 'Sales'"))
    report = _report(tmp_path / "out")
    assert (report["templates"], report["subjects"]) == (PEOPLE, PEOPLE // 2)
    assert report["where"] == {"Department": "Sales"}
    code, _, err = job(*_words(probes, gallery, tmp_path / "none", "--where", "Department=Nobody's"))
    assert code == 0
    assert "nobody in the gallery is compared" in err
    assert {row["decision"] for row in _rows(tmp_path / "none")} == {"stranger", None}
    code, _, err = job(*_words(probes, gallery, tmp_path / "typo", "--where", "Departmant=Sales"))
    assert code == 10
    assert "attributes: Department" in err
    assert not (tmp_path / "typo").exists()


def test_who_is_deleted_is_no_candidate(
    probes: Path, enrolled: Path, gallery: Path, job: Job, tmp_path: Path
) -> None:
    shutil.copytree(gallery, tmp_path / "G")
    gone = Gallery.open(str(tmp_path / "G")).snapshot().show
    first = _rows_of(tmp_path / "G")[0]
    assert gone(first).num_rows == PER_PERSON
    lifecycle.delete(Gallery.open(str(tmp_path / "G")), [first])
    for number, score in enumerate(("max", "mean")):
        out = tmp_path / f"out{number}"
        assert job(*_words(probes, tmp_path / "G", out, "--score", score, "--top", 50))[0] == 0
        _same(out, _brute(probes, enrolled, 50, score, f"subject_id <> '{first}'"))
        assert _report(out)["subjects"] == PEOPLE - 1


def test_a_closed_set_always_names_somebody(probes: Path, gallery: Path, job: Job, tmp_path: Path) -> None:
    assert job(*_words(probes, gallery, tmp_path / "out", "--closed"))[0] == 0
    rows = [row for row in _rows(tmp_path / "out") if row["face_id"]]
    assert {row["decision"] for row in rows} == {"identified"}
    assert {row["threshold_similarity"] for row in rows} == {None}
    assert _report(tmp_path / "out")["threshold"] is None


@pytest.mark.parametrize(("words", "decision"), [(("--score", "mean"), "stranger"), (("--closed",), None)])
def test_in_an_empty_gallery_nobody_is_named(
    words: tuple[str, ...],
    decision: str | None,
    probes: Path,
    spec: GallerySpec,
    job: Job,
    tmp_path: Path,
) -> None:
    Gallery.create(str(tmp_path / "G"), spec)
    code, _, err = job(*_words(probes, tmp_path / "G", tmp_path / "out", *words))
    assert code == 0, err
    rows = [row for row in _rows(tmp_path / "out") if row["face_id"]]
    assert [(row["decision"], row["candidates"]) for row in rows] == [(decision, [])] * len(rows)


# thresholds


def test_the_report_says_which_threshold_was_taken_and_why_it_may_be_wrong(finished: Path) -> None:
    threshold = _report(finished)["threshold"]
    assert "model card of sface_2021dec" in threshold["source"]
    assert "one-to-one" in threshold["warning"]
    assert threshold["warning"] in (finished / "report.md").read_text()


def test_a_threshold_card_decides_and_one_of_another_embedder_is_refused(
    probes: Path, gallery: Path, spec: GallerySpec, job: Job, tmp_path: Path
) -> None:
    card = _card(spec)
    for name, each in (("own", card), ("other", card.model_copy(update={"embedder_hash": "f" * 64}))):
        threshold_file.save(str(tmp_path / f"{name}.json"), each)
    words = _words(probes, gallery, tmp_path / "out", "--threshold-card")
    assert job(*words, tmp_path / "own.json")[0] == 0
    threshold = _report(tmp_path / "out")["threshold"]
    assert (threshold["similarity"], threshold["distance"], threshold["kind"]) == (0.875, 0.125, "distance")
    assert threshold["target"] == f"FPIR 0.01 among {PEOPLE} subjects"
    assert "photos of a test" in threshold["source"]
    # As many people as it was chosen for, though twice as many templates.
    assert threshold["warning"] is None
    assert {row["threshold_similarity"] for row in _rows(tmp_path / "out")} == {0.875}
    code, _, err = job(*_words(probes, gallery, tmp_path / "o2", "--threshold-card"), tmp_path / "other.json")
    assert code == 10
    assert spec.embedder_hash in err
    assert "f" * 64 in err
    assert not (tmp_path / "o2").exists()


def test_a_threshold_card_decides_for_a_single_photo_too(
    people: list[list[Path]],
    plain: Gallery,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "card.json"
    threshold_file.save(str(path), _card(plain.spec))
    words = ("identify", people[0][2], "--gallery", plain.uri, "--threshold-card", path, "--json")
    assert main([str(word) for word in words]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["threshold"]["similarity"] == 0.875
    assert answer["threshold"]["warning"] is None
    assert answer["stranger"] == (answer["candidates"][0]["similarity"] < 0.875)
    threshold_file.save(str(path), _card(replace(plain.spec, embedder_hash="f" * 64)))
    assert main([str(word) for word in words]) == 10


def _card(spec: GallerySpec) -> ThresholdCard:
    return ThresholdCard(
        embedder_hash=spec.embedder_hash,
        kind="distance",
        value=0.125,
        purpose="identification",
        target=Target(rate="FPIR", value=0.01),
        gallery_subjects=PEOPLE,
        source="photos of a test",
        created=datetime(2026, 5, 1, tzinfo=UTC),
    )


# refusals


def test_probes_of_another_model_are_refused_with_both_hashes(
    probes: Path, manifest: Path, spec: GallerySpec, job: Job, tmp_path: Path
) -> None:
    Gallery.create(str(tmp_path / "G"), replace(spec, embedder_hash="f" * 64))
    for source in (probes, manifest):
        code, _, err = job(*_words(source, tmp_path / "G", tmp_path / "out"))
        assert code == 10
        assert spec.embedder_hash in err
        assert "f" * 64 in err
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change", [("--threshold", "0.9"), ("--top", "3"), ("--score", "mean"), ("--where", "Department=Sales")]
)
def test_another_search_on_the_same_output_is_refused(
    change: tuple[str, str], finished: Path, probes: Path, gallery: Path, job: Job
) -> None:
    before = _states(finished)
    code, _, err = job(*_words(probes, gallery, finished, *change))
    assert code == 6
    assert "other settings" in err
    assert _states(finished) == before


def test_a_finished_run_says_so_and_ends(finished: Path, probes: Path, gallery: Path, job: Job) -> None:
    before = _states(finished)
    code, out, err = job(*_words(probes, gallery, finished, "--kernel", "int8", "--json"))
    assert code == 0
    assert "complete already" in err
    assert json.loads(out) == _report(finished)
    assert _states(finished) == before


def test_settings_that_cannot_be_meant_are_refused(
    probes: Path, gallery: Path, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        job(*_words(probes, gallery, tmp_path / "out", "--closed", "--threshold", "0.5"))
    assert job(*_words(probes, gallery, tmp_path / "out", "--workers", 9))[0] == 5
    assert not (tmp_path / "out").exists()
    assert job(*_words(probes, gallery, tmp_path / "new", "--version", 7))[0] == 10
    (tmp_path / "half").mkdir()
    code, _, err = job(*_words(tmp_path / "half", gallery, tmp_path / "new"))
    assert code == 6
    assert "not the output of a finished enroll run" in err
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    # Where no folder is called "out", as one is after `make demo`.
    monkeypatch.chdir(tmp_path / "half")
    for words in (("out", gallery, tmp_path / "n"), (probes, "G", tmp_path / "n"), (probes, gallery, "n")):
        code, _, err = job(*_words(*words))
        assert code == 2
        assert "absolute path" in err


@pytest.mark.parametrize("kind", ["features", "manifest"])
def test_a_dry_run_says_the_plan_and_writes_nothing(
    kind: str, probes: Path, manifest: Path, gallery: Path, job: Job, tmp_path: Path
) -> None:
    source = probes if kind == "features" else manifest
    code, out, err = job(*_words(source, gallery, tmp_path / "out", "--dry-run"))
    assert code == 0, err
    assert f"{PEOPLE * PER_PERSON} templates of {PEOPLE} people" in out
    assert ("first the manifest is enrolled" in out) == (kind == "manifest")
    assert "2 x (1 CPU)" in out
    assert not (tmp_path / "out").exists()


# disturbances


def _before_each_unit(monkeypatch: pytest.MonkeyPatch, disturb: Callable[[int], None]) -> None:
    """Have something happen in a worker before it does a unit."""

    def disturbed(*words: Any) -> Callable[[pa.Table], pa.Table]:
        work = search.Searcher(*words)

        def searched(table: pa.Table) -> pa.Table:
            disturb(table["unit"][0].as_py())
            return work(table)

        return searched

    monkeypatch.setattr(search, "partial", lambda _, *words: partial(disturbed, *words))


def test_a_driver_killed_midway_goes_on_with_its_version(
    finished: Path, probes: Path, enrolled: Path, gallery: Path, cluster: Cluster, job: Job, tmp_path: Path
) -> None:
    shutil.copytree(gallery, tmp_path / "G")
    words = _words(probes, tmp_path / "G", tmp_path / "out")
    environment = {**os.environ, "RAY_ADDRESS": cluster.address, "FIRST": str(tmp_path / "first")}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *words], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    published = _states(tmp_path / "out/probes")
    assert len(published) == 1
    lifecycle.delete(Gallery.open(str(tmp_path / "G")), [_rows_of(gallery)[0]])
    code, _, err = job(*words)
    assert code == 0, err
    assert f"{len(published)} of {UNITS} units are done already" in err
    assert published.items() <= _states(tmp_path / "out/probes").items()
    assert _rows(tmp_path / "out") == _rows(finished)
    newest = job(*_words(probes, tmp_path / "G", tmp_path / "out", "--version", 3))
    assert newest[0] == 6
    assert "gallery_version was 2, is 3" in newest[2]


def test_a_worker_killed_midway_costs_no_row(
    finished: Path,
    probes: Path,
    gallery: Path,
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marker = tmp_path / "died"

    def die_once(unit: int) -> None:
        if unit == 2 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    _before_each_unit(monkeypatch, die_once)
    where, how = Runtime(cluster.address), SearchExecution(probe_rows=1)
    Identifying(str(probes), str(gallery), str(tmp_path / "out"), k=5, runtime=where, execution=how).run()
    assert marker.exists()
    assert _rows(tmp_path / "out") == _rows(finished)


def test_a_gallery_compacted_under_the_job_is_one_clear_error(
    probes: Path, gallery: Path, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(gallery, tmp_path / "G")
    uri, person = str(tmp_path / "G"), _rows_of(gallery)[0]

    def compact(unit: int) -> None:
        if unit == 1:
            lifecycle.delete(Gallery.open(uri), [person])
            lifecycle.compact(Gallery.open(uri))

    words = _words(probes, uri, tmp_path / "out", "--workers", 1)
    _before_each_unit(monkeypatch, compact)
    code, _, err = job(*words)
    assert code == 10
    assert "purged by a compaction" in err
    monkeypatch.undo()
    code, _, err = job(*words)
    assert code == 10
    assert "use a new --output" in err
    assert job(*_words(probes, uri, tmp_path / "new"))[0] == 0


def test_damaged_probes_are_one_clear_error(probes: Path, gallery: Path, job: Job, tmp_path: Path) -> None:
    shutil.copytree(probes, tmp_path / "probes")
    victim = tmp_path / "probes/faces/part-000002.parquet"
    victim.write_bytes(bytes(victim.stat().st_size))
    code, _, err = job(*_words(tmp_path / "probes", gallery, tmp_path / "out"))
    assert code == 6
    assert f"faces/part-000002.parquet in {tmp_path / 'probes'} is damaged" in err
    assert victim.exists()


def test_two_drivers_on_one_output_leave_one_result(
    finished: Path, probes: Path, gallery: Path, tmp_path: Path
) -> None:
    words = _words(probes, gallery, tmp_path / "out", "--workers", 1, "--executor", "local")
    command = [sys.executable, "jobs/identify.py", *words]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for each in both:
        _, err = each.communicate(timeout=120)
        assert each.returncode == 0, err.decode()
    assert _rows(tmp_path / "out") == _rows(finished)
    assert (tmp_path / "out/_SUCCESS").exists()


# other ways in


def test_from_a_manifest_in_one_go_it_is_the_same(
    finished: Path, manifest: Path, gallery: Path, job: Job, tmp_path: Path
) -> None:
    words = _words(manifest, gallery, tmp_path / "out", *PARTS)
    code, _, err = job(*words)
    assert code == 0, err
    assert _rows(tmp_path / "out") == _rows(finished)
    assert "complete already: nothing to do" in job(*words)[2]


def test_a_manifest_of_nobody_has_rows_and_no_probes(
    manifest: Path, gallery: Path, job: Job, tmp_path: Path
) -> None:
    photos = [manifest.parent / "faceless.png", manifest.parent / "broken.jpg"]
    empty = write_manifest(tmp_path / "m.csv", photos)
    code, _, err = job(*_words(empty, gallery, tmp_path / "out"))
    assert code == 0, err
    assert [row["status"] for row in _rows(tmp_path / "out")] == ["no_face", "rejected"]
    assert _report(tmp_path / "out")["probes"] == 0


@pytest.mark.slow
def test_submitted_to_the_cluster_it_leaves_the_same_rows(
    finished: Path, probes: Path, gallery: Path, job_server: Cluster, tmp_path: Path
) -> None:
    words = ("python", "jobs/identify.py", *_words(probes, gallery, tmp_path / "out"))
    done = job_server.submit(ROOT, *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert _rows(tmp_path / "out") == _rows(finished)


@pytest.mark.slow
def test_on_s3_with_an_encrypted_gallery_it_is_the_same(
    s3: S3,  # noqa: F811
    finished: Path,
    probes: Path,
    gallery: Path,
    spec: GallerySpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FRPIPE_GALLERY_KEY", b64encode(b"k" * 32).decode())
    store = Folder.at(s3.uri)
    for path in (path for path in probes.rglob("*") if path.is_file()):
        store.write(f"probes/{path.relative_to(probes)}", path.read_bytes())
    secret = Gallery.create(f"{s3.uri}/G", replace(spec, encryption=AES))
    lifecycle.enroll(secret, Gallery.open(str(gallery)).snapshot().tables())
    done = subprocess.run(
        [sys.executable, "jobs/identify.py", *_words(f"{s3.uri}/probes", secret.uri, f"{s3.uri}/out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for entry in store.child("out").list():
        target = tmp_path / "out" / entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.read(f"out/{entry.name}"))
    own = {"gallery_id": secret.gallery_id, "gallery_version": 1}
    assert _rows(tmp_path / "out") == [{**row, **own} for row in _rows(finished)]


# the documentation


def test_the_documentation_shows_the_columns() -> None:
    page = (ROOT / "docs/identify.md").read_text(encoding="utf-8")
    assert f"<!-- probes -->\n\n{markdown(PROBE_COLUMNS)}\n" in page


@pytest.mark.usefixtures("shared")  # it counts the faces of LFW
def test_the_example_of_the_documentation_prints_what_it_shows(
    probes: Path, plain: Gallery, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, target in (("tonight", probes), ("people", plain.uri)):
        Path(name).symlink_to(target)
    card = re.search(r"```json\n(.*?)```", (ROOT / "docs/thresholds.md").read_text(), re.DOTALL)
    assert card
    Path("card.json").write_text(card.group(1))
    page = (ROOT / "docs/identify.md").read_text(encoding="utf-8")
    command, shown = re.findall(r"^\$ python jobs/identify.py (.*)\n((?:[^$`].*\n)*)", page, re.MULTILINE)[0]
    code, out, err = job(*command.split())
    assert code == 0, err
    printed, written = (re.sub(r"commit [0-9a-f]{12}", "commit", text) for text in (out, shown))
    assert printed.splitlines()[:-1] == written.splitlines()[:-1]


def test_the_queries_of_the_documentation_run(finished: Path, enrolled: Path) -> None:
    page = (ROOT / "docs/identify.md").read_text(encoding="utf-8")
    page = page.replace("FOUND/", f"{finished}/").replace("STAFF/", f"{enrolled}/")
    counts, named, near, rates, photos = (
        duckdb.sql(query).fetchall() for query in re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    )
    report = _report(finished)
    assert sum(row[-1] for row in counts) == report["rows"]
    assert len(named) == report["identified"]
    assert all(row[-1] > 0 for row in near)
    rank1, tpir, fpir = rates[0]
    assert rank1 >= tpir >= 1 - 1 / PEOPLE
    assert fpir <= 1 / STRANGERS
    assert ("rejected", "truncated", 1) in photos


def _rows_of(gallery: Path) -> list[str]:
    """Ids of a gallery, sorted."""
    tables = Gallery.open(str(gallery)).snapshot().tables(["subject_id"], vectors=False)
    return sorted({name for table in tables for name in table["subject_id"].to_pylist()})


def _states(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()
    }

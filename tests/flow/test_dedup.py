"""Duplicates among real photos: the known ones are found, and shown; what cannot be done is said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import duckdb
import numpy as np
import pytest
from cluster import Cluster
from dedup_runs import THRESHOLD, dedup, dedup_job, make_gallery, read_pairs, templates_of, unit_vectors
from enrollment import ROOT, enroll_here, job_here, write_manifest

from frpipe.cli.main import main
from frpipe.jobs.consolidate.job import Consolidation

# One photo under two names, as the set's list of errata says.
KNOWN = {("Bart_Hendricks", "Ricky_Ray"), ("Carlos_Beltran", "Raul_Ibanez"), ("Emmy_Rossum", "Eva_Amurri")}


@pytest.fixture(scope="module")
def features(shared: Path, photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty people, three pairs of one photo under two names, and a photo that is there twice."""
    folder = tmp_path_factory.mktemp("faces")
    twice = [shared / f"data/lfw/images/{name}/{name}_0001.jpg" for pair in sorted(KNOWN) for name in pair]
    files = [*photos[:40], *(photo.resolve() for photo in twice), photos[0]]
    subjects = [*(photo.parent.name for photo in files[:-1]), "The_Same_Again"]
    manifest = write_manifest(folder / "m.csv", files, subject_id=subjects)
    return enroll_here(manifest, folder / "out", "--set", "resources.part_rows=8")


@pytest.fixture(scope="module")
def real(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of them."""
    gallery = tmp_path_factory.mktemp("gallery") / "G"
    Consolidation(str(features), str(gallery)).run()
    return gallery


def test_known_duplicates_are_found_and_are_shown(real: Path, cluster: Cluster, tmp_path: Path) -> None:
    page = tmp_path / "review.html"
    done = dedup_job(cluster, "--gallery", real, "--output", tmp_path / "R", "--sheet", page, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    rows = read_pairs(tmp_path / "R").to_pylist()
    same = {(row["subject_a"], row["subject_b"]) for row in rows if row["kind"] == "same_photo"}
    assert same >= KNOWN
    assert any("The_Same_Again" in pair for pair in same)
    assert (report["templates"], report["pairs_compared"]) == (47, 47 * 46 // 2)
    assert report["same_photo"] == len(same) == 4
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") == report["subjects_in_clusters"]
    assert "Ricky_Ray" in text
    assert set(re.findall(r"(?:src|href)=(.{6})", text)) == {'"data:'}
    assert page.stat().st_mode & 0o077 == 0


def test_a_finished_enroll_run_is_searched_by_its_bytes_too(features: Path, tmp_path: Path) -> None:
    done = job_here("dedup", "--features", features, "--output", tmp_path / "R", "--block-rows", 16, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    faces = json.loads((features / "report.json").read_text())["faces"]
    assert report["pairs_compared"] == faces * (faces - 1) // 2
    assert report["units"] > 6
    rows = read_pairs(tmp_path / "R").to_pylist()
    assert {(r["subject_a"], r["subject_b"]) for r in rows if r["kind"] == "same_photo"} >= KNOWN
    # A bystander of the photo that is there twice is the same photo too, under the ids of the faces.
    copies = [r for r in rows if {r["face_a"][:7], r["face_b"][:7]} == {"id-0000", "id-0046"}]
    assert copies
    assert all(r["kind"] == "same_photo" and r["face_a"][7:] == r["face_b"][7:] for r in copies)


@pytest.mark.slow
def test_photos_that_are_gone_and_ids_that_are_markup_do_no_harm_to_the_page(
    cluster: Cluster, tmp_path: Path
) -> None:
    gallery, ids = tmp_path / "G", ["<script>alert(1)</script>", "a & b"]
    make_gallery(gallery, [templates_of(ids, np.repeat(unit_vectors(1, 1), 2, axis=0))])
    page = tmp_path / "review.html"
    words = ("--gallery", gallery, "--output", tmp_path / "R", "--threshold", THRESHOLD, "--sheet", page)
    assert dedup_job(cluster, *words).returncode == 0
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert text.count("photo not readable") == 2


def test_the_queries_of_the_documentation_run(real: Path, tmp_path: Path) -> None:
    report = dedup(tmp_path / "R", real, threshold=0.2)
    page = (ROOT / "docs/dedup.md").read_text(encoding="utf-8").replace("RESULT/", f"{tmp_path}/R/")
    queries = re.findall(r"```sql\n(.*?)```", page, flags=re.DOTALL)
    by_pair, by_cluster, by_threshold = (duckdb.execute(query).fetchall() for query in queries)
    assert len(by_pair) == 20
    assert [row[2] for row in by_pair] == sorted((row[2] for row in by_pair), reverse=True)
    assert len(by_cluster) == report["clusters"]
    assert any({keep, *others} >= {"Bart_Hendricks", "Ricky_Ray"} for _, keep, others in by_cluster)
    assert sum(row[-1] for row in by_threshold) == report["pairs"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--features", "x", "--gallery", "y"], 2),
        ([], 2),
        (["--features", "x", "--since", "y"], 2),
        (["--gallery", "missing", "--threshold", "0.5"], 10),
        (["--features", "missing"], 6),
    ],
)
def test_what_cannot_be_done_is_one_clear_error(
    words: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "dedup", *words, "--output", str(tmp_path / "R")]) == code
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "R").exists()


def test_an_empty_gallery_has_no_duplicates(tmp_path: Path) -> None:
    make_gallery(tmp_path / "G", [])
    report = dedup(tmp_path / "R", tmp_path / "G")
    assert (report["pairs_compared"], report["pairs"], report["clusters"]) == (0, 0, 0)

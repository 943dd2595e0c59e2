"""The metrics job on real photos: from lists to a report, the way a user goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from enrollment import job_here, write_manifest
from real_photos import people_with

from frpipe.core.threshold import ThresholdCard

PEOPLE, STRANGERS = 5, 4
ONE_EACH = ("--set", "detect.policy=centre-largest")


def job(name: str, *words: object, code: int = 0) -> str:
    """`python jobs/NAME.py`, in this process; what it says on the way."""
    done = job_here(name, *words)
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def photos(real_photos: Path) -> list[list[Path]]:
    """Two photos each of some people."""
    return people_with(2, real_photos)[: PEOPLE + STRANGERS]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("metrics")


@pytest.fixture(scope="module")
def features(photos: list[list[Path]], place: Path) -> Path:
    """Everybody's second photo, one of them cut short, and the first of those who are not enrolled."""
    broken = place / "broken.jpg"
    broken.write_bytes(photos[0][1].read_bytes()[:2000])
    second = [person[1] for person in photos] + [person[0] for person in photos[PEOPLE:]] + [broken]
    names = [photo.parent.name for photo in second[:-1]] + [photos[0][0].parent.name]
    shifts = [("day", "night")[n % 2] for n in range(len(second))]
    kinds = [("bona_fide", "print", "replay")[n % 3] for n in range(len(second))]
    manifest = write_manifest(place / "probes.csv", second, subject_id=names, shift=shifts, kind=kinds)
    job("enroll", "--manifest", manifest, "--output", place / "probes", *ONE_EACH)
    return place / "probes"


@pytest.fixture(scope="module")
def verified(features: Path, photos: list[list[Path]], place: Path) -> Path:
    """All pairs of the probes; mated are those of strangers, who have two photos, and one side is broken."""
    ids = duckdb.sql(f"SELECT image_id FROM '{features}/images/*.parquet' ORDER BY 1").fetchall()
    pairs = [f"{a},{b},{n % 3}" for n, (a, b) in enumerate((a, b) for (a,) in ids for (b,) in ids if a < b)]
    (place / "pairs.csv").write_text("\n".join(["a,b,fold", *pairs]))
    job("verify", "--pairs", place / "pairs.csv", "--features", features, "--output", place / "verified")
    return place / "verified"


@pytest.fixture(scope="module")
def report(verified: Path, place: Path) -> Path:
    words = ("--results", verified, "--output", place / "report", "--by", "shift", "--card", 0.5)
    job("metrics", "verification", *words)
    return place / "report"


def numbers(report: Path) -> list[dict[str, Any]]:
    return duckdb.sql(f"SELECT * FROM '{report}/numbers.parquet'").to_arrow_table().to_pylist()


def number(report: Path, measure: str, column: str | None = None) -> dict[str, Any]:
    return next(n for n in numbers(report) if (n["measure"], n["column"]) == (measure, column))


class TestVerification:
    def test_its_rates_are_those_of_a_query(self, report: Path, verified: Path, features: Path) -> None:
        fmr, fnmr, frr = duckdb.sql(f"""
            WITH t AS (SELECT p.*, a.subject_id = b.subject_id AS mated FROM '{verified}/pairs/*.parquet' p
                JOIN '{features}/images/*.parquet' a ON a.image_id = p.a
                JOIN '{features}/images/*.parquet' b ON b.image_id = p.b)
            SELECT avg(decision::INT) FILTER (NOT mated), avg((NOT decision)::INT) FILTER (mated),
                avg((NOT coalesce(decision, false))::INT) FILTER (mated) FROM t""").fetchall()[0]
        found = {n["measure"]: n for n in numbers(report) if n["column"] is None}
        assert found["FMR"]["value"] == pytest.approx(fmr)
        assert found["FNMR"]["value"] == pytest.approx(fnmr)
        assert found["FRR"]["value"] == pytest.approx(frr)
        assert found["FRR"]["count"] == found["FNMR"]["count"] + 1
        assert found["FTA"]["count"] == 1
        assert found["folds_accuracy"]["value"] > 0.9

    def test_columns_of_the_manifest_make_groups(self, report: Path) -> None:
        assert {n["group"] for n in numbers(report) if n["column"] == "shift"} == {"day", "night"}

    def test_its_card_is_one_that_the_jobs_take(
        self, report: Path, verified: Path, features: Path, place: Path
    ) -> None:
        (path,) = (report / "cards").iterdir()
        card = ThresholdCard.parse(path.read_text())
        assert card.purpose == "verification"
        assert card.target is not None and card.target.value == 0.5
        words = ("--pairs", place / "pairs.csv", "--features", features, "--output", place / "again")
        job("verify", *words, "--threshold-card", path)
        accepted = f"""SELECT count(*) FROM '{place}/again/pairs/*.parquet' p
            JOIN '{features}/images/*.parquet' a ON a.image_id = p.a
            JOIN '{features}/images/*.parquet' b ON b.image_id = p.b
            WHERE decision AND a.subject_id <> b.subject_id"""
        assert duckdb.sql(accepted).fetchall()[0][0] <= 0.5 * (card.trials or 0)

    def test_the_page_is_whole_and_names_no_one(self, report: Path, photos: list[list[Path]]) -> None:
        page = (report / "report.html").read_text()
        assert "<svg" in page
        assert "http://" not in page.replace("http://www.w3.org", "")
        assert not any(person[0].parent.name in page for person in photos)
        assert "id-00" not in page
        assert "data:image/jpeg" not in page

    def test_each_file_is_listed_with_its_digest(self, report: Path) -> None:
        listed = {file["name"] for file in json.loads((report / "files.json").read_text())["files"]}
        present = {str(path.relative_to(report)) for path in report.rglob("*") if path.is_file()}
        assert present - listed == {"files.json", "run.json", "report.json", "report.md", "_SUCCESS"}

    def test_a_target_that_the_data_cannot_carry_ends_the_job(self, verified: Path, place: Path) -> None:
        words = ("verification", "--results", verified, "--output", place / "none", "--card", 1e-6)
        assert "are needed" in job("metrics", *words, code=13)
        assert not (place / "none").exists()

    def test_two_systems_come_on_one_page(self, report: Path, verified: Path, place: Path) -> None:
        words = ("--results", verified, place / "again", "--names", "first", "second")
        job("metrics", "verification", *words, "--output", place / "both", "--thumbnails")
        page = (place / "both/report.html").read_text()
        assert "first" in page and "second" in page and "data:image/jpeg" in page and "id-00" in page
        same = duckdb.sql(f"SELECT value FROM '{place}/both/differences.parquet' WHERE value <> 0").fetchall()
        assert not same

    def test_photos_are_shown_by_whatever_the_list_calls_them(self, features: Path, place: Path) -> None:
        listed = duckdb.sql(f"SELECT image_uri, subject_id FROM '{features}/images/*.parquet'").fetchall()
        pairs = [f"{a},{b},{p == q}" for a, p in listed for b, q in listed if a < b]
        (place / "uris.csv").write_text("\n".join(["a,b,mated", *pairs]))
        job("verify", "--pairs", place / "uris.csv", "--features", features, "--output", place / "by_uri")
        words = ("--results", place / "by_uri", "--output", place / "shown", "--target", 0.1)
        job("metrics", "verification", *words, "--thumbnails")
        assert "data:image/jpeg" in (place / "shown/report.html").read_text()

    def test_measures_of_the_compared_faces_are_judged(
        self, verified: Path, features: Path, place: Path
    ) -> None:
        words = (
            "--results",
            verified,
            "--output",
            place / "quality",
            "--quality",
            "norm,sharpness:low,box_x1:low",
        )
        said = job("metrics", "verification", *words)
        assert "evaluating" in said
        bins = [n for n in numbers(place / "quality") if n["column"] == "sharpness"]
        mated = number(place / "quality", "FNMR")["trials"]
        assert sum(n["trials"] for n in bins) == mated
        # The worse side of a pair, where low is better, is the one of the larger value.
        (most,) = (
            duckdb.sql(f"""SELECT max(greatest(x.sharpness, y.sharpness)) FROM '{verified}/pairs/*.parquet' p
            JOIN '{features}/faces/*.parquet' x ON x.image_id = p.a
            JOIN '{features}/faces/*.parquet' y ON y.image_id = p.b
            WHERE x.subject_id = y.subject_id""").fetchall()[0]
        )
        assert bins[-1]["group"].endswith(f"to {most:.4g}")
        # A measure may be a column that is read anyway.
        judged = {n["group"] for n in numbers(place / "quality") if n["measure"] == "EDC_gain"}
        assert judged == {"norm", "sharpness", "box_x1"}

    def test_a_measure_that_is_not_there_is_named(self, verified: Path, place: Path) -> None:
        words = ("verification", "--results", verified, "--output", place / "x", "--quality", "sharpnes")
        said = job("metrics", *words, code=2)
        assert "no column 'sharpnes' of numbers" in said and "sharpness" in said
        twice = ("verification", "--results", verified, "--output", place / "x", "--quality", "norm,norm:low")
        assert "names a column twice" in job("metrics", *twice, code=2)
        none = ("verification", "--results", verified, "--output", place / "x", "--quality", ",")
        assert "names no column" in job("metrics", *none, code=2)

    def test_a_column_that_is_not_there_is_named(self, verified: Path, place: Path) -> None:
        words = ("verification", "--results", verified, "--output", place / "x", "--by", "shfit")
        said = job("metrics", *words, code=2)
        assert "no column 'shfit'" in said and "shift" in said

    def test_what_is_no_result_is_refused(self, features: Path, place: Path) -> None:
        words = ("verification", "--results", features, "--output", place / "x")
        assert "jobs/verify.py" in job("metrics", *words, code=6)


@pytest.fixture(scope="module")
def found(photos: list[list[Path]], features: Path, place: Path) -> Path:
    """Of a gallery of the first people, searched for everybody."""
    first = [person[0] for person in photos[:PEOPLE]]
    manifest = write_manifest(place / "g.csv", first, subject_id=[photo.parent.name for photo in first])
    job("enroll", "--manifest", manifest, "--output", place / "g", "--gallery", place / "G", *ONE_EACH)
    job("identify", "--probes", features, "--gallery", place / "G", "--output", place / "found", "--top", 5)
    words = ("--results", place / "found", "--output", place / "searches", "--enrolled", place / "g")
    job("metrics", "identification", *words)
    return place / "searches"


class TestIdentification:
    def test_a_search_is_mated_where_the_person_is_enrolled(self, found: Path) -> None:
        fnir, fpir = number(found, "FNIR"), number(found, "FPIR")
        assert (fnir["trials"], fpir["trials"]) == (PEOPLE, 2 * STRANGERS)
        assert number(found, "FNIR_all")["trials"] == PEOPLE + 1
        assert number(found, "FNIR_all")["count"] == fnir["count"] + 1

    def test_its_rates_are_those_of_a_query(self, found: Path, place: Path) -> None:
        gallery = duckdb.sql(f"SELECT DISTINCT subject_id FROM '{place}/g/images/*.parquet'")
        misses, alarms = duckdb.sql(f"""
            SELECT count(*) FILTER (s AND NOT (decision = 'identified' AND hit)),
                count(*) FILTER (NOT s AND decision = 'identified')
            FROM (SELECT *, rank1_subject_id = probe_subject_id AS hit,
                probe_subject_id IN (FROM gallery) AS s FROM '{place}/found/probes/*.parquet'
                WHERE face_id IS NOT NULL)""").fetchall()[0]
        assert gallery
        assert number(found, "FNIR")["count"] == misses
        assert number(found, "FPIR")["count"] == alarms

    def test_measures_of_the_probes_are_judged(self, place: Path, found: Path) -> None:
        words = ("--results", place / "found", "--output", place / "judged", "--quality", "norm")
        job("metrics", "identification", *words)
        bins = [n for n in numbers(place / "judged") if n["column"] == "norm"]
        assert {n["measure"] for n in bins} == {"FNIR"}
        assert sum(n["trials"] for n in bins) == number(found, "FNIR")["trials"]

    def test_ranks_go_as_far_as_the_lists(self, found: Path) -> None:
        assert [n["at"] for n in numbers(found) if n["measure"] == "CMC"] == [1, 2, 5]


class TestPad:
    """No stage of attack detection is needed: any column of faces may stand in for its score."""

    def test_photos_of_an_enroll_output_are_presentations(self, features: Path, place: Path) -> None:
        words = ("--scores", features, "--score", "sharpness", "--label", "kind", "--threshold", 100)
        job("metrics", "pad", *words, "--output", place / "pad")
        found = {(n["measure"], n["group"]): n for n in numbers(place / "pad")}
        kinds = dict(
            duckdb.sql(f"SELECT kind, count(*) FROM '{features}/images/*.parquet' GROUP BY 1").fetchall()
        )
        passed = dict(
            duckdb.sql(f"""SELECT kind, count(*) FILTER (sharpness >= 100)
                FROM '{features}/faces/*.parquet' GROUP BY 1""").fetchall()
        )
        for kind in ("print", "replay"):
            assert found["APCER", kind]["count"] == passed[kind]
            assert found["APNRR", kind]["trials"] == kinds[kind]
        assert found["BPNRR", None]["trials"] == kinds["bona_fide"]
        # The photo that was cut short had no response.
        lost = found["BPNRR", None]["count"] + found["APNRR", None]["count"]
        assert lost == 1
        assert "Presentation attack detection" in (place / "pad/report.html").read_text()

    def test_an_output_without_such_scores_is_refused(self, features: Path, place: Path) -> None:
        words = ("pad", "--scores", features, "--label", "kind", "--output", place / "none")
        assert "no column 'pad_score'" in job("metrics", *words, code=6)
        assert not (place / "none").exists()

    def test_a_list_that_is_not_there_is_refused(self, place: Path) -> None:
        words = ("pad", "--scores", place / "nowhere.csv", "--output", place / "none")
        assert "nowhere.csv" in job("metrics", *words, code=3)

"""`metrics verification` with fused and normalised scores, and its calibration cards, on drawn vectors."""

from __future__ import annotations

import shutil
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedded_runs import FIRST, OTHER, SECOND, all_pairs, drawn_run

from frpipe.core.calibration import CalibrationCard, CalibrationMap
from frpipe.core.errors import ConfigError, OutputError
from frpipe.core.threshold import ThresholdCard
from frpipe.evaluation.differentials import ALL, differential_numbers
from frpipe.io import calibration_file
from frpipe.jobs.evaluate.cohort import ImpostorCohort
from frpipe.jobs.evaluate.derived import Derivations
from frpipe.jobs.evaluate.normalised_searches import normalised_searches
from frpipe.jobs.evaluate.pair_results import PairColumns, PairResults
from frpipe.jobs.evaluate.search_results import SearchResults
from frpipe.jobs.features import FeatureRun
from frpipe.metrics.verification import eer


class Done(NamedTuple):
    returncode: int
    stderr: str


def job_here(name: str, *words: object, code: int | None = None) -> Done:
    """`python jobs/NAME.py`, in this process. code: that it has to end with."""
    main = import_module(f"frpipe.cli.jobs.{name}").main
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as err:
        ended = main([str(word) for word in words])
    assert code in {None, ended}, err.getvalue()
    return Done(ended, err.getvalue())


PEOPLE, OTHERS = [f"p{n:02d}" for n in range(40)], [f"q{n:02d}" for n in range(50)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("derived")
    shades = [("dark", "light")[n % 2] for n in range(len(PEOPLE))]
    drawn_run(found / "features", PEOPLE, columns={"shade": shades})
    # Some of the tested people are in it too.
    drawn_run(found / "cohort", [*OTHERS, *PEOPLE[:7]], 1, seed=1)
    all_pairs(found / "pairs.csv", PEOPLE)
    words = ("--pairs", found / "pairs.csv", "--features", found / "features", "--threshold", 0.4)
    for name, more in (("verified", ()), ("second", ("--embedder", SECOND))):
        done = job_here("verify", *words, *more, "--output", found / name)
        assert done.returncode == 0, done.stderr
    return found


@pytest.fixture(scope="module")
def results(place: Path) -> PairResults:
    return PairResults.open(str(place / "verified"), PairColumns())


def _job(*words: object, code: int = 0) -> str:
    done = job_here("metrics", "verification", *words)
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def report(place: Path) -> Path:
    _job(
        "--results", place / "verified", "--output", place / "report", "--fuse-with", SECOND,
        "--normalise", "s", "--cohort", place / "cohort", "--calibrate", "isotonic", "logistic",
        "--card", 0.05, "--target", 0.1,
    )  # fmt: skip
    return place / "report"


def _rows(report: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(report / f"{name}.parquet").to_pylist()
    return found


def test_two_embedders_that_err_apart_are_better_together(place: Path, results: PairResults) -> None:
    alone, both = Derivations(fuse_with=(SECOND,)).of("x", results)
    assert (alone.name, both.name) == (f"x: {SECOND} alone", f"x + {SECOND}")
    assert (alone.bases, both.bases) == (("x",), ("x", f"x: {SECOND} alone"))
    rates = [eer(found.trials.scores()).value for found in (results, alone.results, both.results)]  # type: ignore[union-attr]
    assert rates[2] < 0.8 * min(rates[:2])
    again = PairResults.open(str(place / "second"), PairColumns())
    assert (alone.results.trials.similarity == again.trials.similarity).all()
    assert alone.results.provenance["embedder_hash"] == OTHER["embedder_hash"]


def test_the_result_may_be_of_the_further_embedder(place: Path) -> None:
    second = PairResults.open(str(place / "second"), PairColumns())
    alone, _ = Derivations(fuse_with=(FIRST,)).of("x", second)
    first = PairResults.open(str(place / "verified"), PairColumns())
    assert (alone.results.trials.similarity == first.trials.similarity).all()
    cohort = Derivations(normalise=("s",), cohort=str(place / "cohort"))
    (normed,) = cohort.of("x", second)
    assert np.isfinite(normed.results.trials.similarity).all()


def test_an_embedder_is_not_fused_with_itself_or_with_one_that_is_not_there(results: PairResults) -> None:
    with pytest.raises(ConfigError, match="itself"):
        list(Derivations(fuse_with=(FIRST,)).of("x", results))
    with pytest.raises(OutputError, match="no embeddings of other"):
        list(Derivations(fuse_with=("other",)).of("x", results))


def test_normalisation_by_hand(place: Path, results: PairResults) -> None:
    cohort = ImpostorCohort.open(str(place / "cohort"), FeatureRun.open(str(place / "features")).spec)
    kept, words = cohort.without(results.people)
    assert kept.people == OTHERS and "7 people" in words[0]
    (found,) = Derivations(normalise=("z",), cohort=str(place / "cohort")).of("x", results)
    _, faces = FeatureRun.open(str(place / "features")).features.part(0)
    vectors = np.array(faces["embedding"].to_pylist(), float)
    place_of = {image: n for n, image in enumerate(faces["image_id"].to_pylist())}
    trials = results.trials
    for row in (0, 77, len(trials) - 1):
        against = vectors[place_of[trials.a[row]]] @ kept.vectors.T.astype(float)
        z = (trials.similarity[row] - against.mean()) / against.std(ddof=1)
        assert found.results.trials.similarity[row] == pytest.approx(z / (1 + abs(z)))
    assert found.results.warnings[-1] == words[0]


def test_the_labels_of_both_sides_are_those_of_the_manifest(place: Path) -> None:
    trials = PairResults.open(str(place / "verified"), PairColumns(by=("shade",))).trials
    a, b = trials.sides["shade"]
    shades = {who: ("dark", "light")[n % 2] for n, who in enumerate(PEOPLE)}
    assert [*a] == [shades[name[:3]] for name in trials.a] and [*b] == [shades[name[:3]] for name in trials.b]
    assert (trials.groups["shade"] == np.where(a == b, a, "")).all()
    groups = {number.group for number in differential_numbers(trials, 0.2)} - {ALL}
    assert groups == {"dark / dark", "dark / light", "light / light"}


def test_a_list_may_say_it_of_each_side(place: Path, tmp_path: Path) -> None:
    lines = (place / "pairs.csv").read_text().splitlines()
    own = [f"{lines[0]},shade_a,shade_b", *(f"{line},x,{'xy'[n % 2]}" for n, line in enumerate(lines[1:]))]
    (tmp_path / "pairs.csv").write_text("\n".join(own))
    words = ("--pairs", tmp_path / "pairs.csv", "--features", place / "features", "--threshold", 0.4)
    assert job_here("verify", *words, "--output", tmp_path / "out").returncode == 0
    trials = PairResults.open(str(tmp_path / "out"), PairColumns(by=("shade",))).trials
    assert {*trials.sides["shade"][0]} == {"x"} and {*trials.sides["shade"][1]} == {"x", "y"}
    assert {*trials.groups["shade"]} == {"x", ""}


def test_a_cohort_of_tested_people_is_refused(place: Path, results: PairResults) -> None:
    with pytest.raises(ConfigError, match="0 people of the cohort are not tested"):
        list(Derivations(normalise=("s",), cohort=str(place / "features")).of("x", results))
    for one in (Derivations(normalise=("s",)), Derivations(cohort="/x")):
        with pytest.raises(ConfigError, match="go together"):
            one.check()


def test_a_gallery_is_a_cohort_too(place: Path, results: PairResults, tmp_path: Path) -> None:
    done = job_here("consolidate", "--features", place / "cohort", "--gallery", tmp_path / "gallery")
    assert done.returncode == 0, done.stderr
    pairs = [
        Derivations(normalise=("as",), cohort=str(uri)).of("x", results)
        for uri in (place / "cohort", tmp_path / "gallery")
    ]
    one, other = (next(iter(found)).results.trials.similarity for found in pairs)
    assert one == pytest.approx(other)


@pytest.fixture(scope="module", params=["max", "mean"])
def found(
    request: pytest.FixtureRequest, place: Path, tmp_path_factory: pytest.TempPathFactory
) -> SearchResults:
    """Searches of two photos each of some people of the gallery, and of strangers."""
    out, score = tmp_path_factory.mktemp("searches"), request.param
    drawn_run(out / "probes", [*PEOPLE[:12], *(f"r{n:02d}" for n in range(8))], seed=2)
    for name, words in (
        ("consolidate", ("--features", place / "features", "--gallery", out / "gallery")),
        (
            "identify",
            ("--probes", out / "probes", "--gallery", out / "gallery", "--output", out / "found", "--top", 15,
             "--threshold", 0.5, "--executor", "local", "--score", score),
        ),
    ):  # fmt: skip
        done = job_here(name, *words)
        assert done.returncode == 0, done.stderr
    return SearchResults.open(str(out / "found"))


def test_searches_are_normalised_by_hand(place: Path, found: SearchResults) -> None:
    cohort = ImpostorCohort.open(str(place / "cohort"), FeatureRun.open(str(place / "features")).spec)
    kept, _ = cohort.without(set(PEOPLE))
    (z, t) = normalised_searches("x", found, ("z", "t"), str(place / "cohort"), 20)
    best = found.provenance["score"] == "max"
    _, enrolled = FeatureRun.open(str(place / "features")).features.part(0)
    _, probes = FeatureRun.open(found.features).features.part(0)
    for row in (0, 100, len(found.trials.probe) - 1):
        who, probe = found.trials.subject[row], found.trials.image[found.trials.probe[row]]
        own = [each for each in enrolled.to_pylist() if each["subject_id"] == who]
        templates = np.array([each["embedding"] for each in own])
        against = templates @ kept.vectors.T
        person = against.max(0) if best else against.mean(0)
        (vector,) = (each["embedding"] for each in probes.to_pylist() if each["image_id"] == probe)
        other = np.array(vector) @ kept.vectors.T
        for system, side in ((z, person), (t, other)):
            score = (found.trials.similarity[row] - side.mean()) / side.std(ddof=1)
            assert system.results.trials.similarity[row] == pytest.approx(score / (1 + abs(score)), abs=1e-5)
    # Within a search T-norm changes no order.
    assert (t.results.trials.searches().rank == found.trials.searches().rank).all()  # type: ignore[union-attr]
    assert "rank the 15 listed" in z.results.warnings[-1]


def test_a_search_gives_ratios_by_a_card_and_is_another_run(found: SearchResults, tmp_path: Path) -> None:
    place = Path(found.uri).parent
    spec = FeatureRun.open(found.features).spec
    card = CalibrationCard(
        embedder_hash=spec.embedder_hash, detector_hash=spec.detector_hash, mated=10, nonmated=10, source="x",
        created=datetime(2026, 5, 1, tzinfo=UTC), map=CalibrationMap(method="logistic", slope=20, offset=-6),
    )  # fmt: skip
    calibration_file.save(str(tmp_path / "card.json"), card)
    calibration_file.save(str(tmp_path / "other.json"), card.model_copy(update={"detector_hash": "0" * 64}))
    score = str(found.provenance["score"])
    words = (
        "--probes", place / "probes", "--gallery", place / "gallery", "--top", 15, "--threshold", 0.5,
        "--executor", "local", "--score", score,
    )  # fmt: skip
    asked = (*words, "--output", tmp_path / "out", "--calibration")
    assert "detector" in job_here("identify", *asked, tmp_path / "other.json", code=10).stderr
    assert job_here("identify", *asked, tmp_path / "card.json").returncode == 0
    plain, ratios = (
        pa.concat_tables(pq.read_table(path) for path in sorted((folder / "probes").iterdir()))
        for folder in (place / "found", tmp_path / "out")
    )
    names = [name for name in plain.column_names if name != "candidates"]
    assert ratios.select(names).equals(plain.select(names))
    rank1 = ratios["rank1_similarity"].to_numpy()
    assert ratios["rank1_llr"].to_numpy() == pytest.approx(20 * rank1 - 6)
    items = ratios["candidates"].combine_chunks().flatten()
    assert items.field("llr").to_numpy() == pytest.approx(20 * items.field("similarity").to_numpy() - 6)
    assert job_here("identify", *words, "--output", tmp_path / "out", code=6).returncode == 6


def test_a_cohort_of_the_gallery_is_refused_for_searches(place: Path, found: SearchResults) -> None:
    with pytest.raises(ConfigError, match="are not tested"):
        list(normalised_searches("x", found, ("s",), str(place / "features"), 20))


@pytest.mark.slow
def test_the_page_has_each_system_and_its_gain(report: Path) -> None:
    numbers, differences = _rows(report, "numbers"), _rows(report, "differences")
    names = [f"verified: {SECOND} alone", f"verified + {SECOND}", "verified, S-norm"]
    assert {number["name"] for number in numbers} == {"verified", *names}
    compared = {(one["first"], one["second"]) for one in differences}
    assert compared == {*(("verified", name) for name in names), (names[0], names[1])}
    gain = next(
        one
        for one in differences
        if (one["first"], one["second"], one["measure"]) == ("verified", names[1], "EER")
    )
    assert gain["value"] < 0 and gain["low"] <= gain["value"] <= gain["high"]
    # A score that is no similarity has no threshold of the run, and nobody is asked to use one.
    assert {number["name"] for number in numbers if number["measure"] == "FMR"} == {"verified"}


def test_its_cards_hold_the_calibration(report: Path, place: Path) -> None:
    cards = {path.name: path.read_text() for path in (report / "cards").iterdir()}
    assert set(cards) == {"verified-0.05.json", "verified-logistic.json", "verified-isotonic.json"}
    steps = CalibrationCard.parse(cards["verified-isotonic.json"])
    assert steps.cllr is not None and steps.min_cllr is not None and steps.min_cllr <= steps.cllr < 1
    assert ThresholdCard.parse(cards["verified-0.05.json"]).calibration == steps.map
    out = place / "calibrated"
    words = ("--pairs", place / "pairs.csv", "--features", place / "features", "--output", out)
    done = job_here(
        "verify", *words, "--calibration", report / "cards/verified-logistic.json", "--threshold", 0
    )
    assert done.returncode == 0, done.stderr
    assert "calibration card verified-logistic: Cllr" in (report / "report.md").read_text()


def test_without_the_options_an_evaluation_is_the_one_of_before() -> None:
    assert Derivations().identity() == {}
    assert Derivations(("x",)).identity() == {"fuse_with": ["x"]}


def test_scores_write_a_card_too(place: Path, tmp_path: Path) -> None:
    shutil.copy(place / "pairs.csv", tmp_path / "pairs.csv")
    found = PairResults.open(str(place / "verified"), PairColumns())
    rows = zip(found.trials.mated, found.trials.similarity, strict=True)
    (tmp_path / "scores.csv").write_text("mated,similarity\n" + "\n".join(f"{m},{s}" for m, s in rows))
    words = ("scores", tmp_path / "scores.csv", "--calibration-card", tmp_path / "card.json")
    assert job_here("metrics", *words).returncode == 2
    done = job_here("metrics", *words, "--made-by", place / "features", "--calibrate", "isotonic")
    assert done.returncode == 0, done.stderr
    card = CalibrationCard.parse((tmp_path / "card.json").read_text())
    assert card.embedder_hash == FeatureRun.open(str(place / "features")).spec.embedder_hash
    assert card.map.method == "isotonic" and card.cllr is not None

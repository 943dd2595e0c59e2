"""Calibration cards: what a file may say, whose vectors it fits, and the ratios that jobs give by one."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from embedded_runs import FIRST, OTHER, SECOND, all_pairs, drawn_run
from made_runs import HASHES

from frpipe.core.calibration import CalibrationCard, CalibrationMap
from frpipe.core.errors import ConfigError, GalleryMismatch, OutputError
from frpipe.core.threshold import ThresholdCard
from frpipe.evaluation.calibration_cards import calibration_card
from frpipe.io import calibration_file, threshold_file
from frpipe.io.output import run
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dedup.job import Dedup
from frpipe.jobs.identify.candidates import without_candidates
from frpipe.jobs.identify.rows import Verdicts
from frpipe.jobs.identify.schema import CANDIDATE, PROBE_SCHEMA, RATIO
from frpipe.jobs.ratios import ratios_of
from frpipe.jobs.verify.job import PairVerification
from frpipe.jobs.verify.schema import FOUND_COLUMNS
from frpipe.matching.ranking import Ranking
from frpipe.metrics.calibration import fit_isotonic, fit_logistic
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.scores import Scores
from frpipe.runtime.runtime import Runtime

PEOPLE = [f"p{n:02d}" for n in range(30)]
NOW = datetime(2026, 5, 1, tzinfo=UTC)
LINE: dict[str, Any] = {"method": "logistic", "slope": 20.0, "offset": -6.0}
STEPS: dict[str, Any] = {"method": "isotonic", "similarities": [-0.5, 0.2, 0.6], "ratios": [-4.0, -4.0, 5.0]}


def _content(**changes: Any) -> dict[str, Any]:
    return {
        "format": "frpipe-calibration/1",
        **HASHES,
        "map": LINE,
        "mated": 100,
        "nonmated": 900,
        "cllr": 0.03,
        "min_cllr": 0.02,
        "source": "all pairs of photos like ours",
        "created": "2026-05-01T10:00:00Z",
        **changes,
    }


def _card(**changes: Any) -> CalibrationCard:
    return CalibrationCard.parse(json.dumps(_content(**changes)))


# the file


@pytest.mark.parametrize("changes", [{}, {"map": STEPS}, {"detector_hash": None, "cllr": None}])
def test_what_is_saved_is_what_is_loaded(changes: dict[str, Any], tmp_path: Path) -> None:
    card, path = _card(**changes), str(tmp_path / "sub" / "card.json")
    calibration_file.save(path, card)
    assert calibration_file.load(path) == card


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "frpipe-calibration/2"}, "format 'frpipe-calibration/2'"),
        ({"colour": "red"}, "unknown field colour"),
        ({"map": {**LINE, "slope": -1.0}}, "map.slope"),
        ({"map": {"method": "logistic", "slope": 1.0}}, "slope and offset"),
        ({"map": {**STEPS, "ratios": [1.0, 0.0, 2.0]}}, "never fall"),
        ({"map": {**STEPS, "similarities": [0.1, 0.1, 0.2]}}, "ascend"),
        ({"map": {**STEPS, "ratios": [1.0]}}, "differ in length"),
        ({"map": {**LINE, "slope": 1e999}}, "finite"),
        ({"mated": 0}, "mated"),
        ({"embedder_hash": ""}, "embedder_hash"),
    ],
)
def test_what_it_cannot_mean_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _card(**changes)


def test_a_file_that_is_none_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ConfigError, match=r"x\.json: the calibration card: it is no JSON"):
        calibration_file.load(str(tmp_path / "x.json"))
    with pytest.raises(ConfigError, match="there is no calibration card"):
        calibration_file.load(str(tmp_path / "none.json"))


def test_a_threshold_card_without_a_calibration_is_as_it_was(tmp_path: Path) -> None:
    card = ThresholdCard(
        embedder_hash="e" * 64, kind="similarity", value=0.4, purpose="verification", source="x", created=NOW
    )
    assert "calibration" not in json.loads(card.json_text())
    more = card.model_copy(update={"calibration": CalibrationMap(**LINE)})
    threshold_file.save(str(tmp_path / "t.json"), more)
    assert threshold_file.load(str(tmp_path / "t.json")) == more


# fitted


def _scores(seed: int = 0, kind: str = "similarity") -> Scores:
    rng = np.random.default_rng(seed)
    sides = np.clip(rng.normal(0.5, 0.15, 200), -1, 1), np.clip(rng.normal(0.05, 0.12, 900), -1, 1)
    return Scores.of(*((side if kind == "similarity" else 1 - side) for side in sides), kind=kind)  # type: ignore[arg-type]


def _fitted(scores: Scores, method: str) -> CalibrationCard:
    return calibration_card(scores, method, hashes=HASHES, source="x", created=NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(("method", "fit"), [("logistic", fit_logistic), ("isotonic", fit_isotonic)])
def test_the_card_gives_the_ratios_of_the_fit(method: str, fit: Any) -> None:
    asked = np.linspace(-1, 1, 501)
    given = CalibrationCard.parse(_fitted(_scores(), method).json_text()).map.llr(asked)
    assert given == pytest.approx(fit(_scores()).llr(asked), abs=1e-9)
    assert (np.diff(given) >= 0).all()


@pytest.mark.parametrize("method", ["logistic", "isotonic"])
def test_distances_give_a_map_from_similarities(method: str) -> None:
    asked = np.linspace(-0.2, 0.9, 101)
    one, other = (_fitted(_scores(kind=kind), method).map.llr(asked) for kind in ("similarity", "distance"))
    assert one == pytest.approx(other, abs=1e-6)


def test_what_gives_no_map_is_refused() -> None:
    few, wrong, large = (
        Scores.of(np.linspace(0.3, 0.9, 9), np.linspace(0, 0.4, 50)),
        Scores.of(np.linspace(0, 0.4, 50), np.linspace(0.3, 0.9, 50)),
        Scores.of(np.linspace(30, 90, 50), np.linspace(0, 40, 50)),
    )
    for scores, said in ((few, "10 are needed"), (wrong, "less alike"), (large, "no cosine")):
        with pytest.raises(ScoresError, match=said):
            _fitted(scores, "logistic")


# in jobs


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("calibrated")
    drawn_run(found / "features", PEOPLE)
    all_pairs(found / "pairs.csv", PEOPLE)
    calibration_file.save(str(found / "line.json"), _card())
    return found


def _verified(place: Path, out: Path, **asked: Any) -> pa.Table:
    PairVerification(
        str(place / "pairs.csv"), str(place / "features"), str(out), threshold=0.3, **asked
    ).run()
    return pa.concat_tables(Units(Folder.at(str(out)), "pairs").tables())


def test_verify_writes_ratios_beside_similarities(place: Path, tmp_path: Path) -> None:
    plain = _verified(place, tmp_path / "plain")
    found = _verified(place, tmp_path / "out", calibration=str(place / "line.json"))
    assert found.drop_columns(["llr"]).equals(plain)
    assert found["llr"].to_numpy() == pytest.approx(20 * found["similarity"].to_numpy() - 6)
    assert run.begun(Folder.at(str(tmp_path / "out")))["identity"].keys() - run.begun(
        Folder.at(str(tmp_path / "plain"))
    )["identity"].keys() == {"calibration"}


def test_another_calibration_is_another_run(place: Path, tmp_path: Path) -> None:
    _verified(place, tmp_path / "out", calibration=str(place / "line.json"))
    with pytest.raises(OutputError):
        _verified(place, tmp_path / "out")


@pytest.mark.parametrize("name", ["embedder_hash", "detector_hash", "preprocessing_hash"])
def test_a_card_of_other_vectors_is_refused_with_both_hashes(name: str, place: Path, tmp_path: Path) -> None:
    calibration_file.save(str(tmp_path / "other.json"), _card(**{name: "0" * 64}))
    with pytest.raises(GalleryMismatch, match=f"{'0' * 64}.*{HASHES[name]}"):
        _verified(place, tmp_path / "out", calibration=str(tmp_path / "other.json"))
    assert not (tmp_path / "out").exists()


def test_a_further_embedder_has_its_own_card(place: Path, tmp_path: Path) -> None:
    calibration_file.save(str(tmp_path / "second.json"), _card(**OTHER))
    asked = {"calibration": str(tmp_path / "second.json")}
    assert "llr" in _verified(place, tmp_path / "out", embedder=SECOND, **asked).column_names
    with pytest.raises(GalleryMismatch):
        _verified(place, tmp_path / "first", embedder=FIRST, **asked)


def test_the_threshold_card_may_bring_it(place: Path, tmp_path: Path) -> None:
    card = ThresholdCard(
        embedder_hash=HASHES["embedder_hash"], kind="similarity", value=0.3, purpose="verification",
        source="x", created=NOW, calibration=CalibrationMap(**LINE),
    )  # fmt: skip
    threshold_file.save(str(tmp_path / "t.json"), card)
    job = PairVerification(
        str(place / "pairs.csv"), str(place / "features"), str(tmp_path / "out"),
        threshold_card=str(tmp_path / "t.json"),
    )  # fmt: skip
    job.run()
    (table,) = Units(Folder.at(str(tmp_path / "out")), "pairs").tables()
    assert table["llr"].to_numpy() == pytest.approx(20 * table["similarity"].to_numpy() - 6)


def test_a_list_that_has_such_a_column_keeps_it_without_a_card(place: Path, tmp_path: Path) -> None:
    lines = (place / "pairs.csv").read_text().splitlines()
    own = tmp_path / "own"
    shutil.copytree(place / "features", own / "features")
    (own / "pairs.csv").write_text("\n".join(f"{line},{n or 'LLR'}" for n, line in enumerate(lines)))
    assert "LLR" in _verified(own, tmp_path / "plain").column_names
    with pytest.raises(ConfigError, match="llr"):
        _verified(own, tmp_path / "out", calibration=str(place / "line.json"))


def test_dedup_writes_them_too(place: Path, tmp_path: Path) -> None:
    tables = {}
    for name, card in (("plain", None), ("calibrated", _card(map=STEPS))):
        asked = {"features": str(place / "features"), "threshold": 0.3, "calibration": card}
        Dedup(str(tmp_path / name), runtime=Runtime(choice="local"), **asked).run()  # type: ignore[arg-type]
        tables[name] = pa.concat_tables(Units(Folder.at(str(tmp_path / name)), "pairs").tables())
    found = tables["calibrated"]
    assert found.drop_columns(["llr"]).equals(tables["plain"]) and found.num_rows
    assert found["llr"].to_numpy() == pytest.approx(_card(map=STEPS).map.llr(found["similarity"].to_numpy()))


def test_identify_gives_each_candidate_its_ratio() -> None:
    images = pa.table({
        "image_id": ["x", "y"], "image_uri": ["x", "y"], "subject_id": ["ann", "bob"], "status": ["ok", "ok"],
        "reason": pa.array([None, None], pa.string()), "faces": pa.array([1, 1], pa.int32()),
        "width": pa.array([9, 9], pa.int32()), "height": pa.array([9, 9], pa.int32()),
    })  # fmt: skip
    box = {f"box_{side}": pa.array([0, 0], pa.float32()) for side in ("x1", "y1", "x2", "y2")}
    faces = pa.table({"image_id": ["x", "y"], "face_id": ["x#0", "y#0"], **box})
    ranking = Ranking(np.array([0, 0]), pa.array(["ann", "bob"]), np.array([0.5, 0.1]))
    facts = {"gallery_id": "g", "gallery_version": 1, "embedder_hash": "e", "preprocessing_hash": "p"}
    table = Verdicts(0.3, facts, CalibrationMap(**LINE)).table(images, faces, ranking)
    table.validate(full=True)
    first, second = table.to_pylist()
    assert [one["llr"] for one in first["candidates"]] == pytest.approx([4, -4])
    assert (first["rank1_llr"], second["rank1_llr"]) == (pytest.approx(4), None)
    plain = Verdicts(0.3, facts).table(images, faces, ranking)
    assert plain.schema.equals(PROBE_SCHEMA)
    assert table.select([name for name in PROBE_SCHEMA.names if name != "candidates"]).equals(
        plain.drop_columns(["candidates"])
    )


def test_an_erased_candidate_leaves_no_ratio_behind() -> None:
    kind = pa.list_(pa.struct([*CANDIDATE, RATIO]))
    listed = [
        {"rank": 1, "subject_id": "ann", "similarity": 0.5, "distance": 0.5, "llr": 4.0},
        {"rank": 2, "subject_id": "bob", "similarity": 0.1, "distance": 0.9, "llr": -4.0},
    ]
    first = {"rank1_subject_id": "ann", "rank1_similarity": 0.5, "rank1_distance": 0.5, "rank1_llr": 4.0}
    columns = {
        "candidates": pa.array([listed, listed[:1]], kind),
        **{name: pa.array([value] * 2) for name, value in first.items()},
        "decision": ["identified"] * 2,
        "threshold_similarity": [0.3] * 2,
    }
    found, changed = without_candidates(pa.table(columns), lambda _: {"ann"})
    one, other = found.to_pylist()
    assert (changed, one["rank1_llr"], other["rank1_llr"]) == (2, -4, None)
    assert [each["llr"] for each in one["candidates"]] == [-4] and other["candidates"] == []


def test_ratios_are_null_where_similarities_are() -> None:
    found = ratios_of(CalibrationMap(**LINE), pa.chunked_array([[0.5, None], [0.1]], pa.float64()))
    assert found.to_pylist() == [pytest.approx(4), None, pytest.approx(-4)]
    assert pc.count(found).as_py() == 2
    assert "llr" not in {column.name for column in FOUND_COLUMNS}

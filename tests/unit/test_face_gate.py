"""The gate between an enroll output and a gallery: who is kept out, how it is told, and how it is undone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frozen import Frozen, copied
from frozen import settings as frozen_settings
from staged_runs import enrolled, replayed, table

from frpipe.cli.main import main
from frpipe.core.errors import ConfigError
from frpipe.core.face_gates import FaceGates
from frpipe.core.schema import Column
from frpipe.gallery.gallery import Gallery
from frpipe.jobs.consolidate.gated import sorted_faces
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.consolidate.result import Consolidated
from frpipe.jobs.doctor.job import examine
from frpipe.jobs.face_gate import GATED, FaceGate, unmet
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.unmet_limits import by_measure
from frpipe.stages.quality.settings import PRESETS

GATE = FaceGate({"max_yaw_deg": 40.0, "min_quality": 30.0})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    """The photos and models of the fixtures."""
    with copied(tmp_path_factory.mktemp("gate") / "frozen") as found:
        yield found


@pytest.fixture(scope="module")
def measured(home: Frozen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose faces are measured, and none held back."""
    out = tmp_path_factory.mktemp("measured") / "out"
    enrolled(home / "photos.csv", out, "quality={}")
    return out


@pytest.fixture(scope="module")
def median(measured: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """The yaw that half of the faces in an ungated gallery stay within."""
    gallery = tmp_path_factory.mktemp("median") / "G"
    Consolidation(str(measured), str(gallery)).run()
    yaws = _yaws(measured)
    return float(np.median([yaws[face] for face in _faces(gallery)]))


def _yaws(out: Path) -> dict[str, float]:
    faces = table(out, "faces")
    return dict(
        zip(faces["face_id"].to_pylist(), np.abs(faces["pose_yaw_deg"].to_numpy()).tolist(), strict=True)
    )


def _faces(gallery: Path) -> list[str]:
    tables = Gallery.open(str(gallery)).snapshot().tables()
    return sorted(face for each in tables for face in each["face_id"].to_pylist())


def _run(out: Path, gallery: Path, limit: float | None, **how: Any) -> Consolidated:
    gate = FaceGate({"max_yaw_deg": limit} if limit is not None else {})
    return Consolidation(str(out), str(gallery), gate=gate, **how).run()


def _measures(**columns: list[float | None]) -> pa.Table:
    arrays = [pa.array(values, pa.float32()) for values in columns.values()]
    return pa.table(arrays, names=list(columns))


def _kept_out(gate: FaceGate, measures: pa.Table) -> list[tuple[str, float | None, float] | None]:
    ids = pa.array([f"{number}#0" for number in range(measures.num_rows)])
    faces = measures.append_column("face_id", ids)
    marked = gate.marked(pa.table({"face_id": ids}), faces)[GATED].to_pylist()
    return [unmet(reason) if reason else None for reason in marked]


def test_the_first_limit_that_a_face_does_not_meet_is_told() -> None:
    measures = _measures(pose_yaw_deg=[-40.0, -40.5, 12.0, 50.0], quality_score=[30.0, 90.0, 29.5, 1.0])
    assert _kept_out(GATE, measures) == [
        None,
        ("pose_yaw_deg", pytest.approx(40.5), 40.0),
        ("quality_score", pytest.approx(29.5), 30.0),
        ("pose_yaw_deg", pytest.approx(50.0), 40.0),
    ]


def test_a_measure_at_its_limit_passes_whatever_float32_makes_of_it() -> None:
    for limit in (0.1, 0.7, 0.9):
        gate = FaceGate.of(FaceGates(min_pad=limit))
        just_below = float(np.nextafter(np.float32(limit), np.float32(0)))
        assert [bool(each) for each in _kept_out(gate, _measures(pad_score=[limit, just_below]))] == [0, 1]


def test_what_could_not_be_assessed_is_kept_out_unless_that_is_allowed() -> None:
    measures = _measures(pose_yaw_deg=[None, 50.0, 3.0], quality_score=[90.0, None, None])
    found = _kept_out(GATE, measures)
    assert found == [
        ("pose_yaw_deg", None, 40.0),
        ("pose_yaw_deg", 50.0, 40.0),
        ("quality_score", None, 30.0),
    ]
    allowed = FaceGate(GATE.limits, allow_unassessed=True)
    assert _kept_out(allowed, measures) == [None, ("pose_yaw_deg", 50.0, 40.0), None]


def test_faces_are_counted_by_measure_with_the_worst_of_each() -> None:
    nan = float("nan")
    rows = by_measure([("a", 50, 40), ("b", 3, 10), ("a", 70, 40), ("a", nan, 40), ("b", None, 10)])
    assert rows == [
        {"measure": "a", "limit": 40, "faces": 3, "worst": 70, "unassessed": 1},
        {"measure": "b", "limit": 10, "faces": 2, "worst": 3, "unassessed": 1},
    ]


def test_a_preset_is_that_of_the_stage_and_a_limit_of_ones_own_goes_before() -> None:
    preset = FaceGate.of(FaceGates(preset="enrolment"))
    assert preset.limits == PRESETS["enrolment"]
    assert FaceGate.of(FaceGates(preset="enrolment", max_yaw_deg=20)).limits["max_yaw_deg"] == 20
    names = get_args(get_args(FaceGates.model_fields["preset"].annotation)[0])
    assert set(names) == set(PRESETS)
    assert not FaceGate.of(FaceGates())
    for gate in (preset, FaceGate({"min_pad": 0.3}, allow_unassessed=True), FaceGate({})):
        assert FaceGate.read(str(gate)) == gate


def test_faces_beyond_a_limit_stay_out_of_the_gallery_and_are_told(
    measured: Path, median: float, tmp_path: Path
) -> None:
    _run(measured, tmp_path / "open", None)
    told: list[pa.Table] = []
    done = _run(measured, tmp_path / "gated", median, gated_to=told.append)
    yaws, before = _yaws(measured), _faces(tmp_path / "open")
    out = [face for face in before if yaws[face] > median]
    assert out and _faces(tmp_path / "gated") == [face for face in before if face not in out]
    rows = pa.concat_tables(told).to_pylist()
    assert {row["face_id"]: row["value"] for row in rows} == {face: yaws[face] for face in out}
    assert {(row["measure"], row["limit"]) for row in rows} == {("pose_yaw_deg", median)}
    assert done.left_out["gate"] == len(out) and done.used + sum(done.left_out.values()) == done.faces
    assert done.gated is not None and done.gated.faces == len(out)
    assert done.gated.measures[0]["worst"] == max(yaws[face] for face in out)
    assert f"gate       {len(out)} faces kept out (pose_yaw_deg {len(out)})" in done.text()
    assert "shown" not in done.gated.counts()


def test_to_tighten_and_to_loosen_is_as_if_it_had_been_so_from_the_start(
    measured: Path, median: float, tmp_path: Path
) -> None:
    """A photo has one outcome: what the gallery had of one that does not pass any more is gone."""
    open_ = _run(measured, tmp_path / "G", None)
    gated = _run(measured, tmp_path / "G", median, policy="append")
    assert gated.gated is not None and gated.superseded == gated.gated.faces > 0
    _run(measured, tmp_path / "anew", median)
    assert _faces(tmp_path / "G") == _faces(tmp_path / "anew")
    again = _run(measured, tmp_path / "G", median, policy="append")
    assert again.version == gated.version and again.superseded == 0
    loose = _run(measured, tmp_path / "G", 180, policy="append")
    assert loose.added == gated.superseded and loose.gated is not None and not loose.gated.faces
    assert len(_faces(tmp_path / "G")) == open_.templates


@pytest.mark.parametrize("templates", ["all", "mean", "quality-mean", "medoid"])
@pytest.mark.parametrize("subject_face", ["rule", "agreeing"])
def test_templates_of_each_kind_are_made_of_faces_that_pass(
    measured: Path, median: float, tmp_path: Path, templates: str, subject_face: str
) -> None:
    how: dict[str, Any] = {"templates": templates, "subject_face": subject_face}
    done = _run(measured, tmp_path / "G", median, **how)
    assert (
        done.gated is not None and done.gated.faces and done.used + sum(done.left_out.values()) == done.faces
    )
    if templates in ("all", "medoid"):
        yaws = _yaws(measured)
        assert all(yaws[face] <= median for face in _faces(tmp_path / "G"))
    names = {name for each in Gallery.open(done.gallery).snapshot().tables() for name in each.column_names}
    assert not any("gated" in name for name in names)
    dry = Consolidation(
        str(measured), str(tmp_path / "dry"), gate=FaceGate({"max_yaw_deg": median}), **how
    ).dry_run()
    assert dry.gated == done.gated and dry.templates == done.templates and not (tmp_path / "dry").exists()


def test_a_doctor_knows_the_gate(measured: Path, median: float, tmp_path: Path) -> None:
    _run(measured, tmp_path / "G", median)
    found = examine(Gallery.open(str(tmp_path / "G")), [str(measured)], 99)
    assert not any(finding.count for finding in found.findings), found


def test_an_output_without_the_measure_is_refused_before_a_gallery_is_made(
    home: Frozen, measured: Path, tmp_path: Path
) -> None:
    enrolled(home / "photos.csv", tmp_path / "out")
    for run in ("run", "dry_run"):
        with pytest.raises(ConfigError, match="pose_yaw_deg") as refused:
            job = Consolidation(
                str(tmp_path / "out"), str(tmp_path / "G"), gate=FaceGate({"max_yaw_deg": 40.0})
            )
            getattr(job, run)()
        assert "--set quality.policy=flag" in refused.value.remedy
    with pytest.raises(ConfigError, match="pad_score") as refused:
        Consolidation(str(measured), str(tmp_path / "G"), gate=FaceGate({"min_pad": 0.5})).run()
    assert "--set pad.policy=flag" in refused.value.remedy
    assert not (tmp_path / "G").exists()


def test_a_column_of_the_manifest_is_no_measure() -> None:
    own = pa.schema([("quality_score", pa.float32())])
    with pytest.raises(ConfigError):
        FaceGate({"min_quality": 40.0}).check(own)
    staged = Column("quality_score", pa.float32(), "").field_of("quality")
    FaceGate({"min_quality": 40.0}).check(pa.schema([staged]))


def test_the_command_takes_limits_and_writes_who_was_kept_out(
    measured: Path, median: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--features", str(measured), "--gallery", str(tmp_path / "G"), "--max-yaw-deg", str(median)]
    assert main(["run", "consolidate", *words, "--gated", str(tmp_path / "out.parquet"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert said["gated"]["faces"] == len(rows) == said["left_out"]["gate"] > 0
    assert said["gated"]["shown"] == rows and said["gated"]["limits"] == {"max_yaw_deg": median}
    features = ["gallery", "enroll", str(tmp_path / "H"), "--features", str(measured)]
    assert main([*features, "--max-yaw-deg", str(median), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gated"] == said["gated"]
    assert _faces(tmp_path / "H") == _faces(tmp_path / "G")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-yaw-deg", "200"], "--max-yaw-deg"),
        (["--min-pad", "nan"], "--min-pad"),
        (["--gated", "x.parquet"], "--gated"),
        (["--allow-unassessed"], "--allow-unassessed"),
        (["--min-pad", "0.5"], "pad.policy=flag"),
    ],
)
def test_what_cannot_be_asked_for_is_a_clear_error(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    words = ["--features", str(measured), "--gallery", str(tmp_path / "G"), *options]
    assert main(["run", "consolidate", *words]) == 2
    shown = capsys.readouterr().err
    assert said in shown and "Traceback" not in shown


def test_in_passes_the_same_faces_are_kept_out(measured: Path, tmp_path: Path, median: float) -> None:
    found, shards, tables = [], [], list[pa.Table]()
    for name, scratch in (("once", None), ("passes", 2000)):
        uri = str(tmp_path / name)
        Gallery.create(uri, replace(FeatureRun.open(str(measured)).spec, rows_per_shard=1))
        kept_out: list[pa.Table] = []
        how = {"subject_face": "agreeing", "scratch_bytes": scratch, "gated_to": kept_out.append}
        found.append(_run(measured, Path(uri), median, **how))
        tables.append(sorted_faces(kept_out))
        snapshot = Gallery.open(uri).snapshot()
        shards.append([snapshot.table_of(ref, vectors=True).to_pylist() for ref in snapshot.version.shards])
    once, passes = found
    assert passes.plan is not None
    assert passes.plan.passes > 1
    assert (once.gated, once.left_out, once.used) == (passes.gated, passes.left_out, passes.used)
    assert once.gated is not None
    assert once.gated.faces > 0
    assert shards[0] == shards[1]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("policy", ["reject", "flag"])
def test_a_replay_with_a_stricter_limit_does_again_what_it_judges_otherwise_and_nothing_else(
    home: Frozen, measured: Path, median: float, tmp_path: Path, policy: str
) -> None:
    stricter = f"quality={{policy: {policy}, max_yaw_deg: {median}}}"
    replayed(measured, tmp_path / "again", f"stages.{stricter}")
    enrolled(home / "photos.csv", tmp_path / "anew", stricter)
    for name in ("images", "faces", "held"):
        one, two = (table(tmp_path / out, name) for out in ("again", "anew"))
        same = [n for n in one.column_names if not n.endswith("_ms") and n != "attempts"]
        assert one.select(same).equals(two.select(same)), name
    rows = table(tmp_path / "again", "images").to_pylist()
    tried = {row["image_id"] for row in rows if row["attempts"] > 1 and row["format"] == "PNG"}
    faces = table(measured, "faces").to_pylist()
    refused = {face["image_id"] for face in faces if abs(face["pose_yaw_deg"]) > median}
    assert refused and refused == tried & {face["image_id"] for face in faces}


def test_a_replay_that_holds_back_less_than_was_marked_takes_the_marks_off(
    home: Frozen, median: float, tmp_path: Path
) -> None:
    first, then = f"quality={{max_yaw_deg: {median}}}", "quality={policy: reject, max_yaw_deg: 90}"
    enrolled(home / "photos.csv", tmp_path / "marked", first)
    assert table(tmp_path / "marked", "faces")["quality_flags"].null_count < _count(tmp_path / "marked")
    replayed(tmp_path / "marked", tmp_path / "again", f"stages.{then}")
    assert table(tmp_path / "again", "faces")["quality_flags"].null_count == _count(tmp_path / "again")


def _count(out: Path) -> int:
    return table(out, "faces").num_rows


def test_an_enroll_with_a_gallery_takes_the_gate_of_consolidate(
    home: Frozen, measured: Path, median: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, apart = str(tmp_path / "there"), str(tmp_path / "apart")
    Consolidation(str(measured), apart, gate=FaceGate({"max_yaw_deg": median})).run()
    settings = [*frozen_settings(), "detect.not_photographs=keep"]
    command = ["run", "enroll", "--manifest", str(home / "photos.csv"), "--output", str(tmp_path / "out")]
    command += [word for setting in settings for word in ("--set", setting)]
    command += ["--executor", "local", "--max-yaw-deg", str(median)]
    assert main(command) == 2
    assert "a gate goes with --gallery" in capsys.readouterr().err
    command += ["--gallery", there]
    assert main(command) == 2
    assert "--set quality.policy=flag" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main([*command, "--set", "quality={}", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)["consolidated"]
    assert done["left_out"]["gate"] > 0 and _faces(Path(there)) == _faces(Path(apart))

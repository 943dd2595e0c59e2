"""The column `is_subject`: one face of each photo that is `ok`, and the one that a gallery takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import duckdb
import frozen
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from frozen import Frozen, copied
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from staged_runs import enrolled, replayed, table

from frpipe.core.config import Config, FacePolicy, load_config
from frpipe.core.errors import ManifestError, OutputError
from frpipe.core.left_out import LEFT_OUT_FACE
from frpipe.core.reasons import Reject, Status
from frpipe.core.recipe import Recipe
from frpipe.core.report import PhotoCounts, Report
from frpipe.core.schema import (
    IS_SUBJECT,
    LATER_COLUMNS,
    extras_of,
    later_columns_of,
    reserved_names,
)
from frpipe.core.subject import LEFT_OUT_BY
from frpipe.io.output import run
from frpipe.io.output.held import divided
from frpipe.io.storage.folder import Folder
from frpipe.jobs.enroll import job as enroll_job
from frpipe.jobs.evaluate.search_results import searches_of_people
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.identify.rows import Verdicts
from frpipe.jobs.subject_faces import are_subjects, templates_of
from frpipe.jobs.verify.named_faces import NamedFaces
from frpipe.matching.ranking import Ranking
from frpipe.models.detectors.candidates import FaceCandidate
from frpipe.models.detectors.faces import Faces
from frpipe.models.detectors.policy import choose, chosen, within
from frpipe.stages.chain import StageChain
from frpipe.stages.locate import Located, locator_of
from frpipe.stages.models import Models
from frpipe.stages.stage import FaceBatch, FaceStage, Held, StageResult
from frpipe.stages.tabulate import finish, tabulate
from frpipe.vision.geometry import template

NOW = datetime(2026, 5, 1, tzinfo=UTC)
DIM = 4
RECIPE = Recipe.of(Config(), {"sha256": "d" * 64}, {"sha256": "e" * 64, "input": {}})
FACTS = {"gallery_id": "g", "gallery_version": 1, "embedder_hash": "e", "preprocessing_hash": "p"}
NOBODY = Ranking(np.zeros(0, np.int64), pa.array([], pa.string()), np.zeros(0))
POLICIES: tuple[FacePolicy, ...] = ("all", "largest", "centre-largest", "require-one")


class _LeavesOut(FaceStage):
    """Leaves out the faces whose detection score is below 0.5."""

    name = "leaves-out"
    reasons = {"poor": "too poor"}  # noqa: RUF012 - as in the base class

    def __init__(self) -> None:
        pass

    def process(self, batch: FaceBatch) -> StageResult:
        scores = batch.faces["score"].to_pylist()
        return StageResult(reasons=["poor" if score < 0.5 else None for score in scores])


class _HoldsBack(FaceStage):
    """Holds back the faces whose detection score is 0.5."""

    name, holds = "holds-back", True
    reasons = {"middling": "neither poor nor good"}  # noqa: RUF012 - as in the base class

    def __init__(self) -> None:
        pass

    def process(self, batch: FaceBatch) -> StageResult:
        scores = batch.faces["score"].to_pylist()
        return StageResult(held=[Held("middling", "score", s, 0.75) if s == 0.5 else None for s in scores])


@st.composite
def _photos(draw: st.DrawFn) -> list[Located]:
    return [draw(_photo()) for _ in range(draw(st.integers(0, 6)))]


@st.composite
def _photo(draw: st.DrawFn) -> Located:
    """How one photo ended, with the faces that its policy keeps. Of few numbers, so that many are equal."""
    count = draw(st.integers(0, 5))
    located = Located(width=draw(st.sampled_from([80, 101])), height=100)
    if not count:
        located.status = draw(st.sampled_from([Status.NO_FACE, Status.REJECTED]))
        return located
    corners = draw(arrays(np.float32, (count, 2), elements=st.sampled_from([0, 30, 45.5])))
    sides = draw(arrays(np.float32, (count, 2), elements=st.sampled_from([-1, 20, 20.25, 44])))
    scores = np.sort(draw(arrays(np.float32, count, elements=st.sampled_from([0.25, 0.5, 0.75]))))[::-1]
    boxes = np.concatenate([corners, corners + sides], axis=1)
    found = Faces(boxes, scores, np.repeat(template()[None].astype(np.float32), count, axis=0))
    try:
        found = choose(found, located.width, located.height, draw(st.sampled_from(POLICIES)))
    except Reject as reject:
        located.reject(reject)
        return located
    kept = len(found)
    located.status, located.faces = Status.OK, found
    located.crops = [np.zeros((112, 112, 3), np.uint8)] * kept
    located.candidates = [
        FaceCandidate(b, template(), s, 20.0) for b, s in zip(found.boxes, found.scores, strict=True)
    ]
    located.eye_distance_px, located.sharpness = [20.0] * kept, [1.0] * kept
    return located


def _finished(
    photos: list[Located], data: st.DataObject, *stages: FaceStage
) -> tuple[dict[str, str | None], pa.Table, pa.Table]:
    """Who is on each photo, and the rows of images and faces. stages: of which some are there."""
    names = [f"p{number}" for number in range(len(photos))]
    people = [data.draw(st.sampled_from([None, "", "anna", "bela"])) for _ in photos]
    texts = {"image_id": names, "image_uri": names, "subject_id": people, "location": names}
    plan = pa.table({name: pa.array(values, pa.string()) for name, values in texts.items()})
    chain = StageChain([stage for stage in stages if data.draw(st.booleans())])
    located = chain(tabulate(0, plan, photos, [1] * len(photos), "all", later=LATER_COLUMNS))
    spoilt = data.draw(arrays(np.bool_, located.faces.num_rows))
    vectors = np.where(spoilt[:, None], np.float32(np.nan), np.ones((len(spoilt), DIM), np.float32))
    return dict(zip(names, people, strict=True)), *finish(located, vectors, 0.1, RECIPE)


@settings(max_examples=200, deadline=None)
@given(_photos(), st.data())
def test_it_is_the_face_that_is_meant_of_all_that_were_found_or_no_face(
    photos: list[Located], data: st.DataObject
) -> None:
    people_of, images, faces = _finished(photos, data, _LeavesOut())
    names = [*people_of]

    assert later_columns_of(faces.schema) == (IS_SUBJECT,)
    subjects = set(faces.filter(faces[IS_SUBJECT])["face_id"].to_pylist())
    written = set(faces["face_id"].to_pylist())
    for policy in ("largest", "centre-largest"):
        meant = {}
        for name, photo in zip(names, photos, strict=True):
            if len(photo.faces):
                (place,) = chosen(photo.faces.boxes, photo.width or 0, photo.height or 0, policy)
                meant[name] = f"{name}#{place}"
        gone = {face.rpartition("#")[0] for face in meant.values() if face not in written}
        if policy == "centre-largest":
            assert subjects == set(meant.values()) & written
        rows = images.select(["image_id", "faces", LEFT_OUT_BY[policy]]).to_pylist()
        noted = {row["image_id"] for row in rows if row["faces"] and row[LEFT_OUT_BY[policy]]}
        assert noted == {row["image_id"] for row in rows if row["faces"]} & gone
        taken, left_out = templates_of(images, faces, policy, NOW)
        assert set(taken["face_id"].to_pylist()) == {
            face for name, face in meant.items() if people_of[name] and face in written
        }
        assert left_out[LEFT_OUT_FACE] == sum(
            bool(people_of[row["image_id"]]) * row["faces"] for row in rows if row["image_id"] in noted
        )
        assert taken.num_rows + sum(left_out.values()) == faces.num_rows
        assert IS_SUBJECT not in taken.column_names
    reasons = {reason for name in LEFT_OUT_BY.values() for reason in images[name].to_pylist()}
    assert reasons <= {None, "poor", "non_finite_embedding"}


@settings(max_examples=200, deadline=None)
@given(_photos(), st.data())
def test_a_photo_has_one_subject_at_most_and_readers_take_the_same_face(
    photos: list[Located], data: st.DataObject
) -> None:
    people_of, images, every = _finished(photos, data, _LeavesOut(), _HoldsBack())

    owners = every.filter(every[IS_SUBJECT])["image_id"].to_pylist()
    assert len(owners) == len({*owners})
    assert every["subject_id"].to_pylist() == [people_of[name] for name in every["image_id"].to_pylist()]
    faces, _ = divided(every)
    assert are_subjects(images, faces).tolist() == faces[IS_SUBJECT].to_pylist()
    taken, _ = templates_of(images, faces, "centre-largest", NOW)
    named = faces.filter(pc.and_(faces[IS_SUBJECT], pc.not_equal(pc.fill_null(faces["subject_id"], ""), "")))
    assert taken["face_id"].to_pylist() == named["face_id"].to_pylist()
    assert all(taken["subject_id"].to_pylist())
    rows = Verdicts(0.5, FACTS).table(images, faces, NOBODY)
    assert rows.filter(rows[IS_SUBJECT])["face_id"].equals(faces.filter(faces[IS_SUBJECT])["face_id"])
    if any(rows["probe_subject_id"].to_pylist()):
        searches, _ = searches_of_people(rows)
        asked = searches["image_id"].to_pylist()
        assert sorted(asked) == [name for name, who in people_of.items() if who]
        assert {*searches["face_id"].drop_null().to_pylist()} == {*taken["face_id"].to_pylist()}


def test_a_bystander_of_a_face_that_a_stage_leaves_out_is_nobodys_template() -> None:
    """The person's face is poor, and the better one is somebody behind."""
    boxes = np.array([[0, 0, 20, 20], [30, 30, 70, 70]], np.float32)
    faces = Faces(boxes, np.array([0.9, 0.4], np.float32), np.stack([template()] * 2).astype(np.float32))
    photo = Located(width=100, height=100, status=Status.OK, faces=faces)
    photo.crops = [np.zeros((112, 112, 3), np.uint8)] * 2
    photo.candidates = [FaceCandidate(box, template(), 0.9, 20.0) for box in boxes]
    photo.eye_distance_px, photo.sharpness = [20.0] * 2, [1.0] * 2
    plan = pa.table({n: ["anna"] for n in ("image_id", "image_uri", "subject_id", "location")})
    found = StageChain([_LeavesOut()])(tabulate(0, plan, [photo], [1], "all", later=LATER_COLUMNS))
    images, written = finish(found, np.ones((1, DIM), np.float32), 0.1, RECIPE)
    assert written["face_id"].to_pylist() == ["anna#0"] and written[IS_SUBJECT].to_pylist() == [False]
    assert [images[name][0].as_py() for name in LEFT_OUT_BY.values()] == ["poor", "poor"]
    for policy in ("largest", "centre-largest"):
        taken, left_out = templates_of(images, written, policy, NOW)
        assert (taken.num_rows, dict(left_out)) == (0, {LEFT_OUT_FACE: 1})
    tally = PhotoCounts()
    tally.add(images)
    facts = dict.fromkeys(("parts", "launch_rows", "wall_s", "rows_per_s"), 0)
    report = Report.of(tally, pools=[], models={}, output="OUT", **facts)
    assert report.as_dict()["subjects_left_out"] == 1
    assert "1 photo has faces, but not that of their person" in report.text()
    verified = NamedFaces({"anna": 0, "anna#0": 1}, DIM, "centre-largest")
    verified.add(images, written)
    assert verified.reasons(np.array([0, 1])).to_pylist() == [LEFT_OUT_FACE, None]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Frozen]:
    with copied(tmp_path / "frozen") as found:
        yield found


@pytest.fixture
def manifest(home: Frozen, tmp_path: Path) -> Path:
    return _manifest(home, tmp_path / "photos.csv")


def _manifest(home: Frozen, path: Path, own: str = "") -> Path:
    names = sorted(photo.name for photo in (home / "photos").iterdir())
    rows = [f"{home / 'photos' / name},{name.partition('-')[0]}{',yes' if own else ''}" for name in names]
    path.write_text("\n".join((f"image_uri,subject_id{own and ',' + own}", *rows)) + "\n")
    return path


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Enroll as the code did that did not know the column."""
    with monkeypatch.context() as patch:
        patch.setattr(enroll_job, "columns_of", lambda _: ())
        yield patch


def _subjects(out: Path) -> list[tuple[Any, ...]]:
    query = f"SELECT image_id FROM '{out}/faces/*.parquet' WHERE is_subject ORDER BY image_id"
    return duckdb.sql(query).fetchall()


def _ok(out: Path) -> list[tuple[Any, ...]]:
    query = f"SELECT image_id FROM '{out}/images/*.parquet' WHERE status = 'ok' ORDER BY image_id"
    return duckdb.sql(query).fetchall()


@pytest.mark.parametrize("setting", ["detect.policy=all", "detect.policy=largest", "detect.turns=auto"])
def test_a_run_has_one_for_each_ok_photo(manifest: Path, tmp_path: Path, setting: str) -> None:
    enrolled(manifest, tmp_path / "out", setting)
    assert len(_ok(tmp_path / "out")) > 5
    assert _subjects(tmp_path / "out") == _ok(tmp_path / "out")
    identity = run.begun(Folder.at(str(tmp_path / "out")))["identity"]
    assert identity["recipe"]["columns"] == [*LATER_COLUMNS]


@pytest.mark.parametrize("most", [1, 3])
def test_its_subject_is_not_cut_off_where_a_photo_may_have_few_faces(home: Frozen, most: int) -> None:
    """By a detector whose own limit goes by score, and which sees many faces in a red square."""
    pixels = np.zeros((300, 300, 3), np.uint8)
    pixels[:48, :48], pixels[130:170, 130:170] = (255, 0, 0), (235, 40, 40)
    photo, seen = BytesIO(), []
    Image.fromarray(pixels).save(photo, "PNG")
    for limit in (256, most):
        config = load_config(None, [*frozen.settings(), f"detect.max_faces={limit}"]).single_look()
        models = Models.of(config)
        assert models.judge is None
        seen += locator_of(config, models.detector, None).locate([photo.getvalue()])
    every, few = seen
    (place,) = chosen(every.faces.boxes, 300, 300, "centre-largest")
    assert place >= most
    assert len(few.faces) == most and few.faces_detected == every.faces_detected == len(every.faces)
    (kept,) = chosen(few.faces.boxes, 300, 300, "centre-largest")
    assert few.faces.boxes[kept].tolist() == every.faces.boxes[place].tolist()


@settings(max_examples=200, deadline=None)
@given(_photo(), st.integers(0, 5), st.integers(1, 6))
def test_of_few_faces_those_that_are_meant_are_kept_and_then_the_best(
    photo: Located, refused: int, most: int
) -> None:
    boxes, size = photo.faces.boxes, (photo.width or 0, photo.height or 0)
    found = max(0, len(boxes) - refused)
    kept = within(boxes, found, size, most)
    assert kept == sorted({*kept}) and len(kept) == min(found, most) and {*kept} <= {*range(found)}
    if not found:
        return
    centre, largest = (int(chosen(boxes, *size, rule)[0]) for rule in ("centre-largest", "largest"))
    assert centre in kept or centre >= found
    assert largest in kept or largest >= found or (most == 1 and kept == [centre])
    others = {*range(found)} - {centre, largest}
    assert max({*kept} & others, default=-1) < min(others - {*kept}, default=found)


def test_an_output_that_was_begun_without_it_is_finished_without_it(
    manifest: Path, tmp_path: Path, older: pytest.MonkeyPatch
) -> None:
    whole, half = tmp_path / "whole", tmp_path / "half"
    for out in (whole, half):
        enrolled(manifest, out)
    older.undo()
    assert "columns" not in run.begun(Folder.at(str(half)))["identity"]["recipe"]
    for name in ("_SUCCESS", "images/part-000001.parquet", "faces/part-000001.parquet"):
        (half / name).unlink()
    enrolled(manifest, half)
    for out in (whole, half):
        assert IS_SUBJECT not in table(out, "faces").column_names
    content = [name for name in table(whole, "faces").column_names if not name.endswith("_ms")]
    assert table(half, "faces").select(content).equals(table(whole, "faces").select(content))


def test_one_that_was_begun_without_it_is_read_and_done_again_without_it(
    home: Frozen, manifest: Path, tmp_path: Path, older: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    enrolled(manifest, old)
    older.undo()
    enrolled(manifest, new)
    shapes = [_templates(out) for out in (old, new)]
    assert shapes[0] == shapes[1] and len(shapes[0]) > 4
    (home / "photos/cut.png").write_bytes((home / "mended/cut.png").read_bytes())
    for source in (old, new):
        again = replayed(source, tmp_path / f"{source.name}-again")
        assert again.rejected < len(
            table(source, "images").filter(pc.equal(table(source, "images")["status"], "rejected"))
        )
    assert IS_SUBJECT not in table(tmp_path / "old-again", "faces").column_names
    assert _subjects(tmp_path / "new-again") == _ok(tmp_path / "new-again") != _ok(new)
    assert later_columns_of(table(tmp_path / "new-again", "faces").schema) == (IS_SUBJECT,)


def _templates(out: Path) -> list[dict[str, Any]]:
    source = FeatureRun.open(str(out))
    found = [templates_of(*tables, "centre-largest", NOW)[0] for tables in source.features.tables()]
    return pa.concat_tables(found).drop_columns("image_uri").to_pylist()


def test_a_column_of_that_name_in_a_manifest_of_before_stays_the_manifests(
    home: Frozen, tmp_path: Path, older: pytest.MonkeyPatch
) -> None:
    own = _manifest(home, tmp_path / "own.csv", IS_SUBJECT)
    enrolled(own, tmp_path / "old")
    older.undo()
    enrolled(own, tmp_path / "old")
    images, faces = (table(tmp_path / "old", name) for name in ("images", "faces"))
    assert set(faces[IS_SUBJECT].to_pylist()) == {"yes"}
    assert (extras_of(images.schema).names, later_columns_of(faces.schema)) == ([IS_SUBJECT], ())
    assert {row[IS_SUBJECT] for row in _templates(tmp_path / "old")} == {"yes"}
    replayed(tmp_path / "old", tmp_path / "again")
    assert set(table(tmp_path / "again", "faces")[IS_SUBJECT].to_pylist()) == {"yes"}
    with pytest.raises(ManifestError, match=IS_SUBJECT):
        enrolled(own, tmp_path / "new")
    assert IS_SUBJECT in reserved_names() and IS_SUBJECT not in reserved_names(later=())


@pytest.mark.parametrize("name", LEFT_OUT_BY.values())
def test_nobody_is_left_out_for_what_a_manifest_of_before_says_under_that_name(
    home: Frozen, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = _manifest(home, tmp_path / "own.csv", name)
    with monkeypatch.context() as patch:
        patch.setattr(enroll_job, "columns_of", lambda _: (IS_SUBJECT,))
        enrolled(own, tmp_path / "old")
    enrolled(_manifest(home, tmp_path / "plain.csv"), tmp_path / "plain")
    replayed(tmp_path / "old", tmp_path / "again")
    for out in (tmp_path / "old", tmp_path / "again"):
        assert set(table(out, "images")[name].to_pylist()) == {"yes"}
        assert _subjects(out) == _ok(out)
        ids = [[row["face_id"] for row in _templates(each)] for each in (out, tmp_path / "plain")]
        assert ids[0] == ids[1]
        assert "subjects_left_out" not in json.loads((out / "report.json").read_text())
    with pytest.raises(ManifestError, match=name):
        enrolled(own, tmp_path / "new")


def test_an_output_of_columns_that_this_code_does_not_know_is_refused(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    enrolled(manifest, out)
    facts = (out / "run.json").read_text().replace('"is_subject"', '"is_subject",\n"is_something"')
    (out / "run.json").write_text(facts)
    (out / "_SUCCESS").unlink()
    with pytest.raises(OutputError, match=r"recipe\.columns"):
        enrolled(manifest, out)

"""Means weighted by what the stage `quality` says: by hand, in any order, in a gallery that keeps to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from frozen import Frozen, copied
from hypothesis import given, settings
from hypothesis import strategies as st
from staged_runs import enrolled, table

from frpipe.core.errors import GalleryError, OutputError
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.photos import RunPhotos
from frpipe.gallery.policy import Policy
from frpipe.gallery.schema import template_schema, vector_array, vectors_of
from frpipe.gallery.templates import TemplatePolicy, reduce_templates
from frpipe.gallery.weights import WEIGHED_BY, WEIGHT, weighted_kind, weights_of
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.doctor.runs import runs_of
from frpipe.jobs.face_gate import GATE, FaceGate
from frpipe.jobs.features import FeatureRun

DIM = 4
KINDS = sorted(WEIGHED_BY)
ONE, TWO = [1.0, 0, 0, 0], [0, 1.0, 0, 0]


def faces(kind: str, *rows: tuple[str, list[float], float | None]) -> pa.Table:
    """Faces of person p: id, vector, and what they are weighed by."""
    ids, vectors, values = zip(*rows, strict=True)
    plain: dict[str, Any] = {
        "subject_id": ["p"] * len(rows),
        "face_id": ids,
        "embedding": vector_array(np.array(vectors, np.float32)),
    }
    schema = template_schema(DIM)
    columns = [plain.get(field.name, pa.nulls(len(rows), field.type)) for field in schema]
    arrays = [value if isinstance(value, pa.Array) else pa.array(value) for value in columns]
    found = pa.Table.from_arrays(arrays, schema=schema)
    column = pa.chunked_array([pa.array(values, pa.float32())])
    return found.append_column(WEIGHT, weights_of(kind, column))


def template(kind: TemplatePolicy, *rows: tuple[str, list[float], float | None]) -> list[float]:
    """The vector of the one template."""
    reduced = reduce_templates(faces(kind, *rows), kind)
    assert reduced.num_rows == 1 and WEIGHT not in reduced.column_names
    assert reduced["face_id"][0].as_py().startswith(f"{kind}:")
    vector: list[float] = vectors_of(reduced)[0].tolist()
    return vector


def test_a_score_weighs_by_its_hundredth() -> None:
    assert template("quality-score-mean", ("f1", ONE, 60), ("f2", TWO, 80)) == pytest.approx([0.6, 0.8, 0, 0])


def test_yaw_weighs_by_the_square_of_its_cosine_to_either_side() -> None:
    expected = np.array([1, 0.25, 0, 0]) / np.hypot(1, 0.25)
    for yaw in (60, -60):
        assert template("pose-mean", ("f1", ONE, 0), ("f2", TWO, yaw)) == pytest.approx(expected)
    for yaw in (90, -90, 120, 180):
        assert template("pose-mean", ("f1", ONE, 30), ("f2", TWO, yaw)) == pytest.approx(ONE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unknown", [None, float("nan")])
def test_what_is_not_known_weighs_nothing_beside_what_is(kind: TemplatePolicy, unknown: float | None) -> None:
    assert template(kind, ("f1", ONE, 50), ("f2", TWO, unknown)) == pytest.approx(ONE)


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_weighs_the_mean_is_plain(kind: TemplatePolicy) -> None:
    none = 90.0 if kind == "pose-mean" else 0.0
    for value in (None, none):
        rows = ("f1", ONE, value), ("f2", TWO, value)
        assert template(kind, *rows) == pytest.approx([0.5**0.5, 0.5**0.5, 0, 0])


Rows = list[tuple[list[float], float | None]]
_ANGLES = st.lists(
    st.tuples(
        st.lists(st.floats(-1, 1), min_size=DIM, max_size=DIM).filter(lambda v: np.linalg.norm(v) > 0.1),
        st.none() | st.floats(-100, 100, width=32),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("kind", KINDS)
@given(rows=_ANGLES, order=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_faces_changes_no_bit(kind: TemplatePolicy, rows: Rows, order: Any) -> None:
    named = [
        (f"f{n}", (np.array(v) / np.linalg.norm(v)).tolist(), value) for n, (v, value) in enumerate(rows)
    ]
    first = template(kind, *named)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    order.shuffle(named)
    assert template(kind, *named) == first


@pytest.mark.parametrize("kind", KINDS)
@given(rows=_ANGLES, value=st.floats(5, 80, width=32))
@settings(max_examples=60, deadline=None)
def test_faces_of_one_value_have_the_plain_mean(kind: TemplatePolicy, rows: Rows, value: float) -> None:
    named = [(f"f{n}", (np.array(v) / np.linalg.norm(v)).tolist(), value) for n, (v, _) in enumerate(rows)]
    plain = vectors_of(reduce_templates(faces(kind, *named).drop_columns([WEIGHT]), "mean"))[0]
    if np.linalg.norm(np.mean([v for _, v, _ in named], axis=0)) > 1e-3:
        np.testing.assert_allclose(template(kind, *named), plain, atol=1e-4)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    """The photos and models of the fixtures."""
    with copied(tmp_path_factory.mktemp("weighted") / "frozen") as found:
        yield found


@pytest.fixture(scope="module")
def measured(home: Frozen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the stage."""
    out = tmp_path_factory.mktemp("measured") / "out"
    enrolled(home / "photos.csv", out, "quality.policy=flag")
    return out


@pytest.fixture(scope="module")
def plain(home: Frozen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without it."""
    out = tmp_path_factory.mktemp("plain") / "out"
    enrolled(home / "photos.csv", out)
    return out


def rows_of(gallery: Path) -> pa.Table:
    return pa.concat_tables(Gallery.open(str(gallery)).snapshot().tables())


def noted(gallery: Path) -> str:
    note = Gallery.open(str(gallery)).log()[-1].note
    return str(json.loads(note.removeprefix("consolidate "))["templates"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_gallery_holds_the_weighted_means_of_its_run(
    kind: TemplatePolicy, measured: Path, tmp_path: Path
) -> None:
    done = Consolidation(str(measured), str(tmp_path / "G"), templates=kind).run()
    assert done.templates == done.added > 1 and noted(tmp_path / "G") == kind
    found, own = rows_of(tmp_path / "G"), table(measured, "faces")
    own = own.filter(pa.compute.is_valid(own["subject_id"]))
    weights = np.array(weights_of(kind, own[WEIGHED_BY[kind]]).to_pylist(), float)
    means = dict(zip(found["subject_id"].to_pylist(), vectors_of(found), strict=True))
    subjects = np.array(own["subject_id"].to_pylist())
    for subject in set(subjects.tolist()) & means.keys():
        rows = np.flatnonzero(subjects == subject)
        if len(set(own["image_id"].take(pa.array(rows)).to_pylist())) < len(rows):
            continue
        mean = np.nan_to_num(weights[rows]) @ vectors_of(own)[rows]
        np.testing.assert_allclose(means[subject], mean / np.linalg.norm(mean), atol=1e-5)
    assert not {WEIGHT, *WEIGHED_BY.values()} & {*found.column_names}


def test_the_face_that_agrees_is_weighed_too(measured: Path, tmp_path: Path) -> None:
    for face in ("rule", "agreeing"):
        Consolidation(str(measured), str(tmp_path / face), templates="pose-mean", subject_face=face).run()  # type: ignore[arg-type]
    assert rows_of(tmp_path / "agreeing").num_rows == rows_of(tmp_path / "rule").num_rows


def test_what_a_gate_keeps_out_is_not_weighed(measured: Path, tmp_path: Path) -> None:
    scores = sorted(table(measured, "faces")["quality_score"].to_pylist())
    gate = FaceGate({"min_quality": scores[len(scores) // 2]})
    for kind in ("quality-score-mean", "mean"):
        done = Consolidation(str(measured), str(tmp_path / kind), templates=kind, gate=gate).run()  # type: ignore[arg-type]
        assert done.left_out[GATE] and done.templates
    assert rows_of(tmp_path / "mean")["subject_id"].equals(
        rows_of(tmp_path / "quality-score-mean")["subject_id"]
    )
    assert WEIGHT not in rows_of(tmp_path / "quality-score-mean").column_names


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_without_measures_is_refused_before_anything_is_made(
    kind: TemplatePolicy, plain: Path, tmp_path: Path
) -> None:
    job = Consolidation(str(plain), str(tmp_path / "G"), templates=kind)
    for act in (job.run, job.dry_run):
        with pytest.raises(OutputError, match=WEIGHED_BY[kind]) as error:
            act()
        assert "quality.policy=flag" in (error.value.remedy or "")
    assert not (tmp_path / "G").exists()


def test_a_gallery_keeps_to_its_weights(measured: Path, plain: Path, tmp_path: Path) -> None:
    gallery = str(tmp_path / "G")
    Consolidation(str(measured), gallery, templates="pose-mean").run()
    before = rows_of(tmp_path / "G")
    said: list[str] = []
    again = Consolidation(str(measured), gallery, policy="append", say=said.append).run()
    assert again.unchanged == before.num_rows and again.added == again.replaced == 0
    assert any("pose-mean" in line for line in said)
    for other in ("all", "mean", "quality-score-mean"):
        job = Consolidation(str(measured), gallery, policy="append", templates=other)  # type: ignore[arg-type]
        for act in (job.run, job.dry_run):
            with pytest.raises(GalleryError, match="pose-mean") as error:
                act()
            assert "--templates pose-mean" in (error.value.remedy or "")
    with pytest.raises(OutputError, match="pose_yaw_deg"):
        Consolidation(str(plain), gallery, policy="append").run()
    assert rows_of(tmp_path / "G").equals(before)


def test_who_replaces_may_choose_anew_and_nobody_is_kept_to_nothing(measured: Path, tmp_path: Path) -> None:
    gallery = str(tmp_path / "G")
    Consolidation(str(measured), gallery, templates="pose-mean").run()
    done = Consolidation(str(measured), gallery, policy="replace", templates="mean").run()
    assert done.replaced == rows_of(tmp_path / "G").num_rows and weighted_kind(Gallery.open(gallery)) is None
    Consolidation(str(measured), gallery, policy="replace", templates="pose-mean").run()
    lifecycle.clear(Gallery.open(gallery))
    assert weighted_kind(Gallery.open(gallery)) is None
    Consolidation(str(measured), gallery).run()
    assert noted(tmp_path / "G") == "all"


def test_a_gallery_of_other_templates_is_as_before(measured: Path, tmp_path: Path) -> None:
    gallery = str(tmp_path / "G")
    Consolidation(str(measured), gallery, templates="mean").run()
    Consolidation(str(measured), gallery, policy="append").run()
    assert noted(tmp_path / "G") == "all"
    assert any("#" in face for face in rows_of(tmp_path / "G")["face_id"].to_pylist())


def test_a_merge_keeps_to_the_weights(measured: Path, tmp_path: Path) -> None:
    weighted, other = str(tmp_path / "weighted"), str(tmp_path / "other")
    Consolidation(str(measured), weighted, templates="pose-mean").run()
    Consolidation(str(measured), other, templates="mean").run()
    for into, what in ((weighted, other), (other, weighted)):
        with pytest.raises(GalleryError, match="pose-mean"):
            lifecycle.merge(Gallery.open(into), Gallery.open(what))
    for note in ("", "of the second site"):
        empty = Gallery.create(str(tmp_path / f"empty{len(note)}"), Gallery.open(weighted).spec)
        lifecycle.merge(empty, Gallery.open(weighted), note=note)
        assert weighted_kind(empty) == "pose-mean" and empty.log()[-1].note.startswith(note)
        assert rows_of(tmp_path / f"empty{len(note)}").equals(rows_of(tmp_path / "weighted"))


def test_the_doctor_makes_the_weighted_means_of_a_run_again(measured: Path, tmp_path: Path) -> None:
    gallery = Gallery.ensure(str(tmp_path / "G"), FeatureRun.open(str(measured)).spec)
    Consolidation(str(measured), gallery.uri, templates="quality-score-mean").run()
    (run,) = runs_of(gallery, [str(measured)])
    found = pa.concat_tables(run.templates(RunPhotos()))
    assert set(found["face_id"].to_pylist()) == set(rows_of(tmp_path / "G")["face_id"].to_pylist())


@pytest.mark.parametrize("policy", ["skip", "append"])
def test_means_that_stand_under_the_ids_of_others_are_put_right_by_their_run(
    policy: Policy, measured: Path, tmp_path: Path
) -> None:
    """Before groups were sorted, means of many people could be stored so."""
    right, wrong = str(tmp_path / "right"), str(tmp_path / "wrong")
    Consolidation(str(measured), right, templates="mean").run()
    expected = rows_of(tmp_path / "right")
    subjects = expected["subject_id"].to_pylist()
    at = expected.column_names.index("subject_id")
    moved = expected.set_column(at, expected.schema.field(at), pa.array([*subjects[1:], subjects[0]]))
    lifecycle.enroll(Gallery.create(wrong, Gallery.open(right).spec), [moved])
    Consolidation(str(measured), wrong, policy, "mean").run()
    assert rows_of(tmp_path / "wrong").sort_by("subject_id").equals(expected.sort_by("subject_id"))

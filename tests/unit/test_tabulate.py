"""From outcomes to tables: conservation, order, and what a broken embedding does."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from frpipe.core.config import Config
from frpipe.core.reasons import Reason, Reject, Status
from frpipe.core.recipe import Recipe
from frpipe.core.schema import face_schema, image_schema
from frpipe.models.detectors.candidates import FaceCandidate
from frpipe.models.detectors.faces import Faces
from frpipe.stages.locate import Located
from frpipe.stages.part_batch import PartBatch
from frpipe.stages.tabulate import finish, tabulate
from frpipe.vision.geometry import template

RECIPE = Recipe.of(Config(), {"sha256": "d" * 64}, {"sha256": "e" * 64, "input": {}})
EXTRA = pa.schema([pa.field("department", pa.string()), pa.field("age", pa.int64())])


def _plan(rows: int) -> pa.Table:
    return pa.table(
        {
            "image_id": [f"photo-{i}" for i in range(rows)],
            "image_uri": pa.array([None if i == 1 else f"photo-{i}.jpg" for i in range(rows)], pa.string()),
            "location": [f"/data/photo-{i}.jpg" for i in range(rows)],
            "subject_id": pa.array([None] * rows, pa.string()),
            "department": [f"dept {i}" for i in range(rows)],
            "age": list(range(rows)),
        }
    )


def _with_faces(count: int) -> Located:
    """Face i is rolled by 30 * i degrees; of those that are, the first look was another."""
    points = np.arange(count * 10, dtype=np.float32).reshape(count, 5, 2)
    boxes, scores = np.ones((count, 4), np.float32), np.linspace(0.9, 0.8, count, dtype=np.float32)
    return Located(
        Status.OK,
        turn_deg=90,
        faces_refused=1,
        least_face_px=48.0,
        faces=Faces(boxes, scores, points),
        candidates=[_candidate(i, boxes[i], scores[i]) for i in range(count)],
        crops=[np.full((112, 112, 3), i, np.uint8) for i in range(count)],
        eye_distance_px=[30.0] * count,
        sharpness=[1.0] * count,
    )


def _candidate(number: int, box: np.ndarray, score: float) -> FaceCandidate:
    turn = np.exp(1j * np.radians(30 * number)) * (template() @ (1, 1j))
    points = np.stack([turn.real, turn.imag], axis=1)
    second = number > 0
    return FaceCandidate(
        box, points, score, 40.0 + number, is_refined=second, landmark_error=0.1 if second else None
    )


def _rejected() -> Located:
    located = Located()
    located.reject(Reject(Reason.CORRUPT, "why"))
    return located


def _parcel() -> PartBatch:
    return tabulate(
        3, _plan(4), [_with_faces(2), _rejected(), Located(), _with_faces(1)], [1, 1, 1, 1], "all"
    )


def test_every_row_of_the_plan_is_a_row_of_images_in_order() -> None:
    images, faces = finish(_parcel(), np.eye(3, 8, dtype=np.float32) * 5, 0.3, RECIPE)
    assert images.schema.equals(image_schema(EXTRA))
    assert faces.schema.equals(face_schema(8, EXTRA))
    assert images["image_id"].to_pylist() == [f"photo-{i}" for i in range(4)]
    assert images["status"].to_pylist() == ["ok", "rejected", "no_face", "ok"]
    assert images["reason"].to_pylist() == [None, "corrupt", None, None]
    assert images["faces"].to_pylist() == [2, 0, 0, 1]
    assert images["age"].to_pylist() == [0, 1, 2, 3]


def test_faces_carry_their_photos_ids_and_columns() -> None:
    _, faces = finish(_parcel(), np.eye(3, 8, dtype=np.float32) * 5, 0.3, RECIPE)
    assert faces["face_id"].to_pylist() == ["photo-0#0", "photo-0#1", "photo-3#0"]
    assert faces["department"].to_pylist() == ["dept 0", "dept 0", "dept 3"]
    assert faces["norm"].to_pylist() == [5, 5, 5]
    assert faces["embedding"].to_pylist() == np.eye(3, 8).tolist()
    assert faces["landmarks"].to_pylist()[1] == list(range(10, 20))
    assert set(faces["embedder_hash"].to_pylist()) == {"e" * 64}


def test_faces_say_how_they_were_looked_at() -> None:
    images, faces = finish(_parcel(), np.eye(3, 8, dtype=np.float32), 0.3, RECIPE)
    assert images["turn_deg"].to_pylist() == [90, None, None, 90]
    assert images["faces_refused"].to_pylist() == [1, None, None, 1]
    assert images["least_face_px"].to_pylist() == [48, None, None, 48]
    assert faces["roll_deg"].to_pylist() == pytest.approx([0, 30, 0], abs=1e-3)
    assert faces["detector_face_px"].to_pylist() == [40, 41, 40]
    assert faces["refined"].to_pylist() == [False, True, False]
    assert faces["landmark_error"].to_pylist() == [None, pytest.approx(0.1), None]


def test_an_output_of_the_first_version_goes_on_with_its_columns() -> None:
    part_batch = tabulate(3, _plan(2), [_with_faces(2), _rejected()], [1, 1], "all", version=1)
    images, faces = finish(part_batch, np.eye(2, 8, dtype=np.float32), 0.3, RECIPE)
    assert images.schema.equals(image_schema(EXTRA, 1))
    assert faces.schema.equals(face_schema(8, EXTRA, 1))
    assert faces["face_id"].to_pylist() == ["photo-0#0", "photo-0#1"]
    assert faces["department"].to_pylist() == ["dept 0"] * 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_a_photo_whose_only_embedding_is_no_vector_is_rejected(bad: float) -> None:
    vectors = np.ones((3, 8), np.float32)
    vectors[2] = bad
    images, faces = finish(_parcel(), vectors, 0.3, RECIPE)
    assert images["status"].to_pylist() == ["ok", "rejected", "no_face", "rejected"]
    assert images["reason"].to_pylist()[3] == "non_finite_embedding"
    assert faces["face_id"].to_pylist() == ["photo-0#0", "photo-0#1"]
    assert images["faces"].to_pylist() == [2, 0, 0, 0]


def test_a_photo_that_keeps_one_good_face_stays_ok() -> None:
    vectors = np.ones((3, 8), np.float32)
    vectors[0, 4] = np.nan
    images, faces = finish(_parcel(), vectors, 0.3, RECIPE)
    assert images["status"].to_pylist()[0] == "ok"
    assert images["faces"].to_pylist() == [1, 0, 0, 1]
    assert faces["face_index"].to_pylist() == [1, 0]


def test_a_part_without_a_face_has_the_same_columns() -> None:
    part_batch = tabulate(0, _plan(2), [Located(), _rejected()], [1, 2], "all")
    images, faces = finish(part_batch, np.zeros((0, 8), np.float32), 0.0, RECIPE)
    assert faces.num_rows == 0
    assert faces.schema.equals(face_schema(8, EXTRA))
    assert images["attempts"].to_pylist() == [1, 2]


def test_a_parcel_survives_its_journey() -> None:
    part_batch = _parcel()
    arrived = PartBatch.unpack(part_batch.pack())
    assert arrived.part == 3
    assert arrived.images.equals(part_batch.images)
    assert arrived.faces.equals(part_batch.faces)
    assert np.array_equal(arrived.crops, part_batch.crops)
    assert part_batch.pack().num_rows == 1

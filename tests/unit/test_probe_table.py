"""The rows of a unit: faces and failures in the order of their photos, and the decision of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from frpipe.io.output.features import PartRows
from frpipe.jobs.identify.probe_source import probe_units
from frpipe.jobs.identify.rows import Verdicts
from frpipe.jobs.identify.schema import PROBE_SCHEMA
from frpipe.matching.ranking import Ranking

FACTS = {"gallery_id": "g", "gallery_version": 3, "embedder_hash": "e", "preprocessing_hash": "p"}


def _images(*faces: int) -> pa.Table:
    """Photos p0, p1, ... with so many faces."""
    count = len(faces)
    return pa.table(
        {
            "image_id": pa.array([f"p{n}" for n in range(count)], pa.string()),
            "image_uri": pa.array([f"{n}.jpg" for n in range(count)], pa.string()),
            "subject_id": pa.array(["ann"] * count, pa.string()),
            "status": pa.array(["ok" if many else "rejected" for many in faces], pa.string()),
            "reason": pa.array([None if many else "truncated" for many in faces], pa.string()),
            "faces": pa.array(faces, pa.int32()),
            "width": pa.array([100] * count, pa.int32()),
            "height": pa.array([100] * count, pa.int32()),
        }
    )


def _faces(images: pa.Table) -> pa.Table:
    """The second of a photo, if there is one, is in the middle, and the others at its border."""
    rows = [(row["image_id"], n) for row in images.to_pylist() for n in range(row["faces"])]
    return pa.table(
        {
            "image_id": pa.array([photo for photo, _ in rows], pa.string()),
            "face_id": pa.array([f"{photo}#{n}" for photo, n in rows], pa.string()),
            **{f"box_{side}1": pa.array([40.0 * (n == 1) for _, n in rows], pa.float32()) for side in "xy"},
            **{
                f"box_{side}2": pa.array([20 + 40.0 * (n == 1) for _, n in rows], pa.float32())
                for side in "xy"
            },
        }
    )


def _table(faces: tuple[int, ...], rows: list[tuple[int, str, float]], threshold: float | None) -> list[Any]:
    images = _images(*faces)
    ranking = Ranking(
        np.array([row[0] for row in rows], np.int64),
        pa.array([row[1] for row in rows], pa.string()),
        np.array([row[2] for row in rows], float),
    )
    table = Verdicts(threshold, FACTS).table(images, _faces(images), ranking)
    assert table.schema.equals(PROBE_SCHEMA)
    table.validate(full=True)
    assert not any(table[field.name].null_count for field in PROBE_SCHEMA if not field.nullable)
    listed: list[Any] = table.to_pylist()
    return listed


def test_faces_and_failures_stand_in_the_order_of_their_photos() -> None:
    rows = _table((0, 2, 0, 1), [(0, "ann", 0.9), (1, "bob", 0.1), (2, "ann", 0.5)], 0.5)
    assert [(row["image_id"], row["face_id"], row["decision"]) for row in rows] == [
        ("p0", None, None),
        ("p1", "p1#0", "identified"),
        ("p1", "p1#1", "stranger"),
        ("p2", None, None),
        ("p3", "p3#0", "identified"),
    ]
    assert [row["is_subject"] for row in rows] == [None, False, True, None, True]
    assert [row["reason"] for row in rows] == ["truncated", None, None, "truncated", None]
    assert {row["probe_subject_id"] for row in rows} == {"ann"}
    assert rows[0]["candidates"] is rows[0]["rank1_similarity"] is None
    assert {row["gallery_version"] for row in rows} == {3}


def test_a_stranger_keeps_candidates_and_one_who_meets_nobody_has_none() -> None:
    first, second = _table((1, 1), [(0, "ann", 0.25), (0, "bob", -0.5)], 0.5)
    assert first["decision"] == second["decision"] == "stranger"
    assert first["candidates"] == [
        {"rank": 1, "subject_id": "ann", "similarity": 0.25, "distance": 0.75},
        {"rank": 2, "subject_id": "bob", "similarity": -0.5, "distance": 1.5},
    ]
    assert (first["rank1_subject_id"], first["rank1_distance"]) == ("ann", 0.75)
    assert (second["rank1_subject_id"], second["candidates"]) == (None, [])


@pytest.mark.parametrize(("threshold", "decision"), [(0.3, "identified"), (np.nextafter(0.3, 1), "stranger")])
def test_a_threshold_is_inclusive(threshold: float, decision: str) -> None:
    (row,) = _table((1,), [(0, "ann", 0.3)], float(threshold))
    assert row["decision"] == decision


def test_a_closed_set_names_the_nearest_however_far() -> None:
    named, nobody = _table((1, 1), [(0, "ann", -1.0)], None)
    assert (named["decision"], named["threshold_similarity"]) == ("identified", None)
    assert nobody["decision"] is None


@pytest.mark.parametrize("faces", [(0, 0), ()])
def test_a_unit_without_faces_has_its_failures_alone(faces: tuple[int, ...]) -> None:
    assert len(_table(faces, [], 0.5)) == len(faces)


def test_units_are_whole_parts_of_enough_faces() -> None:
    parts = {part: PartRows(10, faces) for part, faces in enumerate((6, 6, 6, 0, 11, 1))}
    assert probe_units(parts, 10) == [(0, 1), (2, 3, 4), (5,)]
    assert probe_units(parts, 1000) == [(0, 1, 2, 3, 4, 5)]
    assert probe_units({}, 10) == []


def test_photos_without_faces_end_a_unit_too() -> None:
    parts = dict.fromkeys(range(8), PartRows(40, 0))
    assert probe_units(parts, 10) == [(0, 1, 2, 3), (4, 5, 6, 7)]

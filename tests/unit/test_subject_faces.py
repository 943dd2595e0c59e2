"""Which face of a photo becomes its subject's template, and what is left out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from frpipe.core.errors import OutputError
from frpipe.core.schema import face_schema
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.spec import GallerySpec
from frpipe.io.storage.folder import Folder
from frpipe.jobs.consolidate import job as consolidate
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.subject_faces import SubjectPolicy, as_text, quality, templates_of

NOW = datetime(2026, 5, 1, tzinfo=UTC)
CENTRE, CORNER_BIG = (40, 40, 60, 60), (0, 0, 45, 45)


def _part(
    *faces: tuple[str, str | None, tuple[int, ...]], found: int | None = None
) -> tuple[pa.Table, pa.Table]:
    """Images of 100 x 100 and faces given as (photo, subject, box)."""
    photos = list(dict.fromkeys(face[0] for face in faces))
    counts = [sum(face[0] == photo for face in faces) for photo in photos]
    images = pa.table(
        {
            "image_id": photos,
            "width": pa.array([100] * len(photos), pa.int32()),
            "height": pa.array([100] * len(photos), pa.int32()),
            "faces_detected": pa.array([found or count for count in counts], pa.int32()),
            "faces": pa.array(counts, pa.int32()),
        }
    )
    schema = face_schema(2, pa.schema([("age", pa.int64()), ("quality", pa.string())]))
    rows = []
    for number, (photo, subject, box) in enumerate(faces):
        row: dict[str, Any] = {field.name: None for field in schema}
        row |= dict(zip(("box_x1", "box_y1", "box_x2", "box_y2"), box, strict=True))
        row |= {
            "face_id": f"{photo}#{number}",
            "image_id": photo,
            "subject_id": subject,
            "face_index": number,
            "is_subject": number == 0,
        }
        row |= {
            "score": 0.9,
            "eye_distance_px": 40.0,
            "sharpness": 300.0,
            "norm": 1.0,
            "landmarks": [0.0] * 10,
        }
        row |= {"face_policy": "all", "embedding": [1.0, 0.0], "age": 30 + number, "quality": "own"}
        row |= {"detector_hash": "d", "embedder_hash": "e", "preprocessing_hash": "p"}
        rows.append(row)
    return images, pa.Table.from_pylist(rows, schema=schema)


@pytest.mark.parametrize(("policy", "chosen"), [("centre-largest", "a#0"), ("largest", "a#1")])
def test_one_face_of_a_photo_is_its_subjects(policy: SubjectPolicy, chosen: str) -> None:
    table, left_out = templates_of(*_part(("a", "s", CENTRE), ("a", "s", CORNER_BIG)), policy, NOW)
    assert table["face_id"].to_pylist() == [chosen]
    assert left_out == {"another_face": 1}


def test_require_one_counts_the_faces_that_were_found_not_those_kept() -> None:
    table, left_out = templates_of(*_part(("a", "s", CENTRE), found=3), "require-one", NOW)
    assert (table.num_rows, dict(left_out)) == (0, {"many_faces": 1})
    table, left_out = templates_of(*_part(("a", "s", CENTRE), found=1), "require-one", NOW)
    assert (table.num_rows, dict(left_out)) == (1, {})


def test_faces_of_nobody_are_left_out_and_all_are_counted() -> None:
    faces = [
        ("a", None, CENTRE),
        ("b", "", CENTRE),
        ("c", "s", CENTRE),
        ("c", "s", CORNER_BIG),
        ("d", "t", CENTRE),
    ]
    table, left_out = templates_of(*_part(*faces), "centre-largest", NOW)
    assert table["subject_id"].to_pylist() == ["s", "t"]
    assert left_out == {"no_subject": 2, "another_face": 1}
    assert table.num_rows + sum(left_out.values()) == len(faces)


def test_own_columns_become_text() -> None:
    table, _ = templates_of(*_part(("a", "s", CENTRE)), "largest", NOW)
    row = table.to_pylist()[0]
    assert (row["age"], row["manifest_quality"], row["enrolled_at"]) == ("30", "own", NOW)
    nested = pa.chunked_array([[{"k": [1, 2]}, None]])
    assert as_text(nested).to_pylist() == ['{"k": [1, 2]}', None]


def test_quality_is_its_weakest_side() -> None:
    one = np.ones(1)
    assert quality(0.9 * one, 80 * one, 1e6 * one)[0] == pytest.approx(0.9)
    assert quality(0.9 * one, 17.62 * one, 1e6 * one)[0] == pytest.approx(0.5)
    assert quality(0.9 * one, 80 * one, 30 * one)[0] == pytest.approx(0.5)


def test_faces_that_are_missing_from_the_output_commit_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = GallerySpec(2, "e" * 64, "p" * 64, "d" * 64)
    source = FeatureRun(Folder.at(str(tmp_path)), spec, "m.csv", "r", NOW, faces=2)
    monkeypatch.setattr(FeatureRun, "open", lambda *_: source)
    images, faces = _part(("a", "s", CENTRE))
    for name, value in (("image_uri", "/a"), ("subject_id", "s"), ("status", "ok"), ("reason", None)):
        images = images.append_column(name, pa.array([value], pa.string()))
    monkeypatch.setattr(consolidate, "photos_and_faces", lambda *_, **__: [(images, faces)])
    job = consolidate.Consolidation("out", str(tmp_path / "G"))
    with pytest.raises(OutputError, match="holds 1 face, its report says 2"):
        job.run()
    assert Gallery.open(str(tmp_path / "G")).snapshot().number == 0

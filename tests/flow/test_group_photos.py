"""Whose face it is on photos of several real people: the column, the gallery's rule, and what agrees."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import duckdb
import numpy as np
import pytest
from enrollment import enroll_here, job_here, write_manifest
from real_photos import demo_photos, people_with

from frpipe.core.schema import IS_SUBJECT
from frpipe.gallery.gallery import Gallery

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("FRPIPE_SHARED", ROOT.parent / "shared")) / "data/groups/faces"
ALONE, BESIDE = 2, 3


@pytest.fixture(scope="module", autouse=True)
def _models(real_card: Callable[[str], object]) -> None:
    for name in ("yunet_2023mar", "sface_2021dec"):
        real_card(name)


@pytest.fixture(scope="module")
def groups() -> list[Path]:
    """Photos of several people: annotated ones where they are here, else those of the demo."""
    folder = SHARED if SHARED.is_dir() else demo_photos()
    if folder is None:
        pytest.skip("no photos of groups are on this machine: python tests/real_photos.py fetches the demo's")
    return sorted(folder.glob("*.jpg"))


@pytest.mark.parametrize("policy", ["all", "largest", "centre-largest"])
def test_each_group_has_one_subject_whom_the_gallery_takes(
    groups: list[Path], tmp_path: Path, policy: str
) -> None:
    people = [f"person-{number}" for number in range(len(groups))]
    manifest = write_manifest(tmp_path / "m.csv", groups, subject_id=people)
    out = enroll_here(manifest, tmp_path / "out", "--set", f"detect.policy={policy}")
    query = f"""
        SELECT i.image_id, i.faces, count(*) FILTER (WHERE f.{IS_SUBJECT}) AS subjects
        FROM '{out}/images/*.parquet' i JOIN '{out}/faces/*.parquet' f USING (image_id)
        WHERE i.status = 'ok' GROUP BY ALL
    """
    counts = duckdb.sql(query).fetchall()
    assert len(counts) >= 3 and {subjects for _, _, subjects in counts} == {1}
    assert (max(faces for _, faces, _ in counts) > 3) == (policy == "all")
    chosen = duckdb.sql(f"SELECT face_id FROM '{out}/faces/*.parquet' WHERE {IS_SUBJECT}").fetchall()
    done = job_here("consolidate", "--features", out, "--gallery", tmp_path / "G")
    assert done.returncode == 0, done.stderr
    assert _faces(tmp_path / "G") == sorted(name for (name,) in chosen)


def test_a_person_beside_larger_strangers_is_found_by_the_other_photos(
    real_photos: Path, tmp_path: Path
) -> None:
    """The rule takes the stranger, who is larger and in the middle."""
    someone, *strangers = (photos for photos in people_with(ALONE + BESIDE, real_photos)[: BESIDE + 1])
    photos = [*someone[:ALONE]]
    for number, (own, (stranger, *_)) in enumerate(zip(someone[ALONE:], strangers, strict=True)):
        photos.append(_beside(tmp_path / f"beside-{number}.png", own, stranger))
    manifest = write_manifest(tmp_path / "m.csv", photos, subject_id=["someone"] * len(photos))
    out = enroll_here(manifest, tmp_path / "out")
    listed = tmp_path / "differences.parquet"
    words = ("--features", out, "--gallery", tmp_path / "G", "--subject-face", "agreeing", "--json")
    done = job_here("consolidate", *words, "--differences", listed)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["agreement"]
    assert (found["differing"], found["people"], found["alone"]) == (BESIDE, 1, 0)
    rows = duckdb.sql(f"SELECT image_id FROM '{listed}' ORDER BY image_id").fetchall()
    assert rows == [(f"id-{ALONE + number:04d}",) for number in range(BESIDE)]
    query = f"SELECT face_id, box_x1 FROM '{out}/faces/*.parquet' ORDER BY face_id"
    left = {name for name, x in duckdb.sql(query).fetchall() if x < 250}
    assert {*_faces(tmp_path / "G")} >= {row["face_id"] for row in found["shown"]}
    assert {row["face_id"] for row in found["shown"]} <= left
    assert not {row["rule_face_id"] for row in found["shown"]} & left


def test_an_output_of_one_face_a_photo_is_refused(real_photos: Path, tmp_path: Path) -> None:
    (photos, *_) = people_with(2, real_photos)
    manifest = write_manifest(tmp_path / "m.csv", photos, subject_id=["someone"] * 2)
    out = enroll_here(manifest, tmp_path / "out", "--set", "detect.policy=largest")
    done = job_here(
        "consolidate", "--features", out, "--gallery", tmp_path / "G", "--subject-face", "agreeing"
    )
    assert done.returncode == 2
    assert "one face a photo (detect.policy: largest)" in done.stderr and "detect.policy: all" in done.stderr


def _faces(gallery: Path) -> list[str]:
    tables = Gallery.open(str(gallery)).snapshot().tables(["face_id"], vectors=False)
    return sorted(name for table in tables for name in table["face_id"].to_pylist())


def _beside(path: Path, own: Path, stranger: Path) -> Path:
    """A portrait at the left edge, and a stranger twice as large in the middle."""
    small, large = (cv2.imread(str(photo)) for photo in (own, stranger))
    small, large = cv2.resize(small, (250, 250)), cv2.resize(large, (500, 500))
    picture = np.full((500, 1000, 3), 127, np.uint8)
    picture[125:375, :250], picture[:, 250:750] = small, large
    cv2.imwrite(str(path), picture)
    return path

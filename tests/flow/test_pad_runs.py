"""Photos of prints held before a camera: kept out of faces and gallery, and let in by a loosened replay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from enrollment import enroll_here, job_here, write_manifest

from frpipe.gallery.gallery import Gallery
from frpipe.models.card import Card

PAIR = ("minifasnet_v2_batched", "minifasnet_v1se_batched")


@pytest.fixture
def photos(shared: Path, real_card: Callable[[str], Card], monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three people before a camera, and prints of three."""
    for name in (*PAIR, "yunet_2023mar", "sface_2021dec"):
        real_card(name)
    folder = shared / "data/spoof/print"
    if not folder.is_dir():
        pytest.skip("photos of attacks (../shared/data/spoof) are not on this machine")
    monkeypatch.setenv("FRPIPE_MODEL_DIR", str(shared / "models"))
    people = [sorted(folder.glob(f"live/000{number}/*.jpg"))[0].resolve() for number in (1, 2, 3)]
    return people + [sorted(folder.glob(f"attack/000{number}/*.jpg"))[0].resolve() for number in (1, 2, 3)]


def test_a_print_is_held_back_and_let_in_by_a_replay(photos: list[Path], tmp_path: Path) -> None:
    who = ["a", "b", "c", "print-a", "print-b", "print-c"]
    manifest = write_manifest(tmp_path / "photos.csv", photos, subject_id=who)
    pair = ("--set", f"pad.model={PAIR[0]}", "--set", f"pad.second_model={PAIR[1]}")
    largest = ("--set", "detect.policy=centre-largest", "--set", "pad.policy=reject")
    out = enroll_here(manifest, tmp_path / "out", *pair, *largest)
    held = pq.read_table(out / "held").to_pylist()
    prints = {row["subject_id"] for row in held}
    assert {"print-a", "print-b", "print-c"} <= prints and len(prints) < len(who)
    assert {row["held_reason"] for row in held} == {"presentation_attack"}
    assert all(row["held_value"] < 0.5 == row["held_limit"] for row in held)
    done = job_here("consolidate", "--features", out, "--gallery", tmp_path / "gallery")
    assert done.returncode == 0, done.stderr
    tables = Gallery.open(str(tmp_path / "gallery")).snapshot().tables()
    assert {name for each in tables for name in each["subject_id"].to_pylist()} == {*who} - prints

    replay = ("--replay", out, "--output", tmp_path / "later", "--replay-reasons", "presentation_attack")
    done = job_here("enroll", *replay, "--set", "pad.policy=flag")
    assert done.returncode == 0, done.stderr
    faces = pq.read_table(tmp_path / "later/faces").to_pylist()
    assert sorted(row["subject_id"] for row in faces) == sorted(who)
    assert {row["subject_id"] for row in faces if row["pad_flags"]} == prints
    assert pq.read_table(tmp_path / "later/held").num_rows == 0

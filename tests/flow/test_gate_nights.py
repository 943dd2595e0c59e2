"""Nights of real photos with a gate: blur, profiles and prints stay out until it opens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pyarrow.parquet as pq
import pytest
from nights import Place
from real_photos import people_with

from frpipe.core.config import Config
from frpipe.core.face_gates import FaceGates
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.face_gate import FaceGate
from frpipe.models.card import Card
from frpipe.stages.quality.settings import PRESETS

FIRST, SECOND = "2026-04-01", "2026-04-02"
QUALITY = {"quality": {"policy": "flag"}}
PAIR = ("minifasnet_v2_batched", "minifasnet_v1se_batched")
GATED = "differences/gated.parquet"


@pytest.fixture
def place(real_photos: Path, real_card: Callable[[str], Card], tmp_path: Path) -> Place:
    """An album of two photos of each of six people."""
    for name in (Config().detect.model, Config().embedder.model):
        real_card(name)
    place = Place(tmp_path)
    for photos in people_with(2, real_photos)[:6]:
        place.add(photos)
    return place


def _night(place: Place, date: str, stages: dict[str, Any] = QUALITY, **gates: Any) -> dict[str, Any]:
    off = {name: {"enabled": False} for name in ("dedup", "identify")}
    settings = {**stages, "detect": {"not_photographs": "keep"}}
    report, bad = place.run(date, consolidate={"gates": gates}, settings=settings, **off)
    assert bad is None
    found: dict[str, Any] = report["steps"]["consolidate"]
    return found


def _faces(place: Place) -> set[str]:
    return {face for _, face, _ in place.templates()}


def _kept_out(place: Place, date: str) -> dict[str, str]:
    rows = pq.read_table(place.night(date) / GATED).to_pylist()
    return {row["image_id"]: row["measure"] for row in rows}


def test_a_blurred_face_takes_its_older_template_along_until_the_gate_opens(place: Place) -> None:
    first = _night(place, FIRST, preset="enrolment")
    kept, faces = _kept_out(place, FIRST), _faces(place)
    good = sorted(path for path in place.album.rglob("*.jpg") if _id(place, path) not in kept)
    assert first["gated"]["faces"] == len(kept) < first["faces"] / 2
    assert first["gated"]["limits"] == PRESETS["enrolment"]
    blurred = next(path for path in good if any(face.startswith(_id(place, path)) for face in faces))
    pixels = cv2.imread(str(blurred))
    cv2.imwrite(str(blurred), cv2.GaussianBlur(pixels, (0, 0), 4))
    second = _night(place, SECOND, preset="enrolment")
    assert _kept_out(place, SECOND) == {_id(place, blurred): "quality_score"}
    assert second["superseded"] == 1 and second["left_out"] == {"gate": 1}
    assert _faces(place) == {face for face in faces if not face.startswith(_id(place, blurred))}
    assert "quality_score" in (place.night(SECOND) / "report.html").read_text()
    enrolled, gallery = str(place.night(SECOND) / "enroll"), str(place.root / "people")
    Consolidation(enrolled, gallery, "append", gate=FaceGate.of(FaceGates(max_yaw_deg=40))).run()
    assert _faces(place) == faces


@pytest.mark.slow
def test_faces_in_profile_stay_out(place: Place, shared: Path) -> None:
    profiles = sorted((shared / "data/cfp/images").glob("*/profile/*.jpg"))[:24:4]
    if not profiles:
        pytest.skip("the photos of CFP are not on this machine")
    for number, photo in enumerate(profiles):
        folder = place.album / f"turned-{number}"
        folder.mkdir()
        shutil.copy2(photo, folder / "profile.jpg")
    done = _night(place, FIRST, preset="enrolment")
    kept = _kept_out(place, FIRST)
    found = {row["image_id"] for row in _rows(place) if row["image_id"].startswith("turned-")}
    assert len(found) > 3, "the detector sees too few of them"
    assert sum(kept.get(image) == "pose_yaw_deg" for image in found) >= len(found) - 1
    assert not {face for face in _faces(place) if face.partition("#")[0] in kept}
    assert done["used"] + sum(done["left_out"].values()) == done["faces"]
    told = json.loads((place.night(FIRST) / "report.json").read_text())["lists"]["gated_face"]
    assert any(each.startswith("turned-") for each in told)
    enrolled, gallery = str(place.night(FIRST) / "enroll"), str(place.root / "people")
    Consolidation(enrolled, gallery, "append").run()
    assert {face.partition("#")[0] for face in _faces(place)} >= found


def test_prints_stay_out_and_are_let_in_by_another_limit(
    place: Place, shared: Path, real_card: Callable[[str], Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PAIR:
        real_card(name)
    monkeypatch.setenv("FRPIPE_MODEL_DIR", str(shared / "models"))
    prints = [sorted((shared / "data/spoof/print").glob(f"attack/000{n}/*.jpg"))[:1] for n in (1, 2, 3)]
    if not all(prints):
        pytest.skip("photos of attacks (../shared/data/spoof) are not on this machine")
    for number, (photo,) in enumerate(prints):
        place.add([photo], f"print-{number}")
    pad = {"policy": "flag", "model": PAIR[0], "second_model": PAIR[1]}
    done = _night(place, FIRST, {"pad": pad}, min_pad=0.5)
    kept = _kept_out(place, FIRST)
    assert done["gated"]["faces"] == len(kept) and {*kept.values()} == {"pad_score"}
    assert {image.partition("/")[0] for image in kept} >= {"print-0", "print-1", "print-2"}
    assert not any(face.startswith("print-") for face in _faces(place)) and _faces(place)
    samples = pq.read_table(place.night(FIRST) / "drift/samples.parquet")
    assert samples["measure"].to_pylist().count("pad_score") == len(_rows(place))
    enrolled, gallery = str(place.night(FIRST) / "enroll"), str(place.root / "people")
    Consolidation(enrolled, gallery, "append", gate=FaceGate.of(FaceGates(min_pad=0))).run()
    assert {image for image in kept if image.startswith("print-")} <= {
        face.partition("#")[0] for face in _faces(place)
    }


def _rows(place: Place) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(place.night(FIRST) / "enroll/faces").to_pylist()
    return found


def _id(place: Place, path: Path) -> str:
    return path.relative_to(place.album).as_posix()

"""Verification of real photos: by one call, by hand as the documentation shows, and on the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from real_photos import people_with

import frpipe
from frpipe.cli.main import main
from frpipe.core.errors import ConfigError, FaceError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pair(real_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a.jpg and b.jpg of one person and c.jpg of another."""
    one, other = people_with(2, real_photos)[:2]
    for photo, name in zip((*one, other[0]), "abc", strict=True):
        shutil.copy(photo, tmp_path / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def test_one_person_is_verified_and_another_is_not(pair: Path) -> None:
    same, other = frpipe.verify("a.jpg", "b.jpg"), frpipe.verify("a.jpg", "c.jpg")
    assert same.verified
    assert not other.verified
    assert same.distance < same.threshold.distance < other.distance
    assert same.similarity == pytest.approx(1 - same.distance)


def test_the_result_says_what_it_rests_on(pair: Path) -> None:
    result = frpipe.verify("a.jpg", "b.jpg").as_dict()
    assert (result["model"], result["detector_backend"]) == ("sface_2021dec", "retinaface_mv1_025")
    assert (result["similarity_metric"], result["face_policy"]) == ("cosine", "centre-largest")
    for area in result["facial_areas"].values():
        # The person's own left is on the right for the viewer.
        assert area["x"] < area["right_eye"][0] < area["left_eye"][0] < area["x"] + area["w"]
    assert result["threshold"]["source"]
    assert result["time"] > 0


def test_a_photo_may_come_as_a_path_as_bytes_or_as_pixels(pair: Path) -> None:
    pixels = cv2.cvtColor(cv2.imread("a.jpg"), cv2.COLOR_BGR2RGB)
    results = [
        frpipe.verify(a, "b.jpg").distance for a in (Path("a.jpg"), Path("a.jpg").read_bytes(), pixels)
    ]
    assert results[0] == results[1] == pytest.approx(results[2], abs=0.01)


def test_equality_accepts(pair: Path) -> None:
    distance = frpipe.verify("a.jpg", "c.jpg").distance
    assert frpipe.verify("a.jpg", "c.jpg", distance=distance).verified
    assert not frpipe.verify("a.jpg", "c.jpg", distance=distance - 1e-6).verified


def test_by_hand_gives_the_distance_of_the_one_call(pair: Path) -> None:
    page = (ROOT / "docs/verification.md").read_text().partition("## By hand")[2]
    blocks = [block.split("```")[0] for block in page.split("```python\n")[1:]]
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/verification.md", "exec"), scope)
    assert scope["distance"] == pytest.approx(frpipe.verify("a.jpg", "b.jpg").distance, abs=1e-4)
    assert [square.shape for square in scope["squares"]] == [(224, 224, 3)] * 2  # type: ignore[attr-defined]


def test_a_photo_without_a_face_is_a_clear_error(pair: Path) -> None:
    (pair / "none.jpg").write_bytes(b"no photo")
    with pytest.raises(FaceError, match="photo 2 gives no face to compare: unknown_format"):
        frpipe.verify("a.jpg", "none.jpg")
    with pytest.raises(FaceError, match="not_found"):
        frpipe.verify("missing.jpg", "a.jpg")


def test_comparing_all_faces_is_refused(pair: Path) -> None:
    with pytest.raises(ConfigError, match="one face"):
        frpipe.verify("a.jpg", "b.jpg", config=frpipe.load_config(None, ["detect.policy=all"]))
    assert frpipe.verify("a.jpg", "b.jpg", config=frpipe.Config()).face_policy == "centre-largest"


def test_the_command_line(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "a.jpg", "b.jpg", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verified"] is True
    assert main(["verify", "a.jpg", "c.jpg"]) == 0
    assert "different persons" in capsys.readouterr().out
    assert main(["verify", "a.jpg", "c.jpg", "--check"]) == 12
    assert main(["verify", "a.jpg", "missing.jpg"]) == 8
    assert "-> " in capsys.readouterr().err

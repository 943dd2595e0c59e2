"""Python by name: what a user calls on single photos, with real models and photos."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from enrollment import enroll_here, write_manifest

import frpipe
from frpipe import Gallery
from frpipe.cli.main import main
from frpipe.core.config import load_config
from frpipe.core.errors import ConfigError, FaceError, OutputError

Photos = list[Path]


@pytest.fixture(scope="module")
def anna(shared: Path) -> Photos:
    """Two photos of one person, and one of another."""
    folders = sorted((shared / "data/lfw/images").iterdir())
    many = [sorted(folder.glob("*.jpg")) for folder in folders]
    several = [photos for photos in many if len(photos) > 1]
    return [*several[0][:2], several[1][0]]


def _pixels(photo: Path) -> Any:
    return np.ascontiguousarray(cv2.imread(str(photo))[..., ::-1])


def test_the_steps_one_by_one_come_to_what_verify_says(anna: Photos) -> None:
    (one, *_), (other, *_) = (frpipe.detect(photo) for photo in anna[:2])
    distance = frpipe.distance(frpipe.embed(one), frpipe.embed(other))
    assert distance == pytest.approx(frpipe.verify(*anna[:2]).distance, abs=1e-6)
    assert distance == 1 - frpipe.similarity(frpipe.embed(one), frpipe.embed(other))
    assert frpipe.distance(frpipe.embed(one), frpipe.embed(anna[2])) > distance


def test_a_face_says_where_it_is(anna: Photos) -> None:
    face = frpipe.detect(anna[0])[0]
    x1, y1, x2, y2 = face.box
    assert 0 < x2 - x1 < 250
    assert 0 < y2 - y1 < 250
    # The person's left eye is on the right for the viewer.
    assert face.left_eye[0] > face.right_eye[0]
    assert face.landmarks.shape == (5, 2)
    assert 0 < face.quality <= 1
    assert abs(face.roll_deg) < 30
    assert face["box"] == face.box
    assert {*dict(face)} == {"box", "landmarks", "score", "quality", "roll_deg", "aligned", "measures"}
    assert face.measures == {}
    with pytest.raises(KeyError):
        face["eyes"]


def test_a_face_and_its_picture_say_what_the_stages_measure(anna: Photos, tmp_path: Path) -> None:
    asked = ["quality.policy=flag"]
    (face, *_) = frpipe.detect(anna[0], config=load_config(None, asked))
    assert 0 <= face.measures["quality_score"] <= 100
    assert abs(face.measures["pose_yaw_deg"]) < 60
    page = tmp_path / "steps.html"
    assert main(["look", str(anna[0]), "-o", str(page), "--set", *asked]) == 0
    assert f"quality score {face.measures['quality_score']:.0f} of 100" in page.read_text(encoding="utf-8")


def test_crops_and_aligned_faces_have_the_size_that_is_asked_for(anna: Photos) -> None:
    face = frpipe.detect(anna[0])[0]
    assert frpipe.crop(anna[0]).shape == (224, 224, 3)
    assert frpipe.crop(anna[0], face, size=64, margin=0.2).shape == (64, 64, 3)
    assert np.array_equal(frpipe.align(anna[0]), face.aligned)
    assert np.array_equal(frpipe.align(anna[0], face, size=112), face.aligned)
    large = cv2.resize(frpipe.align(anna[0], size=224), (112, 112), interpolation=cv2.INTER_AREA)
    assert np.abs(large.astype(int) - face.aligned).mean() < 4


def test_paths_bytes_and_pixels_are_one_photo(anna: Photos) -> None:
    vectors = [frpipe.embed(each) for each in (str(anna[0]), anna[0], anna[0].read_bytes())]
    assert all(np.array_equal(vectors[0], vector) for vector in vectors)
    assert frpipe.similarity(frpipe.embed(_pixels(anna[0])), vectors[0]) > 0.999
    assert vectors[0].dtype == np.float32
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-6)


def test_an_array_in_the_order_of_opencv_is_warned_of(anna: Photos) -> None:
    bgr = _pixels(anna[0])[..., ::-1].copy()
    for call in (frpipe.detect, lambda photo: frpipe.verify(photo, anna[1])):
        with pytest.warns(UserWarning, match="BGR"):
            call(bgr)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frpipe.detect(_pixels(anna[0]))


def test_what_cannot_be_is_one_clear_error(anna: Photos, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(anna[0].read_bytes()[:900])
    for step in (frpipe.detect, frpipe.crop, frpipe.align, frpipe.embed):
        for photo in (tmp_path / "broken.jpg", tmp_path / "none.jpg"):
            with pytest.raises(FaceError, match="the photo"):
                step(photo)  # type: ignore[operator]
    assert frpipe.detect(_noise()) == []
    with pytest.raises(FaceError, match="no face"):
        frpipe.embed(_noise())
    with pytest.raises(ConfigError, match="beside it"):
        frpipe.detect(anna[0], config=frpipe.load_config(None), detector="yunet_2023mar")
    with pytest.raises(ValueError, match="one size"):
        frpipe.distance([1.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="no length"):
        frpipe.distance([0.0, 0.0], [1.0, 0.0])


def _noise() -> Any:
    return np.random.default_rng(1).integers(90, 130, (96, 96, 3), np.uint8)


def test_a_gallery_from_the_first_person_to_the_last(anna: Photos, tmp_path: Path) -> None:
    gallery = Gallery.create(str(tmp_path / "G"))
    outcome = gallery.enroll(map(str, anna[:2]), "anna", {"Name": "Anna"})
    gallery.enroll(str(anna[2]), "bert")
    assert (outcome.added, outcome.version) == (2, 1)
    assert [(each.subject_id, each.templates) for each in gallery.list()] == [("anna", 2), ("bert", 1)]
    assert gallery.list()[0]["attributes"] == {"Name": ("Anna",)}
    found = gallery.identify(anna[1])
    assert found["subject_id"] == "anna"
    assert "subject_id" in found and found.get("nobody") is None
    assert gallery.identify(anna[1], distance=0.0001).subject_id == "anna"
    assert gallery.identify(anna[2], distance=0.0001, top=1).subject_id == "bert"
    with pytest.raises(ConfigError, match="more than once"):
        gallery.identify(anna[1], threshold=0.5, distance=0.5)
    with pytest.raises(ConfigError, match="no photo"):
        gallery.enroll([], "anna")
    assert (found.subject_id, found.candidates[0].attributes) == ("anna", {"Name": "Anna"})
    assert frpipe.identify(str(anna[2]), str(tmp_path / "G"), top=1).subject_id == "bert"
    gallery.delete("bert")
    assert Gallery(str(tmp_path / "G")).identify(str(anna[2])).subject_id is None
    gallery.clear()
    assert len(gallery) == 0


def test_of_several_photos_all_are_enrolled_or_none(anna: Photos, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "noise.png"), _noise())
    gallery = Gallery.create(str(tmp_path / "G"))
    words = ["gallery", "enroll", str(tmp_path / "G"), "--id", "anna", "--photo"]
    assert main([*words, str(anna[0]), str(tmp_path / "noise.png")]) == FaceError.exit_code
    with pytest.raises(FaceError, match=r"noise\.png"):
        gallery.enroll([str(anna[0]), str(tmp_path / "noise.png")], "anna")
    assert len(gallery) == 0
    # The same photo twice is one.
    assert main([*words, str(anna[0]), str(anna[1]), "--photo", str(anna[0])]) == 0
    assert gallery.list()[0].templates == 2


def test_the_keywords_of_deepface_are_taken(anna: Photos, tmp_path: Path) -> None:
    vector = frpipe.embed(img_path=anna[0], model_name="sface_2021dec", detector_backend="RetinaFace")  # type: ignore[call-arg]
    assert np.array_equal(vector, frpipe.embed(anna[0]))
    Gallery.create(str(tmp_path / "G")).enroll(str(anna[0]), "anna")
    found = frpipe.identify(img_path=str(anna[0]), db_path=str(tmp_path / "G"))  # type: ignore[call-arg]
    assert found.subject_id == "anna"


def test_features_of_an_output_are_one_table(anna: Photos, tmp_path: Path) -> None:
    enroll_here(write_manifest(tmp_path / "m.csv", anna), tmp_path / "out")
    table = frpipe.read_features(str(tmp_path / "out"), ["face_id", "embedding"])
    assert isinstance(table, pa.Table)
    assert table.num_rows >= len(anna)
    assert frpipe.similarity(table["embedding"][0].as_py(), frpipe.embed(anna[0])) > 0.9999
    assert frpipe.read_features(str(tmp_path / "out")).num_columns > 10
    with pytest.raises(OutputError, match="not the output of a finished enroll run"):
        frpipe.read_features(str(tmp_path))


def test_verify_answers_as_deepface_does(anna: Photos) -> None:
    result = frpipe.verify(img1_path=str(anna[0]), img2_path=str(anna[1]))  # type: ignore[call-arg]
    assert result["verified"] is True
    assert result["distance"] <= result["threshold"] == result.threshold.distance
    assert {"verified", "distance", "threshold", "model", "detector_backend", "facial_areas"} <= {
        *dict(result)
    }
    area = result["facial_areas"]["img1"]
    assert area["w"] > 0
    assert area["left_eye"][0] > area["right_eye"][0]
    with pytest.warns(FutureWarning, match="similarity"):
        assert not frpipe.verify(anna[0], anna[1], threshold=0.99).verified


@pytest.mark.parametrize("kind", ["png", "html"])
def test_the_steps_are_drawn(
    kind: str, anna: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Gallery.create(str(tmp_path / "G")).enroll(str(anna[1]), "anna", {"Name": "김지수 <b>"})
    target = tmp_path / f"steps.{kind}"
    words = ["look", *map(str, (anna[0], anna[2])), "--gallery", str(tmp_path / "G"), "-o", str(target)]
    assert main(words) == 0
    assert "found, cropped, before rotation, rotated and aligned, embedding" in capsys.readouterr().out
    if kind == "png":
        assert cv2.imread(str(target)).shape[1] > 5 * 224
        return
    page = target.read_text(encoding="utf-8")
    assert page.count("<figure>") == 5 + 5 + 1 + 1 + 1
    assert "two people" in page
    assert "김지수 &lt;b&gt; (anna)" in page
    assert "nobody of the gallery" in page
    assert "default-src 'none'" in page


def test_steps_that_cannot_be_drawn_are_one_clear_error(anna: Photos, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "noise.png"), _noise())
    assert (
        main(["look", str(tmp_path / "noise.png"), "-o", str(tmp_path / "steps.png")]) == FaceError.exit_code
    )
    assert main(["look", str(anna[0]), "-o", str(tmp_path / "steps.pdf")]) == ConfigError.exit_code
    assert not (tmp_path / "steps.png").exists()


def test_an_empty_gallery_is_drawn_as_one(anna: Photos, tmp_path: Path) -> None:
    Gallery.create(str(tmp_path / "G"))
    target = tmp_path / "steps.png"
    assert main(["look", str(anna[0]), "--gallery", str(tmp_path / "G"), "-o", str(target)]) == 0
    assert target.stat().st_mode & 0o077 == 0

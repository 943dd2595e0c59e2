"""Real photos that were turned and rolled: they give the faces of the upright ones, or none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib import get_data_path
from numpy.typing import NDArray
from PIL import Image
from real_photos import demo_photos

from frpipe.core.config import load_config
from frpipe.jobs.face_pipeline import FacePipeline, pipeline_of
from frpipe.models.card import Card
from frpipe.models.registry import Registry
from frpipe.stages.locate import Located
from frpipe.vision.geometry import apply, invert, similarity, template

Pixels = NDArray[np.uint8]
Array = NDArray[np.float64]
DETECTORS = ["yunet_2023mar", "retinaface_mnet025", "scrfd_500m"]
QUARTERS = (1, 2, 3)
# No multiples of 90 degrees. The last is one that turns with its photo, and is rolled by 20 in it.
ROLLS = (45, 135, 200)
# What landmarks of photos that were rolled by half a degree err by, in eye distances: median, a little more.
STEADY = {"yunet_2023mar": 0.1, "retinaface_mnet025": 0.05, "scrfd_500m": 0.04}
GROSSLY_WRONG = 0.4


def read(path: Path) -> Pixels:
    return np.asarray(Image.open(path).convert("RGB"))


def pipeline(detector: str = "yunet_2023mar") -> FacePipeline:
    return pipeline_of(load_config(overrides=[f"detect.model={detector}", "detect.not_photographs=keep"]))


def rolled(pixels: Pixels, degrees: float) -> tuple[Pixels, Array]:
    """The photo rolled clockwise on a black canvas that holds all of it, and the frame (2, 3) into that."""
    height, width = pixels.shape[:2]
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    linear = np.array([[cosine, -sine], [sine, cosine]])
    size = np.ceil(np.abs(linear) @ (width, height) - 1e-6).astype(int)
    frame = np.column_stack([linear, (size - 1) / 2 - linear @ ((width - 1) / 2, (height - 1) / 2)])
    canvas: Pixels = cv2.warpAffine(pixels, frame, (int(size[0]), int(size[1])), flags=cv2.INTER_LINEAR)
    return canvas, frame


def eye_distance(points: Array) -> float:
    return float(np.hypot(*(points[1] - points[0])))


def alignment_error(points: Array, reference: Array) -> float:
    """How far apart, in eye distances, the template's points land in the photo that both were found in."""
    both = [apply(invert(similarity(each, template(112))), template(112)) for each in (points, reference)]
    return float(np.hypot(*(both[0] - both[1]).T).mean()) / eye_distance(reference)


@dataclass(frozen=True, eq=False)
class Match:
    """A face of an upright photo: its number there, its landmarks, and its number in the other or None."""

    first: int
    reference: Array
    second: int | None
    error: float


def matches(upright: Located, other: Located, frame: Array) -> Iterator[Match]:
    """Where the faces of a photo are in the same photo moved by `frame` (2, 3)."""
    back = [apply(invert(frame), points) for points in other.faces.points.astype(np.float64)]
    for number, reference in enumerate(upright.faces.points.astype(np.float64)):
        away = [float(np.hypot(*(points.mean(axis=0) - reference.mean(axis=0)))) for points in back]
        near = int(np.argmin(away)) if away else 0
        if away and away[near] < 0.7 * eye_distance(reference):
            yield Match(number, reference, near, alignment_error(back[near], reference))
        else:
            yield Match(number, reference, None, 0.0)


def is_the_same_when_turned(ours: FacePipeline, photos: list[Pixels], least: float = 0.8) -> None:
    """Each quarter turn of photos is known, and their faces give the vectors of the upright ones."""
    for pixels, upright in zip(photos, ours.locate(photos), strict=True):
        vectors = unit(ours.embed(upright.crops))
        assert upright.turn_deg == 0
        turned = ours.locate([np.ascontiguousarray(np.rot90(pixels, -quarter)) for quarter in QUARTERS])
        for quarter, found in zip(QUARTERS, turned, strict=True):
            assert found.turn_deg == (360 - 90 * quarter) % 360
            theirs = unit(ours.embed(found.crops))
            for match in matches(upright, found, rolled(pixels, 90 * quarter)[1]):
                assert match.second is not None
                assert vectors[match.first] @ theirs[match.second] >= least


def unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_turned_portrait_gives_the_vector_of_the_upright_one() -> None:
    """With the default models and a photo that an installation brings."""
    is_the_same_when_turned(pipeline(), [read(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg")])


def test_turned_photos_of_the_demo_give_the_vectors_of_the_upright_ones() -> None:
    """A part of a face, and six people."""
    folder = demo_photos()
    if folder is None:
        pytest.skip("the demo's photos are not on this machine: python tests/real_photos.py fetches them")
    names = ("president-part-2.jpg", "six-strangers.jpg")
    is_the_same_when_turned(pipeline(), [read(folder / name) for name in names])


class TestManyPeople:
    @pytest.fixture(scope="class")
    @classmethod
    def photos(cls, real_photos: Path) -> list[Pixels]:
        paths = sorted(real_photos.glob("*/*.jpg"))
        return [read(path) for path in paths[:: len(paths) // 8][:8]]

    @pytest.fixture(scope="class", params=DETECTORS)
    @classmethod
    def detector(cls, request: pytest.FixtureRequest, real_card: Callable[[str], Card]) -> str:
        return real_card(request.param).name

    @pytest.fixture(scope="class")
    @classmethod
    def ours(cls, detector: str, real_models: Registry) -> FacePipeline:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FRPIPE_MODEL_DIR", os.pathsep.join(map(str, real_models.model_dirs)))
            return pipeline(detector)

    def test_a_turned_photo_gives_the_vectors_of_the_upright_one(
        self, ours: FacePipeline, photos: list[Pixels]
    ) -> None:
        is_the_same_when_turned(ours, photos[:4])

    @pytest.fixture(scope="class")
    @classmethod
    def errors(cls, shared: Path, ours: FacePipeline, photos: list[Pixels]) -> list[float]:
        """Of the faces that are found in rolled photos of LFW, how far their alignment is off."""
        del shared
        errors = []
        upright = ours.locate(photos)
        for degrees in ROLLS:
            made = [rolled(pixels, degrees) for pixels in photos]
            found = ours.locate([pixels for pixels, _ in made])
            for first, second, (_, frame) in zip(upright, found, made, strict=True):
                errors += [match.error for match in matches(first, second, frame) if match.second is not None]
        return errors

    def test_a_rolled_face_is_aligned_as_the_upright_one_or_refused(
        self, detector: str, errors: list[float]
    ) -> None:
        """As near as the detector's landmarks are to themselves when a photo is rolled by half a degree."""
        assert len(errors) >= 20
        assert np.median(errors) <= STEADY[detector]
        assert max(errors) <= GROSSLY_WRONG

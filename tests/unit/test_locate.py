"""Photos through a detector that finds what the test says: windows, policies, frames, rejections."""

from __future__ import annotations

import io
from collections.abc import Sequence
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from frpipe.core.config import Config, DetectConfig, PoolConfig, load_config
from frpipe.core.reasons import Reason, Reject, Status
from frpipe.core.subject import LEFT_OUT_BY
from frpipe.models.card import Card
from frpipe.models.detectors.base import MOST_IN_LOOK
from frpipe.models.detectors.faces import Faces
from frpipe.stages.locate import Located, Locator, locator_of
from frpipe.vision.enlarge import Enlarged

FACE = np.array([[40, 45], [60, 45], [50, 57], [42, 68], [58, 68]], np.float32)


class FakeDetector:
    """Finds a face at fixed places, given as shares of the width; remembers the batches it was shown."""

    def __init__(self, *shifts: float) -> None:
        self.shifts = shifts
        self.seen: list[int] = []

    def detect(self, photos: Sequence[np.ndarray]) -> list[Faces]:
        self.seen.append(len(photos))
        return [self._faces(photo.shape[1]) for photo in photos]

    def _faces(self, width: int) -> Faces:
        points = np.stack([FACE * (width / 200) + [shift * width, 0] for shift in self.shifts]).astype(
            np.float32
        )
        low, high = points.min(axis=1) - width / 40, points.max(axis=1) + width / 40
        boxes = np.concatenate([low, high], axis=1).astype(np.float32)
        return Faces(boxes, np.linspace(0.9, 0.8, len(points), dtype=np.float32), points)


def _jpeg(width: int = 200, height: int = 200, seed: int = 0) -> bytes:
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((width, height)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _locate(photos: Sequence[bytes | Reject], *shifts: float, config: Config | None = None) -> list[Located]:
    detector = FakeDetector(*(shifts or (0.0,)))
    return list(Locator(config or Config(), detector).locate(photos))  # type: ignore[arg-type]


def test_each_photo_has_one_outcome_in_order() -> None:
    photos: list[bytes | Reject] = [_jpeg(), Reject(Reason.NOT_FOUND), b"no photo", _jpeg(), b""]
    outcomes = _locate(photos)
    assert [o.status for o in outcomes] == ["ok", "rejected", "rejected", "ok", "rejected"]
    assert [o.reason for o in outcomes] == [None, "not_found", "unknown_format", None, "empty"]
    assert len(outcomes[0].crops) == 1
    assert outcomes[0].crops[0].shape == (112, 112, 3)


def test_windows_are_bounded_by_rows_and_by_pixels() -> None:
    photos = [_jpeg(seed=i) for i in range(7)]
    detector = FakeDetector(0.0)
    list(Locator(load_config(None, ["resources.window_rows=3"]), detector).locate(photos))  # type: ignore[arg-type]
    assert detector.seen == [3, 3, 1]
    detector = FakeDetector(0.0)
    config = load_config(None, ["resources.window_mb=1"])
    list(Locator(config, detector).locate([_jpeg(600, 600)] * 3))  # type: ignore[arg-type]
    assert detector.seen == [1, 1, 1]


@pytest.mark.parametrize(
    "wanted", [Enlarged(1.0, 900, "constant"), Enlarged(2.7, 80, "shift", "bilinear")], ids=["large", "whole"]
)
def test_aligned_crops_do_not_depend_on_the_enlarged_ones(wanted: Enlarged) -> None:
    """Nor vectors on stages that measure: the photo is decoded once more for them."""
    photo = _jpeg(2600, 2600)
    config = load_config(None, ["detect.max_side_px=320", "detect.bucket_sides_px=[320]"])
    (without,) = Locator(config, FakeDetector(0.0)).locate([photo])  # type: ignore[arg-type]
    (beside,) = Locator(config, FakeDetector(0.0), enlarged=(wanted,)).locate([photo])  # type: ignore[arg-type]
    assert np.array_equal(without.crops[0], beside.crops[0])
    assert without.sharpness == beside.sharpness


def test_enlarged_crops_are_cut_where_they_are_wanted_and_have_pixels_enough() -> None:
    """The whole photo is decoded at an eighth for the detector; the larger crop needs more than that."""
    photo = _jpeg(2600, 2600)
    wanted = (Enlarged(2.7, 80, "shift"), Enlarged(1.0, 900, "constant"))
    config = load_config(None, ["detect.max_side_px=320", "detect.bucket_sides_px=[320]"])
    detector = FakeDetector(0.0)
    (scaled,) = Locator(config, detector, enlarged=wanted).locate([photo])  # type: ignore[arg-type]
    whole = load_config(
        None, ["detect.max_side_px=320", "detect.bucket_sides_px=[320]", "decode.scaled=false"]
    )
    (full,) = Locator(whole, FakeDetector(0.0), enlarged=wanted).locate([photo])  # type: ignore[arg-type]
    for kind in wanted:
        one, other = scaled.enlarged[kind][0], full.enlarged[kind][0]
        assert one.shape == (kind.side, kind.side, 3)
        assert np.abs(one.astype(int) - other.astype(int)).mean() < 3
    assert _locate([photo])[0].enlarged == {}


def test_the_scaled_decode_gives_the_coordinates_and_the_crop_of_the_full_one() -> None:
    photo = _jpeg(2600, 2600)
    scaled = _locate([photo])[0]
    full = _locate([photo], config=load_config(None, ["decode.scaled=false"]))[0]
    assert (scaled.width, scaled.height) == (2600, 2600)
    assert np.abs(scaled.faces.points - full.faces.points).max() < 4
    assert np.abs(scaled.crops[0].astype(int) - full.crops[0].astype(int)).mean() < 3


@pytest.mark.parametrize(
    ("policy", "status", "faces"), [("all", "ok", 2), ("largest", "ok", 1), ("require-one", "rejected", 0)]
)
def test_the_policy_decides_which_faces_are_kept(policy: str, status: str, faces: int) -> None:
    outcome = _locate([_jpeg()], 0.0, 0.3, config=load_config(None, [f"detect.policy={policy}"]))[0]
    assert (outcome.status, len(outcome.faces), len(outcome.crops)) == (status, faces, faces)
    assert outcome.faces_detected == 2


LARGEST, CENTRE = LEFT_OUT_BY["largest"], LEFT_OUT_BY["centre-largest"]


@pytest.mark.parametrize(
    ("most", "kept", "largest"),
    [(1, [0.25], "many_faces"), (2, [0.0, 0.25], None), (3, [0.0, 0.25, 0.5], None)],
)
def test_a_limit_never_cuts_the_person_off(most: int, kept: list[float], largest: str | None) -> None:
    """The best scored face is at the left, as large as the others, and the least scored in the middle."""
    shifts = [0.0, 0.5, -0.1, 0.25]
    outcome = _locate([_jpeg()], *shifts, config=load_config(None, [f"detect.max_faces={most}"]))[0]
    noses = outcome.faces.points[:, 2, 0].tolist()
    assert sorted(noses) == pytest.approx([50 + 200 * shift for shift in kept])
    assert outcome.faces.scores.tolist() == sorted(outcome.faces.scores.tolist(), reverse=True)
    assert outcome.left_out == {LARGEST: largest, CENTRE: None}
    assert (outcome.faces_detected, outcome.faces_refused, outcome.detail) == (4, 0, None)


def test_a_limit_beyond_that_of_a_look_holds_for_a_single_look(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def load(card: Card, settings: DetectConfig, pool: PoolConfig) -> FakeDetector:
        asked.append(settings.max_faces)
        return FakeDetector(0.0)

    monkeypatch.setattr("frpipe.stages.locate.load_detector", load)
    for most in (1, 3000):
        locator_of(load_config(None, [f"detect.max_faces={most}"]), Mock(), None)
    assert asked == [MOST_IN_LOOK, 3000]


@pytest.mark.parametrize(
    ("policy", "nose"), [("largest", 50), ("centre-largest", 100), ("require-one", None)]
)
def test_a_policy_chooses_among_more_faces_than_a_photo_may_have(policy: str, nose: float | None) -> None:
    config = load_config(None, [f"detect.policy={policy}", "detect.max_faces=1"])
    outcome = _locate([_jpeg()], 0.0, 0.25, config=config)[0]
    assert outcome.faces.points[:, 2, 0].tolist() == pytest.approx([] if nose is None else [nose])
    assert outcome.reason == (Reason.MANY_FACES if nose is None else None)
    assert outcome.faces_detected == 2


def test_a_face_without_usable_landmarks_is_left_out_and_said() -> None:
    detector = FakeDetector(0.0)
    good = detector._faces(200)
    flat = Faces(good.boxes, good.scores * 0.9, np.full((1, 5, 2), 50, np.float32))
    both = Faces(
        *(np.concatenate([getattr(f, n) for f in (good, flat)]) for n in ("boxes", "scores", "points"))
    )
    detector._faces = lambda width: both  # type: ignore[method-assign]
    kept = next(Locator(Config(), detector).locate([_jpeg()]))  # type: ignore[arg-type]
    assert (kept.status, len(kept.faces)) == (Status.OK, 1)
    assert "1 of 2" in (kept.detail or "")
    detector._faces = lambda width: flat  # type: ignore[method-assign]
    lost = next(Locator(Config(), detector).locate([_jpeg()]))  # type: ignore[arg-type]
    assert (lost.status, lost.reason) == (Status.REJECTED, Reason.DEGENERATE_LANDMARKS)


def test_threads_change_nothing() -> None:
    photos = [_jpeg(seed=i) for i in range(9)]
    one = _locate(photos)
    four = _locate(photos, config=load_config(None, ["resources.locate.threads=4"]))
    assert [o.content_sha256 for o in one] == [o.content_sha256 for o in four]
    assert all(np.array_equal(a.crops[0], b.crops[0]) for a, b in zip(one, four, strict=True))

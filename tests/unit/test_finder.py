"""Faces of photos as they come, found by a detector of drawn faces: what is looked at, taken, and refused."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from drawn_faces import LOOKS, Drawn, DrawnDetector, find, finder, moved, photo_of, picture, turned
from numpy.typing import NDArray
from pictures import encoded
from PIL import Image

from frpipe.core.config import Config, DecodeConfig, load_config
from frpipe.core.reasons import Reason, Status
from frpipe.core.subject import LEFT_OUT_BY
from frpipe.models.detectors.candidates import Case, FaceCandidate, landmark_error
from frpipe.models.detectors.finder import Finder, SingleLook
from frpipe.stages import locate
from frpipe.stages.locate import Located, Locator
from frpipe.vision.decode import Photo, decode
from frpipe.vision.enlarge import Enlarged
from frpipe.vision.geometry import template
from frpipe.vision.view import reduced, wrapped

QUARTERS = (1, 2, 3)
LARGE = Drawn(150, 140, 120)
SMALL = Drawn(500, 300, 70)
BALL = Drawn(90, 90, 80, kind="ball")


def by_place(case: Case) -> list[FaceCandidate]:
    return sorted(case.faces, key=lambda face: (round(face.centre[0]), round(face.centre[1])))


def nearest(case: Case, place: NDArray[np.float64]) -> FaceCandidate:
    return min(case.faces, key=lambda face: float(np.hypot(*(face.centre - place))))


def is_at(face: FaceCandidate, drawn: Drawn, frame: NDArray[np.float64] | None = None) -> None:
    """The face has the box and the landmarks of the drawn one, in a photo that was turned by `frame`."""
    frame = np.eye(2, 3) if frame is None else frame
    points = moved(drawn.points, frame)
    assert landmark_error(face.points, points) < 0.05
    corners = moved(drawn.box.reshape(2, 2), frame)
    wanted = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    assert np.abs(face.box - wanted).max() < 0.06 * drawn.width + 1


def test_an_upright_sure_face_is_looked_at_once() -> None:
    found = find(picture(300, 280, LARGE, Drawn(60, 240, 60)))
    assert found.looks == [(280, 300)]
    assert found.judged == []
    assert found.case.turn_deg == 0
    assert len(found.case.faces) == 2
    for face in found.case.faces:
        assert (face.is_sure, face.is_refined, face.landmark_error) == (True, False, None)
    is_at(by_place(found.case)[1], LARGE)


@pytest.mark.parametrize("quarter", QUARTERS)
@pytest.mark.parametrize("faces", [(LARGE,), (LARGE, Drawn(60, 240, 50), Drawn(245, 50, 60, 8))])
def test_a_turned_photo_is_known_and_its_faces_are_those_of_the_upright_one(
    quarter: int, faces: tuple[Drawn, ...]
) -> None:
    pixels, frame = turned(picture(300, 280, *faces), quarter)
    case = find(pixels).case
    assert case.turn_deg == (360 - 90 * quarter) % 360
    assert (len(case.faces), len(case.refused)) == (len(faces), 0)
    for drawn in faces:
        centre = moved(np.array([drawn.x, drawn.y]), frame)
        face = nearest(case, centre)
        is_at(face, drawn, frame)
        assert abs(wrapped((face.roll_deg or 0) - drawn.roll_deg - 90 * quarter)) < 4


def test_faces_on_their_side_are_found_beside_one_that_stands() -> None:
    faces = [Drawn(80, 80, 70, 90), Drawn(220, 80, 70, 90), Drawn(150, 220, 70, 0)]
    case = find(picture(300, 300, *faces)).case
    assert len(case.faces) == 3
    for face, drawn in zip(by_place(case), sorted(faces, key=lambda each: (each.x, each.y)), strict=True):
        is_at(face, drawn)


@pytest.mark.parametrize(("quarter", "odd_deg"), [(1, 90), (2, 90), (3, -90)])
def test_the_faces_of_a_photo_decide_together(quarter: int, odd_deg: float) -> None:
    """Three of four stand once the photo is turned; the fourth lies otherwise, turned or not."""
    faces = [Drawn(70, 70, 70), Drawn(220, 70, 80, 10), Drawn(80, 220, 70, -10)]
    pixels, frame = turned(picture(300, 300, *faces, Drawn(235, 225, 60, odd_deg)), quarter)
    case = find(pixels).case
    assert case.turn_deg == (360 - 90 * quarter) % 360
    for drawn in faces:
        is_at(nearest(case, moved(np.array([drawn.x, drawn.y]), frame)), drawn, frame)


@pytest.mark.parametrize("roll_deg", [0, 10, 30, 45, 60, 135, 210])
def test_a_rolled_face_has_the_landmarks_of_the_upright_one(roll_deg: float) -> None:
    drawn = Drawn(150, 140, 100, roll_deg)
    case = find(picture(300, 280, drawn)).case
    assert len(case.faces) == 1
    assert landmark_error(case.faces[0].points, drawn.points) < 0.03


@pytest.mark.parametrize("roll_deg", [180, 90, -90])
def test_each_face_of_a_photo_has_a_roll_of_its_own(roll_deg: float) -> None:
    drawn = Drawn(420, 150, 100, roll_deg)
    case = find(picture(560, 300, LARGE, drawn)).case
    assert case.turn_deg == 0
    assert (len(case.faces), len(case.refused)) == (2, 0)
    is_at(by_place(case)[0], LARGE)
    is_at(by_place(case)[1], drawn)
    assert abs(wrapped((by_place(case)[1].roll_deg or 0) - roll_deg)) < 3


def test_a_small_face_is_looked_at_again_on_the_pixels_of_the_photo() -> None:
    """It is 32 pixels wide in the first look, and 70 in the photo."""
    found = find(picture(1400, 900, LARGE, SMALL))
    face = by_place(found.case)[1]
    assert face.is_refined
    assert face.seen_px == pytest.approx(SMALL.width * 640 / 1400, abs=2)
    assert face.landmark_error is not None and face.landmark_error < 0.3
    is_at(face, SMALL)
    other = by_place(found.case)[0]
    assert (other.is_refined, other.landmark_error) == (False, None)
    assert found.looks[found.early_looks :].count((160, 160)) == 1


def test_a_proposal_that_a_second_look_confirms_is_a_face() -> None:
    drawn = Drawn(900, 500, 48)
    found = find(picture(2560, 1600, Drawn(400, 400, 300), drawn), "max_side_px=640")
    face = by_place(found.case)[1]
    assert face.seen_px == pytest.approx(12, abs=1.5)
    assert face.score > 0.9
    assert face.is_refined
    is_at(face, drawn)


def test_a_proposal_that_no_second_look_confirms_is_no_face() -> None:
    found = find(picture(1400, 900, LARGE, Drawn(500, 300, 70, kind="dim")))
    assert len(found.case.faces) == 1
    assert len(found.case.refused) == 0
    assert len(found.looks) > found.early_looks


def test_faces_smaller_than_asked_for_are_not_looked_at_again() -> None:
    pixels = picture(2560, 1600, Drawn(400, 400, 300), Drawn(900, 500, 48))
    found = find(pixels, "max_side_px=640", "min_face_px=80")
    assert len(found.case.faces) == 1
    assert len(found.looks) == found.early_looks


def test_a_face_of_which_all_looks_say_another_thing_is_refused_and_counted() -> None:
    found = find(picture(560, 300, LARGE, Drawn(420, 150, 100, kind="ball")))
    assert len(found.case.faces) == 1
    assert len(found.case.refused) == 1
    is_at(found.case.faces[0], LARGE)


@pytest.mark.parametrize(("min_face_px", "side"), [(48, 640), (24, 1200), (12, 2400), (8, 2400)])
def test_smaller_faces_are_looked_for_in_larger_pictures(min_face_px: int, side: int) -> None:
    ours, *_ = finder(f"min_face_px={min_face_px}")
    assert ours.side_of(2400, 1600) == side
    assert ours.side_of(1600, 2400) == side
    assert ours.side_of(200, 300) == 300


@pytest.mark.parametrize("side", [200, 320, 1024])
def test_the_side_of_the_look_is_what_is_asked_for(side: int) -> None:
    ours, detector, _ = finder(f"max_side_px={side}", "min_face_px=8")
    assert ours.side_of(2400, 1600) == side
    case = ours.first([photo_of(picture(1200, 800, Drawn(500, 400, 400)))])[0]
    assert max(detector.shapes[0]) == side
    assert case.least_px == pytest.approx(LOOKS.smallest_face_px * 1200 / side)


def test_a_photo_larger_than_the_input_is_looked_at_in_tiles() -> None:
    faces = [Drawn(130 + 250 * x, 120 + 240 * y, 60 + 9 * x) for x in range(4) for y in range(3)]
    found = find(picture(1000, 700, *faces), "max_side_px=1000", most_side_px=320)
    assert len(found.case.faces) == 12
    assert found.case.turn_deg == 0
    assert len([shape for shape in found.looks if shape != (160, 160)]) > 12
    for face, drawn in zip(
        by_place(found.case), sorted(faces, key=lambda each: (each.x, each.y)), strict=True
    ):
        is_at(face, drawn)


@pytest.mark.parametrize(("size", "width", "most"), [(600, 400, 2048), (600, 300, 320)])
def test_a_face_too_large_for_the_look_is_found_from_afar(size: int, width: int, most: int) -> None:
    drawn = Drawn(size / 2, size / 2, width)
    case = find(picture(size, size, drawn), most_side_px=most).case
    assert (len(case.faces), len(case.refused), case.turn_deg) == (1, 0, 0)
    is_at(case.faces[0], drawn)


@pytest.mark.parametrize("quarter", QUARTERS)
def test_a_turned_close_up_is_known_too(quarter: int) -> None:
    drawn = Drawn(300, 310, 400)
    pixels, frame = turned(picture(600, 600, drawn), quarter)
    case = find(pixels).case
    assert case.turn_deg == (360 - 90 * quarter) % 360
    assert len(case.faces) == 1
    is_at(case.faces[0], drawn, frame)


def test_a_photo_without_a_face_is_upright() -> None:
    found = find(picture(300, 300))
    assert (found.case.turn_deg, found.case.faces, len(found.case.refused)) == (0, [], 0)
    assert len(found.case.found()) == 0


def sample() -> list[NDArray[np.uint8]]:
    """Photos of every kind above."""
    group = [Drawn(80, 80, 70), Drawn(220, 80, 70, 10), Drawn(150, 220, 50)]
    return [
        picture(300, 280, LARGE),
        turned(picture(300, 280, LARGE), 2)[0],
        picture(300, 300),
        picture(1400, 900, LARGE, SMALL),
        turned(picture(300, 300, *group), 1)[0],
        picture(560, 300, LARGE, Drawn(420, 150, 100, 180)),
        picture(200, 200, BALL),
        picture(600, 600, Drawn(300, 300, 400)),
    ]


def through(ours: Finder, photos: Sequence[NDArray[np.uint8]]) -> list[Case]:
    cases = ours.first([photo_of(pixels) for pixels in photos])
    ours.second(cases)
    return cases


@pytest.mark.parametrize("most", [320, 2048])
def test_nothing_depends_on_the_company_of_a_photo(most: int) -> None:
    photos = sample()
    together = through(finder(most_side_px=most)[0], photos)
    backwards = through(finder(most_side_px=most)[0], photos[::-1])[::-1]
    for case, other, pixels in zip(together, backwards, photos, strict=True):
        alone = through(finder(most_side_px=most)[0], [pixels])[0]
        for each in (other, alone):
            assert (each.turn_deg, len(each.refused)) == (case.turn_deg, len(case.refused))
            assert np.array_equal(each.found().boxes, case.found().boxes)
            assert np.array_equal(each.found().points, case.found().points)
            assert np.array_equal(each.found().scores, case.found().scores)


def test_no_photos_are_no_cases() -> None:
    assert through(finder()[0], []) == []


def test_with_turns_off_every_photo_is_upright() -> None:
    pixels, _ = turned(picture(300, 280, LARGE), 2)
    found = find(pixels, "turns=off")
    assert found.case.turn_deg == 0
    assert len(found.case.faces) == 1
    assert abs(found.case.faces[0].roll_deg or 0) < 5
    assert found.looks == [(280, 300)]


def test_with_refinement_off_a_small_face_is_taken_as_it_was_seen() -> None:
    found = find(picture(1400, 900, LARGE, SMALL), "refine=off")
    assert found.looks == [(411, 640)]
    assert [face.is_refined for face in found.case.faces] == [False, False]
    assert [face.landmark_error for face in found.case.faces] == [None, None]


def test_with_both_off_all_that_the_detector_finds_is_taken_at_once() -> None:
    for pixels in sample():
        found = find(pixels, "turns=off", "refine=off")
        assert len(found.looks) == 1
        assert len(found.case.refused) == 0
        assert len(found.case.faces) == len(DrawnDetector().detect([reduced(pixels, 640)])[0])


def test_a_single_look_takes_what_it_sees() -> None:
    detector = DrawnDetector()
    ours = SingleLook(detector, Config().single_look().detect)  # type: ignore[arg-type]
    case = ours.first([photo_of(picture(300, 280, LARGE))])[0]
    ours.second([case])
    assert case.doubtful == []
    assert detector.shapes == [(280, 300)]
    is_at(case.faces[0], LARGE)


def test_a_detector_without_numbers_for_looks_has_no_finder() -> None:
    with pytest.raises(ValueError, match="no looks"):
        Finder(DrawnDetector(looks=None), DrawnDetector(), Config().detect)  # type: ignore[arg-type]


@pytest.mark.parametrize(("width", "shrink"), [(60, 1), (150, 2), (300, 4)])
def test_the_decode_for_second_looks_is_as_small_as_they_allow(width: float, shrink: int) -> None:
    face = FaceCandidate(np.array([0, 0, width, width]), template(112), 0.8, 30)
    case = Case(photo_of(picture(10, 10)), faces=[face])
    assert finder()[0].needed_shrink(case) == shrink
    face.is_sure = True
    assert finder()[0].needed_shrink(case) == 8


def test_landmark_errors_are_in_eye_distances() -> None:
    points = template(112)
    eyes = float(np.hypot(*(points[1] - points[0])))
    assert landmark_error(points, points) == 0
    assert landmark_error(points + np.array([eyes / 2, 0]), points) == pytest.approx(0.5, rel=0.05)
    assert landmark_error(3 * (points + 5), 3 * points) == pytest.approx(landmark_error(points + 5, points))


class TestOutcomes:
    """The same through the whole stage."""

    @staticmethod
    def located(pixels: NDArray[np.uint8], *overrides: str) -> Located:
        config = load_config(None, [f"detect.{text}" for text in ("not_photographs=keep", *overrides)])
        ours = Finder(DrawnDetector(), DrawnDetector(), config.detect)  # type: ignore[arg-type]
        return next(Locator(config, ours).locate([encoded(pixels, "PNG")]))

    def test_a_photo_with_nothing_but_a_refused_face_is_rejected(self) -> None:
        located = self.located(picture(200, 200, BALL))
        assert (located.status, located.reason) == (Status.REJECTED, Reason.IMPLAUSIBLE_FACE)
        assert located.detail == "1 of 1 faces"
        assert (located.faces_detected, located.faces_refused, len(located.faces)) == (1, 1, 0)

    def test_a_photo_with_another_face_is_kept_and_says_what_was_left_out(self) -> None:
        located = self.located(picture(560, 300, LARGE, Drawn(420, 150, 100, kind="ball")))
        assert (located.status, located.reason) == (Status.OK, None)
        assert located.detail == "1 of 2 faces left out: 1 implausible face"
        assert not any(located.left_out.values())
        assert (located.faces_detected, located.faces_refused, len(located.faces)) == (2, 1, 1)

    @pytest.mark.parametrize("policy", ["largest", "centre-largest"])
    def test_where_the_face_that_is_meant_is_refused_no_other_is_taken(self, policy: str) -> None:
        refused, beside = Drawn(300, 150, 160, kind="ball"), Drawn(80, 150, 100)
        located = self.located(picture(560, 300, refused, beside), f"policy={policy}")
        assert (located.status, located.reason) == (Status.REJECTED, Reason.IMPLAUSIBLE_FACE)
        assert located.detail == f"the {policy} of 2 faces"
        located = self.located(picture(560, 300, refused, beside))
        assert (located.status, len(located.faces)) == (Status.OK, 1)
        assert located.left_out == dict.fromkeys(LEFT_OUT_BY.values(), Reason.IMPLAUSIBLE_FACE)

    def test_the_face_that_the_policy_keeps_is_the_one_that_is_meant(self) -> None:
        """Whatever another policy would have said of one that is refused."""
        beside, refused = Drawn(80, 150, 120), Drawn(280, 150, 100, kind="ball")
        located = self.located(picture(560, 300, beside, refused), "policy=largest")
        assert (located.status, len(located.faces)) == (Status.OK, 1)
        assert not any(located.left_out.values())
        located = self.located(picture(560, 300, beside, refused))
        assert located.left_out == {
            LEFT_OUT_BY["largest"]: None,
            LEFT_OUT_BY["centre-largest"]: Reason.IMPLAUSIBLE_FACE,
        }

    def test_of_a_photo_with_a_refused_face_none_is_the_only_one(self) -> None:
        located = self.located(
            picture(560, 300, LARGE, Drawn(420, 150, 100, kind="ball")), "policy=require-one"
        )
        assert (located.status, located.reason) == (Status.REJECTED, Reason.MANY_FACES)

    @pytest.mark.parametrize("quarter", [0, *QUARTERS])
    def test_a_turned_photo_gives_the_crop_of_the_upright_one(self, quarter: int) -> None:
        upright = self.located(picture(300, 280, LARGE))
        located = self.located(turned(picture(300, 280, LARGE), quarter)[0])
        assert (located.status, located.turn_deg) == (Status.OK, (360 - 90 * quarter) % 360)
        assert (located.width, located.height) == ((300, 280), (280, 300))[quarter % 2]
        difference = located.crops[0].astype(int) - upright.crops[0].astype(int)
        assert np.abs(difference).mean() < 4

    @pytest.mark.parametrize("quarter", [0, *QUARTERS])
    def test_enlarged_crops_are_those_of_the_upright_photo(self, quarter: int) -> None:
        wanted = (Enlarged(2.7, 80, "shift"), Enlarged(1.5, 64, "reflect"))
        config = load_config(None, ["detect.not_photographs=keep"])
        ours = Finder(DrawnDetector(), DrawnDetector(), config.detect)  # type: ignore[arg-type]
        photos = [picture(560, 300, LARGE, Drawn(420, 150, 100, kind="ball"))]
        photos += [turned(photos[0], quarter)[0]]
        upright, located = Locator(config, ours, enlarged=wanted).locate([encoded(p, "PNG") for p in photos])
        for kind in wanted:
            ((one,), (other,)) = upright.enlarged[kind], located.enlarged[kind]
            assert one.shape == other.shape == (kind.side, kind.side, 3)
            assert np.abs(one.astype(int) - other.astype(int)).mean() < 4

    @pytest.mark.parametrize("kind", ["one colour", "transparent", "first frame"])
    def test_a_picture_of_one_colour_or_wholly_transparent_is_rejected(self, kind: str) -> None:
        buffer, plain = BytesIO(), Image.new("RGB", (200, 150), (90, 120, 90))
        if kind == "first frame":
            plain.save(
                buffer, "GIF", save_all=True, append_images=[Image.fromarray(picture(200, 150, LARGE))]
            )
        else:
            (plain if kind == "one colour" else Image.new("RGBA", (200, 150), 0)).save(buffer, "PNG")
        config = load_config()
        ours = Finder(DrawnDetector(), DrawnDetector(), config.detect)  # type: ignore[arg-type]
        (located,) = Locator(config, ours).locate([buffer.getvalue()])
        assert (located.status, located.reason) == (Status.REJECTED, Reason.BLANK)

    def test_a_face_is_kept_though_a_better_scored_one_is_refused(self) -> None:
        located = self.located(picture(560, 300, LARGE, Drawn(420, 150, 100, kind="ball")), "max_faces=1")
        assert (located.status, len(located.faces)) == (Status.OK, 1)

    def test_a_photo_without_a_face_has_none(self) -> None:
        located = self.located(picture(300, 280))
        assert (located.status, located.faces_detected, located.faces_refused) == (Status.NO_FACE, 0, 0)

    def test_photos_decoded_for_second_looks_are_held_a_window_at_a_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A window holds 16 MiB, and one of these photos, decoded whole, 12."""
        photos = [encoded(picture(2400, 1800, Drawn(600 + i, 700, 70)), "JPEG") for i in range(4)]
        config = load_config(None, ["detect.not_photographs=keep", "resources.window_mb=16"])
        held: list[weakref.ref[NDArray[np.uint8]]] = []
        most = 0

        def counting(data: bytes, settings: DecodeConfig, shrink: Any) -> Photo:
            nonlocal most
            photo = decode(data, settings, shrink)
            held.append(weakref.ref(photo.pixels))
            alive = [pixels for ref in held if (pixels := ref()) is not None]
            most = max(most, sum(pixels.nbytes for pixels in alive))
            return photo

        monkeypatch.setattr(locate, "decode", counting)
        ours = Finder(DrawnDetector(), DrawnDetector(), config.detect)  # type: ignore[arg-type]
        assert [each.status for each in Locator(config, ours).locate(photos)] == [Status.OK] * 4
        # The window as it was first decoded, the photo in work, and the one that takes its place.
        assert most <= (16 + 2 * 12.5) * 2**20

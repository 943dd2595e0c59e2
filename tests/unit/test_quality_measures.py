"""The measures of quality: by hand from the published definitions, and by what must hold of any face."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from frpipe.vision.quality import border, cheeks, compression, detail, eyes, luminance, single
from frpipe.vision.quality import pose as poses
from frpipe.vision.quality.component import sigmoid, whole

# Raw value and component as the reference implementation of ISO/IEC 29794-5 publishes them for its photos.
PUBLISHED = [
    (cheeks.illumination_uniformity_component, [(0.012111, 27), (0.030277, 35), (0.106939, 51)]),
    (luminance.luminance_mean_component, [(0.103719, 13), (0.189517, 45), (0.225396, 62), (0.296285, 87)]),
    (luminance.luminance_variance_component, [(0.067912, 58), (0.04005, 80), (0.00732, 82), (0.014954, 100)]),
    (luminance.over_exposure_component, [(6.5e-05, 99), (0.0, 100)]),
    (luminance.under_exposure_component, [(0.049163, 100)]),
    (luminance.dynamic_range_component, [(5.55899, 69), (6.433408, 80), (6.910499, 86)]),
    (cheeks.natural_colour_component, [(100.0, 0), (4.805962, 76), (0.516643, 97), (0.0, 100)]),
    (single.single_face_component, [(0.333736, 67), (0.316289, 68), (0.0, 100)]),
    (eyes.inter_eye_component, [(493.556527, 100)]),
    (border.border_component, [(3.428939, 100)]),
    (poses.pose_component, [(-27.373343, 79), (16.617661, 92), (-7.966364, 98), (1.415725, 100)]),
]


def rotation_of(yaw_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """The rotation (3, 3) of a pose, degrees; what `pose_of_rotations` undoes."""
    (sy, cy), (sp, cp), (sr, cr) = (
        (np.sin(angle), np.cos(angle)) for angle in np.radians([-yaw_deg, pitch_deg, roll_deg])
    )
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turned: np.ndarray = about_z @ about_y @ about_x
    return turned


@pytest.mark.parametrize(("component", "pairs"), PUBLISHED, ids=[f.__name__ for f, _ in PUBLISHED])
def test_components_are_those_that_are_published(
    component: Callable[[object], np.ndarray], pairs: list[tuple[float, int]]
) -> None:
    raw, expected = zip(*pairs, strict=True)
    assert component(raw).tolist() == list(expected)


@pytest.mark.parametrize(
    ("component", "raw", "expected"),
    [
        # round(100 / (1 + e^((70 - d) / 20)))
        (eyes.inter_eye_component, 70, 50),
        (eyes.inter_eye_component, 90, round(100 / (1 + math.exp(-1)))),
        (border.border_component, 0.9, 50),
        (border.border_component, 0.7, round(100 / (1 + math.exp(2)))),
        (poses.pose_component, 45, 50),
        (poses.pose_component, 90, 0),
        (poses.pose_component, 135, 0),
        (poses.pose_component, -60, 25),
        (single.single_face_component, 1.0, 0),
        (luminance.over_exposure_component, 0.09, 10),
        (luminance.over_exposure_component, 1.0, 1),
        (luminance.under_exposure_component, 0.92, round(120 * (0.832 - 0.5))),
        (luminance.under_exposure_component, 1.0, 0),
        (luminance.dynamic_range_component, 8.0, 100),
        (luminance.luminance_variance_component, 1 / 60, 100),
        (luminance.luminance_variance_component, 0.0, 0),
        (luminance.luminance_mean_component, 0.5, round(100 * (1 / (1 + math.exp(-6))) ** 2)),
        (cheeks.illumination_uniformity_component, 1.0, 100),
        (cheeks.illumination_uniformity_component, 0.0, 0),
        (cheeks.natural_colour_component, 10.0, round(200 * (1 - 1 / (1 + math.exp(-1))))),
        (detail.sharpness_component, 0.08, 50),
        (detail.noise_component, 11.0, 50),
        (compression.compression_component, 0.35, 50),
    ],
)
def test_components_by_hand(component: Callable[[float], np.ndarray], raw: float, expected: int) -> None:
    assert component(raw) == expected


def test_every_component_lies_within_0_and_100_and_what_is_not_known_stays_so() -> None:
    values = np.array([-1e9, -1.0, 0.0, 1e-9, 0.5, 1.0, 1e9])
    for component, _ in PUBLISHED:
        if component is not cheeks.illumination_uniformity_component:
            found = component(values)
            assert ((found >= 0) & (found <= 100)).all(), component.__name__
        assert np.isnan(component(np.nan))
    assert sigmoid([-1e9, 1e9], 0, 1).tolist() == [0, 1]
    assert whole([0.5, 99.49, 100.7, -3]).tolist() == [1, 99, 100, 0]


def _projected(yaw: float, pitch: float, roll: float, scale: float = 40, shift: float = 100) -> np.ndarray:
    return scale * (poses.HEAD @ rotation_of(yaw, pitch, roll).T)[:, :2] + shift


@pytest.mark.parametrize("yaw", [-80, -30, 0, 12, 65])
@pytest.mark.parametrize("pitch", [-40, 0, 25])
@pytest.mark.parametrize("roll", [-170, -45, 0, 90])
def test_the_pose_of_a_projected_head_is_found_again(yaw: float, pitch: float, roll: float) -> None:
    for scale in (3, 400):
        found = poses.pose_of_points(_projected(yaw, pitch, roll, scale)[None])
        assert [each.item() for each in found] == pytest.approx([yaw, pitch, roll], abs=1e-6)


def test_signs_are_those_that_are_documented() -> None:
    """To their own left, the nose is at the viewer's right of the eyes' middle; down, nearer the mouth."""
    left, down, tilted = (_projected(*angles) for angles in ((30, 0, 0), (0, 20, 0), (0, 0, 20)))
    front = _projected(0, 0, 0)
    assert left[2, 0] > left[:2, 0].mean()
    assert down[2, 1] - down[:2, 1].mean() > front[2, 1] - front[:2, 1].mean()
    assert tilted[1, 1] > tilted[0, 1]  # clockwise: the eye at the viewer's right is lower


def test_a_mirror_turns_yaw_and_roll_about_and_leaves_pitch() -> None:
    points = _projected(33, 8, -14) + np.random.default_rng(0).normal(0, 1, (5, 2))
    mirrored = (points * (-1, 1))[[1, 0, 2, 4, 3]]
    one, other = poses.pose_of_points(points[None]), poses.pose_of_points(mirrored[None])
    assert [other.yaw.item(), other.pitch.item(), other.roll.item()] == pytest.approx(
        [-one.yaw.item(), one.pitch.item(), -one.roll.item()]
    )


def test_points_that_span_nothing_have_no_pose() -> None:
    line = np.outer(np.arange(5.0), (1, 1))
    for points in (np.zeros((5, 2)), np.full((5, 2), np.nan), line):
        found = poses.pose_of_points(np.stack([points, _projected(10, 0, 0)]))
        assert np.isnan(found.yaw[0]) and found.yaw[1] == pytest.approx(10)


def test_rotations_of_a_network_and_at_a_yaw_of_90_degrees() -> None:
    turned = poses.pose_of_rotations(np.stack([rotation_of(-20, 5, 60), rotation_of(90, 30, 0)]))
    assert [each[0] for each in turned] == pytest.approx([-20, 5, 60])
    assert [each[1] for each in turned] == pytest.approx([90, 30, 0])


def test_inter_eye_distance_is_that_from_the_front_and_none_in_profile() -> None:
    found = eyes.inter_eye_distance([50, 50, 50], [0, 60, 90])
    assert found[:2].tolist() == pytest.approx([50, 100]) and np.isnan(found[2])


def test_the_second_face_of_each_photo() -> None:
    areas, photos = [4.0, 100.0, 50.0, 9.0, 7.0, 7.0], np.array([0, 0, 0, 2, 3, 3])
    found = single.second_face_share(areas, photos, 5)
    np.testing.assert_array_equal(found, [0.5, np.nan, 0.0, 1.0, np.nan])


def test_border_distances_by_hand_and_of_eyes_at_one_place() -> None:
    points = np.zeros((2, 5, 2))
    points[0, :2] = (30, 50), (70, 50)
    left, right = border.border_distances(points, [100, 100])
    assert (left[0], right[0]) == (0.75, 0.75)
    assert np.isnan(left[1]) and np.isnan(right[1])


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_points_are_turned_as_their_photo_is(turn: int) -> None:
    """A pixel of an array, and where it is in the array that NumPy has turned."""
    pixels = np.zeros((3, 5))
    pixels[2, 1] = 1
    points = np.broadcast_to(np.array([1.0, 2.0]), (1, 5, 2))
    turned = np.rot90(pixels, -turn // 90)
    found, width = border.upright_points(points, [5], [3], [turn])
    ((y, x),) = np.argwhere(turned)
    assert found[0].tolist() == [[x, y]] * 5 and width.tolist() == [turned.shape[1]]


def test_luminance_is_that_of_the_definition() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    values = pixels / 255
    light = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    expected = np.floor(light @ (0.2126, 0.7152, 0.0722) * 255 + 0.5)
    assert np.array_equal(luminance.luminance(pixels), expected)
    assert luminance.luminance(np.full((1, 1, 3), 255, np.uint8)) == 255


def test_histograms_and_what_follows_from_them_by_hand() -> None:
    crops = np.stack([np.full((112, 112, 3), value, np.uint8) for value in (0, 255)])
    shares = luminance.face_histograms(crops)
    assert shares[:, [0, 255]].tolist() == [[1, 0], [0, 1]]
    mixed = np.zeros((1, 256))
    mixed[0, [0, 25, 26, 246, 247, 255]] = 0.25, 0.25, 0.125, 0.125, 0.125, 0.125
    assert luminance.under_exposure(mixed) == 0.5 and luminance.over_exposure(mixed) == 0.25
    assert luminance.dynamic_range(mixed) == pytest.approx(2 * 0.25 * 2 + 4 * 0.125 * 3)
    values = np.repeat([0, 25, 26, 246, 247, 255], [2, 2, 1, 1, 1, 1]) / 255
    assert luminance.luminance_mean(mixed) == pytest.approx(values.mean())
    assert luminance.luminance_variance(mixed) == pytest.approx(values.var())
    assert luminance.dynamic_range(shares).tolist() == [0, 0]


def test_only_the_face_region_counts() -> None:
    crop = np.full((112, 112, 3), 128, np.uint8)
    outside = np.ones((112, 112), bool)
    outside[luminance.BOX][luminance.IN_BOX.astype(bool)] = False
    changed = crop.copy()
    changed[outside] = np.random.default_rng(0).integers(0, 256, (outside.sum(), 3))
    one, other = (luminance.face_histograms(each[None]) for each in (crop, changed))
    assert np.array_equal(one, other)


def _cheeks(left: tuple[int, int, int], right: tuple[int, int, int]) -> np.ndarray:
    crop = np.zeros((1, 112, 112, 3), np.uint8)
    crop[:, :, :56], crop[:, :, 56:] = left, right
    return crop


def test_cheeks_lit_alike_and_not() -> None:
    assert cheeks.illumination_uniformity(_cheeks((90, 90, 90), (90, 90, 90))) == 1
    assert cheeks.illumination_uniformity(_cheeks((90, 90, 90), (200, 200, 200))) == 0
    for zone in cheeks.ZONES:  # squares of 0.3 of 35 pixels, 20 below the eyes
        assert [part.stop - part.start for part in zone] == [10, 10] and zone[0].start == 72


def test_colours_of_skin_and_others() -> None:
    """CIELAB by hand: (200, 160, 140) has a* 11.9 and b* 16.3; pure green has a negative a*."""
    skin, green = _cheeks((200, 160, 140), (200, 160, 140)), _cheeks((0, 255, 0), (0, 255, 0))
    assert cheeks.natural_colour(skin) == 0 and cheeks.natural_colour(green) == 100
    red = cheeks.natural_colour(_cheeks((255, 0, 0), (255, 0, 0))).item()
    assert red == pytest.approx(math.hypot(80.8 - 25, 69.9 - 35), abs=0.5)  # CIELAB of D50: 54, 81, 70
    grey = _cheeks((90, 90, 90), (90, 90, 90))
    assert cheeks.natural_colour(grey) == 0
    grey[0, 0, 0] = 0, 0, 9  # a crop with a little colour elsewhere, and cheeks without
    assert cheeks.natural_colour(grey) > 0


def test_detail_sees_blur_and_noise_apart_and_does_not_see_light() -> None:
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(0)
    scene = cv2.GaussianBlur(random.normal(0, 1, (112, 112, 1)).repeat(3, 2), (0, 0), 1.5) * 250 + 120
    crops = {
        "plain": scene,
        "blurred": cv2.GaussianBlur(scene, (0, 0), 3),
        "noisy": scene + random.normal(0, 20, scene.shape),
        "dark": scene / 4,
    }
    names = list(crops)
    sharp, noise = detail.detail(np.stack([np.clip(c, 0, 255).astype(np.uint8) for c in crops.values()]))
    of = dict(zip(names, zip(sharp, noise, strict=True), strict=True))
    assert of["blurred"][0] < of["plain"][0] / 2
    assert of["noisy"][0] == pytest.approx(of["plain"][0], rel=0.2)
    assert of["dark"][0] == pytest.approx(of["plain"][0], rel=0.35)
    # Grey is a weighted sum of three channels, each with noise of its own.
    assert of["noisy"][1] - of["plain"][1] == pytest.approx(20 * math.hypot(0.299, 0.587, 0.114), rel=0.25)
    flat = detail.detail(np.full((1, 112, 112, 3), 80, np.uint8))
    assert [each.item() for each in flat] == pytest.approx([0, 0], abs=1e-5)


def test_bits_per_pixel() -> None:
    found = compression.bits_per_pixel([1000, 1000], [100, 0], [80, 0])
    assert found[0] == 1 and np.isnan(found[1])


def test_no_face_has_no_values() -> None:
    none = np.zeros((0, 112, 112, 3), np.uint8)
    assert luminance.face_histograms(none).shape == (0, 256)
    assert [len(each) for each in detail.detail(none)] == [0, 0]
    assert len(cheeks.illumination_uniformity(none)) == len(cheeks.natural_colour(none)) == 0
    assert [len(each) for each in poses.pose_of_points(np.zeros((0, 5, 2)))] == [0, 0, 0]

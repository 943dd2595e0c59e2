"""Views of photos: where each pixel of them lies in the upright original, whatever was done to it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pictures import encoded, exif, unturned

from frpipe.core.config import DecodeConfig
from frpipe.core.reasons import Reject
from frpipe.models.detectors.faces import Faces
from frpipe.models.detectors.finder import MARGIN_PX, TILE_PX, ViewTile, is_own, tiles_of
from frpipe.vision.decode import Photo, decode
from frpipe.vision.geometry import apply, invert, template
from frpipe.vision.view import View, reduced, roll_of, square, whole, wrapped

Array = NDArray[np.float64]
ORIENTATIONS = st.integers(1, 8)
SHRINKS = st.sampled_from((1, 2, 4, 8))
TURNS = st.sampled_from((0, 90, 180, 270))
# Of the upright original, odd and no multiple of any shrink. One dot in red, green and blue each.
WIDTH, HEIGHT = 221, 187
DOTS = np.array([[60.3, 50.8], [157.4, 66.2], [101.0, 135.5]])
DOT_PX = 7.0


def dotted(dots: Array = DOTS, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Black, with a soft dot in a channel of its own at each of three places."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    spread = 2 * DOT_PX**2
    layers = [250 * np.exp(-((x - dot[0]) ** 2 + (y - dot[1]) ** 2) / spread) for dot in dots]
    return np.rint(np.stack(layers, axis=2)).astype(np.uint8)


def seen(pixels: NDArray[np.uint8]) -> Array:
    """(3, 2): where the dots are in a picture, by what is bright of each channel."""
    strong = np.maximum(pixels.astype(np.float64) - 60, 0)
    y, x = np.mgrid[0 : pixels.shape[0], 0 : pixels.shape[1]]
    total = strong.sum(axis=(0, 1))
    return (
        np.stack([(strong * x[:, :, None]).sum((0, 1)), (strong * y[:, :, None]).sum((0, 1))], 1)
        / total[:, None]
    )


_DECODED: dict[tuple[int, int], Photo] = {}


def photo_of(orientation: int, shrink: int) -> Photo:
    """The dots as a JPEG that a camera stored in an orientation, decoded with a shrink."""
    key = orientation, shrink
    if key not in _DECODED:
        data = encoded(
            unturned(dotted(), orientation), "JPEG", quality=95, subsampling=0, exif=exif(orientation)
        )
        _DECODED[key] = decode(data, DecodeConfig(), shrink)
    photo = _DECODED[key]
    assert (photo.shrink, photo.width, photo.height) == (shrink, WIDTH, HEIGHT)
    return photo


def shown_right(view: View) -> None:
    """Each dot is in the view where its frame says, and so in the original where it was drawn."""
    found = seen(view.pixels)
    assert np.abs(found - apply(invert(view.frame), DOTS)).max() < 0.5
    assert np.abs(apply(view.frame, found) - DOTS).max() < 0.5 / view.scale


@settings(max_examples=60, deadline=None)
@given(orientation=ORIENTATIONS, shrink=SHRINKS, turn_deg=TURNS, side=st.integers(24, 300))
def test_a_whole_view_shows_every_place_where_its_frame_says(
    orientation: int, shrink: int, turn_deg: int, side: int
) -> None:
    photo = photo_of(orientation, shrink)
    view = whole(photo, side, turn_deg)
    shown_right(view)
    longer = max(photo.pixels.shape[:2])
    assert max(view.pixels.shape[:2]) == min(side, longer)
    assert view.scale == pytest.approx(min(side / longer, 1) / shrink, rel=0.05)


@settings(max_examples=60, deadline=None)
@given(
    orientation=ORIENTATIONS,
    shrink=SHRINKS,
    roll_deg=st.floats(-180, 180),
    side=st.floats(260, 900),
    size=st.integers(60, 320),
)
def test_a_square_at_any_roll_shows_every_place_where_its_frame_says(
    orientation: int, shrink: int, roll_deg: float, side: float, size: int
) -> None:
    centre = DOTS.mean(axis=0) + np.array([4.25, -3.5])
    view = square(photo_of(orientation, shrink), centre, side, roll_deg, size)
    shown_right(view)
    np.testing.assert_allclose(apply(view.frame, [(size - 1) / 2] * 2), centre, atol=1e-9)
    assert view.scale == pytest.approx(size / side)


@settings(max_examples=60, deadline=None)
@given(
    orientation=ORIENTATIONS,
    shrink=SHRINKS,
    turn_deg=TURNS,
    side=st.integers(200, 300),
    number=st.integers(0),
)
def test_tiles_of_a_view_show_every_place_where_their_frames_say(
    orientation: int, shrink: int, turn_deg: int, side: int, number: int
) -> None:
    tiles = list(tiles_of(whole(photo_of(orientation, shrink), side, turn_deg), 96))
    tile = tiles[number % len(tiles)]
    inside = apply(invert(tile.view.frame), DOTS)
    height, width = tile.view.pixels.shape[:2]
    rim = 3 * DOT_PX * tile.view.scale
    for dot, found, place in zip(inside, seen_or_none(tile.view.pixels), range(3), strict=True):
        if np.all((dot > rim) & (dot < (width - rim, height - rim))):
            assert found is not None, place
            assert np.abs(found - dot).max() < 0.5


def seen_or_none(pixels: NDArray[np.uint8]) -> list[Array | None]:
    shown = pixels.max(axis=(0, 1)) > 61
    with np.errstate(invalid="ignore"):
        return [dot if there else None for dot, there in zip(seen(pixels), shown, strict=True)]


@settings(max_examples=100, deadline=None)
@given(
    orientation=ORIENTATIONS,
    shrink=SHRINKS,
    turn_deg=TURNS,
    side=st.integers(16, 300),
    roll_deg=st.floats(-180, 180),
    point=st.tuples(st.floats(-50, 300), st.floats(-50, 300)),
)
def test_there_and_back_is_where_it_was(
    orientation: int, shrink: int, turn_deg: int, side: int, roll_deg: float, point: tuple[float, float]
) -> None:
    photo = photo_of(orientation, shrink)
    for view in (whole(photo, side, turn_deg), square(photo, point, side, roll_deg, 160)):
        there = apply(invert(view.frame), point)
        np.testing.assert_allclose(apply(view.frame, there), point, atol=1e-6)


@pytest.mark.parametrize("turn_deg", [0, 90, 180, 270])
@pytest.mark.parametrize("side", [40, 100, 500])
def test_the_edges_of_a_whole_view_are_those_of_the_photo(side: int, turn_deg: int) -> None:
    view = whole(Photo(dotted(), WIDTH, HEIGHT, 1, "PNG", 1), side, turn_deg)
    height, width = view.pixels.shape[:2]
    corners = apply(view.frame, [[-0.5, -0.5], [width - 0.5, height - 0.5]])
    np.testing.assert_allclose(corners.min(axis=0), [-0.5, -0.5], atol=1e-9)
    np.testing.assert_allclose(corners.max(axis=0), [WIDTH - 0.5, HEIGHT - 0.5], atol=1e-9)


def test_a_photo_turned_by_90_has_its_top_at_the_right() -> None:
    view = whole(Photo(dotted(), WIDTH, HEIGHT, 1, "PNG", 1), 500, 90)
    assert view.pixels.shape == (WIDTH, HEIGHT, 3)
    assert np.array_equal(view.pixels, np.rot90(dotted(), -1))
    np.testing.assert_allclose(apply(view.frame, [HEIGHT - 1, 0]), [0, 0], atol=1e-9)


def test_outside_of_the_photo_a_square_is_black() -> None:
    white = Photo(np.full((40, 60, 3), 255, np.uint8), 60, 40, 1, "PNG", 1)
    view = square(white, (0, 0), 40, 0, 80)
    assert (view.pixels[:36] == 0).all() and (view.pixels[44:, 44:] == 255).all()
    assert (square(white, (900, 900), 40, 12, 80).pixels == 0).all()


@given(roll_deg=st.floats(-180, 180))
def test_what_is_rolled_by_the_angle_of_a_square_stands_upright_in_it(roll_deg: float) -> None:
    frame = square(Photo(dotted(), WIDTH, HEIGHT, 1, "PNG", 1), (90, 90), 100, roll_deg, 32).frame
    rolled = apply(turn(roll_deg), template(112))
    assert abs(roll_of(apply(invert(frame), rolled))) < 1e-6


def turn(degrees: float) -> Array:
    """Clockwise as seen: y points down."""
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle), 7.5], [np.sin(angle), np.cos(angle), -3.25]])


@given(roll_deg=st.floats(-180, 180), scale=st.floats(0.1, 50))
def test_the_roll_of_landmarks_is_the_angle_that_they_were_turned_by(roll_deg: float, scale: float) -> None:
    found = roll_of(apply(turn(roll_deg), template(112) * scale))
    assert abs(wrapped(found - roll_deg)) < 1e-6
    assert -180 < found <= 180


def test_clockwise_is_positive() -> None:
    points = template(112)
    points[1, 1] += 15
    points[4, 1] += 15
    assert 10 < roll_of(points) < 40
    assert roll_of(apply(turn(180), template(112))) == pytest.approx(180)
    assert roll_of(apply(turn(90), template(112))) == pytest.approx(90)
    assert roll_of(apply(turn(-90), template(112))) == pytest.approx(-90)


@pytest.mark.parametrize(
    "points",
    [np.full((5, 2), 30.0), template(112) * [-1, 1], np.full((5, 2), np.nan), template(112) * 1e-3],
    ids=["collapsed", "mirrored", "not finite", "within a pixel"],
)
def test_landmarks_that_are_no_faces_have_no_roll(points: Array) -> None:
    with pytest.raises(Reject):
        roll_of(points)


@given(angle=st.floats(-1e5, 1e5))
@example(180.0)
@example(-180.0)
@example(540.0)
@example(-1e-13)
def test_a_wrapped_angle_is_the_same_one_in_a_single_turn(angle: float) -> None:
    result = wrapped(angle)
    assert -180 < result <= 180
    assert abs((result - angle + 180) % 360 - 180) < 1e-6


@given(height=st.integers(1, 300), width=st.integers(1, 300), side=st.integers(1, 320))
def test_nothing_is_enlarged_nor_lost_by_a_reduction(height: int, width: int, side: int) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    smaller = reduced(pixels, side)
    assert max(smaller.shape[:2]) == min(side, max(height, width))
    assert min(smaller.shape[:2]) >= 1


BOXES = st.lists(
    st.tuples(st.floats(-50, 900), st.floats(-50, 900), st.floats(1, 400), st.floats(1, 400)),
    min_size=1,
    max_size=5,
)


def faces_of(boxes: list[tuple[float, float, float, float]]) -> Faces:
    """Landmarks at the corners of each box and in its middle."""
    edges = np.array([(x, y, x + width, y + height) for x, y, width, height in boxes], np.float32)
    x1, y1, x2, y2 = edges.T
    marks = np.array([[x1, y1], [x2, y1], [(x1 + x2) / 2, (y1 + y2) / 2], [x1, y2], [x2, y2]])
    return Faces(edges, np.ones(len(edges), np.float32), marks.transpose(2, 0, 1).astype(np.float32))


@given(boxes=BOXES, quarter=st.integers(-4, 4), scale=st.floats(0.1, 10), shift=st.floats(-500, 500))
def test_boxes_turned_by_quarters_still_end_at_their_corners(
    boxes: list[tuple[float, float, float, float]], quarter: int, scale: float, shift: float
) -> None:
    cosine, sine = (1, 0, -1, 0)[quarter % 4], (0, 1, 0, -1)[quarter % 4]
    frame = np.array([[cosine * scale, -sine * scale, shift], [sine * scale, cosine * scale, -shift]])
    moved = faces_of(boxes).through(frame)
    np.testing.assert_allclose(moved.boxes[:, :2], moved.points.min(axis=1), rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(moved.boxes[:, 2:], moved.points.max(axis=1), rtol=1e-5, atol=1e-2)


@given(boxes=BOXES, scale=st.floats(0.1, 10), across=st.floats(-500, 500), down=st.floats(-500, 500))
def test_without_a_turn_faces_go_through_a_frame_as_points_do(
    boxes: list[tuple[float, float, float, float]], scale: float, across: float, down: float
) -> None:
    frame = np.array([[scale, 0, across], [0, scale, down]])
    faces = faces_of(boxes)
    moved, through = faces.moved(lambda points: apply(frame, points)), faces.through(frame)
    np.testing.assert_allclose(through.boxes, moved.boxes, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(through.points, moved.points, rtol=1e-6, atol=1e-3)
    assert np.array_equal(through.scores, faces.scores)


@given(roll_deg=st.floats(-180, 180), side=st.floats(10, 300))
def test_a_turned_square_box_stays_where_and_as_large_as_it_is(roll_deg: float, side: float) -> None:
    faces = faces_of([(40.0, 70.0, side, side)])
    moved = faces.through(turn(roll_deg))
    centre = apply(turn(roll_deg), faces.points[0, 2])
    np.testing.assert_allclose((moved.boxes[0, :2] + moved.boxes[0, 2:]) / 2, centre, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(moved.boxes[0, 2:] - moved.boxes[0, :2], side, rtol=1e-4)


def test_none_joined_is_none() -> None:
    assert len(Faces.joined([])) == 0
    assert len(Faces.empty().through(np.eye(2, 3))) == 0
    both = Faces.joined([faces_of([(1.0, 2.0, 3.0, 4.0)]), Faces.empty(), faces_of([(5.0, 6.0, 7.0, 8.0)])])
    assert both.boxes.tolist() == [[1, 2, 4, 6], [5, 6, 12, 14]]


SIZES = st.integers(1, 5000)
MOST = st.sampled_from((128, 160, 320, 640, 1280, 2048))


def tiled(width: int, height: int, most: int) -> list[ViewTile]:
    """The tiles of a view without pixels to speak of, whose frame is that of the photo itself."""
    pixels = np.broadcast_to(np.uint8(0), (height, width, 3))
    return list(tiles_of(View(pixels, np.eye(2, 3)), most))


@settings(max_examples=200, deadline=None)
@given(width=SIZES, height=SIZES, most=MOST, data=st.data())
def test_each_face_is_owned_by_one_tile_and_is_whole_in_it(
    width: int, height: int, most: int, data: st.DataObject
) -> None:
    tiles = tiled(width, height, most)
    cuts = [tile.view.frame[:, 2] + tile.own[:2] for tile in tiles]
    edges = [[cut[axis] for cut in cuts if np.isfinite(cut[axis])] for axis in (0, 1)]
    centre = [
        data.draw(
            st.one_of(st.floats(-0.5, length - 0.5, width=32), *([st.sampled_from(each)] if each else []))
        )
        for length, each in zip((width, height), edges, strict=True)
    ]
    side = data.draw(st.floats(2, 2 * min(MARGIN_PX, min(most, TILE_PX) // 4) - 1))
    box = np.array([*(np.array(centre) - side / 2), *(np.array(centre) + side / 2)])
    owners = [
        t for t in tiles if is_own(t, (box - np.tile(t.view.frame[:, 2], 2))[None].astype(np.float32))[0]
    ]
    if min(abs(c - e) for axis in (0, 1) for c in [centre[axis]] for e in [*edges[axis], 1e9]) > 1e-2:
        assert len(owners) == 1
    assert owners
    inside = np.clip(box, -0.5, np.tile([width - 0.5, height - 0.5], 2)) - np.tile(
        owners[0].view.frame[:, 2], 2
    )
    rows, columns = owners[0].view.pixels.shape[:2]
    assert inside.min() >= -0.5
    assert inside[2] <= columns - 0.5 + 1e-6 and inside[3] <= rows - 0.5 + 1e-6


@settings(max_examples=200, deadline=None)
@given(width=SIZES, height=SIZES, most=MOST)
def test_tiles_fit_into_the_input_and_cover_the_view(width: int, height: int, most: int) -> None:
    tiles = tiled(width, height, most)
    if max(width, height) <= most:
        assert [tile.view.pixels.shape for tile in tiles] == [(height, width, 3)]
    assert max(max(tile.view.pixels.shape[:2]) for tile in tiles) <= most
    columns = {(t.view.frame[0, 2], t.view.frame[0, 2] + t.view.pixels.shape[1]) for t in tiles}
    rows = {(t.view.frame[1, 2], t.view.frame[1, 2] + t.view.pixels.shape[0]) for t in tiles}
    for spans, length in ((sorted(columns), width), (sorted(rows), height)):
        assert spans[0][0] == 0 and spans[-1][1] == length
        assert all(following[0] < before[1] for before, following in pairwise(spans))

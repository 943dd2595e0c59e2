"""JPEG: scaled decoding, damage and the files that TurboJPEG leaves to Pillow."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import difference, encoded, exif, scene, unturned

from frpipe.core.config import DecodeConfig
from frpipe.core.reasons import Reason, Reject
from frpipe.vision.decode import decode, plan_shrink
from frpipe.vision.header import Header, read_header
from frpipe.vision.warp import reduce_area

CONFIG = DecodeConfig()
ACCEPT = DecodeConfig(truncated="accept")


def reason_of(data: bytes, config: DecodeConfig = CONFIG) -> Reason:
    with pytest.raises(Reject) as caught:
        decode(data, config)
    return caught.value.reason


@pytest.mark.parametrize("shrink", [2, 4, 8])
@pytest.mark.parametrize("size", [(640, 480), (643, 477), (1001, 129)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_scaled_decode_is_decode_then_area(
    shrink: int, size: tuple[int, int], options: dict[str, int]
) -> None:
    data = encoded(scene(*size), "JPEG", quality=90, **options)
    full, scaled = decode(data, CONFIG), decode(data, CONFIG, shrink)
    assert scaled.shrink == shrink
    assert (scaled.width, scaled.height) == size
    assert difference(scaled.pixels, reduce_area(full.pixels, shrink)) < 1.0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_scaled_photo_is_upright_too(orientation: int) -> None:
    upright = scene(642, 485)
    data = encoded(unturned(upright, orientation), "JPEG", quality=95, exif=exif(orientation))
    photo = decode(data, CONFIG, 4)
    assert (photo.width, photo.height) == (642, 485)
    assert photo.pixels.shape == (122, 161, 3)
    assert difference(photo.pixels[1:-1, 1:-1], reduce_area(upright, 4)[1:-1, 1:-1]) < 2.5


def test_only_jpeg_is_shrunk() -> None:
    photo = decode(encoded(scene(), "PNG"), CONFIG, 4)
    assert (photo.shrink, photo.pixels.shape) == (1, (120, 160, 3))


@pytest.mark.parametrize("width", [17, 33, 63, 64, 65])
@pytest.mark.parametrize("shrink", [2, 4, 8])
def test_shrink_says_what_was_done_to_small_photos(width: int, shrink: int) -> None:
    photo = decode(encoded(scene(width, 200), "JPEG"), CONFIG, shrink)
    assert photo.pixels.shape[:2] == (-(-200 // photo.shrink), -(-width // photo.shrink))


def test_a_shrink_that_does_not_exist_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="shrink 3"):
        decode(encoded(scene(), "JPEG"), CONFIG, 3)


@given(width=st.integers(1, 20_000), height=st.integers(1, 20_000), side=st.integers(64, 2048))
def test_plan_shrink_is_the_largest_that_keeps_the_side(width: int, height: int, side: int) -> None:
    shrink = plan_shrink(Header("JPEG", width, height, 1), side)
    longer = max(width, height)
    assert shrink == 1 or -(-longer // shrink) >= side
    assert shrink == 8 or -(-longer // (2 * shrink)) < side


def test_plan_shrink_leaves_other_formats_alone() -> None:
    assert plan_shrink(Header("PNG", 4000, 3000, 1), 640) == 1
    assert plan_shrink(Header("JPEG", 4000, 3000, 1), 640) == 4


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0.001, 0.999), progressive=st.booleans())
def test_a_cut_jpeg_is_refused_or_kept_by_policy(share: float, progressive: bool) -> None:
    data = encoded(scene(320, 240), "JPEG", quality=90, progressive=progressive)
    cut = data[: max(3, int(share * len(data)))]
    assert reason_of(cut) is Reason.TRUNCATED
    try:
        kept = decode(cut, ACCEPT)
    except Reject as reject:
        assert reject.reason is Reason.TRUNCATED  # cut before the picture began
    else:
        assert kept.pixels.shape == (240, 320, 3)


def test_a_cut_jpeg_keeps_its_upper_half() -> None:
    picture = scene(320, 240)
    data = encoded(picture, "JPEG", quality=90)
    kept = decode(data[: len(data) * 3 // 4], ACCEPT)
    assert difference(kept.pixels[:100], picture[:100]) < 3


def test_a_cut_thumbnail_does_not_hide_the_cut() -> None:
    thumbnail = encoded(scene(32, 32), "JPEG")
    data = encoded(scene(320, 240), "JPEG", comment=thumbnail)
    assert reason_of(data[:-200]) is Reason.TRUNCATED


def test_missing_tables_are_corrupt_by_either_policy() -> None:
    data = encoded(scene(), "JPEG").replace(b"\xff\xdb", b"\xff\xfe")
    assert reason_of(data) is Reason.CORRUPT
    assert reason_of(data, ACCEPT) is Reason.CORRUPT


def test_a_scan_that_ends_early_counts_as_cut() -> None:
    data = encoded(scene(320, 240), "JPEG", quality=90)
    early = data[: len(data) * 3 // 4].rstrip(b"\xff") + b"\xff\xd9"
    assert reason_of(early) is Reason.TRUNCATED
    assert decode(early, ACCEPT).pixels.shape == (240, 320, 3)


def test_stray_bytes_between_segments_are_harmless() -> None:
    picture = scene()
    data = encoded(picture, "JPEG", quality=95)
    table = data.index(b"\xff\xdb")
    assert difference(decode(data[:table] + b"junk" + data[table:], CONFIG).pixels, picture) < 3


def test_thousands_of_scans_are_refused() -> None:
    data = encoded(scene(320, 240), "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    assert reason_of(data[:last] + data[last:-2] * 200 + data[-2:]) is Reason.CORRUPT


def test_a_subsampling_that_turbojpeg_refuses_is_left_to_pillow() -> None:
    data = bytearray(encoded(np.full((48, 48, 3), 128, np.uint8), "JPEG", optimize=True, subsampling=0))
    frame = data.index(b"\xff\xc0")
    for component in range(3):
        # 3x1 blocks for every component: no chroma is left out, but TurboJPEG has no name for it.
        struct.pack_into("B", data, frame + 11 + 3 * component, 0x31)
    assert read_header(bytes(data))[:3] == ("JPEG", 48, 48)
    photo = decode(bytes(data), CONFIG)
    assert photo.shrink == 1
    assert difference(photo.pixels, np.full((48, 48, 3), 128, np.uint8)) < 1

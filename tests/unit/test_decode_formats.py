"""Formats, depths and orientations: every file shows the picture that was put in."""

from __future__ import annotations

import io
import sys
from types import ModuleType

import numpy as np
import pytest
from pictures import difference, encoded, exif, scene, unturned
from PIL import Image, features

from frpipe.core.config import DecodeConfig
from frpipe.core.errors import ConfigError
from frpipe.core.reasons import Reason, Reject
from frpipe.vision.decode import decode, grey8
from frpipe.vision.exif import orient

CONFIG = DecodeConfig()
SCENE = scene()
GREY = SCENE[:, :, 0]


def reason_of(data: bytes, config: DecodeConfig = CONFIG) -> Reason:
    with pytest.raises(Reject) as caught:
        decode(data, config)
    return caught.value.reason


LOSSLESS = [
    ("PNG", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("WEBP", {"lossless": True}),
    ("PPM", {}),
    ("JPEG2000", {}),
]


@pytest.mark.parametrize(("name", "options"), LOSSLESS)
def test_lossless_formats_come_back_exactly(name: str, options: dict[str, object]) -> None:
    photo = decode(encoded(SCENE, name, **options), CONFIG)
    np.testing.assert_array_equal(photo.pixels, SCENE)
    assert (photo.width, photo.height, photo.format, photo.shrink) == (160, 120, name, 1)


LOSSY = [
    ("JPEG", {"quality": 95}),
    ("JPEG", {"quality": 95, "progressive": True}),
    ("JPEG", {"quality": 95, "subsampling": 0}),
    ("WEBP", {"quality": 95}),
    ("AVIF", {"quality": 95}),
]


@pytest.mark.parametrize(("name", "options"), LOSSY)
def test_lossy_formats_come_back_closely(name: str, options: dict[str, object]) -> None:
    if name == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    assert difference(decode(encoded(SCENE, name, **options), CONFIG).pixels, SCENE) < 3


def test_grey_jpeg_has_three_equal_channels() -> None:
    pixels = decode(encoded(GREY, "JPEG", quality=95), CONFIG).pixels
    assert difference(pixels, np.repeat(GREY[:, :, None], 3, axis=2)) < 2


@pytest.mark.parametrize("name", ["JPEG", "TIFF"])
def test_cmyk_is_not_shown_as_a_negative(name: str) -> None:
    data = encoded(Image.fromarray(SCENE).convert("CMYK"), name)
    assert difference(decode(data, CONFIG).pixels, SCENE) < 5


def test_sixteen_bit_greys_use_their_whole_range() -> None:
    wide = GREY.astype(np.uint16) * 257
    for name in ("PNG", "TIFF", "PPM"):
        pixels = decode(encoded(wide, name), CONFIG).pixels
        np.testing.assert_array_equal(pixels, np.repeat(GREY[:, :, None], 3, axis=2), err_msg=name)


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_float_tiff_finds_its_white(white: float) -> None:
    values = GREY.astype(np.float32) / 255 * white
    values[0, 0] = white
    pixels = decode(encoded(values, "TIFF"), CONFIG).pixels
    assert np.abs(pixels[1:, :, 0].astype(int) - GREY[1:].astype(int)).max() <= 1


def test_values_without_a_white_are_stretched() -> None:
    assert grey8(np.array([[-1000, 0, 1000]], np.int32)).tolist() == [[0, 128, 255]]
    assert grey8(np.array([[np.nan, 0.5, 1.0]], np.float32)).tolist() == [[0, 128, 255]]
    assert grey8(np.full((1, 2), -3.0, np.float32)).tolist() == [[0, 0]]


def test_what_is_transparent_is_black() -> None:
    layered = np.dstack([SCENE, np.full(SCENE.shape[:2], 255, np.uint8)])
    layered[:60, :, 3] = 0
    for name, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        pixels = decode(encoded(layered, name, **options), CONFIG).pixels
        assert not pixels[:60].any(), name
        np.testing.assert_array_equal(pixels[60:], SCENE[60:], err_msg=name)


def test_half_transparent_is_half_as_bright() -> None:
    layered = np.dstack([SCENE, np.full(SCENE.shape[:2], 128, np.uint8)])
    assert difference(decode(encoded(layered, "PNG"), CONFIG).pixels, (SCENE * 0.502).astype(np.uint8)) < 1


def test_palette_and_one_bit() -> None:
    palette = Image.fromarray(SCENE).quantize(256)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decode(encoded(palette, "PNG"), CONFIG).pixels, expected)
    np.testing.assert_array_equal(decode(encoded(palette, "GIF"), CONFIG).pixels, expected)
    bits = Image.fromarray(GREY > 128)
    np.testing.assert_array_equal(decode(encoded(bits, "PNG"), CONFIG).pixels[:, :, 0], (GREY > 128) * 255)


def test_an_animation_shows_its_first_frame() -> None:
    first, second = Image.fromarray(SCENE), Image.fromarray(255 - SCENE)
    for name in ("GIF", "WEBP", "PNG", "TIFF"):
        buffer = io.BytesIO()
        options = {"lossless": True} if name == "WEBP" else {}
        first.save(buffer, name, save_all=True, append_images=[second], **options)
        assert difference(decode(buffer.getvalue(), CONFIG).pixels, SCENE) < 8, name


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(name: str, orientation: int) -> None:
    if name == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    stored = unturned(SCENE, orientation)
    photo = decode(encoded(stored, name, exif=exif(orientation), quality=95), CONFIG)
    assert difference(photo.pixels, SCENE) < 3
    assert (photo.width, photo.height, photo.orientation) == (160, 120, orientation)


def test_orient_refuses_what_is_no_orientation() -> None:
    with pytest.raises(ValueError, match=r"not 1\.\.8"):
        orient(SCENE, 9)


def test_limits_come_from_the_configuration() -> None:
    data = encoded(SCENE, "PNG")
    assert reason_of(data, DecodeConfig(max_pixels=160 * 120 - 1)) is Reason.TOO_MANY_PIXELS
    assert reason_of(data, DecodeConfig(max_bytes=len(data) - 1)) is Reason.TOO_MANY_BYTES
    assert reason_of(data, DecodeConfig(min_side_px=121)) is Reason.TOO_FEW_PIXELS
    decode(data, DecodeConfig(max_pixels=160 * 120, max_bytes=len(data), min_side_px=120))


def test_a_plugin_comes_first_and_may_decline(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("decoders_of_mine")
    module.raw = lambda data: SCENE[:50, :50] if data.startswith(b"RAW!") else None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "decoders_of_mine", module)
    config = DecodeConfig(plugins=("decoders_of_mine:raw",))
    photo = decode(b"RAW! and so on", config)
    np.testing.assert_array_equal(photo.pixels, SCENE[:50, :50])
    assert (photo.width, photo.height, photo.shrink) == (50, 50, 1)
    assert decode(encoded(SCENE, "PNG"), config).format == "PNG"
    assert (
        reason_of(b"RAW! and so on", config.model_copy(update={"max_pixels": 2499})) is Reason.TOO_MANY_PIXELS
    )


def test_a_failing_plugin_rejects_the_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("decoders_that_fail")
    module.strict = lambda data: np.frombuffer(data[:1], np.uint16)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "decoders_that_fail", module)
    assert reason_of(b"x", DecodeConfig(plugins=("decoders_that_fail:strict",))) is Reason.CORRUPT


@pytest.mark.parametrize(
    "name", ["no colon", "no_such_module_at_all:f", "io:no_such_function", "io:SEEK_SET", ":f"]
)
def test_a_plugin_that_cannot_be_used_is_the_operators_fault(name: str) -> None:
    with pytest.raises(ConfigError):
        decode(encoded(SCENE, "PNG"), DecodeConfig(plugins=(name,)))


def test_a_plugin_that_returns_something_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("decoders_that_lie")
    module.flat = lambda data: np.zeros((20, 20), np.uint8)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "decoders_that_lie", module)
    with pytest.raises(ConfigError, match="decoders_that_lie:flat"):
        decode(b"x", DecodeConfig(plugins=("decoders_that_lie:flat",)))

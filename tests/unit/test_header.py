"""Headers: what a file says of itself, without its pixels."""

from __future__ import annotations

import struct
import sys

import pytest
from pictures import encoded, exif, scene
from PIL import Image, features

from frpipe.core.reasons import Reason, Reject
from frpipe.vision.exif import exif_orientation
from frpipe.vision.header import Header, read_header

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")


def reason_of(data: bytes) -> Reason:
    with pytest.raises(Reject) as caught:
        read_header(data)
    return caught.value.reason


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_tells_its_size(name: str) -> None:
    if name == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    header = read_header(encoded(scene(160, 120), name))
    assert header == Header(name, 160, 120, 1)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_every_kind_of_webp_tells_its_size(lossless: bool, mode: str) -> None:
    image = Image.fromarray(scene(161, 119)).convert(mode)
    assert read_header(encoded(image, "WEBP", lossless=lossless))[:3] == ("WEBP", 161, 119)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_as_stored_and_orientation_is_told(name: str, orientation: int) -> None:
    if name == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    header = read_header(encoded(scene(160, 120), name, exif=exif(orientation)))
    assert header == Header(name, 160, 120, orientation)


def test_progressive_is_told() -> None:
    assert read_header(encoded(scene(), "JPEG", progressive=True)).progressive
    assert not read_header(encoded(scene(), "JPEG")).progressive


def test_orientation_after_other_segments_is_found() -> None:
    data = encoded(scene(), "JPEG", exif=exif(6))
    comment = b"\xff\xfe" + struct.pack(">H", 60_002) + bytes(60_000)
    assert read_header(data[:2] + comment + data[2:]).orientation == 6


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_an_orientation_out_of_range_is_upright(value: int) -> None:
    assert read_header(encoded(scene(), "JPEG", exif=exif(value))).orientation == 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(order: str) -> None:
    mark = b"II*\x00" if order == "<" else b"MM\x00*"
    block = mark + struct.pack(order + "IHHHIHH", 8, 1, 0x0112, 3, 1, 8, 0)
    assert exif_orientation(block) == 8
    assert exif_orientation(b"Exif\x00\x00" + block) == 8


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Exif\x00\x00",
        b"II",
        b"II*\x00\xff\xff\xff\xff",
        b"MM\x00*\x00\x00\x00\x08\xff\xff",
        b"junk" * 9,
    ],
)
def test_a_broken_exif_block_is_no_rejection(block: bytes) -> None:
    data = encoded(scene(), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\x00\x00" + block
    assert read_header(data[:2] + segment + data[2:]) == Header("JPEG", 160, 120, 1)


def test_nothing_is_empty_and_text_is_unknown() -> None:
    assert reason_of(b"") is Reason.EMPTY
    assert reason_of(b"<html>not here</html>") is Reason.UNKNOWN_FORMAT
    assert reason_of(bytes(1000)) is Reason.UNKNOWN_FORMAT


def test_a_missing_codec_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(Reject) as caught:
        read_header(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic")
    assert caught.value.reason is Reason.MISSING_CODEC
    assert "frpipe[heic]" in caught.value.detail


def test_a_known_format_without_decoder_is_not_called_unknown() -> None:
    assert reason_of(b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(20)) is Reason.MISSING_CODEC


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_magic_number_alone_is_a_damaged_file(name: str) -> None:
    start = encoded(scene(), name)[: 8 if name in ("GIF", "PPM") else 16]
    assert reason_of(start) in (Reason.TRUNCATED, Reason.CORRUPT)

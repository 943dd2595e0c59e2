"""Read format, size and orientation of a photo before any memory is spent on its pixels."""

from __future__ import annotations

from typing import NamedTuple

import simplejpeg
from PIL.ImageFile import ImageFile

from frpipe.core.reasons import Reason, Reject
from frpipe.vision.damage import explain, refuse
from frpipe.vision.exif import (
    ORIENTATION_TAG,
    UPRIGHT,
    exif_orientation,
    jpeg_segments,
    png_exif,
    raw_profile_exif,
    valid_orientation,
    webp_exif,
)
from frpipe.vision.formats import DECODER_ERRORS, open_lazily, sniff


class Header(NamedTuple):
    """The header of an encoded photo. (A tuple, since it costs a fifth of a frozen dataclass to make.)

    format: as `frpipe.vision.formats.sniff` names it; width, height: pixels as stored, before orientation;
    orientation: EXIF 1..8, what is still to be done to the stored pixels; progressive: a JPEG in many scans.
    """

    format: str
    width: int
    height: int
    orientation: int
    progressive: bool = False


def read_header(data: bytes) -> Header:
    """Read the header of an encoded photo.

    Rejects: EMPTY, UNKNOWN_FORMAT, MISSING_CODEC, TRUNCATED, CORRUPT, TOO_MANY_PIXELS (by Pillow's own limit,
    for the few formats that apply it while they are opened).
    """
    name = sniff(data)
    reader = _READERS.get(name)
    header = reader(data) if reader else _read_lazily(data, name)
    if header.width <= 0 or header.height <= 0:
        raise Reject(Reason.CORRUPT, f"{name}: {header.width}x{header.height} pixels")
    return header


def _read_jpeg(data: bytes) -> Header:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError):
        # TurboJPEG refuses rare subsamplings that libjpeg, and so Pillow, reads.
        return _read_lazily(data, "JPEG")
    exif, progressive = jpeg_segments(data)
    return Header("JPEG", width, height, exif_orientation(exif) if exif else UPRIGHT, progressive)


def _read_webp(data: bytes) -> Header:
    """Read a WebP's sizes by hand (RFC 9649): Pillow allocates two whole canvases before it tells them."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise Reject(Reason.TRUNCATED, "WEBP: the header is cut short")
    if kind == b"VP8X":
        width, height = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    elif kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width = int.from_bytes(body[6:8], "little") & 0x3FFF
        height = int.from_bytes(body[8:10], "little") & 0x3FFF
    else:
        raise Reject(Reason.CORRUPT, "WEBP: no picture chunk")
    return Header("WEBP", width, height, exif_orientation(webp_exif(data)))


def _read_gif(data: bytes) -> Header:
    """Read a GIF's size by hand: Pillow may fill a canvas while it opens the file."""
    if len(data) < 10:
        raise Reject(Reason.TRUNCATED, "GIF: the header is cut short")
    return Header("GIF", int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little"), UPRIGHT)


_READERS = {"JPEG": _read_jpeg, "WEBP": _read_webp, "GIF": _read_gif}


def _read_lazily(data: bytes, name: str) -> Header:
    try:
        with open_lazily(data, name) as image:
            width, height = image.size
            orientation = _orientation(data, image, name)
    except MemoryError as error:
        raise Reject(Reason.CORRUPT, explain(name, error)) from None
    except DECODER_ERRORS as error:
        raise refuse(data, name, error) from None
    if name == "TIFF" and orientation >= 5:
        # Pillow reports a TIFF's size as it will be once oriented.
        width, height = height, width
    return Header(name, width, height, orientation)


def _orientation(data: bytes, image: ImageFile, name: str) -> int:
    """Read the orientation, never through `image.getexif()`: for a PNG it would decode the pixels."""
    if name == "HEIF":
        return UPRIGHT  # libheif has already turned the picture
    if name == "TIFF":
        return valid_orientation(image.tag_v2.get(ORIENTATION_TAG))  # type: ignore[attr-defined]
    if name == "JPEG":
        return exif_orientation(jpeg_segments(data)[0])
    if name == "PNG":
        exif = png_exif(data) or raw_profile_exif(image.info.get("Raw profile type exif"))
        return exif_orientation(exif)
    # AVIF: Pillow writes the file's own irot and imir into this block and does not apply them.
    return exif_orientation(image.info.get("exif") or b"")

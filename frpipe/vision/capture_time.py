"""Times of capture out of EXIF. A time that cannot be read is unknown: no ground to refuse a photo."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from frpipe.core.reasons import Reject
from frpipe.vision.exif import directory, jpeg_segments, png_exif, raw_profile_exif, tiff_of, webp_exif
from frpipe.vision.formats import DECODER_ERRORS, open_lazily

_ORIGINAL, _SUBSECONDS, _ZONE = 0x9003, 0x9291, 0x9011
# Tag and type of what leads to the EXIF directory.
_EXIF_IFD = ((0x8769, 4), (0x8769, 13))
_ASCII = 2
_DATE = re.compile(rb"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")
_OFFSET = re.compile(rb"([+-])(0\d|1[0-4]):([0-5]\d)")
# The oldest photograph that is left is of 1826; a camera whose clock was never set writes zeros or blanks.
_FIRST_YEAR, _MOST_TEXT = 1826, 64


class CaptureTime(NamedTuple):
    """A time of capture. at: UTC where the zone is known, else the camera's clock.  zone: as `+09:00`."""

    at: datetime | None = None
    zone: str | None = None


def capture_time(data: bytes, format: str) -> CaptureTime:
    """DateTimeOriginal of an encoded photo, with its fraction of a second and its zone where these are known.

    format: as `frpipe.vision.formats.sniff` names it.
    """
    try:
        texts = dict(_texts(_block(data, format)))
        if not (found := _DATE.fullmatch(texts.get(_ORIGINAL, b""))):
            return CaptureTime()
        year, month, day, hour, minute, second = map(int, found.groups())
        at = datetime(year, month, day, hour, minute, second)
        fraction = texts.get(_SUBSECONDS, b"")
        if fraction.isdigit():
            at = at.replace(microsecond=int(fraction[:6].ljust(6, b"0")))
        zone = None
        if offset := _OFFSET.fullmatch(texts.get(_ZONE, b"")):
            east = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
            at, zone = at - east if offset[1] == b"+" else at + east, offset[0].decode()
    except (*DECODER_ERRORS, Reject, struct.error, KeyError, ValueError, OverflowError):
        return CaptureTime()
    return CaptureTime(at, zone) if at.year >= _FIRST_YEAR else CaptureTime()


def _block(data: bytes, format: str) -> bytes:
    """The EXIF block of a photo; a TIFF is one itself."""
    if format == "JPEG":
        return jpeg_segments(data)[0]
    if format == "TIFF":
        return data
    if format == "WEBP":
        return webp_exif(data)
    if format == "PNG" and (exif := png_exif(data)):
        return exif
    with open_lazily(data, format) as image:
        exif = image.info.get("exif") or raw_profile_exif(image.info.get("Raw profile type exif"))
    return exif if isinstance(exif, bytes) else b""


def _texts(block: bytes) -> Iterator[tuple[int, bytes]]:
    """The texts of the EXIF directory by tag, without the NUL or the blanks at their end."""
    tiff, order, first = tiff_of(block)
    pointers = [at for tag, kind, _, at in directory(tiff, order, first) if (tag, kind) in _EXIF_IFD]
    for pointer in pointers[:1]:
        (start,) = struct.unpack_from(order + "I", tiff, pointer)
        for tag, kind, count, at in directory(tiff, order, start):
            if kind == _ASCII and count <= _MOST_TEXT:
                place = at if count <= 4 else struct.unpack_from(order + "I", tiff, at)[0]
                yield tag, tiff[place : place + count].rstrip(b"\0 ")

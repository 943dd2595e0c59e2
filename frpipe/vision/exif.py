"""Read the EXIF orientation: where JPEG, PNG and WebP keep the EXIF block, and the one value in it.

Anything unreadable is orientation 1: a broken EXIF block is no ground to refuse a photo. XMP is not read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

UPRIGHT = 1
ORIENTATION_TAG = 0x0112
_PREFIX = b"Exif\x00\x00"
_ORDERS = {b"II": "<", b"MM": ">"}
# Start-of-frame markers of ITU-T T.81, table B.1; C4, C8 and CC mean other things.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_KINDS = {1: "B", 3: "H", 4: "I"}
# Bounds on how far a hostile file can make the walks below run; real files have a few dozen segments,
# and a PNG of 64 MiB in chunks of 8 KiB has 8,192.
_MAX_SEGMENTS = 256
_MAX_CHUNKS = 65_536


# Which axes of the upright picture run against the stored ones. Orientations 5 to 8 swap the axes first.
FLIPS_X = frozenset({2, 3, 6, 7})
FLIPS_Y = frozenset({3, 4, 7, 8})


def exif_orientation(block: bytes) -> int:
    """Orientation 1..8 from an EXIF block: a TIFF header and its first IFD, `Exif\\0\\0` before it or not."""
    try:
        tiff, order, start = tiff_of(block)
        for tag, kind, _, at in directory(tiff, order, start):
            if tag == ORIENTATION_TAG:
                (value,) = struct.unpack_from(order + _KINDS[kind], tiff, at)
                return valid_orientation(value)
    except (struct.error, KeyError):
        return UPRIGHT
    return UPRIGHT


def tiff_of(block: bytes) -> tuple[bytes, str, int]:
    """The TIFF in an EXIF block, its byte order for `struct`, and where its first directory is.

    Raises struct.error or KeyError where it is none; so does `directory`.
    """
    tiff = block.removeprefix(_PREFIX)
    order = _ORDERS[tiff[:2]]
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    return tiff, order, start


def directory(tiff: bytes, order: str, start: int) -> Iterator[tuple[int, int, int, int]]:
    """The entries of a directory: tag, type, count, and where the four bytes of value or offset are."""
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        yield *struct.unpack_from(order + "HHI", tiff, at), at + 8


def valid_orientation(value: object) -> int:
    """The orientation if it is one of 1..8, else 1."""
    return value if isinstance(value, int) and 1 <= value <= 8 else UPRIGHT


def jpeg_segments(data: bytes) -> tuple[bytes, bool]:
    """The first EXIF segment before the frame (empty where there is none), and whether a JPEG is progressive.

    True also where the frame is not found: such a file is not what a camera writes.
    """
    at, end = 2, len(data) - 10
    exif = b""
    for _ in range(_MAX_SEGMENTS):
        if at > end or data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker in _FRAMES:
            return exif, marker in _PROGRESSIVE
        if marker == 0xFF:
            at += 1
            continue
        if marker < 0xC0 or 0xD0 <= marker <= 0xDA:
            break  # these have no length, so a decoder's walk and ours would part
        if marker == 0xE1 and not exif and data[at + 4 : at + 10] == _PREFIX:
            exif = data[at + 10 : at + 2 + (data[at + 2] << 8 | data[at + 3])]
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return exif, True


def png_exif(data: bytes) -> bytes:
    """The EXIF chunk of a PNG, before or after the pixels; empty where there is none."""
    at = 8
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return b""
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            return data[at + 8 : at + 8 + length]
        at += 12 + length
    return b""


def raw_profile_exif(text: object) -> bytes:
    """The EXIF block of ImageMagick's `Raw profile type exif` text: name, length, then hexadecimal lines."""
    if not isinstance(text, str):
        return b""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""


def webp_exif(data: bytes) -> bytes:
    """The EXIF chunk of an extended WebP; empty where there is none."""
    at = 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return b""
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"EXIF":
            return data[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)
    return b""


def orient(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply EXIF orientation 1..8 (CIPA DC-008, tag 0x0112) to (H, W, 3) uint8 pixels.

    Returns (H, W, 3), or (W, H, 3) for 5 to 8; the array itself for 1. Raises ValueError for other values.
    """
    if not 1 <= orientation <= 8:
        raise ValueError(f"orientation {orientation} is not 1..8")
    if orientation >= 5:
        pixels = cv2.transpose(pixels)
    flips_x, flips_y = orientation in FLIPS_X, orientation in FLIPS_Y
    if not (flips_x or flips_y):
        return pixels
    # cv2.flip: 1 mirrors x, 0 mirrors y, -1 both.
    axis = -1 if flips_x and flips_y else int(flips_x)
    flipped: NDArray[np.uint8] = cv2.flip(pixels, axis)
    return flipped

"""Decode JPEG, whole or at 1/2, 1/4 or 1/8 through the inverse DCT of the same size.

One decoder for every scale: simplejpeg, that is libjpeg-turbo with its accurate DCT and smooth upsampling.
"""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from frpipe.core.reasons import Reason, Reject
from frpipe.vision.damage import refuse
from frpipe.vision.header import Header

# Progressive files have about 10 scans. Each costs a pass over every block, so that a small file with
# thousands of them would keep a worker busy for minutes.
MAX_SCANS = 100
# Below this side two of libjpeg's scales may round to one size, and the scale used could not be told.
_MIN_SHRINKABLE_SIDE_PX = 64


class UnsupportedJpeg(Exception):
    """The error for a file that TurboJPEG does not read; libjpeg through Pillow may."""


def effective_shrink(header: Header, shrink: int) -> int:
    """The shrink that `decode_jpeg` applies when asked for `shrink`."""
    return shrink if min(header.width, header.height) >= _MIN_SHRINKABLE_SIDE_PX else 1


def decode_jpeg(data: bytes, header: Header, shrink: int, accept_cut: bool) -> NDArray[np.uint8]:
    """(ceil(height / shrink), ceil(width / shrink), 3) uint8 RGB as stored, not oriented.

    shrink: 1, 2, 4 or 8, as `effective_shrink` gave it. Column u covers the stored columns u*shrink ..
    u*shrink + shrink - 1, exactly; rows likewise.
    Rejects: TRUNCATED, CORRUPT. Raises UnsupportedJpeg.
    """
    if header.progressive:
        _check_scans(data)
    # simplejpeg takes the smallest of libjpeg's scales M/8 that is no smaller than this; 0 is the full size.
    least = (-(-header.height // shrink), -(-header.width // shrink)) if shrink > 1 else (0, 0)
    pixels: NDArray[np.uint8]
    try:
        pixels = simplejpeg.decode_jpeg(data, min_height=least[0], min_width=least[1])
    except ValueError as error:
        pixels = _decode_damaged(data, least, accept_cut, error)
    return pixels


def _decode_damaged(
    data: bytes, least: tuple[int, int], accept_cut: bool, error: ValueError
) -> NDArray[np.uint8]:
    """Decode what the strict decoder complained of: harmless, cut short, or damaged."""
    rejection = refuse(data, "JPEG", error)
    if rejection.reason is Reason.TRUNCATED and not accept_cut:
        raise rejection
    _check_scans(data)
    pixels: NDArray[np.uint8]
    try:
        pixels = simplejpeg.decode_jpeg(data, min_height=least[0], min_width=least[1], strict=False)
    except ValueError as fatal:
        raise UnsupportedJpeg(str(fatal)) from None
    # Stray bytes between segments are common and cost no picture; any other complaint means lost blocks.
    if rejection.reason is Reason.CORRUPT and "extraneous bytes" not in str(error):
        raise rejection
    return pixels


def _check_scans(data: bytes) -> None:
    """Check that all scans are there, even for thumbnails; the search costs a twentieth of a decode."""
    if data.count(b"\xff\xda") > MAX_SCANS:
        raise Reject(Reason.CORRUPT, f"JPEG: more than {MAX_SCANS} scans")

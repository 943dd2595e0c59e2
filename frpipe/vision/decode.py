"""From the bytes of a photo to upright RGB pixels, within limits taken from its header first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from frpipe.core.config import DecodeConfig
from frpipe.core.reasons import Reason, Reject
from frpipe.vision.damage import explain, refuse
from frpipe.vision.depth import to_rgb8
from frpipe.vision.exif import UPRIGHT
from frpipe.vision.formats import DECODER_ERRORS, open_lazily
from frpipe.vision.header import Header, read_header
from frpipe.vision.jpeg import UnsupportedJpeg, decode_jpeg, effective_shrink
from frpipe.vision.orient import orient
from frpipe.vision.plugins import check_result, load_plugin

SHRINKS = (1, 2, 4, 8)
# These libraries turn the picture themselves, as the last step of a decode that succeeds.
_SELF_ORIENTING = ("TIFF", "HEIF")


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded photo.

    pixels: (h, w, 3) uint8 RGB, upright; h and w are ceil(height / shrink) and ceil(width / shrink).
    width, height: of the upright ORIGINAL, pixels. orientation: EXIF 1..8, already applied.
    format: as in `Header`, or the name of the plugin. shrink: 1, 2, 4 or 8, what was applied; 1 unless JPEG.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    orientation: int
    format: str
    shrink: int


def decode(data: bytes, config: DecodeConfig, shrink: int | Callable[[Header], int] = 1) -> Photo:
    """Decode a photo; `shrink` (1, 2, 4, 8) is a wish that only JPEG grants, or is settled by the header.

    Rejects: EMPTY, TOO_MANY_BYTES, UNKNOWN_FORMAT, MISSING_CODEC, TOO_MANY_PIXELS, TOO_FEW_PIXELS, TRUNCATED,
    CORRUPT, EXHAUSTED_MEMORY. Raises ConfigError for a plugin that cannot be used.
    """
    if isinstance(shrink, int) and shrink not in SHRINKS:
        raise ValueError(f"shrink {shrink} is not one of {SHRINKS}")
    if len(data) > config.max_bytes:
        raise Reject(Reason.TOO_MANY_BYTES, f"{len(data)} bytes, at most {config.max_bytes}")
    if config.plugins and (photo := _decode_by_plugin(data, config)):
        return photo
    header = read_header(data)
    check_size(header.width, header.height, config)
    try:
        return _decode(data, header, config, shrink if isinstance(shrink, int) else shrink(header))
    except MemoryError as error:
        raise Reject(Reason.EXHAUSTED_MEMORY, explain(header.format, error)) from None


def plan_shrink(header: Header, max_side_px: int) -> int:
    """The largest of 8, 4, 2, 1 that leaves the longer side at no less than `max_side_px`; 1 unless JPEG."""
    if header.format != "JPEG":
        return 1
    longer = max(header.width, header.height)
    return next((shrink for shrink in (8, 4, 2) if -(-longer // shrink) >= max_side_px), 1)


def check_size(width: int, height: int, config: DecodeConfig) -> None:
    """Rejects: TOO_MANY_PIXELS, TOO_FEW_PIXELS."""
    if width * height > config.max_pixels:
        raise Reject(Reason.TOO_MANY_PIXELS, f"{width}x{height}, at most {config.max_pixels} pixels")
    if min(width, height) < config.min_side_px:
        raise Reject(Reason.TOO_FEW_PIXELS, f"{width}x{height}, at least {config.min_side_px} a side")


def _decode(data: bytes, header: Header, config: DecodeConfig, shrink: int) -> Photo:
    applied = 1
    if header.format == "JPEG":
        applied = effective_shrink(header, shrink)
        try:
            pixels = decode_jpeg(data, header, applied, config.truncated == "accept")
        except UnsupportedJpeg:
            applied = 1
            pixels = _decode_by_pillow(data, header, config)
    else:
        pixels = _decode_by_pillow(data, header, config)
    orientation = header.orientation
    if orientation != UPRIGHT and header.format not in _SELF_ORIENTING:
        pixels = orient(pixels, orientation)
    if applied == 1:
        height, width = pixels.shape[:2]
    else:
        width, height = (header.width, header.height)[:: -1 if orientation >= 5 else 1]
    return Photo(pixels, width, height, orientation, header.format, applied)


def _decode_by_pillow(data: bytes, header: Header, config: DecodeConfig) -> NDArray[np.uint8]:
    try:
        with open_lazily(data, header.format) as image:
            # A GIF's first frame may be larger than the screen that its header announces.
            check_size(*image.size, config)
            try:
                image.load()
            except DECODER_ERRORS as error:
                _settle_for_part(data, header.format, image, config, error)
            return to_rgb8(image)
    except DECODER_ERRORS as error:
        raise refuse(data, header.format, error) from None


def _settle_for_part(
    data: bytes, name: str, image: ImageFile, config: DecodeConfig, error: Exception
) -> None:
    """Keep the rows decoded so far, if the file was cut short, the policy allows it and there are rows."""
    rejection = refuse(data, name, error)
    has_rows = name not in _SELF_ORIENTING and getattr(image, "_im", None) is not None
    if rejection.reason is not Reason.TRUNCATED or config.truncated != "accept" or not has_rows:
        raise rejection from None
    # With no tiles left to read Pillow takes the picture for loaded. Its other way, the switch
    # ImageFile.LOAD_TRUNCATED_IMAGES, would hold for every thread of the process.
    image.tile = []


def _decode_by_plugin(data: bytes, config: DecodeConfig) -> Photo | None:
    for name in config.plugins:
        plugin = load_plugin(name)
        try:
            found = plugin(data)
        except DECODER_ERRORS as error:
            raise Reject(Reason.CORRUPT, explain(name, error)) from None
        if found is not None:
            pixels = check_result(found, name)
            height, width = pixels.shape[:2]
            check_size(width, height, config)
            return Photo(pixels, width, height, UPRIGHT, name, 1)
    return None

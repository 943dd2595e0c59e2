"""Decode a photo to upright RGB pixels, within limits that are taken from its header first."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from frpipe.core.config import DecodeConfig
from frpipe.core.errors import ConfigError
from frpipe.core.reasons import Reason, Reject
from frpipe.vision.damage import explain, refuse
from frpipe.vision.exif import UPRIGHT, orient
from frpipe.vision.formats import DECODER_ERRORS, open_lazily
from frpipe.vision.header import Header, read_header
from frpipe.vision.jpeg import UnsupportedJpeg, decode_jpeg, effective_shrink

SHRINKS = (1, 2, 4, 8)
# These libraries turn the picture themselves, as the last step of a decode that succeeds.
_SELF_ORIENTING = ("TIFF", "HEIF")


_NO_CONVERSION = ("LAB", "BGR;15", "BGR;16", "BGR;24")


Plugin = Callable[[bytes], NDArray[np.uint8] | None]
_REMEDY = "decode.plugins holds names like 'package.module:function' of modules installed on every worker"


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
    """Reject a size beyond the limits: TOO_MANY_PIXELS, TOO_FEW_PIXELS."""
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


def to_rgb8(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a loaded picture; what is transparent shows black behind it.

    Colour profiles are not applied: as far as numbers go, every RGB is taken for sRGB.
    Rejects: MISSING_CODEC for a colour space without a conversion.
    """
    if image.mode in _NO_CONVERSION:
        raise Reject(Reason.MISSING_CODEC, f"colour space {image.mode}")
    if image.mode[0] in "IF":
        grey = grey8(np.asarray(image))
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGB", layer.size)
        image.paste(layer, (0, 0), layer)
    return np.asarray(image.convert("RGB"))


def grey8(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """(H, W) uint8 of grey values of any integer or float type.

    uint16 is scaled from its full range. 32-bit integers and floats have no white of their own: the smallest
    of 1 (floats only), 255 and 65535 that holds every value is taken for white; where none does, or a value
    is negative, the range found is stretched. Non-finite values become black.
    """
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    is_float = values.dtype.kind == "f"
    floats = values.astype(np.float32)
    finite = np.isfinite(floats)
    low = float(floats.min(where=finite, initial=np.inf))
    high = float(floats.max(where=finite, initial=-np.inf))
    black, white = _range(low, high, is_float)
    scaled = (np.where(finite, floats, black) - black) * (255.0 / (white - black))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _range(low: float, high: float, is_float: bool) -> tuple[float, float]:
    if low < 0 or high > 65535:
        return (low, high) if high > low else (low, low + 1)
    whites = (1.0, 255.0, 65535.0) if is_float else (255.0, 65535.0)
    return 0.0, next((white for white in whites if high <= white), 65535.0)


@cache
def load_plugin(name: str) -> Plugin:
    """Import a decoder, once per process.

    It takes the encoded bytes and returns (H, W, 3) uint8 RGB, upright, or None for a file not its own.
    Raises ConfigError.
    """
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise ConfigError(f"decode plugin {name!r} is not 'package.module:function'", _REMEDY)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"decode plugin {name!r} cannot be imported: {error}", _REMEDY) from None
    if not callable(function):
        raise ConfigError(f"decode plugin {name!r} is not a function", _REMEDY)
    return cast(Plugin, function)


def check_result(pixels: object, name: str) -> NDArray[np.uint8]:
    """Check that a decoder gave (H, W, 3) uint8, and return it. Raises ConfigError."""
    if (
        isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and pixels.ndim == 3
        and pixels.shape[2] == 3
    ):
        return np.ascontiguousarray(pixels)
    raise ConfigError(
        f"decode plugin {name!r} returned something else than (H, W, 3) uint8",
        "mend the plugin or leave it out",
    )

"""From any mode and bit depth that Pillow gives to RGB with 8 bits per channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frpipe.core.reasons import Reason, Reject

_NO_CONVERSION = ("LAB", "BGR;15", "BGR;16", "BGR;24")


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

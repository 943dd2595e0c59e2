"""Photos made worse on purpose, by a known amount: blur, noise, darkness, and the like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]

# Amounts from the mildest on. blur: sigma, pixels of the photo; noise: sigma, grey levels; dark and bright:
# factor of linear light; small: by which sides are divided; jpeg: quality.
LADDERS: dict[str, tuple[float, ...]] = {
    "blur": (1, 2, 3, 4, 6),
    "noise": (5, 10, 20, 40),
    "dark": (0.5, 0.25, 0.12, 0.06),
    "bright": (1.5, 2, 3, 4),
    "small": (2, 3, 4, 6),
    "jpeg": (50, 30, 20, 10, 5),
}


def pixels_of(path: Path) -> Array:
    """(H, W, 3) uint8 RGB."""
    picture = cv2.imread(str(path))
    if picture is None:
        raise SystemExit(f"no picture: {path}")
    return picture[..., ::-1]


def worse(pixels: Array, kind: str, amount: float, seed: int = 0) -> bytes:
    """An encoded photo: (H, W, 3) uint8 RGB made worse; PNG, but for kind `jpeg`."""
    if kind == "jpeg":
        return _encoded(pixels, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, int(amount)])
    changed = pixels
    if kind == "blur":
        changed = cv2.GaussianBlur(pixels, (0, 0), amount)
    elif kind == "noise":
        grain = np.random.default_rng(seed).normal(0, amount, pixels.shape)
        changed = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    elif kind in {"dark", "bright"}:
        changed = _lit(pixels, amount)
    elif kind == "small":
        changed = cv2.resize(pixels, None, fx=1 / amount, fy=1 / amount, interpolation=cv2.INTER_AREA)
    return _encoded(changed, ".png", [])


def _lit(pixels: Array, factor: float) -> Array:
    values = np.arange(256) / 255
    light = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92) * factor
    light = np.clip(light, 0, 1)
    back = np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)
    return cv2.LUT(pixels, np.round(255 * back).astype(np.uint8))


def _encoded(pixels: Array, suffix: str, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, pixels[..., ::-1], options)
    assert done
    return bytes(data)

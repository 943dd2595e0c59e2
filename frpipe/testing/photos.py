"""Make synthetic photos: shapes and noise, no people. All (h, w, 3) uint8 RGB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def red_squares(height: int, width: int, squares: int, seed: int = 0) -> Pixels:
    """Draw red squares of 16 to 48 pixels on black, which the tiny detectors take for faces."""
    random = np.random.default_rng(seed)
    photo = np.zeros((height, width, 3), np.uint8)
    for _ in range(squares):
        side = int(random.integers(16, 49))
        y, x = int(random.integers(0, max(1, height - side))), int(random.integers(0, max(1, width - side)))
        photo[y : y + side, x : x + side] = random.integers((220, 0, 0), (256, 90, 90))
    return photo


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    """Draw noise: every value equally likely, every pixel by itself."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def flat(height: int, width: int, value: int) -> Pixels:
    """Draw one grey."""
    return np.full((height, width, 3), value, np.uint8)


def awkward() -> list[Pixels]:
    """Make photos that a detector must survive: flat, noisy, tiny, long and thin, and without pixels."""
    return [
        flat(100, 100, 0),
        flat(100, 100, 255),
        noise(90, 120),
        flat(1, 1, 128),
        flat(1, 700, 90),
        flat(700, 1, 90),
        noise(3, 5000),
        flat(0, 0, 0),
        flat(0, 40, 0),
    ]


def on_canvas(photo: Pixels, left: int, top: int, height: int, width: int) -> Pixels:
    """Put a photo on a larger black canvas, its first pixel at (left, top)."""
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + photo.shape[0], left : left + photo.shape[1]] = photo
    return canvas

"""Drawn pictures for the tests of frpipe.vision, and the same pictures as files."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frpipe.vision.geometry import ARCFACE_112, apply

Pixels = NDArray[np.uint8]


def scene(width: int = 160, height: int = 120) -> Pixels:
    """(height, width, 3): smooth, coloured, and different in every corner, so that any turn of it shows."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    red = 40 + 180 * x / width
    green = 40 + 180 * y / height
    blue = 128 + 90 * np.sin(4 * x / width + 2) * np.cos(3 * y / height)
    return np.rint(np.stack([red, green, blue], axis=2)).astype(np.uint8)


def face(matrix: NDArray[np.float64], width: int, height: int) -> tuple[Pixels, NDArray[np.float64]]:
    """A drawn face, the template moved by `matrix` (2, 3) into a photo, and its five points (5, 2).

    Each pixel is the mean of 4x4 samples, so that a large and a small face differ by resolution alone.
    """
    side, fine = 448, 4
    canvas = np.full((side, side, 3), (90, 110, 160), np.uint8)
    cv2.ellipse(canvas, (224, 250), (150, 200), 0, 0, 360, (225, 180, 150), -1, cv2.LINE_AA)
    for (x, y), radius in zip(ARCFACE_112 * 4, (28, 22, 16, 12, 18), strict=True):
        cv2.circle(canvas, (round(x), round(y)), radius, (60, 30 + radius * 4, 40), -1, cv2.LINE_AA)
    canvas = cv2.GaussianBlur(canvas, (0, 0), 3)
    to_template = np.array([[0.25, 0, -0.375], [0, 0.25, -0.375]])
    linear = matrix[:, :2] @ to_template[:, :2]
    shift = matrix[:, :2] @ to_template[:, 2] + matrix[:, 2]
    middle = (fine - 1) / 2
    big = np.column_stack([linear * fine, shift * fine + middle])
    whole = (width * fine, height * fine)
    drawn = cv2.warpAffine(canvas, big, whole, flags=cv2.INTER_LINEAR, borderValue=(90, 110, 160))
    return cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA), apply(matrix, ARCFACE_112)


def placing(scale: float, degrees: float, x: float, y: float) -> NDArray[np.float64]:
    """(2, 3): template to photo, scaled and turned, the middle of the template at (x, y)."""
    angle = np.deg2rad(degrees)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, np.array([x, y]) - linear @ np.array([55.5, 55.5])])


def encoded(pixels: NDArray[Any] | Image.Image, name: str, **options: Any) -> bytes:
    """A picture as the bytes of a file, written by Pillow."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean absolute difference of two pictures of one shape."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())


def unturned(pixels: Pixels, orientation: int) -> Pixels:
    """What a camera stores for an upright picture, by Pillow's own reading of the orientations."""
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(pixels)
    return np.asarray(image.transpose(inverse[orientation]) if orientation in inverse else image)

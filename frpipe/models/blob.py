"""Turn photos into the tensor that a network takes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from frpipe.models.card import InputSpec

Pixels = NDArray[np.uint8]
Blob = NDArray[np.float32]
_PLANES = {"RGB": (0, 1, 2), "BGR": (2, 1, 0)}


def to_blob(
    images: Sequence[Pixels] | Pixels, spec: InputSpec, height: int, width: int, scratch: Blob | None = None
) -> Blob:
    """Normalised `(pixels - mean) / std` of many images in one tensor.

    images: each (h, w, 3) uint8 RGB with h <= height and w <= width. They lie at the top left; what is left
    over at the bottom and the right is black BEFORE normalisation, as a larger photo with a black border
    would have it. scratch: flat float32 memory to write into when it is long enough; the result is then a
    view of it, valid until the next call.
    Returns (N, 3, height, width) float32, C-contiguous, channels in the order of `spec.colour`.
    """
    shape = (len(images), 3, height, width)
    blob = _memory(shape, scratch)
    tables = _tables(spec.mean, spec.std)
    for target, image in zip(blob, images, strict=True):
        _write(target, image, _PLANES[spec.colour], tables)
    return blob


def _memory(shape: tuple[int, ...], scratch: Blob | None) -> Blob:
    size = int(np.prod(shape))
    if scratch is None or scratch.size < size:
        return np.empty(shape, np.float32)
    return scratch[:size].reshape(shape)


def _write(target: Blob, image: Pixels, order: tuple[int, ...], tables: tuple[Blob | None, ...]) -> None:
    height, width = image.shape[:2]
    planes = cv2.split(image)
    for channel, table in zip(target, tables, strict=True):
        black = 0.0 if table is None else table[0]
        channel[height:] = black
        channel[:height, width:] = black
    for channel, plane, table in zip(target, order, tables, strict=True):
        view = channel[:height, :width]
        if table is None:
            view[...] = planes[plane]
        else:
            cv2.LUT(planes[plane], table, view)


@lru_cache(maxsize=16)
def _tables(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Blob | None, ...]:
    """Tables of what each of the 256 values becomes, per channel; None where values stay as they are.

    A table read costs one pass where a subtraction and a division cost two, and gives the float64 result
    rounded once.
    """
    values = np.arange(256, dtype=np.float64)
    return tuple(
        None if (m, s) == (0.0, 1.0) else ((values - m) / s).astype(np.float32)
        for m, s in zip(mean, std, strict=True)
    )

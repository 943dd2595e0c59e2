"""From photos to tensors."""

from __future__ import annotations

import numpy as np
import pytest

from frpipe.models.blob import to_blob
from frpipe.models.card import InputSpec
from frpipe.testing.photos import noise

SPECS = [
    InputSpec(colour="BGR", mean=(0, 0, 0), std=(1, 1, 1), size="dynamic"),
    InputSpec(colour="RGB", mean=(127.5, 127.5, 127.5), std=(128, 128, 128), size="dynamic"),
    InputSpec(colour="BGR", mean=(104, 117, 123), std=(1, 1, 1), size="dynamic"),
    InputSpec(colour="RGB", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), size=(112, 112)),
    InputSpec(colour="RGB", mean=(0, 10, 0), std=(1, 2, 1), size="dynamic"),
]


def by_definition(images: list[np.ndarray], spec: InputSpec, height: int, width: int) -> np.ndarray:
    padded = np.zeros((len(images), height, width, 3))
    for target, image in zip(padded, images, strict=True):
        target[: image.shape[0], : image.shape[1]] = image
    ordered = padded if spec.colour == "RGB" else padded[..., ::-1]
    return ((ordered - spec.mean) / spec.std).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("scratch", [None, np.full(5, 7, np.float32), np.full(10**5, 7, np.float32)])
def test_is_what_the_card_says(spec: InputSpec, scratch: np.ndarray | None) -> None:
    images = [noise(30, 50, 1), noise(64, 64, 2), noise(1, 1, 3), noise(64, 2, 4)]
    blob = to_blob(images, spec, 64, 96, scratch)
    assert blob.dtype == np.float32
    assert blob.flags.c_contiguous
    np.testing.assert_allclose(blob, by_definition(images, spec, 64, 96), rtol=1e-6, atol=1e-6)


def test_takes_views_of_larger_arrays() -> None:
    spec = SPECS[1]
    large = noise(100, 100)
    views = [large[10:40, 20:60], large[::-1, ::2], large[:, :, ::-1]]
    blob = to_blob(views, spec, 100, 100)
    np.testing.assert_allclose(blob, by_definition(views, spec, 100, 100), rtol=1e-6)


def test_nothing_in_nothing_out() -> None:
    assert to_blob([], SPECS[0], 32, 64).shape == (0, 3, 32, 64)

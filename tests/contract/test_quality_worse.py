"""Real photos made worse on purpose: each measure falls with every step, and others stay as they are."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from frpipe.testing.photos import Pixels
from frpipe.vision.quality import luminance as light
from frpipe.vision.quality.compression import bits_per_pixel, compression_component
from frpipe.vision.quality.detail import detail, noise_component, sharpness_component

cv2 = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def photos(real_photos: Path) -> list[Pixels]:
    """Portraits of 250 x 250 pixels."""
    paths = sorted(real_photos.glob("*/*.jpg"))
    return [cv2.imread(str(path))[..., ::-1] for path in paths[:: len(paths) // 20]]


def crops_of(photos: list[Pixels]) -> Pixels:
    """The middle of each, which is close to the aligned crop."""
    scale = photos[0].shape[0] / 250
    top, bottom, left, right = (round(edge * scale) for edge in (65, 190, 63, 188))
    return np.stack([cv2.resize(photo[top:bottom, left:right], (112, 112)) for photo in photos])


def falls(means: list[float]) -> bool:
    return all(later < earlier for earlier, later in pairwise(means))


def test_blur_and_fewer_pixels_lower_sharpness(photos: list[Pixels]) -> None:
    blurred = [[cv2.GaussianBlur(photo, (0, 0), sigma) for photo in photos] for sigma in (1, 2, 3, 4, 6)]
    smaller = [
        [cv2.resize(photo, None, fx=1 / by, fy=1 / by, interpolation=cv2.INTER_AREA) for photo in photos]
        for by in (2, 3, 4, 6)
    ]
    for ladder in (blurred, smaller):
        steps = [detail(crops_of(each)) for each in (photos, *ladder)]
        assert falls([sharpness_component(sharp).mean() for sharp, _ in steps])
        assert noise_component(steps[-1][1]).mean() >= noise_component(steps[0][1]).mean()


def test_noise_lowers_its_component_and_not_sharpness(photos: list[Pixels]) -> None:
    random = np.random.default_rng(0)
    steps = [detail(crops_of(photos))]
    for sigma in (10, 20, 40):
        noisy = [np.clip(p + random.normal(0, sigma, p.shape), 0, 255).astype(np.uint8) for p in photos]
        steps.append(detail(crops_of(noisy)))
    assert falls([noise_component(noise).mean() for _, noise in steps])
    first, last = (sharpness_component(steps[at][0]).mean() for at in (0, -1))
    assert last == pytest.approx(first, abs=5)


def test_darkness_lowers_what_is_said_of_light_and_not_sharpness(photos: list[Pixels]) -> None:
    crops = [crops_of([(photo * by).astype(np.uint8) for photo in photos]) for by in (1, 0.7, 0.5, 0.3)]
    histograms = [light.face_histograms(each) for each in crops]
    for raw, component in (
        (light.luminance_mean, light.luminance_mean_component),
        (light.dynamic_range, light.dynamic_range_component),
        (light.under_exposure, light.under_exposure_component),
    ):
        assert falls([component(raw(each)).mean() for each in histograms]), raw.__name__
    assert sharpness_component(detail(crops[-1])[0]).mean() > 75


def test_light_raises_over_exposure(photos: list[Pixels]) -> None:
    crops = [crops_of([cv2.convertScaleAbs(photo, alpha=by) for photo in photos]) for by in (1, 1.3, 1.6, 2)]
    shares = [light.over_exposure(light.face_histograms(each)) for each in crops]
    assert falls([light.over_exposure_component(each).mean() for each in shares])


def test_strong_compression_lowers_bits_per_pixel(photos: list[Pixels]) -> None:
    means = []
    for quality in (75, 30, 20, 10, 5):
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
        sizes = [len(cv2.imencode(".jpg", photo[..., ::-1], options)[1]) for photo in photos]
        means.append(compression_component(bits_per_pixel(sizes, [250] * len(sizes), 250)).mean())
    assert falls(means)

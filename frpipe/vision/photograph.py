"""Tell an aligned face on a photograph from one on a negative, a drawing, a 1-bit copy or a ruin.

Embedders put faces of such pictures close together, whoever they show, while detectors find them with good
scores. Discriminants on measures of the crop tell them from photographs: for negatives a network of 16 hidden
units on `pattern`, for the rest linear ones on `texture`. They judge what the
embedder sees: a large photo of poor quality whose reduced crop is fine passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from frpipe.vision.photograph_weights import (
    HIDDEN_OFFSETS,
    HIDDEN_WEIGHTS,
    NEGATIVE_OFFSET,
    NEGATIVE_WEIGHTS,
    TEXTURE_CENTRE,
    TEXTURE_OFFSETS,
    TEXTURE_SCALE,
    TEXTURE_WEIGHTS,
)

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

SIDE = 112
PATTERN_SIZE = 302
TEXTURE_SIZE = 55
# Of the crop: the face from the forehead to the chin, without most of what surrounds it.
_WINDOW = (slice(24, 108), slice(16, 96))
_SKIN = (slice(40, 100), slice(30, 82))
# Of the pattern's 14 x 14 cells, 8 pixels of the crop each: those that `_WINDOW` covers, and one row more.
_CELLS = (slice(3, 13), slice(2, 12))
_QUANTILES = np.array([0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99], np.float32)
_STEP_QUANTILES = np.array([0.5, 0.75, 0.9, 0.98], np.float32)
_BENDS = np.array([1, 3, 8])
_LEVELS = np.array([0, 1, 2, 4, 8, 16, 32, 64])
_VALUES = np.arange(256, dtype=np.float32)
# Standardised measures beyond this are no better known than at it.
_CLIP = 4.0
# Of neighbours along a row, those that differ by one level at most, and by 24 levels or more.
_STEP_LIMITS = ((1, cv2.CMP_LE), (24, cv2.CMP_GE))
_FLAT_SHARE, _ROUGH_SHARE = 0.42, 0.15
# Samples along an axis that `is_blank` looks at before it looks at every pixel.
_SAMPLES = 32


class NotPhotograph(StrEnum):
    """Kinds of pictures that are no photographs."""

    NEGATIVE = "negative"
    DRAWING = "drawing"
    ONE_BIT = "one_bit"
    RUINED = "ruined"


_KINDS = tuple(NotPhotograph)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of `judge` on one crop.

    excess: by kind, the discriminant minus its limit, log odds; negative throughout for a photograph.
    kind: the kind of the largest excess where that is above 0, else None.
    """

    excess: dict[NotPhotograph, float]
    kind: NotPhotograph | None


def judge(crop: Pixels, margin: float = 0.0) -> Verdict:
    """Judge a crop, (112, 112, 3) uint8 RGB, aligned to `geometry.ARCFACE_112`.

    margin: log odds by which the limits are stricter, for faces of which something else casts doubt.
    Raises ValueError for another shape or type.
    """
    if crop.shape != (SIDE, SIDE, 3) or crop.dtype != np.uint8:
        raise ValueError(f"crop of {crop.shape} {crop.dtype}, needed: ({SIDE}, {SIDE}, 3) uint8")
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    hidden = np.maximum(HIDDEN_WEIGHTS @ pattern(crop, grey) + HIDDEN_OFFSETS, 0)
    negative = float(NEGATIVE_WEIGHTS @ hidden) + NEGATIVE_OFFSET
    lines, soft, pencil, one_bit, ruined = (
        TEXTURE_WEIGHTS @ expand(texture(crop, grey)) + TEXTURE_OFFSETS
    ).tolist()
    values = [negative, max(lines, soft, pencil), one_bit, ruined]
    excess = dict(zip(_KINDS, values, strict=True))
    worst = max(values)
    return Verdict(excess, _KINDS[values.index(worst)] if worst > -margin else None)


def pattern(crop: Pixels, grey: Pixels) -> Floats:
    """Describe, (302,) float32, where a face is darker and lighter than its surroundings, and its colour.

    crop: (112, 112, 3) uint8 RGB. grey: its luma, (112, 112) uint8.
    Three maps of 10 x 10 cells, row by row, each cell 8 pixels wide: the balance of dark and light detail at
    about 4 pixels, the same at about 8 pixels, -1 (all dark) to 1 (all light), and local contrast, in
    standard deviations. Then red minus green and blue minus green, in units of their mean.
    Eyes, brows, nostrils and mouth are darker than skin of any tone, so that an inversion changes the signs.
    """
    fine = cv2.resize(grey, (56, 56), interpolation=cv2.INTER_AREA).astype(np.float32)
    outside = fine == 0
    # Pixels outside the photo are black; they would be the strongest edge of the crop.
    if outside.any():
        fine[outside] = fine.sum() / max(1, fine.size - np.count_nonzero(outside))
    coarse = cv2.resize(fine, (28, 28), interpolation=cv2.INTER_AREA)
    fine_detail = fine - cv2.blur(fine, (11, 11))
    detail = coarse - cv2.blur(coarse, (13, 13))
    energy = cv2.blur(detail * detail, (21, 21))
    local = _cells(detail / np.sqrt(energy + 4))
    red, green, blue, _ = cv2.mean(crop[_SKIN])
    mean = (red + green + blue) / 3 + 8
    return np.concatenate(
        [
            _balance(fine_detail),
            _balance(detail),
            local / (local.std() + 1e-3),
            np.array([(red - green) / mean, (blue - green) / mean], np.float32),
        ]
    )


def texture(crop: Pixels, grey: Pixels) -> Floats:
    """Describe, (55,) float32, how grey levels, differences of neighbours and colours are distributed.

    crop: (112, 112, 3) uint8 RGB. grey: its luma, (112, 112) uint8.
    Shares are 0 to 1, spans are of the 5th to the 95th percentile of grey, means of differences are given as
    logarithms of their ratio to the span.
    """
    window = np.ascontiguousarray(grey[_WINDOW])
    histogram = _histogram(window)
    below = histogram.cumsum()
    quantiles = below.searchsorted(_QUANTILES)
    low, high = int(quantiles[1]), int(quantiles[7])
    span = max(high - low, 4)
    levels = [
        span / 255,
        below[3],
        1 - below[251],
        histogram.max(),
        np.count_nonzero(histogram) / 256,
        histogram @ histogram,
        below[min(int(low + 0.1 * span), 255)],
        1 - below[max(int(high - 0.1 * span) - 1, 0)],
    ]
    red, green, blue = (cv2.extractChannel(crop[_WINDOW], channel) for channel in range(3))
    colours = [cv2.norm(red, green, cv2.NORM_L1), cv2.norm(blue, green, cv2.NORM_L1)]
    half = cv2.resize(window, (40, 42), interpolation=cv2.INTER_AREA)
    return np.concatenate(
        [
            (quantiles - low) / span,
            levels,
            np.array(colours) / (255 * window.size),
            _differences(window, span),
            _differences(half, span),
        ]
    ).astype(np.float32)


def expand(measures: Floats) -> Floats:
    """(110,) float32: `texture`, standardised, at most 4 deviations from its mean, and its squares."""
    standard = np.minimum(np.maximum((measures - TEXTURE_CENTRE) * TEXTURE_SCALE, -_CLIP), _CLIP)
    return np.concatenate([standard, standard * standard])


def is_odd(crop: Pixels) -> bool:
    """Whether a crop, (112, 112, 3) uint8 RGB, is so flat or so rough that `judge` has to be asked.

    Of photographs 1 in 50 is; of those that JPEG quality 3 has ruined, and of dithered copies, 99 in 100.
    """
    window = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[_WINDOW]
    steps = cv2.absdiff(window[:, 1:], window[:, :-1])
    flat, rough = (cv2.countNonZero(cv2.compare(steps, *limit)) / steps.size for limit in _STEP_LIMITS)
    return bool(flat >= _FLAT_SHARE or rough >= _ROUGH_SHARE)


def is_blank(pixels: Pixels, tolerance: int = 2) -> bool:
    """Whether a decoded picture, (H, W, 3) uint8 RGB, shows one colour everywhere.

    tolerance: the largest difference within a channel, of 255, that still counts as one colour (JPEG may
    change it a little). A picture of no pixels is blank. Most pictures that are not blank are
    known from about 32 x 32 of their pixels.
    """
    if not pixels.size:
        return True
    height, width = pixels.shape[:2]
    sample = pixels[:: max(1, height // _SAMPLES), :: max(1, width // _SAMPLES)]
    if int(np.ptp(sample.reshape(-1, 3), axis=0).max()) > tolerance:
        return False
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    highest, lowest = cv2.reduce(rows, 0, cv2.REDUCE_MAX), cv2.reduce(rows, 0, cv2.REDUCE_MIN)
    spread = highest.reshape(-1, 3).max(axis=0).astype(int) - lowest.reshape(-1, 3).min(axis=0)
    return int(spread.max()) <= tolerance


def _balance(detail: Floats) -> Floats:
    """Balance of `detail` by cell, (100,) float32: light minus dark energy as a share, damped where flat."""
    signed, energy = _cells(detail * np.abs(detail)), _cells(detail * detail)
    balance: Floats = signed / (energy + (0.3 * energy.mean() + 0.3))
    return balance


def _cells(values: Floats) -> Floats:
    cells: Floats = cv2.resize(values, (14, 14), interpolation=cv2.INTER_AREA)[_CELLS].ravel()
    return cells


def _histogram(values: Pixels) -> Floats:
    """(256,) float32: the share of each value."""
    shares: Floats = cv2.calcHist([values], [0], None, [256], [0, 256]).ravel()
    shares /= values.size
    return shares


def _differences(grey: Pixels, span: int) -> NDArray[np.float64]:
    """Histograms, (18,) float64, of neighbours' absolute differences, and of the absolute Laplacian."""
    inner = grey[:-1, :-1]
    steps = _histogram(np.concatenate([cv2.absdiff(grey[:-1, 1:], inner), cv2.absdiff(grey[1:, :-1], inner)]))
    bends = _histogram(cv2.convertScaleAbs(cv2.Laplacian(grey, cv2.CV_16S)))
    steps_below, bends_below = steps.cumsum(), bends.cumsum()
    step, bend = float(steps @ _VALUES) + 0.05, float(bends @ _VALUES) + 0.05
    return np.concatenate(
        [
            steps_below[_LEVELS],
            steps_below.searchsorted(_STEP_QUANTILES) / span,
            bends_below[_BENDS],
            (math.log(step / span), math.log(bend / span), math.log(bend / step)),
        ]
    )

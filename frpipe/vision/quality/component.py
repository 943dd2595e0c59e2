"""Turn the raw value of a measure into its quality component: 0 to 100, higher is better."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def sigmoid(values: ArrayLike, x0: float, w: float) -> Floats:
    """1 / (1 + exp((x0 - x) / w)), of any shape: 0.5 at `x0`, falling to 0 below it, within some `w`.

    The function that ISO/IEC 29794-5:2025 maps most measures with, as OFIQ computes it
    (`Measure::Sigmoid`).
    """
    # exp overflows to infinity far below x0, and the quotient is then 0, as it should be.
    with np.errstate(over="ignore"):
        found: Floats = 1.0 / (1.0 + np.exp((x0 - np.asarray(values, np.float64)) / w))
    return found


def whole(values: ArrayLike) -> Floats:
    """Values of any shape rounded to whole numbers, halves up, and held within 0 to 100; NaN stays NaN."""
    found: Floats = np.clip(np.floor(np.asarray(values, np.float64) + 0.5), 0.0, 100.0)
    return found

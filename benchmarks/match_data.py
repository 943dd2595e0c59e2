"""Synthetic galleries and probes: unit vectors, half of the probes mated."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

DIM = 512
Floats = NDArray[np.float32]
_BLOCK = 16_384


def unit_vectors(rows: int, seed: int = 1) -> Floats:
    """(rows, 512) float32, in all directions."""
    rng = np.random.default_rng(seed)
    vectors = np.empty((rows, DIM), np.float32)
    for start in range(0, rows, _BLOCK):
        block = vectors[start : start + _BLOCK]
        rng.standard_normal(out=block, dtype=np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


def probes_of(gallery: Floats, count: int, seed: int = 2) -> Floats:
    """Probes: every other one has a cosine of about 0.6 with a row of the gallery."""
    probes = unit_vectors(count, seed)
    mated = probes[::2]
    mated *= np.float32(0.8)
    mated += np.float32(0.6) * gallery[: len(mated)]
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    return probes


def names(rows: int) -> pa.StringArray:
    """A subject id for each row, in order."""
    return pa.array([f"person-{row:08d}" for row in range(rows)])

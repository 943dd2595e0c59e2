"""Samples of a measure, and the distance between two of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Order statistics kept of a night: a share read from them is off by less than 1 / 2000.
KEPT = 2000
# sqrt(-ln(0.001 / 2) / 2): by Smirnov's limit law, equal distributions are further apart once in 1000 times.
_ONE_IN_1000 = 1.9495
_BINS = 24


@dataclass(frozen=True, slots=True)
class NightSample:
    """Sample of a measure.

    values: (n,), ascending.  weights: (n,), how many observed values each stands for.  count: of all these.
    """

    values: Floats
    weights: Floats

    @classmethod
    def of(cls, values: Sequence[float] | NDArray[Any]) -> NightSample:
        """Make a sample of some values: finite ones, thinned out evenly to KEPT."""
        found = np.asarray(values, np.float64)
        found = np.sort(found[np.isfinite(found)])
        if len(found) <= KEPT:
            return cls(found, np.ones(len(found)))
        middles = ((np.arange(KEPT) + 0.5) * len(found) / KEPT).astype(np.int64)
        return cls(found[middles], np.full(KEPT, len(found) / KEPT))

    @classmethod
    def of_share(cls, hits: int, trials: int) -> NightSample:
        """Make a sample of a yes-or-no measure: 1 for each hit, else 0.

        The distance between two of them is the difference of their shares.
        """
        return cls(np.array([0.0, 1.0]), np.array([trials - hits, hits], np.float64))

    @classmethod
    def pooled(cls, some: Iterable[NightSample]) -> NightSample:
        """Pool the samples of several nights."""
        each = list(some)
        if not each:
            return cls(np.zeros(0), np.zeros(0))
        values = np.concatenate([sample.values for sample in each])
        order = np.argsort(values, kind="stable")
        return cls(values[order], np.concatenate([sample.weights for sample in each])[order])

    @property
    def count(self) -> int:
        return round(float(self.weights.sum()))

    def summary(self) -> dict[str, float | int | None]:
        """Summarise the sample: count, mean and quartiles."""
        if not self.count:
            return {"count": 0, "mean": None, "p25": None, "median": None, "p75": None}
        below = np.cumsum(self.weights) / self.weights.sum()
        at = np.minimum(np.searchsorted(below, [0.25, 0.5, 0.75]), len(self.values) - 1)
        low, middle, high = (round(float(value), 6) for value in self.values[at])
        mean = round(float(np.average(self.values, weights=self.weights)), 6)
        return {"count": self.count, "mean": mean, "p25": low, "median": middle, "p75": high}

    def shares(self, edges: Floats) -> list[float]:
        """Compute the share of the sample between each two neighbouring edges."""
        if not self.count:
            return [0.0] * (len(edges) - 1)
        counts = np.histogram(self.values, edges, weights=self.weights)[0]
        return [round(float(count), 6) for count in counts / self.weights.sum()]


def distance(one: NightSample, other: NightSample) -> float:
    """Compute the two-sample Kolmogorov-Smirnov distance, 0 to 1: the largest gap of the two functions."""
    at = np.union1d(one.values, other.values)
    gaps = _below(one, at) - _below(other, at)
    return float(np.abs(gaps).max(initial=0.0))


def chance(one: NightSample, other: NightSample) -> float:
    """Compute the distance, at most 1, that samples of equal distributions exceed once in 1000 times.

    It holds for independent values.
    """
    n, m = one.count, other.count
    return min(1.0, _ONE_IN_1000 * math.sqrt((n + m) / (n * m))) if n and m else 1.0


def edges_of(one: NightSample, other: NightSample) -> Floats:
    """Compute the edges of equally wide bins over both samples."""
    both = np.concatenate([one.values, other.values])
    low, high = (float(both.min()), float(both.max())) if len(both) else (0.0, 1.0)
    return np.linspace(low, high if high > low else low + 1.0, _BINS + 1)


def _below(sample: NightSample, at: Floats) -> Floats:
    total = np.concatenate([[0.0], np.cumsum(sample.weights)])
    share: Floats = total[np.searchsorted(sample.values, at, side="right")] / max(
        sample.weights.sum(), 1e-300
    )
    return share

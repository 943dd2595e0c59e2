"""Choose the points of curves to draw: few enough for a page, and the ends of every step that shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from frpipe.evaluation.evaluation import Series
from frpipe.evaluation.sample import TrialSample, at_target
from frpipe.metrics.bootstrap import percentiles
from frpipe.metrics.curve import Curve
from frpipe.metrics.scores import Doubles, Indices

_POINTS = 1000
_BAND_POINTS = 24
_BINS = 200


def roc_series(curve: Curve, sample: TrialSample, targets: Sequence[float]) -> Series:
    """Make the ROC, TAR over FMR (TPIR over FPIR), with a band of confidence.

    The band begins at the smallest rate that was measured.
    """
    keep = kept(curve)
    x, y = curve.fmr[keep], curve.tar[keep]
    low, high = _band(curve, sample, x) if sample.drawable and targets else (None, None)
    return Series(x, y, curve.threshold[keep], low, high)


def det_series(curve: Curve) -> Series:
    """The DET curve, FNMR over FMR (FNIR over FPIR)."""
    keep = kept(curve)
    return Series(curve.fmr[keep], curve.fnmr[keep], curve.threshold[keep])


def binned(similarity: Doubles) -> Series:
    """A histogram: counts over the lower edges of bins of 0.01 from -1 to 1."""
    edges = np.linspace(-1, 1, _BINS + 1)
    counts, _ = np.histogram(np.clip(similarity, -1, 1), edges)
    return Series(edges[:-1], counts.astype(np.float64))


def kept(curve: Curve) -> Indices:
    """Points to draw: corners of the steps, at most so many, spread over the logarithms of both errors."""
    corner = np.ones(len(curve.threshold), bool)
    corner[1:-1] = ~(
        ((np.diff(curve.mated[1:]) == 0) & (np.diff(curve.mated[:-1]) == 0))
        | ((np.diff(curve.nonmated[1:]) == 0) & (np.diff(curve.nonmated[:-1]) == 0))
    )
    rows: Indices = np.flatnonzero(corner)
    if len(rows) <= _POINTS:
        return rows
    way = np.log1p(curve.nonmated[rows]) - np.log1p(curve.mated_trials - curve.mated[rows])
    wanted = np.linspace(way[0], way[-1], _POINTS)
    picked = np.unique(np.searchsorted(way, wanted).clip(0, len(rows) - 1))
    kept: Indices = rows[np.union1d(picked, [0, len(rows) - 1])]
    return kept


def _band(curve: Curve, sample: TrialSample, x: Doubles) -> tuple[Doubles, Doubles]:
    """The band, pointwise, at rates evenly spread on a logarithmic scale; straight lines between them."""
    rates = np.geomspace(1 / curve.nonmated_trials, 1, _BAND_POINTS)
    found = sample.replicates([at_target("TAR", rate).of for rate in rates])
    ends = [percentiles(column) for column in found.T]
    asked = np.log(np.maximum(x, rates[0]))
    low, high = (
        np.interp(asked, np.log(rates), [getattr(e, side) for e in ends]) for side in ("low", "high")
    )
    unmeasured = x < rates[0]
    low[unmeasured] = high[unmeasured] = np.nan
    return low, high

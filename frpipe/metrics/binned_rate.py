"""The error rate of comparisons by bins of a measure: of pose, of quality, of anything."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from frpipe.metrics.clustered import clustered_rate, paired
from frpipe.metrics.curve import ROUNDING
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.intervals import LEVEL, Interval
from frpipe.metrics.operating import RULE_OF_3, Insufficient
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Doubles


@dataclass(frozen=True, slots=True)
class Bin:
    """From `low` to below `high`, the last with its end.

    interval: of confidence, by persons; None: there are no trials.  lacking: why the rate says nothing yet:
    not even zero errors in so few trials would show that it is below that of all (rule of 3).
    """

    low: float
    high: float
    rate: Rate
    interval: Interval | None
    lacking: Insufficient | None


def rate_by_bin(
    errors: ArrayLike, persons: ArrayLike, values: ArrayLike, edges: ArrayLike, *, level: float = LEVEL
) -> list[Bin]:
    """The share of (n,) comparisons that are errors, by bins of their values; those outside are in none.

    persons: (n,) of mated comparisons, or of searches.  values: (n,); NaN: in no bin.  edges: (k + 1,).
    Raises ScoresError: lengths differ, there are no comparisons, or the edges do not ascend.
    """
    wrong, pairing = paired(errors, persons, None)
    measured, bounds = np.asarray(values, np.float64), np.asarray(edges, np.float64)
    if measured.shape != wrong.shape:
        raise ScoresError("errors and values differ in length", "give the value of each comparison")
    if len(bounds) < 2 or not (np.diff(bounds) > 0).all():
        raise ScoresError("the edges of bins do not ascend", "give two edges or more, the lowest first")
    overall = float(wrong.mean())
    found = []
    for place, (low, high) in enumerate(pairwise(bounds)):
        last = place == len(bounds) - 2
        inside = (measured >= low) & ((measured <= high) if last else (measured < high))
        rate = Rate(int(wrong[inside].sum()), int(inside.sum()))
        between = clustered_rate(wrong[inside], pairing.a[inside], level=level) if rate.trials else None
        found.append(Bin(float(low), float(high), rate, between, _lacking(rate, overall)))
    return found


def quantile_edges(values: ArrayLike, bins: int = 5) -> Doubles:
    """Edges of bins with as many values each, fewer where values are equal; of values that are not NaN.

    A single value makes one bin, and infinite ones lie in the outer bins.
    Raises ScoresError: there is no value.
    """
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        raise ScoresError("no comparison has a value of this measure", "name a column that was filled")
    # There is nothing half way to infinity: edges are then values that occur.
    method: Literal["linear", "inverted_cdf"] = "linear" if np.isfinite(known).all() else "inverted_cdf"
    edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1), method=method))
    if len(edges) > 1:
        return edges
    return np.unique(
        [np.nextafter(edges[0], 0) if edges[0] == np.inf else edges[0], np.nextafter(edges[0], np.inf)]
    )


def _lacking(rate: Rate, overall: float) -> Insufficient | None:
    if not rate.trials:
        return Insufficient("no trials", 0, 1)
    if not overall or rate.trials * overall + ROUNDING >= RULE_OF_3:
        return None
    need = int(np.ceil(RULE_OF_3 / overall - ROUNDING))
    return Insufficient(
        f"{rate.trials:,} trials, {need:,} are needed to tell it from the {overall:.3g} of all",
        rate.trials,
        need,
    )

"""Error versus discard: the error that is left once the comparisons of lowest quality are discarded.

The characteristic (EDC) of ISO/IEC 29794-1, after Grother and Tabassi 2007: the threshold is that of the
whole set and stays, the pair has the lower quality of its two sides, and a good measure discards errors
first. The area under it is taken up to a limit, as only small discards are of use (Schlett et al. 2023).
Intervals draw persons again, as `bootstrap`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.core.distinct import distinct
from frpipe.metrics.bootstrap import of_draws, percentiles, replicates_of
from frpipe.metrics.clustered import paired
from frpipe.metrics.curve import ROUNDING
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.intervals import LEVEL, Interval
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.scores import Doubles, Indices

# With errors of fewer people, drawing people again says little of how a measure does on others.
LEAST_PEOPLE = 5


@dataclass(frozen=True, slots=True)
class DiscardCurve:
    """Steps, one at each quality that occurs.

    fraction: (s,) discarded, from 0 up, below 1.  error: (s,) the error rate of the rest.
    """

    fraction: Doubles
    error: Doubles

    def at(self, fractions: ArrayLike) -> Doubles:
        """The error rate once at most so large a fraction is discarded: equal qualities go together."""
        asked = np.asarray(fractions, np.float64)
        return self.error[np.searchsorted(self.fraction, asked + ROUNDING, "right") - 1]

    def area(self, limit: float) -> float:
        """The area under the steps from 0 to a fraction (pAUC)."""
        edges = np.clip(np.append(self.fraction, 1.0), 0.0, limit)
        return float(np.diff(edges) @ self.error)

    def gain(self, limit: float) -> float:
        """The place of the area between chance and the ideal: 0 and 1; below 0, it discards what is good.

        NaN where there is nothing to gain: without an error, and where every comparison is one.
        """
        rate = float(self.error[0])
        if not 0 < rate < 1:
            return float("nan")
        chance = rate * limit
        return (chance - self.area(limit)) / (chance - ideal_area(rate, limit))


@dataclass(frozen=True, slots=True)
class Discards:
    """Comparisons sorted once by quality, for curves with many weightings.

    order: (n,) lowest quality first.  starts: (s,) the place where each quality begins.  wrong: (n,) errors
    in this order.
    """

    order: Indices
    starts: Indices
    wrong: Doubles

    @classmethod
    def of(cls, errors: ArrayLike, quality: ArrayLike) -> Discards:
        """Sort comparisons. errors, quality: (n,); one without quality, NaN, is discarded first.

        Raises ScoresError: lengths differ, or there are none.
        """
        wrong, known = np.asarray(errors, bool), np.asarray(quality, np.float64)
        if wrong.shape != known.shape or wrong.ndim != 1 or not len(wrong):
            raise ScoresError(
                "errors and qualities differ in length, or are none", "give the quality of each comparison"
            )
        lowest = np.where(np.isnan(known), -np.inf, known)
        order = np.argsort(lowest, kind="stable")
        ordered = lowest[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        return cls(order, starts, wrong[order].astype(np.float64))

    def curve(self, weights: Doubles | None = None) -> DiscardCurve:
        """The curve, with (n,) weights of the comparisons; None: of all alike."""
        each = np.ones(len(self.order)) if weights is None else weights[self.order]
        gone, found = (np.concatenate([[0.0], np.cumsum(part)]) for part in (each, each * self.wrong))
        total, errors = gone[-1], found[-1]
        left = total - gone[self.starts]
        some = left > 0
        starts = self.starts[some]
        return DiscardCurve(gone[starts] / total, (errors - found[starts]) / left[some])


@dataclass(frozen=True, slots=True)
class DiscardArea:
    """The area under an error-versus-discard curve (pAUC) up to the fraction `limit`.

    chance, ideal: that of a measure that knows nothing, and of one that discards errors alone.  gain: see
    `DiscardCurve.gain`.
    """

    limit: float
    area: float
    area_interval: Interval
    chance: float
    ideal: float
    gain: float
    gain_interval: Interval


def pair_quality(a: ArrayLike, b: ArrayLike) -> Doubles:
    """The quality of pairs: the lower of both sides; NaN where either is not known."""
    return np.minimum(np.asarray(a, np.float64), np.asarray(b, np.float64))


def discard_curve(errors: ArrayLike, quality: ArrayLike) -> DiscardCurve:
    """Error versus discard of (n,) comparisons; see `Discards.of`."""
    return Discards.of(errors, quality).curve()


def ideal_area(rate: float, limit: float) -> float:
    """The least area from 0 to a limit: errors are discarded one by one, and nothing else.

    The integral of max(0, (rate - d) / (1 - d)), that of very many comparisons.
    """
    reached = min(rate, limit)
    return reached + (1 - rate) * float(np.log1p(-reached)) if reached < 1 else 1.0


def discard_areas(
    errors: ArrayLike,
    quality: ArrayLike,
    persons: ArrayLike,
    limits: Sequence[float],
    *,
    replicates: int | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> list[DiscardArea] | Insufficient:
    """The area up to each limit, with intervals by drawing persons again.

    errors, quality, persons: (n,) of mated comparisons, or of mated searches.  Insufficient: there are errors
    of fewer than five persons.  replicates: None: as `replicates_of`.  The same persons are drawn for each
    measure under one seed.
    Raises ScoresError: lengths differ, there are none, or a limit is not between 0 and 1.
    """
    if any(not 0 < limit < 1 for limit in limits):
        raise ScoresError("a limit of discards is a fraction between 0 and 1", "for example 0.2")
    wrong, pairing = paired(errors, persons, None)
    erring = len(distinct(pairing.a[wrong]))
    if erring < LEAST_PEOPLE:
        return Insufficient(
            f"errors of {erring} people, error versus discard needs {LEAST_PEOPLE}", erring, LEAST_PEOPLE
        )
    discards = Discards.of(wrong, quality)
    count = replicates_of(len(wrong)) if replicates is None else replicates

    def areas(block: Doubles) -> Doubles:
        again = [discards.curve(drawn[pairing.a]) for drawn in block]
        return np.array([[(one.area(limit), one.gain(limit)) for limit in limits] for one in again])

    found, curve = of_draws(pairing.people, count, seed, areas), discards.curve()
    return [
        DiscardArea(
            limit,
            curve.area(limit),
            percentiles(found[:, place, 0], level),
            float(curve.error[0]) * limit,
            ideal_area(float(curve.error[0]), limit),
            curve.gain(limit),
            percentiles(found[:, place, 1], level),
        )
        for place, limit in enumerate(limits)
    ]


def kept(quality: ArrayLike, fraction: float) -> NDArray[np.bool_]:
    """Mask, (n,), what is left once at most so large a fraction of lowest quality is discarded."""
    known = np.asarray(quality, np.float64)
    lowest = np.where(np.isnan(known), -np.inf, known)
    ordered = np.sort(lowest)
    allowed = int(np.floor(fraction * len(ordered) + ROUNDING))
    left: NDArray[np.bool_] = lowest >= ordered[min(allowed, len(ordered) - 1)]
    return left

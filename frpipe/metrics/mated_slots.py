"""Curves with many weightings, of thresholds at mated scores and between them alone.

Between two neighbouring mated scores FNMR is constant, so there the curve is level: AUC, EER and FNMR at an
FMR are those of the whole curve, and a weighting costs one sum, however many non-mated scores there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from frpipe.metrics.bootstrap import REPLICATES, of_draws, replicates_of
from frpipe.metrics.clustered import Pairing
from frpipe.metrics.curve import Curve
from frpipe.metrics.scores import Doubles, Indices, Kind, oriented

Metric = Callable[[Curve], float]


@dataclass(frozen=True, slots=True)
class MatedSlots:
    """Slots from the strictest: above the largest of u mated scores, equal to it, between it and the next...

    mated: (u,) distinct scores, the larger the more alike, ascending. Slot 2u is below all of them, and
    `never` is of trials that no threshold accepts, as searches that miss the mate.
    """

    kind: Kind
    mated: Doubles

    @classmethod
    def of(cls, kind: Kind, mated: Doubles) -> MatedSlots:
        """Of (m,) oriented scores; minus infinity: never accepted."""
        return cls(kind, np.unique(mated[np.isfinite(mated)]))

    @property
    def never(self) -> int:
        """The slot that no threshold reaches."""
        return 2 * len(self.mated) + 1

    @property
    def count(self) -> int:
        """Number of slots."""
        return self.never + 1

    def of_scores(self, scores: Doubles) -> Indices:
        """Slots of oriented scores of any shape; minus infinity: never."""
        sides = (np.searchsorted(self.mated, scores, side) for side in ("left", "right"))
        slots = 2 * len(self.mated) - sum(sides)
        found: Indices = np.where(np.isneginf(scores), self.never, slots).astype(np.int64)
        return found

    def curve(self, mated: Doubles, nonmated: Doubles) -> Curve:
        """Curve of (count,) weights in each slot. All its points are points of the whole curve."""
        thresholds = np.empty(self.never)
        thresholds[1::2] = self.mated[::-1]
        thresholds[:-1:2] = np.nextafter(self.mated[::-1], np.inf)
        thresholds[-1] = -np.inf
        accepted = [np.concatenate([[0.0], np.cumsum(part[:-1])]) for part in (mated, nonmated)]
        trials = [float(sums[-1] + part[-1]) for sums, part in zip(accepted, (mated, nonmated), strict=True)]
        whole = oriented(np.concatenate([[np.inf], thresholds]), self.kind)
        return Curve(self.kind, whole, accepted[0], accepted[1], trials[0], trials[1])


def slot_replicates(
    slots: MatedSlots,
    people: int,
    sums: Callable[[Doubles], tuple[Doubles, Doubles]],
    metrics: Sequence[Metric],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    threads: int | None = None,
) -> Doubles:
    """(replicates, metrics) values with people drawn again, NaN where a kind of trial is missing.

    sums: weights in each slot, of mated and of other trials, from (people,) counts of draws.  threads: see
    `of_draws`.
    """

    def values(block: Doubles) -> Doubles:
        rows = np.full((len(block), len(metrics)), np.nan)
        for row, drawn in enumerate(block):
            curve = slots.curve(*sums(drawn))
            if curve.mated_trials > 0 and curve.nonmated_trials > 0:
                rows[row] = [metric(curve) for metric in metrics]
        return rows

    return of_draws(people, replicates, seed, values, threads)


def pair_replicates(
    kind: Kind,
    mated: Doubles,
    nonmated: Doubles,
    persons: tuple[Indices, Indices, Indices],
    metrics: Sequence[Metric],
) -> Doubles:
    """(replicates, metrics), as `curve_replicates`, of AUC, EER or FNMR at an FMR.

    mated, nonmated: (m,) and (n,) oriented scores; minus infinity: never accepted.  persons: ids of the mated
    ones, and of both sides of the others.
    """
    same, other = Pairing.of((persons[0], persons[0]), persons[1:])
    slots = MatedSlots.of(kind, mated)
    up, over = slots.of_scores(mated), slots.of_scores(nonmated)

    def sums(drawn: Doubles) -> tuple[Doubles, Doubles]:
        weights = same.weights(drawn), other.weights(drawn)
        return (
            np.bincount(up, weights[0], slots.count).astype(np.float64),
            np.bincount(over, weights[1], slots.count).astype(np.float64),
        )

    return slot_replicates(
        slots, same.people, sums, metrics, replicates=replicates_of(len(mated) + len(nonmated))
    )

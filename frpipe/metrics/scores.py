"""Scores of comparisons, mated apart from non-mated, and how many comparisons failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.metrics.errors import ScoresError

Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]
Kind = Literal["similarity", "distance"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of mated and of non-mated comparisons.

    mated, nonmated: (m,) and (n,) float64, the larger the more alike: similarities, or distances negated.

    mated_lost, nonmated_lost: comparisons without a score, as a side had no usable face or is not enrolled.
    kind: of the scores that were given, and so of every threshold that goes in or comes out.
    """

    mated: Doubles
    nonmated: Doubles
    mated_lost: int = 0
    nonmated_lost: int = 0
    kind: Kind = "similarity"

    @classmethod
    def of(
        cls,
        mated: ArrayLike,
        nonmated: ArrayLike,
        *,
        kind: Kind = "similarity",
        mated_lost: int = 0,
        nonmated_lost: int = 0,
    ) -> Scores:
        """Make scores of (m,) and (n,) numbers of one kind. They are compared as float64, as they are.

        Raises ScoresError: a score is not finite, an array is not of one dimension, a count is negative.
        """
        if mated_lost < 0 or nonmated_lost < 0:
            raise ScoresError(
                "a count of failed comparisons is negative", "count each failed comparison once"
            )
        return cls(
            oriented(finite(mated, "mated"), kind),
            oriented(finite(nonmated, "non-mated"), kind),
            mated_lost,
            nonmated_lost,
            kind,
        )

    def completed(self) -> Scores:
        """The scores without the failed comparisons."""
        return Scores(self.mated, self.nonmated, kind=self.kind)


def oriented(values: Doubles, kind: Kind) -> Doubles:
    """Orient scores so that larger is more alike; and back.

    Negation is exact, where 1 - distance would join near values.
    """
    if kind not in {"similarity", "distance"}:
        raise ScoresError(f"scores of kind {kind!r}", "say similarity or distance")
    return values if kind == "similarity" else 0.0 - values


def oriented_threshold(threshold: float, kind: Kind) -> float:
    """Orient one threshold as `oriented`. Raises ScoresError: it is NaN."""
    if np.isnan(threshold):
        raise ScoresError("a threshold is not a number", f"give a {kind}")
    return float(oriented(np.float64(threshold), kind))  # type: ignore[arg-type]


def finite(values: ArrayLike, what: str) -> Doubles:
    """Check and convert to (n,) float64. Raises ScoresError: of another shape, or a value is not finite."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ScoresError(f"{what} scores of {array.ndim} dimensions", "give one score for each comparison")
    if not np.isfinite(array).all():
        raise ScoresError(
            f"a {what} score is not finite",
            "count a comparison that failed as lost, and give no score for it",
        )
    return array

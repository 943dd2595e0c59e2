"""Calibrate each comparison by others: those of other folds, or of other people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.core.distinct import merged
from frpipe.metrics.calibration import Calibration
from frpipe.metrics.clustered import Pairing
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.scores import Doubles, Indices, Kind, Scores

# People, or rows, are dealt into so many parts.
PARTS = 5
# Below so many comparisons of a kind a map says more of them than of the system.
LEAST = 10


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of (n,) comparisons. a, b: (n,) numbers of the parts of both sides, equal within a part."""

    a: Indices
    b: Indices

    @classmethod
    def of_folds(cls, fold: ArrayLike) -> Parts:
        """Make a part for each label of (n,)."""
        numbers = np.unique(np.asarray(fold), return_inverse=True)[1].astype(np.int64)
        return cls(numbers, numbers)

    @classmethod
    def of_people(cls, a: ArrayLike, b: ArrayLike, parts: int = PARTS, seed: int = 0) -> Parts:
        """Deal the people of both sides, (n,) ids, into parts as alike in number as can be."""
        (pairing,) = Pairing.of((a, b))
        dealt = np.random.default_rng(seed).permutation(pairing.people) % parts
        return cls(dealt[pairing.a], dealt[pairing.b])

    @classmethod
    def of_rows(cls, mated: NDArray[np.bool_], parts: int = PARTS, seed: int = 0) -> Parts:
        """Deal comparisons, each kind for itself: for lists that do not say who is compared."""
        rng, dealt = np.random.default_rng(seed), np.empty(len(mated), np.int64)
        for kind in (mated, ~mated):
            dealt[kind] = rng.permutation(np.count_nonzero(kind)) % parts
        return cls(dealt, dealt)

    @property
    def count(self) -> int:
        """The number of parts that occur."""
        return len(merged(self.a, self.b))


def cross_fitted(
    score: ArrayLike,
    mated: ArrayLike,
    parts: Parts,
    fit: Callable[[Scores], Calibration],
    kind: Kind = "similarity",
) -> Doubles | Insufficient:
    """(n,) log-likelihood ratios, each of a map fitted on comparisons that share no part with it.

    score, mated: (n,) of completed comparisons. A comparison of two parts is calibrated by those that have no
    side in either, so that nobody in it was seen by its map.
    Insufficient: some map would have fewer than ten mated, or non-mated comparisons.
    Raises ScoresError: lengths differ, or a score is not finite.
    """
    scores, truth = np.asarray(score, np.float64), np.asarray(mated, bool)
    if not len(scores) == len(truth) == len(parts.a) == len(parts.b):
        raise ScoresError("scores, labels and parts differ in length", "give one of each for a comparison")
    ratios = np.empty(len(scores))
    for held, others in apart(parts):
        up, over = scores[others & truth], scores[others & ~truth]
        if lacking := too_few(len(up), len(over)):
            return lacking
        ratios[held] = fit(Scores.of(up, over, kind=kind)).llr(scores[held])
    return ratios


def apart(parts: Parts) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Masks, (n,): comparisons of the same two parts, and those that have no side in either."""
    sides = np.stack([np.minimum(parts.a, parts.b), np.maximum(parts.a, parts.b)], 1)
    for low, high in np.unique(sides, axis=0):
        others = ~(np.isin(parts.a, (low, high)) | np.isin(parts.b, (low, high)))
        yield (sides == (low, high)).all(1), others


def too_few(mated: int, nonmated: int) -> Insufficient | None:
    """The reason why so many comparisons calibrate no others; None where they do."""
    have = min(mated, nonmated)
    if have >= LEAST:
        return None
    what = "mated" if mated == have else "non-mated"
    return Insufficient(f"{have:,} {what} trials to calibrate others by, {LEAST} needed", have, LEAST)

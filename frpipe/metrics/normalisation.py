"""Scores in units of what the two sides score against strangers: Z, T, S and adaptive S normalisation.

A face that resembles everybody scores higher against strangers than one that resembles nobody, and one
threshold is too lenient for the one and too strict for the other. A cohort of people who are in no
comparison shows how high a side scores against strangers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.core.counted import counted
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.scores import Doubles, Indices

Normalisation = Literal["z", "t", "s", "as"]
NORMALISATIONS: tuple[Normalisation, ...] = get_args(Normalisation)
# Of a cohort: a standard deviation of fewer scores is off by more than an eighth.
LEAST_COHORT = 30
# Of the most alike, for the adaptive one.
TOP = 200
# Rows whose scores against the whole cohort are held at once.
_ROWS = 1024
# A deviation below it is rounding.
_FLAT = 1e-9


@dataclass(frozen=True, slots=True)
class CohortScores:
    """Scores of (n,) sides against the cohort.

    mean, deviation: (n,) of all of it; top_mean, top_deviation: of its most alike.
    """

    mean: Doubles
    deviation: Doubles
    top_mean: Doubles
    top_deviation: Doubles

    @classmethod
    def of(cls, scores: ArrayLike, top: int = TOP) -> CohortScores:
        """Summarise (n, c) similarities of n sides to c people of the cohort.

        Raises ScoresError: fewer than 30 people, or a top that is none of them.
        """
        table = np.asarray(scores, np.float64)
        people = table.shape[1]
        if people < LEAST_COHORT or not top > 1:
            raise ScoresError(
                f"a cohort of {counted(people, 'people')}, of whom {top:,} are the most alike",
                f"take {LEAST_COHORT} people or more, and some of them as the most alike",
            )
        top = min(top, people)
        best = np.partition(table, people - top, axis=1)[:, people - top :]
        return cls(table.mean(1), table.std(1, ddof=1), best.mean(1), best.std(1, ddof=1))

    def some(self, rows: Indices) -> CohortScores:
        """The scores of some sides."""
        return CohortScores(
            self.mean[rows], self.deviation[rows], self.top_mean[rows], self.top_deviation[rows]
        )


def cohort_scores(
    vectors: NDArray[np.floating], cohort: NDArray[np.floating], top: int = TOP
) -> CohortScores:
    """Score (n, dim) unit vectors against a cohort of (c, dim), a vector a person. See `CohortScores.of`."""
    others = np.asarray(cohort, np.float64).T
    parts = [
        CohortScores.of(np.asarray(vectors[start : start + _ROWS], np.float64) @ others, top)
        for start in range(0, max(len(vectors), 1), _ROWS)
    ]
    return CohortScores(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("mean", "deviation", "top_mean", "top_deviation")
        )
    )


def normalised(score: ArrayLike, reference: CohortScores, probe: CohortScores, how: Normalisation) -> Doubles:
    """(n,) normalised scores of (n,) similarities; NaN stays NaN.

    reference, probe: of the two sides of each.
    z: (score - mean) / deviation of the reference against the cohort (Li and Porter 1988).  t: of the probe
    (Auckenthaler et al. 2000).  s: the mean of both, the same whichever side is called the reference (Kenny
    2010).  as: of the most alike of the cohort of each side (Cumani et al. 2011).
    Raises ScoresError: no such normalisation, or a side scores the same against all of the cohort.
    """
    x = np.asarray(score, np.float64)
    if how == "z":
        return _standard(x, reference.mean, reference.deviation)
    if how == "t":
        return _standard(x, probe.mean, probe.deviation)
    if how == "s":
        return (normalised(x, reference, probe, "z") + normalised(x, reference, probe, "t")) / 2
    if how == "as":
        sides = [_standard(x, side.top_mean, side.top_deviation) for side in (reference, probe)]
        return (sides[0] + sides[1]) / 2
    raise ScoresError(f"a normalisation {how!r}", f"say one of {', '.join(NORMALISATIONS)}")


def _standard(score: Doubles, mean: Doubles, deviation: Doubles) -> Doubles:
    if not (deviation[~np.isnan(score)] > _FLAT).all():
        raise ScoresError(
            "a side scores the same against all of the cohort: there is nothing to normalise by",
            "take a cohort of different people",
        )
    found: Doubles = np.full(len(score), np.nan)
    return np.divide(score - mean, deviation, out=found, where=~np.isnan(score))

"""Upper bounds of small rates whose trials share people: how many independent trials these are worth.

Few errors do not show how much trials with a person in common have in common, and none do not show it at all.
So the design effect is not that of the errors found: it is measured on the highest scores of all, as many as
the target rate would give and some more. The variance is that of dyadic data, where both persons of a
comparison are clusters (Fafchamps and Gubert 2007; Aronow, Samii and Assenova 2015; for error rates of
recognition Fogliato, Patil and Perona 2024), and the bound that of Clopper and Pearson for so many trials
(Korn and Graubard 1998).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

from frpipe.metrics.clustered import Pairing, shared_products
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.intervals import upper_bound
from frpipe.metrics.scores import Doubles, Indices

# Scores beyond those that the target would give: of fewer than these the effect is mostly chance.
_MORE = 20
# With one person on a side of all comparisons, or two people in all, nothing shows how persons differ.
_TOO_FEW = 2.0


@dataclass(frozen=True, slots=True)
class EffectiveTrials:
    """Trials that share people. trials: how many.  effective: so many independent ones bound a rate as well.

    clusters: people whose comparisons make up the variance: of one who is in all of them, 1.
    """

    trials: int
    effective: float
    clusters: float

    @classmethod
    def of(
        cls, scores: ArrayLike, pairing: Pairing, target: float, confidence: float = 0.95
    ) -> EffectiveTrials:
        """Measure (n,) scores of non-mated trials, the larger the more alike, around a target rate.

        Raises ScoresError: lengths differ, or there are no trials.
        """
        known = np.asarray(scores, np.float64)
        if known.shape != pairing.a.shape:
            raise ScoresError("scores and persons differ in length", "name the persons of each comparison")
        if not len(known):
            raise ScoresError("no comparisons", "there is no rate without trials")
        sizes = np.bincount(pairing.a, minlength=pairing.people)
        across = pairing.a != pairing.b
        sizes += np.bincount(pairing.b[across], minlength=pairing.people)
        if sizes.max() == 1:
            return cls(len(known), float(len(known)), float(pairing.people))
        least = float(pairing.independent())
        if _amount(sizes.astype(np.float64)) <= _TOO_FEW:
            return cls(len(known), least, 1.0)
        factor, clusters = _effect(known, pairing, target, confidence)
        return cls(len(known), max(len(known) / factor, least), clusters)

    def upper(self, errors: ArrayLike, confidence: float = 0.95) -> Doubles:
        """Upper bounds of the rate, from counts of errors among all trials."""
        share = self.effective / self.trials
        return upper_bound(np.asarray(errors, np.float64) * share, self.effective, confidence)

    def allowed(self, target: float, confidence: float = 0.95) -> int | None:
        """The largest number of errors whose upper bound is at most the target; None: not even none."""
        counts: Indices = np.arange(int(target * self.trials) + 1)
        below = np.flatnonzero(self.upper(counts, confidence) <= target)
        return int(below[-1]) if len(below) else None


def _effect(scores: Doubles, pairing: Pairing, target: float, confidence: float) -> tuple[float, float]:
    """The design effect, at least 1, with the t of few clusters; and how many clusters there are."""
    amount = min(int(np.ceil(target * len(scores))) + _MORE, len(scores) - 1)
    wrong = scores >= np.partition(scores, len(scores) - amount)[len(scores) - amount]
    rest: Doubles = wrong.astype(np.float64) - float(wrong.mean())
    alone = float((rest**2).sum())
    if not alone:
        return len(scores) / pairing.independent(), 1.0
    shared, sums = shared_products(rest, pairing)
    clusters = _amount(sums)
    few = 1.0
    if confidence > 0.5:
        # One degree of freedom is lost: the residuals add up to nothing.
        few = float(stdtrit(max(clusters - 1, 1.0), confidence) / ndtri(confidence)) ** 2
    return max(1.0, shared / alone) * few, clusters


def _amount(sums: Doubles) -> float:
    """The number of equal squares that would add up so: (sum s^2)^2 / sum s^4."""
    squares = sums**2
    total = float((squares**2).sum())
    return float(squares.sum()) ** 2 / total if total else 1.0

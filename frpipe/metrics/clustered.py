"""Confidence intervals of one rate whose trials share people, without resampling.

The variance counts what two comparisons with a person in common have in common (Fafchamps and Gubert 2007);
so many independent trials would have the same variance, and for so many the interval is that of Clopper and
Pearson (Korn and Graubard 1998).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from frpipe.core.distinct import distinct, merged
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.intervals import LEVEL, Interval, clopper_pearson
from frpipe.metrics.scores import Doubles, Indices


@dataclass(frozen=True, slots=True)
class Pairing:
    """Persons of comparisons. a, b: (n,) numbers, from 0 up to `people`, of the persons on both sides."""

    a: Indices
    b: Indices
    people: int

    @classmethod
    def of(cls, *sides: tuple[ArrayLike, ArrayLike]) -> list[Pairing]:
        """Number the ids, of any type that sorts; a person has one number in all of the lists.

        Raises ScoresError: the two sides of a list differ in length.
        """
        labels = [np.asarray(side) for pair in sides for side in pair]
        if any(len(a) != len(b) for a, b in zip(labels[::2], labels[1::2], strict=True)):
            raise ScoresError(
                "the sides of comparisons differ in length", "name both persons of each comparison"
            )
        persons, numbers = np.unique(np.concatenate(labels), return_inverse=True)
        parts = np.split(numbers.astype(np.int64), np.cumsum([len(label) for label in labels])[:-1])
        return [cls(a, b, len(persons)) for a, b in zip(parts[::2], parts[1::2], strict=True)]

    def weights(self, drawn: Doubles) -> Doubles:
        """(n,) weights of comparisons, from (people,) counts of how often each person was drawn."""
        return np.where(self.a == self.b, drawn[self.a], drawn[self.a] * drawn[self.b])

    def independent(self) -> int:
        """Number of comparisons that share nobody, if all pairs were compared; at least 1."""
        if (self.a == self.b).all():
            return max(1, len(distinct(self.a)))
        sides = len(distinct(self.a)), len(distinct(self.b))
        return max(1, min(*sides, len(merged(self.a, self.b)) // 2))


def clustered_rate(
    errors: ArrayLike, a: ArrayLike, b: ArrayLike | None = None, *, level: float = LEVEL
) -> Interval:
    """Interval of the share of (n,) comparisons that are errors; a, b: (n,) ids of the persons on both sides.

    b None: all comparisons are mated, or each is a search and a its probe's person.
    Raises ScoresError: lengths differ, or there are none.
    """
    wrong, pairing = paired(errors, a, b)
    known = certain(wrong, pairing, level)
    if known:
        return known
    rate = float(wrong.mean())
    rest: Doubles = wrong.astype(np.float64) - rate
    return effective_interval(rate, len(wrong), shared_products(rest, pairing)[0], pairing.people, level)


def effective_interval(
    rate: float, trials: int, shared: float, people: int, level: float = LEVEL
) -> Interval:
    """Interval of a rate, above 0 and below 1, of so many comparisons.

    shared: sum of the products of residuals over all pairs of comparisons that share one of the `people`,
    each with itself too.  The variance is at least that of independent trials.
    """
    alone = trials * rate * (1 - rate)
    effective = min(trials, rate * (1 - rate) / (max(shared, alone) / trials**2))
    if people > 1:
        tail = (1 - level) / 2
        effective *= float(ndtri(tail) / stdtrit(people - 1, tail)) ** 2
    low, high = clopper_pearson(rate * effective, effective, level)
    return Interval(float(low), float(high), level, f"clopper-pearson of {effective:.0f} effective trials")


def paired(errors: ArrayLike, a: ArrayLike, b: ArrayLike | None) -> tuple[NDArray[np.bool_], Pairing]:
    """Check errors and number their persons. Raises ScoresError: lengths differ, or there are none."""
    (pairing,) = Pairing.of((a, a if b is None else b))
    wrong = np.asarray(errors, bool)
    if wrong.shape != pairing.a.shape:
        raise ScoresError("errors and persons differ in length", "name the persons of each comparison")
    if not len(wrong):
        raise ScoresError("no comparisons", "there is no rate without trials")
    return wrong, pairing


def certain(wrong: NDArray[np.bool_], pairing: Pairing, level: float) -> Interval | None:
    """The interval where none, or all, are errors: that of as many trials as comparisons that share nobody.

    There, the scores say nothing of how people differ. None: some are errors and some are not.
    """
    if wrong.any() and not wrong.all():
        return None
    return certain_interval(bool(wrong.all()), pairing.independent(), level)


def certain_interval(wrong: bool, trials: int, level: float = LEVEL) -> Interval:
    """Interval where all comparisons are errors, or none, by how many share nobody."""
    low, high = clopper_pearson(trials if wrong else 0, trials, level)
    return Interval(float(low), float(high), level, f"clopper-pearson of {trials} independent comparisons")


def shared_products(rest: Doubles, pairing: Pairing) -> tuple[float, Doubles]:
    """Sum the products of residuals over all pairs of comparisons that share a person.

    Each comparison is paired with itself, too. rest: (n,) residuals. Returns also (people,) sums of the
    residuals of each person.
    """
    across = pairing.a != pairing.b
    sums: Doubles = np.bincount(pairing.a, rest, minlength=pairing.people).astype(np.float64)
    sums += np.bincount(pairing.b[across], rest[across], minlength=pairing.people)
    # Comparisons of the same two persons are in the sums of both, so their products are counted twice.
    low, high = np.minimum(pairing.a, pairing.b)[across], np.maximum(pairing.a, pairing.b)[across]
    _, couple = np.unique(low * pairing.people + high, return_inverse=True)
    return float((sums**2).sum() - (np.bincount(couple, rest[across]) ** 2).sum()), sums

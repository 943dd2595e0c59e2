"""Who is on the two sides of comparisons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.scores import Doubles, Indices


@dataclass(frozen=True, slots=True)
class Pairing:
    """a, b: (n,) numbers, from 0 up to `people`, of the persons on both sides of comparisons."""

    a: Indices
    b: Indices
    people: int

    @classmethod
    def of(cls, *sides: tuple[ArrayLike, ArrayLike]) -> list[Pairing]:
        """From ids of any type that sorts; a person has one number in all of the lists.

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
        """(n,) of comparisons, from (people,), how often each person was drawn."""
        return np.where(self.a == self.b, drawn[self.a], drawn[self.a] * drawn[self.b])

    def independent(self) -> int:
        """So many comparisons that share nobody can be chosen where all pairs were compared; 1 at least."""
        if (self.a == self.b).all():
            return max(1, len(np.unique(self.a)))
        sides = len(np.unique(self.a)), len(np.unique(self.b))
        return max(1, min(*sides, len(np.union1d(self.a, self.b)) // 2))

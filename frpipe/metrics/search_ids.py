"""Ids of probes, candidates and enrolled people, numbered once for all questions about the searches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from frpipe.metrics.scores import Indices

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SearchIds:
    """Numbers in place of ids, in the order of the ids; p probes, c candidates.

    truth: (p,) who it is.  subject: (c,) who is listed.  enrolled, blank: (p,), whether the truth is in the
    gallery, or its enrolment failed.  people, not_enrolled: distinct ids in the gallery, and of failures.
    """

    truth: Indices
    subject: Indices
    enrolled: Mask
    blank: Mask
    people: int
    not_enrolled: int

    @classmethod
    def of(
        cls, truth: ArrayLike, subject: ArrayLike, enrolled: ArrayLike, not_enrolled: ArrayLike = ()
    ) -> SearchIds:
        """Number ids of any type that sorts: linear in all of them, but for a sort of those that are listed.

        An array of objects is never searched with `np.isin`, which compares each with each.
        """
        who, listed, known, blank = (_objects(ids) for ids in (truth, subject, enrolled, not_enrolled))
        codes, _ = pd.factorize(np.concatenate([who, listed]), sort=True)
        numbers = codes.astype(np.int64)
        return cls(
            numbers[: len(who)],
            numbers[len(who) :],
            _among(who, known),
            _among(who, blank),
            len(pd.unique(known)),
            len(pd.unique(blank)),
        )

    @property
    def gallery(self) -> int:
        """Number of people in the gallery, those whose enrolment failed included."""
        return self.people + self.not_enrolled

    @property
    def mated(self) -> Mask:
        """Mask, (p,), of the probes whose mate is in the gallery, or should be."""
        return self.enrolled | self.blank

    def some(self, probes: Indices, candidates: Mask) -> SearchIds:
        """The numbers of some probes and candidates, against the same gallery."""
        return SearchIds(
            self.truth[probes],
            self.subject[candidates],
            self.enrolled[probes],
            self.blank[probes],
            self.people,
            self.not_enrolled,
        )


def _objects(ids: ArrayLike) -> NDArray[Any]:
    array = np.asarray(ids)
    # Of an empty list the type is that of numbers, and of texts pandas makes objects anyway.
    return array if array.dtype.kind in "iub" and len(array) else array.astype(object)


def _among(ids: NDArray[Any], known: NDArray[Any]) -> Mask:
    """Mask, (n,), of the ids that are among the known ones, by their hashes."""
    found: Mask = np.asarray(pd.Series(ids, dtype=ids.dtype).isin(known), bool)
    return found

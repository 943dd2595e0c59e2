"""Searches of a gallery, one to many, as an evaluation takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frpipe.evaluation.sample import Sample
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Doubles, Indices, Scores
from frpipe.metrics.searches import Searches, searches_of

Labels = NDArray[Any]
Mask = NDArray[np.bool_]
# Below every similarity: a mate who is not first, and a stranger to whom nobody was offered.
_MISS, _NOBODY = -3.0, -2.0


@dataclass(frozen=True, slots=True)
class SearchTrials:
    """p probes and their candidates.

    image: (p,) ids of the probes' photos.  truth: (p,) who it is.  failed: (p,), no face was found.  probe,
    subject, similarity: (c,) of the candidates: whose list, who, how alike.  enrolled: ids in the gallery.
    not_enrolled: ids whose enrolment failed.  groups: by column, (p,) labels; empty: of no group.
    quality: by column of a measure, (p,) of the probe, higher better; NaN: not known.
    """

    image: Labels
    truth: Labels
    failed: Mask
    probe: Indices
    subject: Labels
    similarity: Doubles
    enrolled: Labels
    not_enrolled: Labels
    groups: Mapping[str, Labels] = field(default_factory=dict)
    quality: Mapping[str, Doubles] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def mated(self) -> Mask:
        """(p,): whose mate is in the gallery, or should be."""
        return np.isin(self.truth, self.enrolled) | self._blank

    @property
    def done_mated(self) -> Mask:
        """(p,): mated, with a probe and a mate. In this order are the mated ones of `searches`."""
        return self.mated & ~self.failed & ~self._blank

    @property
    def done_strangers(self) -> Mask:
        """(p,): non-mated, with a probe."""
        return ~self.mated & ~self.failed

    def some(self, chosen: Mask | Indices) -> SearchTrials:
        """Those of a mask, or in an order, against the same gallery."""
        rows = np.arange(len(self))[chosen]
        place = np.full(len(self), -1)
        place[rows] = np.arange(len(rows))
        kept = place[self.probe] >= 0
        return replace(
            self,
            image=self.image[rows],
            truth=self.truth[rows],
            failed=self.failed[rows],
            probe=place[self.probe[kept]],
            subject=self.subject[kept],
            similarity=self.similarity[kept],
            groups={column: labels[rows] for column, labels in self.groups.items()},
            quality={column: values[rows] for column, values in self.quality.items()},
        )

    def searches(self) -> Searches:
        """As metrics take them."""
        return searches_of(
            self.probe,
            self.subject,
            self.similarity,
            self.truth,
            self.enrolled,
            failed=np.flatnonzero(self.failed),
            not_enrolled=self.not_enrolled,
        )

    def persons(self) -> Indices:
        """(p,) a number for each truth."""
        return np.unique(self.truth.astype(str), return_inverse=True)[1].astype(np.int64)

    def sample(self) -> Sample:
        """Completed searches, by the score of a mate who is first and the best of each stranger."""
        found, persons = self.searches(), self.persons()
        mates = np.where(found.rank == 1, found.mate, _MISS)
        best = np.maximum(found.best_stranger, _NOBODY)
        strangers = persons[self.done_strangers]
        return Sample(Scores(mates, best), persons[self.done_mated], strangers, strangers)

    def failures(self) -> tuple[Rate, Rate]:
        """FTA of probes and FTE of people."""
        people = len(np.unique(self.enrolled)) + len(np.unique(self.not_enrolled))
        return Rate(int(self.failed.sum()), len(self)), Rate(len(np.unique(self.not_enrolled)), people)

    @property
    def _blank(self) -> Mask:
        return np.isin(self.truth, self.not_enrolled)

"""Searches of a gallery, one to many, as trials of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frpipe.evaluation.sample import TrialSample
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Doubles, Indices, Scores
from frpipe.metrics.search_ids import SearchIds
from frpipe.metrics.searches import Searches, numbered_searches

Labels = NDArray[Any]
Mask = NDArray[np.bool_]
# Below every similarity: a mate who is not first, and a stranger to whom nobody was offered.
_MISS, _NOBODY = -3.0, -2.0


@dataclass(frozen=True)
class SearchTrials:
    """Trials of p probes and their candidates. Ids are numbered once, when they are first needed.

    image: (p,) ids of the probes' photos.  truth: (p,) who it is.  failed: (p,), no face was found.  probe,
    subject, similarity: (c,) of the candidates: whose list, who, how alike.  enrolled: ids in the gallery.
    not_enrolled: ids whose enrolment failed.  groups: by column, (p,) labels; empty: of no group.
    quality: by column of a measure, (p,) of the probe, higher better; NaN: not known.  rank: within which a
    mate counts as found.
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
    rank: int = 1

    def __len__(self) -> int:
        return len(self.truth)

    @cached_property
    def ids(self) -> SearchIds:
        """The numbers in place of ids."""
        return SearchIds.of(self.truth, self.subject, self.enrolled, self.not_enrolled)

    @property
    def mated(self) -> Mask:
        """Mask, (p,), of the probes whose mate is in the gallery, or should be."""
        return self.ids.mated

    @property
    def done_mated(self) -> Mask:
        """Mask, (p,), of mated probes that were searched, with a mate.

        In this order are the mated ones of `searches`.
        """
        return self.ids.enrolled & ~self.ids.blank & ~self.failed

    @property
    def done_strangers(self) -> Mask:
        """Mask, (p,), of non-mated probes that were searched."""
        return ~self.mated & ~self.failed

    def some(self, chosen: Mask | Indices) -> SearchTrials:
        """Select the trials of a mask, or put them in an order, against the same gallery."""
        rows = np.arange(len(self))[chosen]
        place = np.full(len(self), -1)
        place[rows] = np.arange(len(rows))
        kept = place[self.probe] >= 0
        found = replace(
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
        # A gallery of a million people is not numbered again for each group of probes.
        found.__dict__["ids"] = self.ids.some(rows, kept)
        return found

    @cached_property
    def _searches(self) -> Searches:
        return numbered_searches(self.probe, self.ids, self.similarity, failed=np.flatnonzero(self.failed))

    def searches(self) -> Searches:
        """The searches in the form that metrics take."""
        return self._searches

    def ranked(self, rank: int) -> SearchTrials:
        """Make the same trials with another rank within which a mate counts as found."""
        if rank == self.rank:
            return self
        found = replace(self, rank=rank)
        found.__dict__.update(ids=self.ids, _searches=self._searches)
        return found

    def persons(self) -> Indices:
        """Numbers, (p,), of the truths, in the order of their ids."""
        return self.ids.truth

    def sample(self) -> TrialSample:
        """The sample of completed searches: scores of mates within the rank, each stranger's best."""
        found, persons = self.searches(), self.persons()
        mates = np.where(found.within(self.rank), found.mate, _MISS)
        best = np.maximum(found.best_stranger, _NOBODY)
        strangers = persons[self.done_strangers]
        return TrialSample(Scores(mates, best), persons[self.done_mated], strangers, strangers)

    def failures(self) -> tuple[Rate, Rate]:
        """FTA of probes and FTE of people."""
        ids = self.ids
        return Rate(int(self.failed.sum()), len(self)), Rate(ids.not_enrolled, ids.gallery)

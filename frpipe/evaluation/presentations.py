"""Presentations, bona fide and attacks, as trials of an evaluation of presentation attack detection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from frpipe.evaluation.pairs import Labels, Mask
from frpipe.metrics.presentation import Presentations
from frpipe.metrics.scores import Doubles, Indices


@dataclass(frozen=True, slots=True)
class PadTrials:
    """Trials of n presentations.

    species: (n,) of an attack; empty: bona fide.  score: (n,) the larger the more bona fide; NaN: no
    response.  person: (n,) numbers of persons: who is there, or is imitated.  similarity: (n,) to the person
    who is claimed, NaN where nothing was compared; None: nothing was.  groups: by column, (n,) labels; empty:
    of no group.
    """

    species: Labels
    score: Doubles
    person: Indices
    similarity: Doubles | None = None
    groups: Mapping[str, Labels] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.species)

    @property
    def bona_fide(self) -> Mask:
        """Mask, (n,), of the bona fide presentations."""
        return np.asarray(self.species == "", bool)

    @property
    def responded(self) -> Mask:
        """Mask, (n,), of the presentations with a score."""
        return ~np.isnan(self.score)

    @property
    def all_species(self) -> list[str]:
        """The names of the species of attacks, in order."""
        return sorted({str(name) for name in self.species} - {""})

    def of(self, species: str) -> Mask:
        """Mask, (n,), of the attacks of a species; "": bona fide."""
        return np.asarray(self.species == species, bool)

    def some(self, chosen: Mask) -> PadTrials:
        """Select the trials of a mask."""
        picked: dict[str, Any] = {
            name: getattr(self, name)[chosen] for name in ("species", "score", "person")
        }
        similarity = None if self.similarity is None else self.similarity[chosen]
        groups = {column: labels[chosen] for column, labels in self.groups.items()}
        return replace(self, **picked, similarity=similarity, groups=groups)

    def presentations(self) -> Presentations:
        """The presentations in the form that metrics take."""
        done, names = self.responded, self.all_species
        return Presentations.of(
            self.score[self.bona_fide & done],
            {name: self.score[self.of(name) & done] for name in names},
            bona_fide_lost=int(np.count_nonzero(self.bona_fide & ~done)),
            attacks_lost={name: int(np.count_nonzero(self.of(name) & ~done)) for name in names},
        )

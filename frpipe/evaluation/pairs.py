"""Comparisons, one to one, as trials of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frpipe.evaluation.sample import TrialSample, numbered
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Doubles, Indices, Scores

Labels = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PairTrials:
    """Trials of n comparisons, a with b: by habit a the reference and b the probe.

    a, b: (n,) ids of photos.  mated: (n,).  similarity: (n,), NaN where a side is missing.  lost_a, lost_b:
    (n,), which side is.  person_a, person_b: (n,) numbers of persons; of photos where persons are not known.
    fold: (n,) labels.  groups: by column, (n,) the label that both sides share, or an empty string.
    sides: by column, (n,) labels of side a and of side b; empty: not known.
    quality: by column of a measure, (n,) the lower quality of both sides; NaN: not known.
    """

    a: Labels
    b: Labels
    mated: Mask
    similarity: Doubles
    lost_a: Mask
    lost_b: Mask
    person_a: Indices
    person_b: Indices
    fold: Labels | None = None
    groups: Mapping[str, Labels] = field(default_factory=dict)
    sides: Mapping[str, tuple[Labels, Labels]] = field(default_factory=dict)
    quality: Mapping[str, Doubles] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.mated)

    @property
    def completed(self) -> Mask:
        """Mask, (n,), of the comparisons with a score."""
        return ~np.isnan(self.similarity)

    def some(self, chosen: Mask | Indices) -> PairTrials:
        """Select the trials of a mask, or put them in an order."""
        columns = ("a", "b", "mated", "similarity", "lost_a", "lost_b", "person_a", "person_b")
        picked: dict[str, Any] = {name: getattr(self, name)[chosen] for name in columns}
        fold = None if self.fold is None else self.fold[chosen]
        groups = {column: labels[chosen] for column, labels in self.groups.items()}
        sides = {column: (a[chosen], b[chosen]) for column, (a, b) in self.sides.items()}
        quality = {column: values[chosen] for column, values in self.quality.items()}
        return replace(self, **picked, fold=fold, groups=groups, sides=sides, quality=quality)

    def distinct(self) -> PairTrials:
        """Select each two photos once, where they stand first, in whichever order."""
        a, b = numbered(self.a, self.b)
        low, high = np.minimum(a, b), np.maximum(a, b)
        _, rows = np.unique(low * (high.max(initial=0) + 1) + high, return_index=True)
        return self.some(np.sort(rows))

    @property
    def distinct_nonmated(self) -> int:
        """The number of completed non-mated comparisons, each two photos counted once."""
        return len(self.some(~self.mated & self.completed).distinct())

    def scores(self) -> Scores:
        """The scores, with the failed comparisons counted."""
        done = self.completed
        return Scores.of(
            self.similarity[self.mated & done],
            self.similarity[~self.mated & done],
            mated_lost=int(np.count_nonzero(self.mated & ~done)),
            nonmated_lost=int(np.count_nonzero(~self.mated & ~done)),
        )

    def sample(self) -> TrialSample:
        """The sample of the completed comparisons."""
        mated, other = self.mated & self.completed, ~self.mated & self.completed
        return TrialSample(
            self.scores().completed(), self.person_a[mated], self.person_a[other], self.person_b[other]
        )

    def failures(self) -> tuple[Rate, Rate]:
        """FTA and FTE: photos b, and photos a, without a usable face, each photo counted once."""
        return _share(self.b, self.lost_b), _share(self.a, self.lost_a)


def _share(photos: Labels, lost: Mask) -> Rate:
    return Rate(len(pd.unique(photos[lost])), len(pd.unique(photos)))

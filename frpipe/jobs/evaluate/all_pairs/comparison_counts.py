"""Count the templates in a comparison of all with all, and the comparisons that each person is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError
from frpipe.core.pulse import Say, silent, told
from frpipe.jobs.evaluate.all_pairs.blocks import REST
from frpipe.jobs.evaluate.all_pairs.source import LabelledSource
from frpipe.jobs.evaluate.pair_results import alike_ids
from frpipe.matching.kernel import Indices

# Each cohort has two histograms of half a megabyte in every worker, and tiles within itself alone.
MOST_COHORTS = 50


@dataclass(frozen=True)
class ComparisonCounts:
    """Counts of comparisons.

    subject, cohort: (n,) numbers, of all templates in the order of the blocks; cohort -1: not known. labels:
    of the cohorts.  edges: (blocks + 1,) where each block begins.  photos: (people,) photos of each that were
    said to show them, those without a template included; None: not known.  left_out: faces that are no
    template, by reason.  warnings: of the ids of people.
    """

    subject: Indices
    cohort: Indices
    labels: tuple[str, ...]
    edges: Indices
    people: int
    photos: Indices | None
    left_out: Mapping[str, int]
    warnings: Sequence[str] = ()

    @classmethod
    def of(cls, source: LabelledSource, say: Say = silent) -> ComparisonCounts:
        """Count by reading all of the source. say: told how far it is.

        Raises ConfigError: too many cohorts, or no two templates.
        """
        count = len(source.blocks)
        read = (source.people(number) for number in range(count))
        blocks = [*told(read, count, f"{{}} of {count:,} blocks counted", say)]
        subjects, cohorts = (_joined([getattr(b, name) for b in blocks]) for name in ("subject", "cohort"))
        if len(subjects) < 2:
            raise ConfigError(
                f"{counted(len(subjects), 'templates')} of known people",
                "enroll photos whose manifest has a subject_id",
            )
        photos = [block.photos for block in blocks if block.photos is not None]
        names, labels = pc.unique(pa.concat_arrays([subjects, *photos])), _labels(cohorts)
        return cls(
            _places(subjects, names),
            _places(cohorts, pa.array(labels, pa.string())),
            labels,
            np.cumsum([0, *(len(block.subject) for block in blocks)]),
            len(names),
            np.bincount(_places(_joined(photos), names), minlength=len(names)) if photos else None,
            dict(source.left_out),
            alike_ids(names.to_numpy(zero_copy_only=False)),
        )

    @property
    def templates(self) -> int:
        return len(self.subject)

    def trials(self, cell: int | None, *, mated: bool) -> Indices:
        """Comparisons of each person, (people,), in a cell; None: in all. Non-mated ones count for both."""
        if cell is None:
            return _trials(self._counts(self.subject), mated)
        cohorts = [self._counts(self.subject[self.cohort == n]) for n in range(len(self.labels))]
        if cell >= 0:
            return _trials(cohorts[cell], mated)
        known = _trials(self._counts(self.subject[self.cohort >= 0]), mated)
        if cell == REST:
            return self.trials(None, mated=mated) - known
        none = np.zeros(self.people, np.int64)
        return known - sum((_trials(counts, mated) for counts in cohorts), none)

    @property
    def couple(self) -> int:
        """The most comparisons of any one person with any other."""
        most = np.sort(self._counts(self.subject))[-2:]
        return int(np.prod(most))

    @property
    def lost(self) -> tuple[int, int] | None:
        """Comparisons, mated and non-mated, that a photo without a template took away; None: not known."""
        if self.photos is None:
            return None
        templates = self._counts(self.subject)
        mated = pairs_of(self.photos) - pairs_of(templates)
        return mated, pairs_of(self.photos.sum()) - pairs_of(templates.sum()) - mated

    def _counts(self, subjects: Indices) -> Indices:
        return np.bincount(subjects, minlength=self.people).astype(np.int64)


def pairs_of(counts: Indices | np.int64) -> int:
    """The number of pairs within groups of so many."""
    return int(np.sum(counts * (counts - 1) // 2))


def _trials(templates: Indices, mated: bool) -> Indices:
    """Comparisons of each person, (people,), by the number of templates of each."""
    pairs = templates * (templates - 1) // 2 if mated else templates * (templates.sum() - templates)
    return np.asarray(pairs, np.int64)


def _labels(cohorts: pa.StringArray) -> tuple[str, ...]:
    labels = pc.drop_null(pc.unique(cohorts))
    if len(labels) > MOST_COHORTS:
        raise ConfigError(
            f"{counted(len(labels), 'cohorts')}, at most {MOST_COHORTS} are compared",
            "name a column of few different values: of ages, for example, use decades",
        )
    return tuple(sorted(labels.to_pylist()))


def _joined(parts: list[pa.StringArray]) -> pa.StringArray:
    return pa.concat_arrays([pa.array([], pa.string()), *parts])


def _places(values: pa.StringArray, among: pa.StringArray) -> Indices:
    places = pc.fill_null(pc.index_in(values, value_set=among, skip_nulls=True), -1)
    numbers: Indices = places.to_numpy().astype(np.int64)
    return numbers

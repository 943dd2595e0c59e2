"""Searches in a gallery: the rank of the mate, and the best score of somebody else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from frpipe.metrics.errors import ScoresError
from frpipe.metrics.scores import Doubles, Indices, Kind, finite, oriented
from frpipe.metrics.search_ids import SearchIds


@dataclass(frozen=True, slots=True)
class Searches:
    """Completed searches among `gallery` people, failed enrolments included: they stay as blank templates.

    Scores are the larger the more alike: similarities, or distances negated; minus infinity: nobody.
    rank: (m,) of the mate in each mated search, from 1; 0: not in the list.  mate: (m,) its score.
    other: (m,) the best score of anybody else; None: not known.
    strangers: (n, k) the best k scores of each non-mated search, best first.
    mated_lost: mated searches whose probe gave no face or whose mate failed to enrol.  nonmated_lost:
    non-mated searches whose probe gave no face.
    """

    rank: Indices
    mate: Doubles
    other: Doubles | None
    strangers: Doubles
    gallery: int
    mated_lost: int = 0
    nonmated_lost: int = 0
    kind: Kind = "similarity"

    @property
    def best_stranger(self) -> Doubles:
        """(n,) maximum score of each non-mated search, which alone decides whether it raises an alarm."""
        best: Doubles = self.strangers.max(axis=1, initial=-np.inf)
        return best

    def within(self, rank: int) -> NDArray[np.bool_]:
        """Mask, (m,), of the mates listed within a rank. Raises ScoresError: there is no such rank."""
        if rank < 1:
            raise ScoresError(f"rank {rank}", "ranks count from 1")
        return (self.rank >= 1) & (self.rank <= rank)

    @classmethod
    def of(
        cls,
        rank: ArrayLike,
        mate: ArrayLike,
        strangers: ArrayLike,
        *,
        gallery: int,
        other: ArrayLike | None = None,
        kind: Kind = "similarity",
        mated_lost: int = 0,
        nonmated_lost: int = 0,
    ) -> Searches:
        """Make searches.

        rank, mate, other: (m,).  strangers: (n,) best scores, or (n, k) best first, else NaN.

        mate and other may be NaN: not in the list, nobody else in the list.
        Raises ScoresError: shapes differ, a rank is negative or above `gallery`, a ranked mate has no score,
        a stranger's scores are not best first.
        """
        if mated_lost < 0 or nonmated_lost < 0:
            raise ScoresError("a count of failed searches is negative", "count each failed search once")
        places = _ranks(rank, gallery)
        mates = _listed(mate, kind, len(places))
        if np.isneginf(mates[places > 0]).any():
            raise ScoresError("a mate has a rank and no score", "rank 0 says that the mate is not listed")
        return cls(
            places,
            np.where(places > 0, mates, -np.inf),
            None if other is None else _listed(other, kind, len(places)),
            _table(strangers, kind),
            gallery,
            mated_lost,
            nonmated_lost,
            kind,
        )


def searches_of(
    probe: ArrayLike,
    subject: ArrayLike,
    score: ArrayLike,
    truth: ArrayLike,
    enrolled: ArrayLike,
    *,
    failed: ArrayLike = (),
    not_enrolled: ArrayLike = (),
    kind: Kind = "similarity",
) -> Searches:
    """Make searches of candidate lists: (c,) probe numbers, subject ids and scores, in any order.

    truth: (p,) the subject id of each probe.  enrolled: ids in the gallery.  failed: numbers of probes
    without a face.  not_enrolled: ids whose enrolment failed; they count in the gallery. A search is mated if
    its truth is among the two. Candidates of equal score are ranked by subject id.
    Raises ScoresError: lengths differ, a probe number is not in truth, a subject is listed twice for a probe.
    """
    ids = SearchIds.of(truth, subject, enrolled, not_enrolled)
    return numbered_searches(probe, ids, score, failed=failed, kind=kind)


def numbered_searches(
    probe: ArrayLike,
    ids: SearchIds,
    score: ArrayLike,
    *,
    failed: ArrayLike = (),
    kind: Kind = "similarity",
) -> Searches:
    """Make searches as `searches_of` does, of ids that are numbered already."""
    lost = np.zeros(len(ids.truth), bool)
    lost[np.asarray(failed, np.int64)] = True
    lists = _Lists.of(probe, ids, oriented(finite(score, "candidates'"), kind))
    done = np.flatnonzero(ids.enrolled & ~ids.blank & ~lost)
    return Searches(
        lists.rank[done],
        lists.mate[done],
        lists.other[done],
        lists.table(np.flatnonzero(~ids.mated & ~lost)),
        ids.gallery,
        int(np.count_nonzero(ids.mated & (lost | ids.blank))),
        int(np.count_nonzero(~ids.mated & lost)),
        kind,
    )


@dataclass(frozen=True, slots=True)
class _Lists:
    """Candidate lists: (p,) rank and score of the mate, best score of another.

    (c,) probe, place and score.
    """

    rank: Indices
    mate: Doubles
    other: Doubles
    probe: Indices
    place: Indices
    score: Doubles

    @classmethod
    def of(cls, probe: ArrayLike, ids: SearchIds, score: Doubles) -> _Lists:
        numbers, names, owner = _checked(probe, ids), ids.subject, ids.truth
        if len(names) != len(score):
            raise ScoresError("candidates and scores differ in length", "give a score for each candidate")
        order = np.lexsort((names, -score, numbers))
        numbers, names, score = numbers[order], names[order], score[order]
        starts = np.searchsorted(numbers, np.arange(len(owner)))
        place = np.arange(len(numbers)) - starts[numbers] + 1
        own = names == owner[numbers]
        rank, mate = np.zeros(len(owner), np.int64), np.full(len(owner), -np.inf)
        rank[numbers[own]], mate[numbers[own]] = place[own], score[own]
        other = np.full(len(owner), -np.inf)
        np.maximum.at(other, numbers[~own], score[~own])
        return cls(rank, mate, other, numbers, place, score)

    def table(self, probes: Indices) -> Doubles:
        row = np.full(len(self.rank), -1)
        row[probes] = np.arange(len(probes))
        some = row[self.probe] >= 0
        table = np.full((len(probes), int(self.place[some].max(initial=0))), -np.inf)
        table[row[self.probe[some]], self.place[some] - 1] = self.score[some]
        return table


def _checked(probe: ArrayLike, ids: SearchIds) -> Indices:
    """The number of each candidate's probe, from 0 in the order of truths."""
    numbers, names = np.asarray(probe, np.int64), ids.subject
    if len(numbers) != len(names):
        raise ScoresError("probes and candidates differ in length", "give a probe for each candidate")
    if ((numbers < 0) | (numbers >= len(ids.truth))).any():
        raise ScoresError("a probe number has no truth", "number the probes as `truth` lists them, from 0")
    if len(pd.unique(numbers * (names.max(initial=0) + 1) + names)) < len(names):
        raise ScoresError("a subject is listed twice for a probe", "keep the best score of each subject")
    return numbers


def _ranks(rank: ArrayLike, gallery: int) -> Indices:
    places = np.asarray(rank)
    if places.ndim != 1 or (len(places) and not np.issubdtype(places.dtype, np.integer)):
        raise ScoresError("ranks are not (m,) whole numbers", "0 says that the mate is not listed")
    if ((places < 0) | (places > gallery)).any():
        raise ScoresError(f"a rank is not in 0..{gallery}", "0 says that the mate is not listed")
    return places.astype(np.int64)


def _listed(values: ArrayLike, kind: Kind, length: int) -> Doubles:
    array = np.asarray(values, np.float64)
    if array.shape != (length,):
        raise ScoresError(f"{array.shape} scores for {length} mated searches", "give one for each rank")
    return _without_nan(array, kind)


def _table(values: ArrayLike, kind: Kind) -> Doubles:
    array = np.asarray(values, np.float64)
    if array.ndim not in {1, 2}:
        raise ScoresError(f"strangers' scores of {array.ndim} dimensions", "give (n,) or (n, k)")
    table = _without_nan(array, kind).reshape(len(array), -1 if array.size else 0)
    if (table[:, 1:] > table[:, :-1]).any():
        raise ScoresError("a non-mated search's candidates are not best first", "sort each list")
    return table


def _without_nan(array: Doubles, kind: Kind) -> Doubles:
    if np.isinf(array).any():
        raise ScoresError("a score is infinite", "NaN says that there is none")
    return np.where(np.isnan(array), -np.inf, oriented(array, kind))

"""Identification in smaller galleries: the same searches among fewer people, drawn by subject."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frpipe.core.counted import counted
from frpipe.evaluation.number import Number
from frpipe.evaluation.searches import SearchTrials
from frpipe.evaluation.targets import target_numbers
from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.identification import at_threshold, roc
from frpipe.metrics.scores import Doubles

COLUMN = "gallery size"
Places = NDArray[np.uint64]


def gallery_numbers(
    trials: SearchTrials,
    sizes: Sequence[int],
    thresholds: Sequence[float],
    targets: Sequence[float],
    *,
    listed: int,
    least: float = -np.inf,
) -> Iterator[Number]:
    """FNIR(N, L, T) at each target FPIR, and FNIR and FPIR at thresholds, for each size N.

    Who is in a gallery is decided by a hash of the id: the same people whatever the order, and each gallery
    is part of the larger ones. Searches for people who are left out are left out; strangers stay. A number
    that rests on candidates beyond the lists is not given.
    listed: candidates a list has at most.  least: similarity below which none was listed.
    Raises ScoresError: a size is not from 1 to the people of the gallery.
    """
    if not sizes:
        return
    whole = trials.ids.gallery
    odd = [size for size in sizes if not 1 <= size <= whole]
    if odd:
        raise ScoresError(
            f"a gallery of {counted(odd[0], 'people')}, out of {whole:,}",
            f"ask for sizes from 1 to {whole:,}",
        )
    people = pd.unique(np.concatenate([trials.enrolled.astype(object), trials.not_enrolled.astype(object)]))
    places = _places(people)
    order = np.argsort(places, kind="stable")
    floors = _floors(trials, listed if listed < whole else None, least)
    for size in sorted({*sizes}):
        yield from _numbers(
            _smaller(trials, people[order[:size]]), floors, size, thresholds, targets, listed=listed
        )


def _places(ids: NDArray[Any]) -> Places:
    """Places, (n,), at which people join a gallery."""
    digests = b"".join(blake2b(str(name).encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def _floors(trials: SearchTrials, listed: int | None, least: float) -> Doubles:
    """Floors, (p,): similarities below which candidates of a probe are not known; -inf: the list is whole.

    listed: candidates of a full list; None: all people were listed.
    """
    floors = np.full(len(trials), least)
    if listed is not None:
        amount = np.bincount(trials.probe, minlength=len(trials))
        lowest = np.full(len(trials), np.inf)
        np.minimum.at(lowest, trials.probe, trials.similarity)
        floors = np.where(amount >= listed, np.maximum(lowest, least), floors)
    return floors


def _smaller(trials: SearchTrials, people: NDArray[Any]) -> tuple[SearchTrials, NDArray[np.int64]]:
    """Reduce the searches to these people; the searches, and which rows they are."""
    inside = np.asarray(pd.Series(trials.truth, dtype=object).isin(people), bool)
    rows = np.flatnonzero(inside | ~trials.mated)
    some = trials.some(rows)
    kept = np.asarray(pd.Series(some.subject, dtype=object).isin(people), bool)
    known = np.asarray(pd.Series(people, dtype=object).isin(trials.not_enrolled), bool)
    smaller = SearchTrials(
        some.image,
        some.truth,
        some.failed,
        some.probe[kept],
        some.subject[kept],
        some.similarity[kept],
        people[~known],
        people[known],
        rank=trials.rank,
    )
    return smaller, rows


def _numbers(
    found: tuple[SearchTrials, NDArray[np.int64]],
    floors: Doubles,
    size: int,
    thresholds: Sequence[float],
    targets: Sequence[float],
    *,
    listed: int,
) -> Iterator[Number]:
    trials, rows = found
    where: dict[str, Any] = {"column": COLUMN, "group": f"{size:,}"}
    searches, floor = trials.searches(), floors[rows]
    if not len(searches.rank) or not len(searches.strangers):
        yield Number.missing("FNIR_identification", "no mated, or no non-mated searches", **where)
        return
    # A mate, or best candidate, beyond the list is known to be below its last similarity.
    mates, strangers = floor[trials.done_mated], floor[trials.done_strangers]
    hidden = np.concatenate(
        [mates[~searches.within(listed)], strangers[np.isneginf(searches.best_stranger)], [-np.inf]]
    )
    limit = float(hidden.max())
    short = f"lists end at similarity {limit:.4g}, above the threshold: search with a larger --top"
    persons = trials.persons()
    for threshold in thresholds:
        if threshold <= limit:
            yield Number.missing("FNIR", short, at=threshold, **where)
            yield Number.missing("FPIR", short, at=threshold, **where)
            continue
        rates = at_threshold(searches, threshold, listed)
        misses = ~searches.within(listed) | (searches.mate < threshold)
        alarms = searches.best_stranger >= threshold
        between = clustered_rate(misses, persons[trials.done_mated])
        yield Number.rate("FNIR", rates.fnir, between, at=threshold, note=f"rank {listed}", **where)
        between = clustered_rate(alarms, persons[trials.done_strangers])
        yield Number.rate("FPIR", rates.fpir, between, at=threshold, **where)
    every = trials.ranked(listed)
    for number in target_numbers("TPIR", roc(searches, listed), every.sample(), targets, **where):
        given = number.complement("FNIR_identification")
        if given.threshold is not None and given.threshold <= limit:
            given = Number.missing("FNIR_identification", short, at=number.at, **where)
        yield given

"""Groups of people beside each other: FMR within and between them, and how far their errors differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from frpipe.evaluation.groups import MOST_GROUPS
from frpipe.evaluation.measures import BETWEEN
from frpipe.evaluation.number import Number
from frpipe.evaluation.pairs import Labels, PairTrials
from frpipe.metrics.differentials import MEASURES, GroupedRates, garbe_of, grouped_rates
from frpipe.metrics.intervals import Interval
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.rate import Rate

JOINED = " / "
"""Between the labels of two groups, and in `column` the column of both."""
ALL = "all groups"
"""The group of a measure over all of them."""


def differential_numbers(trials: PairTrials, threshold: float) -> Iterator[Number]:
    """Numbers at a similarity, for each column whose labels are known on both sides.

    FMR of each two groups, in whichever order their sides stand, then the measures over groups: of FMR within
    them, as of FNMR.
    """
    for column, (a, b) in trials.sides.items():
        yield from _of_column(trials, column, a, b, threshold)


def _of_column(trials: PairTrials, column: str, a: Labels, b: Labels, threshold: float) -> Iterator[Number]:
    known = trials.completed & (a != "") & (b != "") & (~trials.mated | (a == b))
    names = _largest(np.concatenate([a[known], b[known]]))
    known &= np.isin(a, names) & np.isin(b, names)
    if len(names) < 2 or not known.any():
        return
    some, count = trials.some(known), len(names)
    place = {name: number for number, name in enumerate(names)}
    sides = [np.array([place[label] for label in side[known]], np.int64) for side in (a, b)]
    low, high = np.minimum(*sides), np.maximum(*sides)
    # Cells of FMR by their two groups, then those of FNMR by their one.
    cell = np.where(some.mated, count * count + low, low * count + high)
    wrong = (some.similarity >= threshold) != some.mated
    other = np.where(some.mated, some.person_a, some.person_b)
    found = grouped_rates(wrong, cell, count * (count + 1), (some.person_a, other))
    # A column of its own: under `column` each number is of one group.
    where: dict[str, Any] = {"at": threshold, "column": f"{column}{JOINED}{column}"}
    for one in range(count):
        for two in range(one, count):
            yield _number(found, one * count + two, f"{names[one]}{JOINED}{names[two]}", **where)
    fmr = found.some([one * count + one for one in range(count)])
    fnmr = found.some([count * count + one for one in range(count)])
    for rate, rates in (("FMR", fmr), ("FNMR", fnmr)):
        for key in MEASURES:
            yield _scalar(f"{rate}_{key}", rates.differential(key), **where)
    yield _scalar("GARBE", garbe_of(fmr, fnmr), **where)


def _largest(labels: Labels) -> list[str]:
    names, counts = np.unique(labels.astype(str), return_counts=True)
    return sorted(names[np.argsort(-counts, kind="stable")[:MOST_GROUPS]].tolist())


def _number(found: GroupedRates, cell: int, group: str, *, at: float, column: str) -> Number:
    rate: Rate = found.rates[cell]
    interval = found.interval(cell) if rate.trials else None
    return Number.rate(BETWEEN, rate, interval, at=at, column=column, group=group)


def _scalar(measure: str, found: tuple[float, Interval] | Insufficient, *, at: float, column: str) -> Number:
    if isinstance(found, Insufficient):
        return Number.missing(measure, found, at=at, column=column, group=ALL)
    return Number.scalar(measure, *found, at=at, column=column, group=ALL)

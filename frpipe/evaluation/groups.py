"""Trials by the labels of a column, and rates of groups over that of the largest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from frpipe.evaluation.number import Number
from frpipe.metrics.cohorts import ratio
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.rate import Rate

# A column with more labels is hardly one of groups: the largest are evaluated.
MOST_GROUPS = 40


class Grouped(Protocol):
    """Trials with labels. groups: by column, (n,) labels; empty: of no group."""

    @property
    def groups(self) -> Mapping[str, NDArray[Any]]: ...
    def some(self, chosen: NDArray[np.bool_], /) -> Self: ...


T = TypeVar("T", bound=Grouped)


@dataclass(frozen=True, slots=True)
class Group(Generic[T]):
    """The trials of one label."""

    column: str
    label: str
    trials: T

    @property
    def where(self) -> dict[str, str]:
        """The fields of a Number that name the group."""
        return {"column": self.column, "group": self.label}


def by_group(trials: T) -> tuple[list[Group[T]], list[str]]:
    """Make all groups, in the order of columns and labels; and say in words what was left out."""
    groups, words = [], []
    for column, labels in trials.groups.items():
        names, counts = np.unique(labels.astype(str), return_counts=True)
        names, counts = names[names != ""], counts[names != ""]
        chosen = np.sort(names[np.argsort(-counts, kind="stable")[:MOST_GROUPS]])
        if len(chosen) < len(names):
            words.append(f"{column} has {len(names):,} groups; the {MOST_GROUPS} largest are evaluated")
        if not len(chosen):
            words.append(f"no trial is within one group of {column}")
        groups += [Group(column, str(name), trials.some(labels == name)) for name in chosen]
    return groups, words


def ratios(numbers: Sequence[Number], measures: Sequence[str]) -> Iterator[Number]:
    """Ratios of each group's rate to that of the group with the most trials, at each threshold."""
    rates = [n for n in numbers if n.measure in measures and n.column is not None and n.trials]
    for column, measure, at in sorted({(n.column or "", n.measure, n.at or 0.0) for n in rates}):
        some = [n for n in rates if (n.column, n.measure, n.at or 0.0) == (column, measure, at)]
        largest = max(some, key=lambda n: n.trials or 0)
        for one in some:
            if one is not largest:
                yield _ratio(one, largest)


def _ratio(one: Number, largest: Number) -> Number:
    rate, reference = (Rate(n.count or 0, n.trials or 0) for n in (one, largest))
    found = ratio(rate, reference)
    measure, where = f"{one.measure}_ratio", {"column": one.column, "group": one.group, "at": one.at}
    if isinstance(found, Insufficient):
        return Number.missing(measure, found, **where)
    return Number.scalar(measure, found.value, found.interval, note=f"over {largest.group}", **where)

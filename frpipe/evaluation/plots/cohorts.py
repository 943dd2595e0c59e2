"""Numbers of groups, gathered by the column that makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.measures import BETWEEN, BY_NAME, DIFFERENTIALS, MEASURES
from frpipe.evaluation.number import Number
from frpipe.evaluation.plots.text import taken_at

_MOST_SHOWN, _MOST_PARTS = 30, 3
_ERRORS = ("FMR", "FNMR", "FPIR", "FNIR", "APCER", "BPCER")
_TARGETS = ("TAR", "TPIR")
_NOT_OF_ONE = {BETWEEN, *DIFFERENTIALS}
_LENIENT_FIRST = {"FMR", "FPIR", "APCER"}
_ORDER = {measure.name: place for place, measure in enumerate(MEASURES)}
# A measure, and which of a system's thresholds, targets or ranks it was taken at.
_Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Part:
    """One measure of every group.  groups: of each system, in their order.  overall: of all trials.

    turn: which of a system's thresholds, targets (lenient first) or ranks.  at: where all systems agree.
    """

    measure: str
    turn: int
    at: float | None
    label: str
    groups: Mapping[str, Sequence[Number | None]]
    overall: Sequence[float | None]

    @property
    def measured(self) -> bool:
        """Whether any group has a value."""
        return any(n is not None and n.value is not None for row in self.groups.values() for n in row)


@dataclass(frozen=True, slots=True)
class GroupedColumn:
    """The groups of one column.

    place: among the columns.  labels: of all groups.  shown: of those with most trials, sorted. parts: of
    every measure.
    """

    column: str
    place: int
    labels: Sequence[str]
    shown: Sequence[str]
    parts: Sequence[Part]

    @property
    def drawn(self) -> list[Part]:
        """The measures to draw.

        These are both errors at the first threshold; without any, the strictest target with numbers; else a
        few.
        """
        errors = [part for part in self.parts if part.measure in _ERRORS and not part.turn]
        targets = [part for part in self.parts if part.measure in _TARGETS and part.measured]
        return errors or targets[-1:] or list(self.parts)[:_MOST_PARTS]

    @property
    def rest(self) -> list[Part]:
        """The measures that are not drawn."""
        drawn = {(part.measure, part.turn) for part in self.drawn}
        return [part for part in self.parts if (part.measure, part.turn) not in drawn]


def cohorts(evaluations: Sequence[Evaluation]) -> list[GroupedColumn]:
    """Gather a cohort for each column that any of the evaluations is split by."""
    columns = sorted({str(n.column) for e in evaluations for n in e.numbers if _of_group(n)})
    return [_cohort(evaluations, column, place) for place, column in enumerate(columns, 1)]


def _cohort(evaluations: Sequence[Evaluation], column: str, place: int) -> GroupedColumn:
    mine = [_keyed(e, column) for e in evaluations]
    keys = sorted({key for found in mine for key in found}, key=lambda key: (_ORDER[key[0]], key[1]))
    weight: dict[str, int] = {}
    for number in (n for e in evaluations for n in e.numbers if n.column == column and _of_group(n)):
        label = str(number.group)
        weight[label] = max(weight.get(label, 0), number.trials or 0)
    heaviest = sorted(weight, key=lambda label: (-weight[label], label))[:_MOST_SHOWN]
    parts = [_part(evaluations, mine, key, sorted(weight)) for key in keys]
    return GroupedColumn(column, place, sorted(weight), sorted(heaviest), parts)


def _of_group(number: Number) -> bool:
    """Whether a number is of one group, not of two or of all."""
    return number.column is not None and number.measure not in _NOT_OF_ONE


def _keyed(evaluation: Evaluation, column: str) -> dict[_Key, dict[str, Number]]:
    """Numbers by key and group. Thresholds differ between systems: their order tells them apart."""
    found: dict[_Key, dict[str, Number]] = {}
    numbers = [n for n in evaluation.numbers if n.column == column and _of_group(n)]
    for number in numbers:
        ats = {n.at for n in numbers if n.measure == number.measure and n.at is not None}
        same = sorted(ats, reverse=BY_NAME[number.measure].of in _LENIENT_FIRST)
        key = (number.measure, same.index(number.at) if number.at is not None else 0)
        found.setdefault(key, {})[str(number.group)] = number
    return found


def _part(
    evaluations: Sequence[Evaluation],
    mine: Sequence[dict[_Key, dict[str, Number]]],
    key: _Key,
    labels: Sequence[str],
) -> Part:
    of_key = [found.get(key, {}) for found in mine]
    groups = {label: [found.get(label) for found in of_key] for label in labels}
    ats = [next((n.at for n in found.values()), None) for found in of_key]
    alls = [e.number(key[0], at) for e, at in zip(evaluations, ats, strict=True)]
    known = {at for at in ats if at is not None}
    at = known.pop() if len(known) == 1 else None
    label = _label(*key, at, alike=not known)
    return Part(*key, at, label, groups, [None if n is None else n.value for n in alls])


def _label(measure: str, turn: int, at: float | None, *, alike: bool) -> str:
    """The label of a measure. alike: whether systems agree on where it was taken, or it is taken nowhere."""
    if not alike:
        return f"{measure} at each system's threshold {turn + 1 if turn else ''}".rstrip()
    where = taken_at(BY_NAME[measure], at)
    return f"{measure} at {where}" if where else measure

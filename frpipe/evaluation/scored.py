"""Evaluate a list of scores: the lecture's table, areas, equal errors, and the rates at one threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from frpipe.evaluation.curves import binned, det_series, kept
from frpipe.evaluation.evaluation import CurveName, Evaluation, Series, Task
from frpipe.evaluation.number import Number
from frpipe.evaluation.pairs import Mask
from frpipe.evaluation.plots.text import fixed, target
from frpipe.evaluation.rate_of import RateOf, interval_dict
from frpipe.metrics import identification, verification
from frpipe.metrics.bootstrap import percentiles
from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.curve import Curve
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.intervals import Interval
from frpipe.metrics.lecture import LectureTable, grid
from frpipe.metrics.mated_slots import Metric, pair_replicates
from frpipe.metrics.operating import EqualError, Insufficient, at_target, equal_error
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Doubles, Indices, Kind, Scores, oriented, oriented_threshold
from frpipe.metrics.searches import Searches

# The names of the rates: accepted and rejected rightly, and the errors that these are one less.
RATES: dict[Task, tuple[str, str, str, str]] = {
    "verification": ("TAR", "TRR", "FNMR", "FMR"),
    "identification": ("TPIR", "TNIR", "FNIR", "FPIR"),
}


class Sharing(Protocol):
    """Trials whose people are known: intervals that take heed of whom they share."""

    def mated_interval(self, threshold: float) -> Interval:
        """Of FNMR (FNIR) at a threshold of the scores' kind."""

    def nonmated_interval(self, threshold: float) -> Interval:
        """Of FMR (FPIR) at a threshold of the scores' kind."""

    def replicates(self, metrics: Sequence[Metric]) -> Doubles:
        """(r, metrics) of a curve, with people drawn again."""


@dataclass(frozen=True, slots=True)
class SharedPeople:
    """Trials as a list. mated: (m,), nonmated: (n,) oriented scores; minus infinity: never accepted.

    persons: of the mated ones, and of both sides of the others.
    """

    kind: Kind
    mated: Doubles
    nonmated: Doubles
    persons: tuple[Indices, Indices, Indices]

    def mated_interval(self, threshold: float) -> Interval:
        """Of FNMR (FNIR)."""
        return clustered_rate(self.mated < oriented_threshold(threshold, self.kind), self.persons[0])

    def nonmated_interval(self, threshold: float) -> Interval:
        """Of FMR (FPIR)."""
        alarms = self.nonmated >= oriented_threshold(threshold, self.kind)
        return clustered_rate(alarms, *self.persons[1:])

    def replicates(self, metrics: Sequence[Metric]) -> Doubles:
        """(r, metrics)."""
        return pair_replicates(self.kind, self.mated, self.nonmated, self.persons, metrics)


@dataclass(frozen=True, slots=True)
class Point:
    """Rates at a threshold of the scores' kind. accept, reject: TAR and TRR, or TPIR and TNIR.

    chosen: how it was chosen on the same scores, in words; empty: it was given.
    wrong: mated searches that accept somebody else.
    """

    threshold: float
    accept: RateOf
    reject: RateOf
    chosen: str = ""
    wrong: Rate | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """The evaluation of a list.

    counts: of trials.  point: at the threshold.  scores: of mated trials and of others.  people_known: it is
    known who is compared.  intervals: of `auc` and `eer`, by people, where there are any.
    """

    task: Task
    curve: Curve
    counts: Mapping[str, int]
    table: LectureTable
    eer: EqualError
    point: Point
    scores: tuple[Doubles, Doubles]
    people_known: bool = False
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """The kind of all scores and thresholds."""
        return self.curve.kind

    def accepted(self, threshold: float) -> str:
        """The scores that a threshold accepts, in words."""
        return f"{self.kind} {'≤' if self.kind == 'distance' else '≥'} {fixed(threshold, 4)}"

    @property
    def warnings(self) -> list[str]:
        """Warnings about the rates, in sentences."""
        found = ["who is compared is not known: intervals take each row for people of its own"]
        if self.people_known:
            found = []
        if self.table.auc_exact < 0.5:
            other = "distances" if self.kind == "similarity" else "similarities"
            found.append(f"the area is below one half: are these {other}, or are the labels turned round?")
        if self.point.chosen:
            found.append("the threshold was chosen on these very scores, which makes its rates look better")
        return found

    def accepted_at(self, at: float) -> str:
        """The scores that the threshold of a number of `evaluation` accepts, in words."""
        return self.accepted(1 - at if self._as_similarities else at)

    def evaluation(self, name: str) -> Evaluation:
        """Curves and counts, for plots.

        Cosine distances become similarities, other scores stay as they are.
        """
        roc: CurveName = "roc" if self.task == "verification" else "open_roc"
        det: CurveName = "det" if self.task == "verification" else "open_det"
        keep = kept(self.curve)
        curves: dict[CurveName, Series] = {
            roc: Series(self.curve.fmr[keep], self.curve.tar[keep], self.curve.threshold[keep]),
            det: det_series(self.curve),
        }
        if self._cosines:
            parts = [1 - part if self._as_similarities else part for part in self.scores]
            curves |= {"mated": binned(parts[0]), "nonmated": binned(parts[1])}
        numbers = [Number.scalar("AUC_exact", self.table.auc_exact, self.intervals.get("auc"))]
        if self.task == "verification":
            numbers.append(Number.scalar("EER", self.eer.value, self.intervals.get("eer")))
        *_, miss, alarm = RATES[self.task]
        rates = (miss, self.point.accept.complement()), (alarm, self.point.reject.complement())
        at = 1 - self.point.threshold if self._as_similarities else self.point.threshold
        numbers += [Number.rate(measure, one.rate, one.between, at=at) for measure, one in rates]
        return Evaluation(name, self.task, self.counts, numbers, curves, {}, self.warnings)

    @property
    def _as_similarities(self) -> bool:
        return self._cosines and self.kind == "distance"

    @property
    def _cosines(self) -> bool:
        low, high = (0.0, 2.0) if self.kind == "distance" else (-1.0, 1.0)
        return all(not len(part) or (part.min() >= low and part.max() <= high) for part in self.scores)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        accept, reject, *_ = RATES[self.task]
        eer, point = self.eer, self.point
        return {
            "task": self.task,
            "kind": self.kind,
            "counts": dict(self.counts),
            "table": {
                "threshold": self.table.threshold.tolist(),
                accept: self.table.true_accept.tolist(),
                reject: self.table.true_reject.tolist(),
            },
            "auc_grid": self.table.auc_grid,
            "auc_exact": self.table.auc_exact,
            "eer": {"value": eer.value, "threshold": eer.threshold},
            "intervals": {name: interval_dict(one) for name, one in self.intervals.items()},
            "at": {
                "threshold": point.threshold,
                "chosen": point.chosen or None,
                accept: point.accept.as_dict(),
                reject: point.reject.as_dict(),
                **({"named_wrong": point.wrong.as_dict()} if point.wrong else {}),
            },
            "warnings": self.warnings,
        }


@dataclass(frozen=True, slots=True)
class Operating:
    """The threshold that is asked for: a value of the scores' kind, equal errors, or a target FMR (FPIR)."""

    by: Literal["value", "eer", "target"] = "eer"
    value: float = 0.0


def scored(
    kind: Kind,
    mated: Mask,
    score: Doubles,
    right: Mask | None,
    operating: Operating,
    *,
    people: tuple[Indices, Indices] | None = None,
) -> Scored:
    """Evaluate trials.

    mated: (n,).  score: (n,) of that kind; NaN: failed.  right: (n,) of searches, whether the first candidate
    is the person; None: the trials are comparisons.  people: (n,) persons of both sides, of searches twice
    those of the probes; None: not known.
    Raises ScoresError: there are not completed trials of both kinds, or too few for the target asked for.
    """
    done = ~np.isnan(score)
    up, over = mated & done, ~mated & done
    parts, lost = (score[up], score[over]), [int((of & ~done).sum()) for of in (mated, ~mated)]
    trials: Scores | Searches
    if right is None:
        trials = Scores.of(*parts, kind=kind, mated_lost=lost[0], nonmated_lost=lost[1])
        hits = trials.mated
    else:
        trials = _searches(kind, *parts, right[up], lost)
        hits = np.where(trials.within(1), trials.mate, -np.inf)
    sharing: Sharing | None = None
    if people is not None:
        persons = people[0][up], people[0][over], people[1][over]
        sharing = SharedPeople(kind, hits, oriented(parts[1], kind), persons)
    return scored_trials(trials, parts, operating, sharing)


def scored_trials(
    trials: Scores | Searches,
    scores: tuple[Doubles, Doubles],
    operating: Operating,
    sharing: Sharing | None = None,
    rank: int = 1,
) -> Scored:
    """Compute what comparisons or searches say.

    scores: of mated trials and of others, in their kind, for histograms.  sharing: who is in the trials;
    None: not known.  rank: of searches, within which a mate counts as found.
    Raises ScoresError: as `scored`.
    """
    if isinstance(trials, Searches):
        task: Task = "identification"
        found = len(trials.rank), len(trials.strangers)
    else:
        task = "verification"
        found = len(trials.mated), len(trials.nonmated)
    if not all(found):
        lacking = "non-mated" if found[0] else "mated"
        raise ScoresError(
            f"no {lacking} trial has a score: rates of both kinds need both", "add some, or check the labels"
        )
    curve = (
        identification.roc(trials, rank)
        if isinstance(trials, Searches)
        else verification.roc(trials.completed())
    )
    eer = equal_error(curve)
    # The curve ends where all trials of both kinds are accepted, so the errors meet.
    assert isinstance(eer, EqualError)
    counts = dict(zip(("mated", "nonmated"), found, strict=True))
    lost = ("mated_lost", trials.mated_lost), ("nonmated_lost", trials.nonmated_lost)
    return Scored(
        task,
        curve,
        {**counts, **{name: count for name, count in lost if count}},
        LectureTable.of(curve, grid(curve)),
        eer,
        _point(trials, _threshold(curve, eer, operating, trials), sharing, rank),
        scores,
        sharing is not None,
        _intervals(sharing) if sharing else {},
    )


def _intervals(sharing: Sharing) -> dict[str, Interval]:
    """Compute intervals of areas and equal errors.

    None where all replicates are equal: they say nothing of other people.
    """
    found = sharing.replicates([Curve.auc, _equal])
    between = {name: percentiles(column) for name, column in zip(("auc", "eer"), found.T, strict=True)}
    return {name: one for name, one in between.items() if one.high > one.low}


def _equal(curve: Curve) -> float:
    found = equal_error(curve)
    return found.value if isinstance(found, EqualError) else np.nan


def _searches(kind: Kind, mates: Doubles, strangers: Doubles, right: Mask, lost: list[int]) -> Searches:
    """Make searches of which the first candidate alone is known."""
    return Searches.of(
        right.astype(np.int64),
        np.where(right, mates, np.nan),
        strangers,
        gallery=1,
        other=np.where(right, np.nan, mates),
        kind=kind,
        mated_lost=lost[0],
        nonmated_lost=lost[1],
    )


def _point(trials: Scores | Searches, at: tuple[float, str], sharing: Sharing | None, rank: int) -> Point:
    threshold, chosen = at
    between = (
        (sharing.mated_interval(threshold), sharing.nonmated_interval(threshold)) if sharing else (None, None)
    )
    if isinstance(trials, Searches):
        searched = identification.at_threshold(trials, threshold, rank)
        errors, wrong = (searched.fnir, searched.fpir), searched.named_wrong
    else:
        compared = verification.at_threshold(trials, threshold)
        errors, wrong = (compared.fnmr, compared.fmr), None
    accept, reject = (RateOf(*one).complement() for one in zip(errors, between, strict=True))
    return Point(threshold, accept, reject, chosen, wrong)


def _threshold(
    curve: Curve, eer: EqualError, operating: Operating, trials: Scores | Searches
) -> tuple[float, str]:
    """Choose the threshold, and say how it was chosen."""
    rate = "FPIR" if isinstance(trials, Searches) else "FMR"
    if operating.by == "value":
        return operating.value, ""
    if operating.by == "eer":
        return eer.threshold, "equal errors"
    point = at_target(curve, operating.value)
    if isinstance(point, Insufficient):
        raise ScoresError(str(point), "ask for a larger target, or bring more non-mated trials")
    if not np.isfinite(point.threshold):
        raise ScoresError(
            f"no score keeps {rate} to {target(operating.value)}: nothing would be accepted",
            "ask for a larger target",
        )
    return point.threshold, f"{rate} at most {target(operating.value)}"

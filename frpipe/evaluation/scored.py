"""Evaluate a list of scores: the lecture's table, areas, equal errors, and the rates at one threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from frpipe.evaluation.curves import binned, det_series, kept
from frpipe.evaluation.evaluation import CurveName, Evaluation, Series, Task
from frpipe.evaluation.number import Number
from frpipe.evaluation.pairs import Mask
from frpipe.evaluation.plots.text import fixed, target
from frpipe.metrics import identification, verification
from frpipe.metrics.curve import Curve
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.lecture import LectureTable, grid
from frpipe.metrics.operating import EqualError, Insufficient, at_target, equal_error
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Doubles, Kind, Scores
from frpipe.metrics.searches import Searches

# The names of the rates: accepted and rejected rightly, and the errors that these are one less.
RATES: dict[Task, tuple[str, str, str, str]] = {
    "verification": ("TAR", "TRR", "FNMR", "FMR"),
    "identification": ("TPIR", "TNIR", "FNIR", "FPIR"),
}


@dataclass(frozen=True, slots=True)
class Point:
    """Rates at a threshold of the scores' kind. accept, reject: TAR and TRR, or TPIR and TNIR.

    chosen: how it was chosen on the same scores, in words; empty: it was given.
    wrong: mated searches that accept somebody else.
    """

    threshold: float
    accept: Rate
    reject: Rate
    chosen: str = ""
    wrong: Rate | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """The evaluation of a list.

    counts: of trials.  point: at the threshold.  scores: of mated trials and of others. people_known: the
    list says who is compared.
    """

    task: Task
    curve: Curve
    counts: Mapping[str, int]
    table: LectureTable
    eer: EqualError
    point: Point
    scores: tuple[Doubles, Doubles]
    people_known: bool = False

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
            found = [
                "intervals take each row for people of its own: where rows share people, they are too narrow"
            ]
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
        numbers = [Number.scalar("AUC_exact", self.table.auc_exact)]
        if self.task == "verification":
            numbers.append(Number.scalar("EER", self.eer.value))
        *_, miss, alarm = RATES[self.task]
        rates = (miss, self.point.accept.complement()), (alarm, self.point.reject.complement())
        at = 1 - self.point.threshold if self._as_similarities else self.point.threshold
        numbers += [Number.rate(measure, rate, at=at) for measure, rate in rates]
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
    people_known: bool = False,
) -> Scored:
    """Evaluate trials.

    mated: (n,).  score: (n,) of that kind; NaN: failed.  right: (n,) of searches, whether the first candidate
    is the person; None: the trials are comparisons.
    Raises ScoresError: there are not completed trials of both kinds, or too few for the target asked for.
    """
    done = ~np.isnan(score)
    parts, lost = (
        (score[mated & done], score[~mated & done]),
        [int((of & ~done).sum()) for of in (mated, ~mated)],
    )
    if not len(parts[0]) or not len(parts[1]):
        lacking = "non-mated" if len(parts[0]) else "mated"
        raise ScoresError(
            f"no {lacking} trial has a score: rates of both kinds need both", "add some, or check the labels"
        )
    trials: Scores | Searches
    if right is None:
        task: Task = "verification"
        trials = Scores.of(*parts, kind=kind, mated_lost=lost[0], nonmated_lost=lost[1])
        curve = verification.roc(trials.completed())
    else:
        task = "identification"
        trials = _searches(kind, *parts, right[mated & done], lost)
        curve = identification.roc(trials)
    eer = equal_error(curve)
    # The curve ends where all trials of both kinds are accepted, so the errors meet.
    assert isinstance(eer, EqualError)
    counts = {"mated": len(parts[0]), "nonmated": len(parts[1])}
    counts |= {
        f"{name}_lost": count for name, count in zip(("mated", "nonmated"), lost, strict=True) if count
    }
    return Scored(
        task,
        curve,
        counts,
        LectureTable.of(curve, grid(curve)),
        eer,
        _point(trials, curve, eer, operating),
        parts,
        people_known,
    )


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


def _point(trials: Scores | Searches, curve: Curve, eer: EqualError, operating: Operating) -> Point:
    rate = "FPIR" if isinstance(trials, Searches) else "FMR"
    threshold, chosen = _threshold(curve, eer, operating, rate)
    if isinstance(trials, Searches):
        rates = identification.at_threshold(trials, threshold)
        return Point(threshold, rates.tpir, rates.tnir, chosen, rates.named_wrong)
    pairs = verification.at_threshold(trials, threshold)
    return Point(threshold, pairs.tar, pairs.trr, chosen)


def _threshold(curve: Curve, eer: EqualError, operating: Operating, rate: str) -> tuple[float, str]:
    """Choose the threshold, and say how it was chosen."""
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

"""Calibrations of a list of comparisons: costs of their ratios, the least possible, and by group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from frpipe.evaluation.pairs import Labels, Mask
from frpipe.evaluation.rate_of import RateOf
from frpipe.metrics.calibration import Calibration, Logistic, fit_isotonic, fit_logistic
from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.costs import Application, act_dcf, cllr
from frpipe.metrics.cross_fit import Parts, cross_fitted
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.hull import Hull
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.rate import Rate
from frpipe.metrics.reliability import ReliabilityBin, reliability
from frpipe.metrics.scores import Doubles, Kind, Scores, oriented

APPLICATIONS = (Application(0.01),)
MOST_GROUPS = 50
_FITS: dict[str, Callable[[Scores], Calibration]] = {"logistic": fit_logistic, "isotonic": fit_isotonic}
Cost = float | Insufficient


@dataclass(frozen=True, slots=True)
class Known:
    """Labels of (n,) comparisons that are known beside their scores, each (n,) or None.

    Calibration is cross-fitted by `fold`, else by the people `a` and `b`, else by rows.  group: "" is none.
    """

    fold: Labels | None = None
    a: Labels | None = None
    b: Labels | None = None
    group: Labels | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """A calibration.  mated, nonmated: cross-fitted ratios, in nats.  dcf: actual, for each application."""

    mated: Doubles
    nonmated: Doubles
    cllr: float
    dcf: Sequence[Cost]
    bins: Sequence[ReliabilityBin]


@dataclass(frozen=True, slots=True)
class Group:
    """Comparisons of one label.  fnmr, fmr: at the threshold of all.  cllr: of the line of all, cross-fitted.

    min_cllr: the least for these scores alone; what cllr has above it is bad calibration of this group, and
    chance: of few comparisons the least is too low.  None: a kind is missing, or there is no calibration.
    """

    label: str
    fnmr: RateOf
    fmr: RateOf
    cllr: float | None
    min_cllr: float | None


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The calibrations of a list. how: by what they were cross-fitted.  min_dcf: one for each application.

    methods: by name, or why there are none.  line: the logistic map fitted on all, in the scores' kind.
    """

    how: str
    applications: Sequence[Application]
    eer: float
    min_cllr: float
    min_dcf: Sequence[Cost]
    methods: Mapping[str, Method] | Insufficient
    line: Logistic
    groups: Sequence[Group] = ()

    @property
    def warnings(self) -> list[str]:
        """Warnings about the costs of calibrations, where there are any."""
        found: list[str] = []
        if isinstance(self.methods, Insufficient):
            return found
        if self.how == _BY_ROWS:
            found.append(
                "calibration was cross-fitted by rows: if they share people, it looks better than it is"
            )
        if self.line.separated:
            found.append(
                "the scores of both kinds do not overlap: the slope of the calibration rests on how many"
            )
        return found

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "cross_fitted": self.how,
            "eer_hull": self.eer,
            "min_cllr": self.min_cllr,
            "applications": [
                {"prior": a.prior, "cost_miss": a.miss, "cost_alarm": a.alarm, "llr_threshold": a.threshold}
                for a in self.applications
            ],
            "min_dcf": _costs(self.min_dcf),
            "methods": _reason(self.methods)
            if isinstance(self.methods, Insufficient)
            else {
                name: {"cllr": method.cllr, "act_dcf": _costs(method.dcf)}
                for name, method in self.methods.items()
            },
            "line": {"slope": self.line.slope, "offset": self.line.offset, "separated": self.line.separated},
            "groups": [
                {
                    "group": group.label,
                    "FNMR": group.fnmr.as_dict(),
                    "FMR": group.fmr.as_dict(),
                    "cllr": group.cllr,
                    "min_cllr": group.min_cllr,
                }
                for group in self.groups
            ],
            "warnings": self.warnings,
        }


def calibrated(
    kind: Kind,
    mated: Mask,
    score: Doubles,
    known: Known,
    threshold: float,
    *,
    applications: Sequence[Application] = APPLICATIONS,
) -> Calibrated:
    """Calibrate comparisons, each by others.

    mated: (n,).  score: (n,) of that kind; NaN: failed, and left out.  threshold: of that kind, for groups.
    Raises ScoresError: a kind has no completed comparison, or there are more than 50 groups.
    """
    done = ~np.isnan(score)
    mated, score = mated[done], score[done]
    parts, how = _parts(mated, known, done)
    scores = Scores.of(score[mated], score[~mated], kind=kind)
    hull = Hull.of(scores)
    ratios = _ratios(kind, mated, score, parts)
    methods: Mapping[str, Method] | Insufficient = (
        ratios
        if isinstance(ratios, Insufficient)
        else {name: _method(llr[mated], llr[~mated], applications) for name, llr in ratios.items()}
    )
    accepted = oriented(score, kind) >= oriented(np.array([threshold]), kind)
    rows = _Rows(
        kind,
        mated,
        score,
        accepted,
        None if isinstance(ratios, Insufficient) else ratios["logistic"],
        None if known.a is None or known.b is None else (known.a[done], known.b[done]),
    )
    return Calibrated(
        how,
        applications,
        hull.eer(),
        hull.min_cllr(),
        [a.insufficient(len(scores.mated), len(scores.nonmated)) or hull.min_dcf(a) for a in applications],
        methods,
        fit_logistic(scores),
        _groups(rows, None if known.group is None else known.group[done]),
    )


_BY_ROWS = "by rows"


def _parts(mated: Mask, known: Known, done: Mask) -> tuple[Parts, str]:
    if known.fold is not None:
        parts = Parts.of_folds(known.fold[done])
        return parts, f"by fold ({parts.count})"
    if known.a is not None and known.b is not None:
        return Parts.of_people(known.a[done], known.b[done]), "by subject"
    return Parts.of_rows(mated), _BY_ROWS


def _ratios(kind: Kind, mated: Mask, score: Doubles, parts: Parts) -> dict[str, Doubles] | Insufficient:
    found = {}
    for name, fit in _FITS.items():
        ratios = cross_fitted(score, mated, parts, fit, kind)
        if isinstance(ratios, Insufficient):
            return ratios
        found[name] = ratios
    return found


def _method(mated: Doubles, nonmated: Doubles, applications: Sequence[Application]) -> Method:
    costs = [a.insufficient(len(mated), len(nonmated)) or act_dcf(mated, nonmated, a) for a in applications]
    return Method(mated, nonmated, cllr(mated, nonmated), costs, reliability(mated, nonmated))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Completed comparisons. llr: of the line, cross-fitted; None: there is no calibration.

    people: (n,) of both sides; None: not known.
    """

    kind: Kind
    mated: Mask
    score: Doubles
    accepted: Mask
    llr: Doubles | None
    people: tuple[Labels, Labels] | None = None

    def _rate(self, errors: Mask, among: Mask, *, mated: bool) -> RateOf:
        rate = Rate(int((errors & among).sum()), int(among.sum()))
        if self.people is None or not rate.trials:
            return RateOf(rate)
        a, b = (side[among] for side in self.people)
        return RateOf(rate, clustered_rate(errors[among], a, a if mated else b))

    def group(self, label: str, own: Mask) -> Group:
        up, over = own & self.mated, own & ~self.mated
        fnmr = self._rate(~self.accepted, up, mated=True)
        fmr = self._rate(self.accepted, over, mated=False)
        if not up.any() or not over.any():
            return Group(label, fnmr, fmr, None, None)
        least = Hull.of(Scores.of(self.score[up], self.score[over], kind=self.kind)).min_cllr()
        return Group(
            label, fnmr, fmr, None if self.llr is None else cllr(self.llr[up], self.llr[over]), least
        )


def _groups(rows: _Rows, group: Labels | None) -> list[Group]:
    if group is None:
        return []
    labels = np.unique(group[group != ""])
    if len(labels) > MOST_GROUPS:
        raise ScoresError(
            f"{len(labels):,} groups, and at most {MOST_GROUPS} are told apart",
            "name a column of fewer labels",
        )
    return [rows.group(str(label), group == label) for label in labels]


def _costs(costs: Sequence[Cost]) -> list[float | dict[str, Any]]:
    return [_reason(cost) if isinstance(cost, Insufficient) else cost for cost in costs]


def _reason(found: Insufficient) -> dict[str, Any]:
    return {"insufficient": found.reason, "have": found.have, "need": found.need}

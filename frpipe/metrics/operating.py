"""Operating points on a curve: where the errors are equal, and where one error is at a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from frpipe.metrics.curve import ROUNDING, Curve
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.rate import Rate

# Zero errors in 3/p trials: the rate is below p with 95 % confidence (ISO/IEC 19795-1, rule of 3).
RULE_OF_3 = 3
# 30 errors: the true rate is within 30 % of the one found, with 90 % confidence (rule of 30).
RULE_OF_30 = 30


@dataclass(frozen=True, slots=True)
class Insufficient:
    """The statement that the data are too few for a number.  have, need: non-mated trials."""

    reason: str
    have: int
    need: int

    def __str__(self) -> str:
        return f"insufficient data: {self.reason}"


@dataclass(frozen=True, slots=True)
class AtTarget:
    """Rates at the most lenient threshold whose FMR (FPIR) is at most `target`.

    support: the rule that the number of non-mated trials satisfies for this target.
    """

    target: float
    threshold: float
    fmr: Rate
    fnmr: Rate
    support: Literal["rule of 3", "rule of 30"]

    @property
    def tar(self) -> Rate:
        """True accept rate, 1 - FNMR; TPIR of searches."""
        return self.fnmr.complement()


@dataclass(frozen=True, slots=True)
class EqualError:
    """The equal error rate. value: where the straight line between the two points around it has FMR = FNMR.

    low, high: the value lies between these whatever one does between the points.  threshold: of the more
    lenient of the two points.
    """

    value: float
    low: float
    high: float
    threshold: float


def equal_error(curve: Curve) -> EqualError | Insufficient:
    """Find the equal error rate.

    Insufficient: the curve ends before the errors meet, as too many searches find nobody.
    """
    fmr, fnmr = curve.fmr, curve.fnmr
    reached = np.flatnonzero(fmr >= fnmr)
    if not len(reached):
        trials = int(curve.nonmated_trials)
        return Insufficient("the errors are equal at no threshold", trials, trials)
    after = int(reached[0])
    before = max(after - 1, 0)
    gap_before, gap_after = fnmr[before] - fmr[before], fmr[after] - fnmr[after]
    share = gap_before / (gap_before + gap_after) if gap_before + gap_after else 0.0
    value = fmr[before] + share * (fmr[after] - fmr[before])
    low, high = max(fmr[before], fnmr[after]), min(fmr[after], fnmr[before])
    value = min(max(value, low), high)
    return EqualError(float(value), float(low), float(high), float(curve.threshold[after]))


def at_target(curve: Curve, target: float, distinct: int | None = None) -> AtTarget | Insufficient:
    """The rates at a target FMR or FPIR, if there are at least 3/target non-mated trials.

    The curve must be one of counts, not of weights.  distinct: non-mated trials that are not listed before;
    None: all of them.  Raises ScoresError: the target is not in (0, 1].
    """
    if not 0 < target <= 1:
        raise ScoresError("a target is a rate above 0 and at most 1", "for example 0.001")
    trials = round(curve.nonmated_trials)
    known, what = (trials, "") if distinct is None or distinct == trials else (distinct, "distinct ")
    if known * target + ROUNDING < RULE_OF_3:
        need = int(np.ceil(RULE_OF_3 / target - ROUNDING))
        trial = "trial" if known == 1 else "trials"
        return Insufficient(f"{known:,} {what}non-mated {trial}, {target:g} needs {need:,}", known, need)
    place = int(np.searchsorted(curve.nonmated, trials * target + ROUNDING, "right")) - 1
    nonmated, mated = Rate(round(curve.nonmated[place]), trials), round(curve.mated[place])
    return AtTarget(
        target,
        float(curve.threshold[place]),
        nonmated,
        Rate(mated, round(curve.mated_trials)).complement(),
        "rule of 30" if known * target + ROUNDING >= RULE_OF_30 else "rule of 3",
    )

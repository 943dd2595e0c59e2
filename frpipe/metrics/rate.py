"""A rate together with its counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from frpipe.metrics.intervals import LEVEL, Interval, clopper_pearson


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate: `count` of `trials`."""

    count: int
    trials: int

    @property
    def value(self) -> float | None:
        """The rate as a number; None: there were no trials."""
        return self.count / self.trials if self.trials else None

    def complement(self) -> Rate:
        """The rate of all other trials."""
        return Rate(self.trials - self.count, self.trials)

    def interval(self, level: float = LEVEL) -> Interval:
        """The interval as if the trials were independent; where they share people, see `bootstrap`."""
        low, high = clopper_pearson(self.count, self.trials, level)
        return Interval(float(low), float(high), level, "clopper-pearson")

    def as_dict(self, level: float = LEVEL) -> dict[str, Any]:
        """JSON form: value, count, trials, low, high, level."""
        between = self.interval(level)
        return {
            "value": self.value,
            "count": self.count,
            "trials": self.trials,
            "low": between.low,
            "high": between.high,
            "level": level,
        }

    def __str__(self) -> str:
        if self.value is None:
            return "no trials"
        between = self.interval()
        return f"{self.value:.4g} [{between.low:.4g}, {between.high:.4g}] ({self.count:,} of {self.trials:,})"


@dataclass(frozen=True, slots=True)
class Failures:
    """Rates of photos without a usable face.

    Probes failed to acquire (FTA), references failed to enrol (FTE).
    """

    fta: Rate
    fte: Rate


@dataclass(frozen=True, slots=True)
class Generalised:
    """Rates that count failures: far = FMR (1 - FTA), frr = FTA + FNMR (1 - FTA).

    Gfar and gfrr with FTE on top.

    ISO/IEC 19795-1: a failed capture is no match; a person who is not enrolled cannot be recognised.
    """

    far: float
    frr: float
    gfar: float
    gfrr: float


def generalised(fmr: float, fnmr: float, fta: float, fte: float = 0.0) -> Generalised:
    """Generalised rates, from rates of completed comparisons and the shares of failures."""
    far, frr = fmr * (1 - fta), fta + fnmr * (1 - fta)
    return Generalised(far, frr, far * (1 - fte), fte + frr * (1 - fte))

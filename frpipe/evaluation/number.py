"""Numbers of an evaluation: each with counts and interval, or the reason why there is no value."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from frpipe.evaluation.measures import BY_NAME
from frpipe.metrics.intervals import Interval
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.rate import Rate


@dataclass(frozen=True, slots=True)
class Number:
    """A number.

    measure: a name of `measures`.  value: None where there is no honest one, and `note` says why. at: the
    threshold (a similarity), target rate or rank it was taken at.  threshold: the similarity that a target
    led to.  count, trials: of a rate.  low, high, level, method: its interval of confidence. support: which
    rule the trials satisfy, for a target.  column, group: of a cohort; None: all.
    """

    measure: str
    value: float | None
    at: float | None = None
    threshold: float | None = None
    count: int | None = None
    trials: int | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    method: str | None = None
    support: str | None = None
    note: str | None = None
    column: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        if self.measure not in BY_NAME:
            raise ValueError(f"no measure is called {self.measure}")

    @classmethod
    def rate(cls, measure: str, rate: Rate, interval: Interval | None = None, **rest: Any) -> Number:
        """Make the number of a rate.

        Where no interval is given, it is that of independent trials; without trials there is no value, and a
        note.
        """
        if not rate.trials:
            return cls(measure, None, count=0, trials=0, note="no trials", **rest)
        between = interval or rate.interval()
        return cls(measure, rate.value, count=rate.count, trials=rate.trials, **_of(between), **rest)

    @classmethod
    def scalar(cls, measure: str, value: float, interval: Interval | None = None, **rest: Any) -> Number:
        """Make a number that is no count of trials."""
        return cls(measure, value, **(_of(interval) if interval else {}), **rest)

    @classmethod
    def missing(cls, measure: str, why: Insufficient | str, **rest: Any) -> Number:
        """Make a number without a value: there is no honest one."""
        return cls(measure, None, note=str(why), **rest)

    def complement(self, measure: str) -> Number:
        """Subtract the number from 1, as another measure: FNIR of TPIR."""
        return replace(
            self,
            measure=measure,
            value=None if self.value is None else 1 - self.value,
            count=None if self.count is None or self.trials is None else self.trials - self.count,
            low=None if self.high is None else 1 - self.high,
            high=None if self.low is None else 1 - self.low,
        )

    @property
    def title(self) -> str:
        """The measure, and what it was taken at, in one line of text."""
        if self.at is None:
            return self.measure
        if BY_NAME[self.measure].of == "threshold":
            return f"{self.measure} at similarity {self.at:g} (distance {1 - self.at:g})"
        if BY_NAME[self.measure].of == "score":
            return f"{self.measure} at score {self.at:g}"
        return f"{self.measure} at {self.at:g}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _of(interval: Interval) -> dict[str, Any]:
    return {"low": interval.low, "high": interval.high, "level": interval.level, "method": interval.method}

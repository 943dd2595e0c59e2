"""One number of an evaluation, with what it rests on: counts, interval, or why there is none."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from frpipe.evaluation.measures import BY_NAME
from frpipe.metrics.intervals import Interval
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.rate import Rate


@dataclass(frozen=True, slots=True)
class Number:
    """measure: a name of `measures`.  value: None where there is no honest one, and `note` says why.

    at: the threshold (a similarity), target rate or rank it was taken at.  threshold: the similarity that a
    target led to.  count, trials: of a rate.  low, high, level, method: its interval of confidence.
    support: which rule the trials satisfy, for a target.  column, group: of a cohort; None: all.
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
        """With an interval as of independent trials, where none is given; no trials: no value, and a note."""
        if not rate.trials:
            return cls(measure, None, count=0, trials=0, note="no trials", **rest)
        between = interval or rate.interval()
        return cls(measure, rate.value, count=rate.count, trials=rate.trials, **_of(between), **rest)

    @classmethod
    def scalar(cls, measure: str, value: float, interval: Interval | None = None, **rest: Any) -> Number:
        """What is no count of trials."""
        return cls(measure, value, **(_of(interval) if interval else {}), **rest)

    @classmethod
    def missing(cls, measure: str, why: Insufficient | str, **rest: Any) -> Number:
        """There is no honest number."""
        return cls(measure, None, note=str(why), **rest)

    def complement(self, measure: str) -> Number:
        """1 less it, as another measure: FNIR of TPIR."""
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

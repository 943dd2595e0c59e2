"""A rate and its interval, by the people that its trials share where they are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from frpipe.metrics.intervals import Interval
from frpipe.metrics.rate import Rate


@dataclass(frozen=True, slots=True)
class RateOf:
    """A rate and its interval.  between: by the people that trials share; None: as of independent trials."""

    rate: Rate
    between: Interval | None = None

    def complement(self) -> RateOf:
        """That of all other trials."""
        other = self.between and Interval(
            1 - self.between.high, 1 - self.between.low, self.between.level, self.between.method
        )
        return RateOf(self.rate.complement(), other)

    @property
    def interval(self) -> Interval:
        """By people where they are known."""
        return self.between or self.rate.interval()

    def as_dict(self) -> dict[str, Any]:
        """JSON form: that of the rate, with the interval by people and how it was found."""
        return {**self.rate.as_dict(), **(interval_dict(self.between) if self.between else {})}

    def __str__(self) -> str:
        if self.between is None:
            return str(self.rate)
        low, high = self.between.low, self.between.high
        return f"{self.rate.value:.4g} [{low:.4g}, {high:.4g}] ({self.rate.count:,} of {self.rate.trials:,})"


def interval_dict(interval: Interval) -> dict[str, Any]:
    """JSON form."""
    return {"low": interval.low, "high": interval.high, "level": interval.level, "method": interval.method}

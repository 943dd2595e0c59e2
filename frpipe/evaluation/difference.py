"""Differences between two systems on the same trials, and whether they may be chance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference. value: the measure of `second` less that of `first`, on the trials that both completed.

    at: as in Number.  low, high, level: interval of confidence.  p: two-sided probability of a difference at
    least as large if there were none; None: not computed.  method: in words.  trials: that both completed.
    significant: whether p, corrected for as many comparisons as the page makes, is below 1 - level.
    note: why there is no value.
    """

    measure: str
    first: str
    second: str
    value: float | None
    at: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    p: float | None = None
    significant: bool | None = None
    trials: int | None = None
    method: str | None = None
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

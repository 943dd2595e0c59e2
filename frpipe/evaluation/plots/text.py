"""Write numbers for people: no more digits than the interval supports, and the kind of every threshold."""

from __future__ import annotations

import math

from frpipe.evaluation.measures import Measure
from frpipe.evaluation.number import Number

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MOST_PLACES = 9
LONG = 1e15
"""The number from which on digits are no help, and a power of ten is written."""


def places(half: float) -> int:
    """Decimal places that an interval of this half width supports.

    Two significant digits of the half width up to 3.54, else one, as the Particle Data Group rounds.
    """
    if not 0 < half < math.inf:
        return 4
    exponent = math.floor(math.log10(half))
    digits = 2 if half / 10.0**exponent < 3.55 else 1
    return min(max(digits - 1 - exponent, 0), _MOST_PLACES)


def fixed(value: float, decimals: int) -> str:
    """Round to so many places; a number that would look like zero but is none keeps a significant digit."""
    if not value:
        return "0"
    if abs(value) >= LONG or abs(value) < 10.0**-_MOST_PLACES:
        return f"{value:.{max(decimals, 1)}g}".replace("-", "−")
    if round(value, decimals) == 0:
        decimals = min(-math.floor(math.log10(abs(value))), _MOST_PLACES)
    text = f"{value:,.{decimals}f}"
    return text.replace("-", "−")


def shown(number: Number) -> str:
    """Write a value; "" where there is none."""
    return "" if number.value is None else fixed(number.value, _places_of(number))


def between(number: Number) -> str:
    """Write an interval, "0.965 to 0.978"; "" where there is none."""
    if number.low is None or number.high is None:
        return ""
    decimals = _places_of(number)
    return f"{fixed(number.low, decimals)} to {fixed(number.high, decimals)}"


def share(value: float, trials: int | None) -> str:
    """Write a rate of a curve to the places that a 95 % interval of so many trials supports."""
    return fixed(value, places(_binomial_half(value, trials)) if trials else 3)


def target(value: float) -> str:
    """Write a rate that was asked for: 0.001, or 10⁻⁵ where the zeros are too many to count."""
    if value and value < 1e-4:
        exponent = math.floor(math.log10(value) + 1e-9)
        lead = value / 10.0**exponent
        power = f"10{str(exponent).translate(_SUPERSCRIPT)}"
        return power if abs(lead - 1) < 1e-6 else f"{lead:.3g} × {power}"
    return f"{value:g}"


def threshold(similarity: float) -> str:
    """Write a threshold: both kinds, always named."""
    if not math.isfinite(similarity):
        return "nothing is accepted" if similarity > 0 else "everything is accepted"
    return f"similarity ≥ {fixed(similarity, 4)}, distance ≤ {fixed(1 - similarity, 4)}"


def score(value: float) -> str:
    """Write a threshold of presentation attack detection."""
    if not math.isfinite(value):
        return "nothing is bona fide" if value > 0 else "everything is bona fide"
    return f"score ≥ {fixed(value, 4)}"


def taken_at(measure: Measure, at: float | None) -> str:
    """The condition that a measure was taken at, as in "FMR ≤ 0.001"; "" where there is none."""
    if at is None or measure.of is None:
        return ""
    if measure.of == "threshold":
        return threshold(at)
    if measure.of == "score":
        return score(at)
    if measure.of == "discard":
        return f"{at:.0%} discarded"
    return f"rank {at:g}" if measure.of == "rank" else f"{measure.of} ≤ {target(at)}"


def _places_of(number: Number) -> int:
    if number.low is not None and number.high is not None and number.high > number.low:
        return places((number.high - number.low) / 2)
    if number.trials and number.value is not None:
        return places(_binomial_half(number.value, number.trials))
    return 4


def _binomial_half(value: float, trials: int) -> float:
    """Half of the normal approximation's interval; at no errors, half of the rule of three, 3/n."""
    spread = max(value * (1 - value), 0.0)
    return max(1.96 * math.sqrt(spread / trials), 1.5 / trials)

"""The differences between systems as a section of the page, with what they may mean."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from frpipe.evaluation.difference import Difference
from frpipe.evaluation.measures import BY_NAME
from frpipe.evaluation.plots.text import fixed, places
from frpipe.evaluation.report.numbers import name_of
from frpipe.evaluation.report.parts import table

_LEAST_P = 1e-4


def differences_section(differences: Sequence[Difference]) -> str:
    """Write the section as HTML; "" where there are no differences."""
    if not differences:
        return ""
    columns = ["measure", "second less first", "difference", "p", "in words", "trials of both", "method"]
    body = table("Differences on the trials that both completed", columns, [_row(d) for d in differences])
    note = (
        "p: how often a difference at least as large would come of chance alone. Unlikely to be chance: p "
        "holds after correction for all comparisons on this page."
    )
    return f'<div class="card">{body}<p class="dim note">{note}</p></div>'


def change(difference: Difference) -> str:
    """A change as text: the value with its sign, and its interval; "" where there is no value."""
    if difference.value is None:
        return ""
    low, high, decimals = difference.low, difference.high, 4
    if low is not None and high is not None and high > low:
        decimals = places((high - low) / 2)
    value = _signed(difference.value, decimals)
    if low is None or high is None:
        return value
    return f"{value} ({_signed(low, decimals)} to {_signed(high, decimals)})"


def verdict(difference: Difference) -> str:
    """A verdict as text: whether it may be chance, and who is the better one if not."""
    if difference.value is None:
        return difference.note or "no value"
    if difference.significant is None:
        return "not tested"
    if not difference.significant:
        return "may be chance"
    better = BY_NAME[difference.measure].better
    if better is None or not difference.value:
        return "unlikely to be chance"
    winner = difference.second if (difference.value > 0) == (better == "high") else difference.first
    return f"unlikely to be chance: {winner} is better"


def _row(difference: Difference) -> list[str]:
    words = escape(verdict(difference))
    kind = "sure" if difference.significant else "none" if difference.value is None else "dim"
    level = "" if difference.level is None else f"<small>interval: {difference.level:.4g}</small>"
    trials = "" if difference.trials is None else f"{difference.trials:,}"
    return [
        escape(name_of(difference.measure, difference.at)),
        f"{escape(difference.second)} less {escape(difference.first)}",
        f"<b>{change(difference)}</b>{level}" if difference.value is not None else "",
        _p(difference.p),
        f'<span class="{kind}">{words}</span>',
        trials,
        escape(difference.method or ""),
    ]


def _p(p: float | None) -> str:
    if p is None:
        return ""
    return f"&lt; {_LEAST_P:g}" if p < _LEAST_P else f"{p:.2g}"


def _signed(value: float, decimals: int) -> str:
    return f"+{fixed(value, decimals)}" if value > 0 else fixed(value, decimals)

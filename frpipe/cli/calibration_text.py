"""Options and text of calibration, on a terminal."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from frpipe.cli.table import table

if TYPE_CHECKING:
    from frpipe.evaluation.calibrated import Calibrated, Cost, Group
    from frpipe.evaluation.rate_of import RateOf
    from frpipe.metrics.costs import Application
    from frpipe.metrics.scores import Kind


def application(text: str) -> Application:
    """Parse P or P,MISS,ALARM. Raises ArgumentTypeError."""
    from frpipe.metrics.costs import Application
    from frpipe.metrics.errors import ScoresError

    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise argparse.ArgumentTypeError(f"{text!r} is neither P nor P,MISS,ALARM, as in 0.01 or 0.001,10,1")
    try:
        return Application(*numbers)
    except ScoresError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def calibration_lines(found: Calibrated, kind: Kind) -> list[str]:
    """Lines on the calibration of scores of that kind: a table of costs, the line, and each group."""
    from frpipe.metrics.operating import Insufficient

    methods = found.methods
    if isinstance(methods, Insufficient):
        best = f"EER on the hull {found.eer:.4g}, min Cllr {found.min_cllr:.4g} bits"
        return [f"{best}; Cllr: {methods}", *_groups(found.groups)]
    rows = [(name, f"{method.cllr:.4g}", *map(_cost, method.dcf)) for name, method in methods.items()]
    rows.append(("least possible", f"{found.min_cllr:.4g}", *map(_cost, found.min_dcf)))
    header = "calibration", "Cllr", *(f"DCF at {each}" for each in found.applications)
    line = found.line
    return [
        f"EER on the hull {found.eer:.4g}; calibrated to log-likelihood ratios, cross-fitted {found.how}:",
        "",
        table(header, rows),
        f"LLR = {line.slope:.4g} x {kind} {line.offset:+.4g} (nats; logistic, of all rows)",
        *_reasons(found),
        *_groups(found.groups),
    ]


def _reasons(found: Calibrated) -> list[str]:
    from frpipe.metrics.operating import Insufficient

    return [f"DCF: {cost}" for cost in found.min_dcf if isinstance(cost, Insufficient)]


def _cost(cost: Cost) -> str:
    return f"{cost:.4g}" if isinstance(cost, float) else "too few"


def _groups(groups: Sequence[Group]) -> list[str]:
    if not groups:
        return []
    header = "group", "mated", "FNMR", "non-mated", "FMR", "Cllr", "min Cllr"
    rows = [
        (
            group.label,
            f"{group.fnmr.rate.trials:,}",
            _between(group.fnmr),
            f"{group.fmr.rate.trials:,}",
            _between(group.fmr),
            _rate(group.cllr),
            _rate(group.min_cllr),
        )
        for group in groups
    ]
    return ["", table(header, rows)]


def _between(one: RateOf) -> str:
    if one.rate.value is None:
        return ""
    return f"{one.rate.value:.4g} [{one.interval.low:.3g}, {one.interval.high:.3g}]"


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"

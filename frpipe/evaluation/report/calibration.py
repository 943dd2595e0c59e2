"""Costs of calibrated scores, and of each group, as tables of a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from frpipe.evaluation.calibrated import Calibrated, Cost, Group
from frpipe.evaluation.plots.text import fixed
from frpipe.evaluation.rate_of import RateOf
from frpipe.evaluation.report.parts import table
from frpipe.metrics.operating import Insufficient


def calibration_section(found: Calibrated) -> str:
    """Write, as HTML, costs of each calibration and the least possible, and the groups, if there are any."""
    methods = found.methods
    rows = [
        ["least possible", fixed(found.min_cllr, 4), *map(_cost, found.min_dcf)],
    ]
    if not isinstance(methods, Insufficient):
        rows[:0] = [
            [name, fixed(method.cllr, 4), *map(_cost, method.dcf)] for name, method in methods.items()
        ]
        caption = f"Log-likelihood ratios, cross-fitted {found.how}. EER on the hull {fixed(found.eer, 4)}"
    else:
        caption = f"No calibration, {methods}. EER on the hull {fixed(found.eer, 4)}"
    columns = "calibration", "Cllr, bits", *(f"DCF at {each}" for each in found.applications)
    return f'<div class="card">{table(caption, columns, rows)}</div>{_groups(found.groups)}'


def _groups(groups: Sequence[Group]) -> str:
    if not groups:
        return ""
    rows = [
        [
            escape(group.label),
            _rate(group.fnmr),
            _rate(group.fmr),
            *("" if value is None else fixed(value, 4) for value in (group.cllr, group.min_cllr)),
        ]
        for group in groups
    ]
    columns = "group", "FNMR", "FMR", "Cllr, bits", "min Cllr, bits"
    return f'<div class="card">{table("Groups, at the threshold of all", columns, rows)}</div>'


def _cost(cost: Cost) -> str:
    return escape(str(cost)) if isinstance(cost, Insufficient) else fixed(cost, 4)


def _rate(rate: RateOf) -> str:
    return escape(str(rate))

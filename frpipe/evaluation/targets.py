"""Numbers of a curve: areas, equal errors, and rates at targets, with intervals by drawing people again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from frpipe.evaluation.number import Number
from frpipe.evaluation.sample import CurveMeasure, TrialSample, at_target
from frpipe.metrics import operating
from frpipe.metrics.bootstrap import percentiles
from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.curve import Curve
from frpipe.metrics.intervals import Interval
from frpipe.metrics.lecture import LectureTable, grid
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.rate import Rate

_EQUAL = "no interval: people drawn again give the same value every time"


def curve_numbers(
    curve: Curve, sample: TrialSample, estimates: Sequence[CurveMeasure], **where: Any
) -> Iterator[Number]:
    """Numbers of a curve, one a measure; no value where the curve has none.

    No interval where all replicates are equal, as where the two kinds of score do not overlap: they say
    nothing of what other people would bring.
    """
    for one, drawn in zip(estimates, intervals(sample, estimates), strict=True):
        interval = drawn if drawn is None or drawn.high > drawn.low else None
        note = _EQUAL if drawn is not None and interval is None else None
        value = one.of(curve)
        if np.isnan(value):
            yield Number.missing(one.measure, "the errors are equal at no threshold", at=one.at, **where)
        else:
            yield Number.scalar(one.measure, value, interval, at=one.at, note=note, **where)


def target_numbers(
    measure: str,
    curve: Curve,
    sample: TrialSample,
    targets: Sequence[float],
    distinct: int | None = None,
    **where: Any,
) -> Iterator[Number]:
    """Rates at each target, or why the trials are too few for it. distinct: see `operating.at_target`."""
    found = {target: operating.at_target(curve, target, distinct) for target in targets}
    known = [target for target, one in found.items() if not isinstance(one, Insufficient)]
    between = dict(
        zip(known, intervals(sample, [at_target(measure, target) for target in known]), strict=True)
    )
    for target, one in found.items():
        if isinstance(one, Insufficient):
            yield Number.missing(measure, one, at=target, **where)
            continue
        yield Number.rate(
            measure,
            one.tar,
            _certain(one.tar, sample) or between[target],
            at=target,
            threshold=one.threshold,
            support=one.support,
            **where,
        )


def _certain(tar: Rate, sample: TrialSample) -> Interval | None:
    """The interval where no mated trial, or every one, is accepted: drawing says nothing; None elsewhere."""
    if 0 < tar.count < tar.trials:
        return None
    return clustered_rate(np.full(len(sample.mated), tar.count > 0), sample.mated)


def usual(targets: Sequence[float], nonmated: int) -> list[float]:
    """Choose, largest first, the targets that so many trials carry, and the first that they do not."""
    carried = [target for target in targets if target * nonmated >= operating.RULE_OF_3]
    return [*carried, *[target for target in targets if target not in carried][:1]]


def grid_number(curve: Curve, **where: Any) -> Number:
    """The lecture's area, on a grid that reaches over all scores; the note says which.

    On the lecture's own, from 1 to 0, it would leave out what is below 0, where most strangers are.
    """
    places = grid(curve)
    step = abs(float(places[0] - places[1])) if len(places) > 1 else 0.0
    words = f"at similarities {places[0]:.4g} to {places[-1]:.4g} by {step:.3g}"
    return Number.scalar("AUC_grid", LectureTable.of(curve, places).auc_grid, note=words, **where)


def intervals(sample: TrialSample, estimates: Sequence[CurveMeasure]) -> list[Interval | None]:
    """Intervals of each estimate; None: there are not two people to draw."""
    if not estimates or not sample.drawable:
        return [None] * len(estimates)
    found = sample.replicates([one.of for one in estimates])
    return [percentiles(column) for column in found.T]

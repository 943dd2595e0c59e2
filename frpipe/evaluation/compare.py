"""Compare two systems on the same trials: people are drawn once for both, and the difference is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from frpipe.evaluation.difference import Difference
from frpipe.evaluation.sample import CurveMeasure, TrialSample
from frpipe.metrics.bootstrap import percentiles
from frpipe.metrics.curve import ROUNDING, Curve
from frpipe.metrics.intervals import LEVEL
from frpipe.metrics.operating import RULE_OF_3
from frpipe.metrics.scores import Doubles

_METHOD = "paired bootstrap over subjects"
_NONE = "insufficient data"


def differences(
    first: tuple[str, TrialSample],
    second: tuple[str, TrialSample],
    estimates: Sequence[CurveMeasure],
    compared: int = 1,
) -> Iterator[Difference]:
    """Differences of each measure, second less first.

    The samples are of the same trials, in one order, of one people. compared: measures that the page compares
    in all.  A target that the trials are too few for has no value, and nothing has one where trials of one
    kind are missing, or all are of one person.
    """
    names = {"first": first[0], "second": second[0]}
    if not (first[1].drawable and second[1].drawable):
        for one in estimates:
            yield Difference(one.measure, first[0], second[0], None, one.at, note=_NONE)
        return
    # With fewer, not even the smallest p would be significant after Holm's correction.
    fewest = int(np.ceil(2 * compared / (1 - LEVEL)))
    curves = [Curve.of(sample.scores) for _, sample in (first, second)]
    metrics = [one.of for one in estimates]
    found = [sample.replicates(metrics, at_least=fewest) for _, sample in (first, second)]
    trials = len(first[1].scores.mated) + len(first[1].scores.nonmated)
    for column, one in enumerate(estimates):
        rest = {**names, "at": one.at, "trials": trials}
        if _is_target(one) and (one.at or 0) * curves[0].nonmated_trials + ROUNDING < RULE_OF_3:
            yield Difference(one.measure, value=None, note=_NONE, **rest)  # type: ignore[arg-type]
            continue
        value = one.of(curves[1]) - one.of(curves[0])
        drawn = found[1][:, column] - found[0][:, column]
        between = percentiles(drawn)
        yield Difference(
            one.measure,
            value=float(value),
            low=between.low,
            high=between.high,
            level=between.level,
            p=_chance(drawn),
            method=f"{_METHOD}, {len(drawn):,} replicates",
            **rest,  # type: ignore[arg-type]
        )


def judged(found: Sequence[Difference], level: float = LEVEL) -> list[Difference]:
    """Mark the differences that are significant, all taken together (Holm 1979)."""
    order = sorted((d.p, place) for place, d in enumerate(found) if d.p is not None)
    held, results = True, list(found)
    for done, (p, place) in enumerate(order):
        held = held and p <= (1 - level) / (len(order) - done)
        results[place] = replace(found[place], significant=held)
    return results


def _is_target(one: CurveMeasure) -> bool:
    return one.measure in {"TAR", "TPIR"}


def _chance(drawn: Doubles) -> float:
    """The chance: twice the share of replicates on the other side of zero, at least that of two plus one."""
    known = drawn[np.isfinite(drawn)]
    fewest = min(int(np.count_nonzero(known <= 0)), int(np.count_nonzero(known >= 0)))
    return min(1.0, 2 * (fewest + 1) / (len(known) + 1))

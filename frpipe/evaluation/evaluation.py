"""The evaluation of one system on one set of trials: numbers, curves, and where all of it is from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frpipe.evaluation.number import Number

Doubles = NDArray[np.float64]
Task = Literal["verification", "identification", "pad"]
# roc: TAR over FMR.  det: FNMR over FMR.  open_roc: TPIR over FPIR.  open_det: FNIR over FPIR.  cmc: share of
# mates within the rank, over the rank.  mated, nonmated: histograms, counts over the lower edges of bins of
# similarity, the mated or non-mated scores (of searches: the mate's, and strangers' best).  edc:MEASURE,
# edc_ideal: FNMR or FNIR over the fraction discarded.  pad_det, pad_det:SPECIES: BPCER over APCER, of the
# worst species and of one.
CurveName = str


@dataclass(frozen=True, slots=True)
class Series:
    """The points of a curve: x, y (p,).  threshold: (p,) similarities, where each point has one.

    low, high: (p,), a band of confidence around y, where there is one.
    """

    x: Doubles
    y: Doubles
    threshold: Doubles | None = None
    low: Doubles | None = None
    high: Doubles | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A comparison among the worst; shown to people only on request.

    a, b: image ids.  mated: whether both are one person.  similarity: of the comparison.
    """

    a: str
    b: str
    mated: bool
    similarity: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The numbers and curves of one system.

    name: of the system, for people.  counts: of trials, people and failures.  provenance: hashes and names of
    what was compared and read.  warnings: what to know before believing the numbers, in sentences. worst:
    mated pairs that look least alike and non-mated pairs that look most alike, worst first.
    """

    name: str
    task: Task
    counts: Mapping[str, int]
    numbers: Sequence[Number]
    curves: Mapping[CurveName, Series]
    provenance: Mapping[str, Any]
    warnings: Sequence[str] = ()
    worst: Sequence[Trial] = field(default=())

    def number(self, measure: str, at: float | None = None) -> Number | None:
        """The number of all trials, not of a cohort; None where it was not computed."""
        found = (n for n in self.numbers if (n.measure, n.at, n.column) == (measure, at, None))
        return next(found, None)

"""Compute the two worked tables of the lecture. Its column "distance" holds similarities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from frpipe.metrics.curve import Curve
from frpipe.metrics.identification import roc as search_roc
from frpipe.metrics.scores import Doubles, Scores
from frpipe.metrics.searches import Searches, searches_of
from frpipe.metrics.verification import auc_grid, roc

THRESHOLDS = np.arange(10, -1, -1) / 10
SAME, DIFFERENT = (0.99, 0.79, 0.89, 0.11, 0.92), (0.02, 0.11, 0.39, 0.21, 0.01)
ENROLLED = ("A", "B", "C", "D", "E")
# Who it is, whom the system names, and how alike they are.
SEARCHES = (
    ("A", "A", 0.99),
    ("B", "B", 0.61),
    ("C", "D", 0.71),
    ("D", "D", 0.39),
    ("E", "E", 0.98),
    ("unknown 1", "A", 0.22),
    ("unknown 2", "B", 0.31),
    ("unknown 3", "C", 0.99),
    ("unknown 4", "D", 0.71),
    ("unknown 5", "E", 0.01),
)


@dataclass(frozen=True, slots=True)
class LectureTable:
    """Rows of a table. threshold, true_accept, true_reject: (11,), TAR and TRR, or TPIR and TNIR.

    auc_grid: trapezoids over these thresholds, as the lecture does it.  auc_exact: over all thresholds.
    """

    threshold: Doubles
    true_accept: Doubles
    true_reject: Doubles
    auc_grid: float
    auc_exact: float

    @classmethod
    def of(cls, curve: Curve, thresholds: Doubles = THRESHOLDS) -> LectureTable:
        """Read a table off a curve, at thresholds of the curve's kind, from the strictest."""
        false_accept, false_reject = curve.at(thresholds)
        accept = 1 - false_reject
        return cls(thresholds, accept, 1 - false_accept, auc_grid(false_accept, accept), curve.auc())


def verification() -> LectureTable:
    """TAR, TRR and AUC of the ten pairs."""
    return LectureTable.of(roc(Scores.of(SAME, DIFFERENT)))


def identification() -> LectureTable:
    """TPIR, TNIR and AUC of the ten searches."""
    return LectureTable.of(search_roc(searches()))


def searches() -> Searches:
    """The ten searches; each lists its first candidate alone."""
    truth, named, score = zip(*SEARCHES, strict=True)
    return searches_of(range(len(truth)), named, score, truth, ENROLLED)

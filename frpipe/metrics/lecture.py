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
_ROUNDED = 1e-6
_SPREAD = 0.5
ENROLLED = ("A", "B", "C", "D", "E")
# Each search: the probe's person, the person whom the system names, and the similarity.
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


def grid(curve: Curve) -> Doubles:
    """Round thresholds from the strictest on, over all scores of a curve, in its kind.

    Tenths where scores are cosines or distances of such, spread over half of 0 to 1 at least, and then always
    with 0 to 1; else about ten, of which the strictest accepts no non-mated trial, and none closer together
    than numbers of their size can tell.
    """
    scores = curve.threshold[1:]
    low, high = min(float(scores.min()), 0.0), max(float(scores.max()), 1.0)
    cosines = (0.0, 2.0) if curve.kind == "distance" else (-1.0, 1.0)
    # Scores within a tenth or two would have an area of one or two trapezoids.
    spread = float(scores.max()) - float(scores.min()) >= _SPREAD
    # What float32 gives for a cosine may be a little beyond.
    if spread and low >= cosines[0] - _ROUNDED and high <= cosines[1] + _ROUNDED:
        places = _places(max(low, cosines[0]), min(high, cosines[1]), 0.1)
        return _thresholds(curve, places, 0.1)
    low, high = float(scores.min()), float(scores.max())
    # Each divided for itself: their difference may be no number.
    step = _round_step(max(high / 10 - low / 10 or 1.0, 4 * float(np.spacing(max(-low, high)))))
    places = _places(low, high, step)
    found = _thresholds(curve, places, step)
    if curve.at(found[:1])[0][0] == 0:
        return found
    stricter = [places[0] - 1, *places] if curve.kind == "distance" else [*places, places[-1] + 1]
    return _thresholds(curve, np.array(stricter), step)


def _places(low: float, high: float, step: float) -> Doubles:
    """Multiples of the step, ascending, from at most `low` to at least `high`."""
    return np.arange(np.floor(low / step + _ROUNDED), np.ceil(high / step - _ROUNDED) + 1)


def _thresholds(curve: Curve, places: Doubles, step: float) -> Doubles:
    # Tenths by division: 7 / 10 is the 0.7 that people write, 7 * 0.1 is not.
    with np.errstate(over="ignore"):
        found = places / round(1 / step) if step < 1 else places * step
    largest = np.finfo(np.float64).max
    found = np.clip(found, -largest, largest)
    return found if curve.kind == "distance" else found[::-1]


def _round_step(least: float) -> float:
    """The next of 1, 2, 5, 10 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(each * power for each in (1, 2, 5, 10) if each * power >= least * (1 - _ROUNDED)))


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

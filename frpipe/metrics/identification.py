"""Metrics of searches in a gallery, one to many (ISO/IEC 19795-1; NIST FRTE 1:N)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from frpipe.metrics.curve import Curve
from frpipe.metrics.operating import AtTarget, Insufficient, at_target
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Kind, Scores, oriented_threshold
from frpipe.metrics.searches import Searches


@dataclass(frozen=True, slots=True)
class Selectivity:
    """Selectivity of searches. mean: candidates at or above the threshold per completed non-mated search.

    cut: searches all of whose listed candidates are above it, so that there may have been more; where this is
    not 0 the mean is a lower bound.
    """

    mean: float
    searches: int
    cut: int


@dataclass(frozen=True, slots=True)
class Identification:
    """Rates at one threshold, one rank and one size of gallery.

    fnir: mated searches whose mate is outside the rank or below the threshold.  fpir: non-mated searches
    whose best candidate reaches it.  named_wrong: mated searches whose first candidate is somebody else and
    reaches it; None: not known. These are of completed searches; fnir_all and fpir_all count failed ones: a
    miss, and no alarm.
    """

    threshold: float
    kind: Kind
    rank: int
    gallery: int
    fnir: Rate
    fpir: Rate
    fnir_all: Rate
    fpir_all: Rate
    named_wrong: Rate | None
    selectivity: Selectivity | None

    @property
    def tpir(self) -> Rate:
        """True positive identification rate, 1 - FNIR."""
        return self.fnir.complement()

    @property
    def tnir(self) -> Rate:
        """True negative identification rate, 1 - FPIR."""
        return self.fpir.complement()


def at_threshold(searches: Searches, threshold: float, rank: int = 1) -> Identification:
    """FNIR(N, R, T), FPIR(N, T) and related rates; the threshold is of the searches' kind."""
    limit = oriented_threshold(threshold, searches.kind)
    mated, strangers = len(searches.rank), len(searches.strangers)
    misses = mated - int(np.count_nonzero(searches.within(rank) & (searches.mate >= limit)))
    alarms = int(np.count_nonzero(searches.best_stranger >= limit))
    return Identification(
        threshold,
        searches.kind,
        rank,
        searches.gallery,
        Rate(misses, mated),
        Rate(alarms, strangers),
        Rate(misses + searches.mated_lost, mated + searches.mated_lost),
        Rate(alarms, strangers + searches.nonmated_lost),
        _named_wrong(searches, limit),
        _selectivity(searches, limit),
    )


def roc(searches: Searches, rank: int = 1, *, failures: bool = False, one_kind: bool = False) -> Curve:
    """Curve of FPIR (as `fmr`) and FNIR (as `fnmr`) over all thresholds; `.tar` is TPIR, `.trr` TNIR.

    A mate outside the rank is a miss at every threshold: the curve ends at the share of mates within it.
    one_kind: as for `Curve.of`.
    """
    inside = searches.within(rank)
    listed = searches.best_stranger > -np.inf
    scores = Scores(
        searches.mate[inside],
        searches.best_stranger[listed],
        int(np.count_nonzero(~inside)) + (searches.mated_lost if failures else 0),
        int(np.count_nonzero(~listed)) + (searches.nonmated_lost if failures else 0),
        searches.kind,
    )
    return Curve.of(scores, failures=True, one_kind=one_kind)


def cmc(searches: Searches, ranks: int, *, failures: bool = False) -> list[Rate]:
    """Cumulative match characteristic: CMC(k) = 1 - FNIR(N, k, no threshold), k = 1 to `ranks`.

    Strangers play no part.

    Candidate lists must be at least `ranks` long, or whole.
    """
    trials = len(searches.rank) + (searches.mated_lost if failures else 0)
    places = np.bincount(searches.rank[searches.within(ranks)], minlength=ranks + 1)
    return [Rate(int(hits), trials) for hits in np.cumsum(places)[1:]]


def fnir_at_fpir(
    searches: Searches, targets: Iterable[float], rank: int = 1, *, failures: bool = False
) -> list[AtTarget | Insufficient]:
    """Rates at each target FPIR (`fmr` is FPIR, `fnmr` FNIR), or why there are none."""
    curve = roc(searches, rank, failures=failures)
    return [at_target(curve, target) for target in targets]


def _named_wrong(searches: Searches, limit: float) -> Rate | None:
    if searches.other is None:
        return None
    wrong = (searches.rank != 1) & (searches.other >= limit)
    return Rate(int(np.count_nonzero(wrong)), len(searches.rank))


def _selectivity(searches: Searches, limit: float) -> Selectivity | None:
    amount, listed = searches.strangers.shape
    if not amount:
        return None
    above = searches.strangers >= limit
    cut = int(np.count_nonzero(above.all(axis=1))) if listed < searches.gallery else 0
    return Selectivity(float(above.sum(axis=1).mean()), amount, cut)

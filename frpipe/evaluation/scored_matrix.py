"""What a matrix of scores says: its comparisons, one to one, and its searches, one to many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from frpipe.evaluation.evaluation import Evaluation, Series
from frpipe.evaluation.rate_of import RateOf
from frpipe.evaluation.scored import Operating, Scored, SharedPeople, scored_trials
from frpipe.evaluation.targets import usual
from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.identification import cmc, roc
from frpipe.metrics.operating import AtTarget, Insufficient, at_target
from frpipe.metrics.rate import Rate
from frpipe.metrics.score_matrix import ScoreMatrix
from frpipe.metrics.scores import Indices, oriented
from frpipe.metrics.searches import Searches

FPIR_TARGETS = (0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4)
_RANKS = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True)
class Searched:
    """Searches of a matrix. rank: R of FNIR(N, R, T).  cmc: of each rank, the share of mates within it.

    within: the same with intervals, of some ranks.  at_targets: by FPIR, FNIR and its threshold.  scored: the
    open set; None: every probe has a mate, or none was searched, and what is known is investigation alone.
    """

    searches: Searches
    rank: int
    cmc: Sequence[Rate]
    within: Mapping[int, RateOf]
    at_targets: Mapping[float, tuple[float, RateOf] | Insufficient]
    scored: Scored | None

    @property
    def investigation_alone(self) -> str:
        """Why there is no FPIR, in words; empty: there is."""
        if self.scored is not None:
            return ""
        return (
            "no probe without a mate was searched: there is no FPIR and no FNIR at a threshold, and CMC and "
            "FNIR(N, R, 0) are those of investigation"
        )

    def evaluation(self, name: str) -> Evaluation:
        """Curves and counts, for plots."""
        curve = Series(np.arange(1.0, len(self.cmc) + 1), np.array([rate.value or 0.0 for rate in self.cmc]))
        if self.scored is None:
            counts = {"mated": len(self.searches.rank), "nonmated": 0}
            return Evaluation(name, "identification", counts, [], {"cmc": curve}, {})
        found = self.scored.evaluation(name)
        return replace(found, curves={**found.curves, "cmc": curve})

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        counts = {
            "gallery": self.searches.gallery,
            "mated": len(self.searches.rank),
            "nonmated": len(self.searches.strangers),
            "mated_lost": self.searches.mated_lost,
            "nonmated_lost": self.searches.nonmated_lost,
        }
        return {
            "counts": counts,
            "rank": self.rank,
            "cmc": [rate.value for rate in self.cmc],
            "FNIR_investigation": {
                str(rank): one.complement().as_dict() for rank, one in self.within.items()
            },
            "FNIR_at_FPIR": [
                {"FPIR": target, **_at_target(found)} for target, found in self.at_targets.items()
            ],
            "open_set": self.scored.as_dict() if self.scored else None,
            "note": self.investigation_alone or None,
        }


@dataclass(frozen=True, slots=True)
class ScoredMatrix:
    """fta: probes none of whose comparisons has a score.  fte: the same of the gallery."""

    verification: Scored
    identification: Searched
    fta: Rate
    fte: Rate

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "FTA": self.fta.as_dict(),
            "FTE": self.fte.as_dict(),
            "verification": self.verification.as_dict(),
            "identification": self.identification.as_dict(),
        }


def scored_matrix(
    matrix: ScoreMatrix, operating: Operating, rank: int = 1, targets: Sequence[float] = ()
) -> ScoredMatrix:
    """Compute what a matrix says.

    operating: the threshold of comparisons; of searches too, where it is a value.  rank: within which a mate
    counts as found.  targets: of FPIR; empty: the usual ones.
    Raises ScoresError: there are not completed comparisons of both kinds, too few for the target asked for,
    no mated search, or the gallery has no such rank.
    """
    scores = matrix.scores
    parts = oriented(scores.mated, matrix.kind), oriented(scores.nonmated, matrix.kind)
    return ScoredMatrix(
        scored_trials(scores, parts, operating, matrix),
        _searched(matrix, operating, rank, targets),
        failures(matrix)[0],
        failures(matrix)[1],
    )


def failures(matrix: ScoreMatrix) -> tuple[Rate, Rate]:
    """FTA of probes and FTE of the gallery."""
    failed = matrix.probe_failed, matrix.gallery_failed
    fta, fte = (Rate(int(part.sum()), len(part)) for part in failed)
    return fta, fte


def _searched(matrix: ScoreMatrix, operating: Operating, rank: int, targets: Sequence[float]) -> Searched:
    searches = matrix.searches
    if not 1 <= rank <= searches.gallery:
        raise ScoresError(
            f"rank {rank}, and the gallery has {searches.gallery:,}", "ask for a rank within it"
        )
    if not len(searches.rank):
        raise ScoresError("no mated search has a score", "are all of them failures? see --failed-score")
    persons: Indices = np.arange(len(searches.rank), dtype=np.int64)
    rates = cmc(searches, searches.gallery)
    within = {
        each: _found(searches, each, -np.inf) for each in sorted({*_RANKS, rank}) if each <= searches.gallery
    }
    if not len(searches.strangers):
        return Searched(searches, rank, rates, within, {}, None)
    curve = roc(searches, rank)
    strangers = len(persons) + np.arange(len(searches.strangers), dtype=np.int64)
    found = {target: at_target(curve, target) for target in targets or usual(FPIR_TARGETS, len(strangers))}
    at_targets = {target: _at(searches, rank, one) for target, one in found.items()}
    hits = np.where(searches.within(rank), searches.mate, -np.inf)
    best = searches.best_stranger
    sharing = SharedPeople(matrix.kind, hits, best, (persons, strangers, strangers))
    # A target of FMR is none of FPIR: that one has a table.
    own = operating if operating.by == "value" else Operating()
    listed = searches.mate[searches.rank > 0]
    shown = oriented(listed, matrix.kind), oriented(best, matrix.kind)
    return Searched(
        searches, rank, rates, within, at_targets, scored_trials(searches, shown, own, sharing, rank)
    )


def _at(searches: Searches, rank: int, found: AtTarget | Insufficient) -> tuple[float, RateOf] | Insufficient:
    """The threshold of a target, and FNIR there."""
    if isinstance(found, Insufficient):
        return found
    limit = float(oriented(np.array([found.threshold]), searches.kind)[0])
    return found.threshold, _found(searches, rank, limit).complement()


def _found(searches: Searches, rank: int, limit: float) -> RateOf:
    """Mates within a rank, at an oriented threshold. Each probe is a person of its own."""
    hits = searches.within(rank) & (searches.mate >= limit)
    return RateOf(Rate(int(hits.sum()), len(hits)), clustered_rate(hits, np.arange(len(hits))))


def _at_target(found: tuple[float, RateOf] | Insufficient) -> dict[str, Any]:
    if isinstance(found, Insufficient):
        return {"insufficient": found.reason, "have": found.have, "need": found.need}
    threshold, fnir = found
    # Where nothing is accepted: no number of JSON is infinite.
    return {"threshold": threshold if np.isfinite(threshold) else None, "FNIR": fnir.as_dict()}

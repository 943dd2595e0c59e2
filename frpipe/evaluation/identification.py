"""The evaluation of searches, one to many: open set and closed set, with and without failures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from frpipe.core.counted import counted
from frpipe.core.distinct import distinct
from frpipe.evaluation.curves import binned, det_series, roc_series
from frpipe.evaluation.evaluation import CurveName, Evaluation, Series
from frpipe.evaluation.galleries import gallery_numbers
from frpipe.evaluation.groups import by_group, ratios
from frpipe.evaluation.number import Number
from frpipe.evaluation.quality import Judged, QualityMeasure, chosen_threshold
from frpipe.evaluation.sample import NO_SCORE, CurveMeasure, at_target, auc
from frpipe.evaluation.searches import SearchTrials
from frpipe.evaluation.targets import curve_numbers, grid_number, target_numbers
from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.identification import at_threshold, cmc, roc
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Indices
from frpipe.metrics.searches import Searches

_RANKS = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True)
class IdentificationQuestion:
    """The question that is put to searches.

    thresholds: similarities.  targets: of FPIR.  listed: candidates a list has at most; a rank beyond it says
    nothing.  quality: measures, whose values of the probes the trials have.  rank: within which a mate counts
    as found, in all but CMC and the two modes.  galleries: sizes of smaller ones, drawn by subject.  least:
    similarity below which no candidate was listed.
    """

    thresholds: Sequence[float] = ()
    targets: Sequence[float] = (0.1, 0.01, 0.001)
    listed: int = 1
    quality: Sequence[QualityMeasure] = ()
    rank: int = 1
    galleries: Sequence[int] = ()
    least: float = -np.inf

    def estimates(self) -> list[CurveMeasure]:
        """The estimates that a curve gives."""
        found = [auc(), *(at_target("TPIR", target) for target in self.targets)]
        return [*found, CurveMeasure("CMC", self.rank, lambda curve: float(1 - curve.at([NO_SCORE])[1][0]))]

    def answer(
        self, name: str, trials: SearchTrials, provenance: dict[str, Any], warnings: Sequence[str] = ()
    ) -> Evaluation:
        """Evaluate searches.

        Raises ScoresError: there are no completed searches, or lists are shorter than the rank.
        """
        if not 1 <= self.rank <= self.listed:
            raise ScoresError(
                f"rank {self.rank}, and lists hold at most {counted(self.listed, 'candidates')}",
                "ask for a rank within them, or search with a larger --top",
            )
        trials = trials.ranked(self.rank)
        groups, skipped = by_group(trials)
        judged = self._judged(trials)
        numbers = [
            *self._numbers(trials),
            *(number for group in groups for number in self._numbers(group.trials, **group.where)),
        ]
        return Evaluation(
            name,
            "identification",
            _counts(trials),
            [
                *numbers,
                *self._modes(trials),
                *ratios(numbers, ("FPIR", "FNIR")),
                *gallery_numbers(
                    trials,
                    self.galleries,
                    self.thresholds,
                    self.targets,
                    listed=self.listed,
                    least=self.least,
                ),
                *(judged.numbers() if judged else ()),
            ],
            {**self._curves(trials), **(judged.curves() if judged else {})},
            provenance,
            [*warnings, *skipped, *(judged.warnings() if judged else ())],
        )

    def _numbers(self, trials: SearchTrials, **where: Any) -> Iterator[Number]:
        searches = trials.searches()
        for threshold in self.thresholds:
            yield from _at_threshold(trials, searches, threshold, **where)
        fta, fte = trials.failures()
        yield Number.rate("FTA", fta, **where)
        if not where:
            yield Number.rate("FTE", fte)
        yield from self._cmc_numbers(trials, **where)
        if not len(searches.rank) or not len(searches.strangers):
            yield Number.missing("TPIR", "no mated, or no non-mated searches", **where)
            return
        curve, sample = roc(searches, trials.rank), trials.sample()
        yield grid_number(curve, **where)
        yield from curve_numbers(curve, sample, [auc()], **where)
        yield from target_numbers("TPIR", curve, sample, self.targets, **where)

    def _modes(self, trials: SearchTrials) -> Iterator[Number]:
        """Numbers of investigation, FNIR(N, R, 0), and identification, FNIR(N, L, T), as in NIST FRTE 1:N."""
        searches = trials.searches()
        for number in self._cmc_numbers(trials):
            yield number.complement("FNIR_investigation")
        if len(searches.rank) and len(searches.strangers):
            every = trials.ranked(self.listed)
            yield from (
                number.complement("FNIR_identification")
                for number in target_numbers("TPIR", roc(searches, self.listed), every.sample(), self.targets)
            )

    def _judged(self, trials: SearchTrials) -> Judged | None:
        """The completed mated searches with the qualities of their probes; None: no quality is asked for."""
        searches = trials.searches()
        if not self.quality or not len(searches.rank):
            return None
        curve = roc(searches, trials.rank) if len(searches.strangers) else None
        chosen = chosen_threshold(curve, "FPIR", self.targets, self.thresholds)
        # In a closed set there is no threshold: a mate beyond the rank is a miss.
        threshold, words = chosen or (NO_SCORE, f"at rank {trials.rank}: there is no threshold")
        return Judged(
            "FNIR",
            ~searches.within(trials.rank) | (searches.mate < threshold),
            trials.persons()[trials.done_mated],
            threshold,
            words,
            {measure: trials.quality[measure.column][trials.done_mated] for measure in self.quality},
        )

    def _cmc_numbers(self, trials: SearchTrials, **where: Any) -> Iterator[Number]:
        searches, mates = trials.searches(), trials.persons()[trials.done_mated]
        rates = cmc(searches, self.listed) if len(searches.rank) else []
        for rank in sorted({*_RANKS, self.rank, self.listed}):
            if rank <= len(rates):
                yield _clustered("CMC", rates[rank - 1], searches.within(rank), mates, at=rank, **where)

    def _curves(self, trials: SearchTrials) -> dict[CurveName, Series]:
        searches, found = trials.searches(), dict[CurveName, Series]()
        if len(searches.rank):
            rates = [rate.value or 0.0 for rate in cmc(searches, self.listed)]
            found["cmc"] = Series(np.arange(1.0, len(rates) + 1), np.array(rates))
            found["mated"] = binned(searches.mate[searches.rank > 0])
        if len(searches.strangers):
            found["nonmated"] = binned(searches.best_stranger[searches.best_stranger > -np.inf])
        if len(searches.rank) and len(searches.strangers):
            curve = roc(searches, trials.rank)
            found["open_roc"] = roc_series(curve, trials.sample(), self.targets)
            found["open_det"] = det_series(curve)
        return found


def _at_threshold(
    trials: SearchTrials, searches: Searches, threshold: float, **where: Any
) -> Iterator[Number]:
    rates = at_threshold(searches, threshold, trials.rank)
    persons, rest = trials.persons(), {"at": threshold, **where}
    mates, strangers = persons[trials.done_mated], persons[trials.done_strangers]
    misses = ~searches.within(trials.rank) | (searches.mate < threshold)
    alarms = searches.best_stranger >= threshold
    ranked = {"note": f"rank {trials.rank}"} if trials.rank != 1 else {}
    yield _clustered("FNIR", rates.fnir, misses, mates, **rest, **ranked)
    yield _clustered("FPIR", rates.fpir, alarms, strangers, **rest)
    for measure, rate, errors, among in (
        ("FNIR_all", rates.fnir_all, misses, trials.mated),
        ("FPIR_all", rates.fpir_all, alarms, ~trials.mated),
    ):
        done = trials.done_mated if measure == "FNIR_all" else trials.done_strangers
        # A search that failed is a miss, and no alarm.
        every = np.full(len(trials), measure == "FNIR_all")
        every[done] = errors
        of_rank = ranked if measure == "FNIR_all" else {}
        yield _clustered(measure, rate, every[among], persons[among], **rest, **of_rank)
    if rates.named_wrong is not None and searches.other is not None:
        wrong = (searches.rank != 1) & (searches.other >= threshold)
        yield _clustered("named_wrong", rates.named_wrong, wrong, mates, **rest)
    if rates.selectivity is not None:
        cut = rates.selectivity.cut
        note = f"at least: {counted(cut, 'lists were')} too short" if cut else None
        yield Number.scalar("selectivity", rates.selectivity.mean, note=note, **rest)


def _clustered(measure: str, rate: Rate, errors: Any, persons: Indices, **rest: Any) -> Number:
    interval = clustered_rate(errors, persons) if rate.trials else None
    return Number.rate(measure, rate, interval, **rest)


def _counts(trials: SearchTrials) -> dict[str, int]:
    found = trials.searches()
    return {
        "gallery": found.gallery,
        "mated": len(found.rank),
        "nonmated": len(found.strangers),
        "mated_lost": found.mated_lost,
        "nonmated_lost": found.nonmated_lost,
        "persons": len(distinct(trials.persons())),
    }

"""The evaluation of searches, one to many: open set and closed set, with and without failures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from frpipe.core.counted import counted
from frpipe.evaluation.curves import binned, det_series, roc_series
from frpipe.evaluation.evaluation import CurveName, Evaluation, Series
from frpipe.evaluation.groups import by_group, ratios
from frpipe.evaluation.number import Number
from frpipe.evaluation.quality import Judged, QualityMeasure, chosen_threshold
from frpipe.evaluation.sample import NO_SCORE, Estimate, at_target, auc
from frpipe.evaluation.searches import SearchTrials
from frpipe.evaluation.targets import curve_numbers, grid_number, target_numbers
from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.identification import at_threshold, cmc, roc
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Indices
from frpipe.metrics.searches import Searches

_RANKS = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True)
class IdentificationQuestion:
    """What is asked of the searches.

    thresholds: similarities.  targets: of FPIR.  listed: candidates a list has at most; a rank beyond it says
    nothing.  quality: measures, whose values of the probes the trials have.
    """

    thresholds: Sequence[float] = ()
    targets: Sequence[float] = (0.1, 0.01, 0.001)
    listed: int = 1
    quality: Sequence[QualityMeasure] = ()

    def estimates(self) -> list[Estimate]:
        """What a curve gives."""
        found = [auc(), *(at_target("TPIR", target) for target in self.targets)]
        return [*found, Estimate("CMC", 1, lambda curve: float(1 - curve.at([NO_SCORE])[1][0]))]

    def answer(
        self, name: str, trials: SearchTrials, provenance: dict[str, Any], warnings: Sequence[str] = ()
    ) -> Evaluation:
        """Raises ScoresError: there are neither mated nor non-mated searches."""
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
            [*numbers, *ratios(numbers, ("FPIR", "FNIR")), *(judged.numbers() if judged else ())],
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
        mates = trials.persons()[trials.done_mated]
        for rank, rate in self._cmc(searches):
            yield _clustered(
                "CMC", rate, (searches.rank >= 1) & (searches.rank <= rank), mates, at=rank, **where
            )
        if not len(searches.rank) or not len(searches.strangers):
            yield Number.missing("TPIR", "no mated, or no non-mated searches", **where)
            return
        curve, sample = roc(searches), trials.sample()
        yield grid_number(curve, **where)
        yield from curve_numbers(curve, sample, [auc()], **where)
        yield from target_numbers("TPIR", curve, sample, self.targets, **where)

    def _judged(self, trials: SearchTrials) -> Judged | None:
        """The completed mated searches with the qualities of their probes; None: nobody asks for them."""
        searches = trials.searches()
        if not self.quality or not len(searches.rank):
            return None
        curve = roc(searches) if len(searches.strangers) else None
        chosen = chosen_threshold(curve, "FPIR", self.targets, self.thresholds)
        # In a closed set there is no threshold: a mate who is not first is a miss.
        threshold, words = chosen or (NO_SCORE, "at rank 1: there is no threshold")
        return Judged(
            "FNIR",
            (searches.rank != 1) | (searches.mate < threshold),
            trials.persons()[trials.done_mated],
            threshold,
            words,
            {measure: trials.quality[measure.column][trials.done_mated] for measure in self.quality},
        )

    def _cmc(self, searches: Searches) -> list[tuple[int, Rate]]:
        if not len(searches.rank):
            return []
        rates = cmc(searches, self.listed)
        return [(rank, rates[rank - 1]) for rank in _RANKS if rank <= self.listed]

    def _curves(self, trials: SearchTrials) -> dict[CurveName, Series]:
        searches, found = trials.searches(), dict[CurveName, Series]()
        if len(searches.rank):
            rates = [rate.value or 0.0 for rate in cmc(searches, self.listed)]
            found["cmc"] = Series(np.arange(1.0, len(rates) + 1), np.array(rates))
            found["mated"] = binned(searches.mate[searches.rank > 0])
        if len(searches.strangers):
            found["nonmated"] = binned(searches.best_stranger[searches.best_stranger > -np.inf])
        if len(searches.rank) and len(searches.strangers):
            curve = roc(searches)
            found["open_roc"] = roc_series(curve, trials.sample(), self.targets)
            found["open_det"] = det_series(curve)
        return found


def _at_threshold(
    trials: SearchTrials, searches: Searches, threshold: float, **where: Any
) -> Iterator[Number]:
    rates = at_threshold(searches, threshold)
    persons, rest = trials.persons(), {"at": threshold, **where}
    mates, strangers = persons[trials.done_mated], persons[trials.done_strangers]
    misses = (searches.rank != 1) | (searches.mate < threshold)
    alarms = searches.best_stranger >= threshold
    yield _clustered("FNIR", rates.fnir, misses, mates, **rest)
    yield _clustered("FPIR", rates.fpir, alarms, strangers, **rest)
    for measure, rate, errors, among in (
        ("FNIR_all", rates.fnir_all, misses, trials.mated),
        ("FPIR_all", rates.fpir_all, alarms, ~trials.mated),
    ):
        done = trials.done_mated if measure == "FNIR_all" else trials.done_strangers
        # Those that failed: a miss, and no alarm.
        every = np.full(len(trials), measure == "FNIR_all")
        every[done] = errors
        yield _clustered(measure, rate, every[among], persons[among], **rest)
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
        "persons": len(np.unique(trials.truth.astype(str))),
    }

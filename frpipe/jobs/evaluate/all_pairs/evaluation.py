"""The evaluation of a comparison of all with all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from frpipe.core.distinct import distinct
from frpipe.evaluation.curves import kept
from frpipe.evaluation.evaluation import CurveName, Evaluation, Series
from frpipe.evaluation.number import Number
from frpipe.jobs.dedup.blocks import NEAR_IDENTICAL
from frpipe.jobs.evaluate.all_pairs.blocks import CROSS
from frpipe.jobs.evaluate.all_pairs.comparison_counts import ComparisonCounts
from frpipe.jobs.evaluate.all_pairs.totals import Totals
from frpipe.metrics.bounds import Binned, Bounds
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.rate import Rate
from frpipe.metrics.streaming import ScoreHistogram
from frpipe.metrics.tallied import Tallied

CROSS_COHORT = "cross-cohort"
"""The group of pairs whose sides are of two cohorts."""

# Bins of the histograms that are drawn.
_DRAWN = 512
# Photos of one person that are more alike are one photo, cut or saved in two ways.
_SAME_PHOTO = 0.9999


def evaluation_of(
    totals: Totals,
    *,
    name: str,
    thresholds: Sequence[float],
    targets: Sequence[float],
    error: float,
    provenance: Mapping[str, Any],
) -> Evaluation:
    """Make the evaluation. thresholds: as they were counted.  targets: FMRs.  error: of the scores."""
    counts = totals.counts
    whole = CellNumbers(totals, counts, error)
    numbers = list(whole.numbers(thresholds, targets))
    for cell, label in [*enumerate(counts.labels), *([(CROSS, CROSS_COHORT)] if counts.labels else [])]:
        part = CellNumbers(totals, counts, error, cell, {"column": provenance["by"], "group": label})
        numbers += part.numbers(thresholds, targets)
    return Evaluation(
        name,
        "verification",
        counts=_counts(whole.binned, counts),
        numbers=[*numbers, *failures(numbers, counts)],
        curves=_curves(whole.binned),
        provenance={**provenance, "resolution": 2 / whole.binned.mated.bins, "error": error},
        warnings=list(_warnings(whole.binned, counts)),
    )


def _counts(binned: Binned, compared: ComparisonCounts) -> dict[str, int]:
    counts = {
        "mated": binned.mated.total,
        "nonmated": binned.nonmated.total,
        "persons": len(distinct(compared.subject)),
        "templates": compared.templates,
        **{f"left_out_{reason}": count for reason, count in sorted(compared.left_out.items())},
    }
    if compared.photos is not None and compared.lost is not None:
        counts |= dict(zip(("mated_lost", "nonmated_lost"), compared.lost, strict=True))
        counts["photos"] = int(compared.photos.sum())
        counts["photos_failed"] = counts["photos"] - compared.templates
    return counts


def _curves(binned: Binned) -> dict[CurveName, Series]:
    curves: dict[CurveName, Series] = {"mated": _drawn(binned.mated), "nonmated": _drawn(binned.nonmated)}
    if binned.mated.total and binned.nonmated.total:
        curve = binned.roc()
        some = kept(curve)
        curves["roc"] = Series(curve.fmr[some], curve.tar[some], curve.threshold[some])
        curves["det"] = Series(curve.fmr[some], curve.fnmr[some], curve.threshold[some])
    return curves


def _drawn(histogram: ScoreHistogram) -> Series:
    counts = histogram.counts.reshape(_DRAWN, -1).sum(axis=1)
    return Series(histogram.edges[: -1 : histogram.bins // _DRAWN], counts.astype(np.float64))


def _warnings(binned: Binned, counts: ComparisonCounts) -> Iterator[str]:
    yield (
        "AUC, EER and TAR at a target lie within the bounds given, which are those of binning and rounding: "
        "they say nothing of other people, and intervals of confidence are given for rates at thresholds only"
    )
    yield from counts.warnings
    if counts.photos is None:
        yield "a gallery does not know which photos gave no template: there is no FTA, no FAR and no FRR"
    if binned.nonmated.total:
        alike = round(binned.fmr(NEAR_IDENTICAL).high * binned.nonmated.total)
        if alike:
            yield (
                f"{alike:,} non-mated pairs have a similarity of {NEAR_IDENTICAL:g} or more: is somebody "
                "there under two names? jobs/dedup.py lists them"
            )
    if binned.mated.total:
        same = round((1 - binned.fnmr(_SAME_PHOTO).low) * binned.mated.total)
        if same:
            yield f"{same:,} mated pairs look like one photo twice, which says nothing of the system"


METHOD = "bounds of binning"


@dataclass(frozen=True)
class CellNumbers:
    """The numbers of a cell.

    cell: a cohort, pairs across cohorts, or, for None, all.  group: column and group, as numbers have it.
    error: no score that was counted is farther than this from the similarity.
    """

    totals: Totals
    counts: ComparisonCounts
    error: float
    cell: int | None = None
    group: dict[str, Any] = field(default_factory=dict)

    @property
    def binned(self) -> Binned:
        """The scores of the cell."""
        mated, nonmated = (self.totals.histogram(self.cell, mated=mated) for mated in (True, False))
        return Binned(mated, nonmated, self.error)

    def numbers(self, thresholds: Sequence[float], targets: Sequence[float]) -> Iterator[Number]:
        """FMR and FNMR at thresholds, as they were counted; AUC, EER, and TAR at target FMRs."""
        binned = self.binned
        for place, threshold in enumerate(thresholds):
            yield self._rate(binned, place, threshold, mated=False)
            yield self._rate(binned, place, threshold, mated=True)
        if binned.mated.total and binned.nonmated.total:
            yield _bounded("AUC_exact", binned.auc(), **self.group)
            yield _bounded("EER", binned.eer(), **self.group)
            yield from (self._at_target(binned, target) for target in targets)
            return
        lacking = "no mated comparisons" if not binned.mated.total else "no non-mated comparisons"
        for measure, at in (("AUC_exact", None), ("EER", None), *(("TAR", target) for target in targets)):
            yield Number.missing(measure, lacking, at=at, **self.group)

    def _rate(self, binned: Binned, place: int, threshold: float, *, mated: bool) -> Number:
        measure, where = "FNMR" if mated else "FMR", {"at": threshold, "threshold": threshold, **self.group}
        total = (binned.mated if mated else binned.nonmated).total
        if not total:
            return Number.rate(measure, Rate(0, 0), **where)
        bounds = binned.fnmr(threshold) if mated else binned.fmr(threshold)
        errors = self.totals.errors_at(place, self.cell, mated=mated)
        trials = self.counts.trials(self.cell, mated=mated)
        found = Tallied(errors, trials, None if mated else self.counts.couple)
        between = found.interval(round(bounds.low * total), round(bounds.high * total))
        return Number.rate(measure, Rate(found.count, found.total), between, **where)

    def _at_target(self, binned: Binned, target: float) -> Number:
        found = binned.at_fmr(target)
        if isinstance(found, Insufficient):
            return Number.missing("TAR", found, at=target, **self.group)
        where = {"at": target, "threshold": found.threshold, **self.group}
        return _bounded("TAR", found.tar, trials=binned.mated.total, support=found.support, **where)


def failures(numbers: Sequence[Number], counts: ComparisonCounts) -> Iterator[Number]:
    """Failures: FTA, and FAR and FRR, which count comparisons with a failed photo as rejections."""
    if counts.photos is None or counts.lost is None:
        return
    templates = np.bincount(counts.subject, minlength=counts.people)
    failed = Tallied(counts.photos - templates, counts.photos)
    yield Number.rate("FTA", Rate(failed.count, failed.total), failed.interval(failed.count, failed.count))
    mated, nonmated = counts.lost
    for number in numbers:
        if number.measure in {"FMR", "FNMR"} and number.column is None:
            yield _with_lost(number, mated if number.measure == "FNMR" else nonmated)


def _with_lost(number: Number, lost: int) -> Number:
    """Count lost comparisons as rejections: FAR of an FMR, FRR of an FNMR."""
    mated = number.measure == "FNMR"
    count, trials = (number.count or 0) + lost * mated, (number.trials or 0) + lost
    return Number(
        "FRR" if mated else "FAR",
        count / trials if trials else None,
        at=number.at,
        threshold=number.threshold,
        count=count,
        trials=trials,
        note="no interval: lost comparisons are of few photos" if trials else "no trials",
    )


def _bounded(measure: str, bounds: Bounds, **rest: Any) -> Number:
    return Number(measure, bounds.middle, low=bounds.low, high=bounds.high, method=METHOD, **rest)

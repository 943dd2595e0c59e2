"""The evaluation of a comparison of all with all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from frpipe.evaluation.curves import kept
from frpipe.evaluation.evaluation import CurveName, Evaluation, Series
from frpipe.jobs.dedup.blocks import NEAR_IDENTICAL
from frpipe.jobs.evaluate.all_pairs.blocks import CROSS
from frpipe.jobs.evaluate.all_pairs.comparison_counts import ComparisonCounts
from frpipe.jobs.evaluate.all_pairs.numbers import CellNumbers, failures
from frpipe.jobs.evaluate.all_pairs.totals import Totals
from frpipe.metrics.bounds import Binned
from frpipe.metrics.streaming import ScoreHistogram

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
        "persons": len(np.unique(compared.subject)),
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

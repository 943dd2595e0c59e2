"""Threshold cards from an evaluation: where its trials carry the error rate that is aimed at."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np

from frpipe.core.threshold import Target, ThresholdCard
from frpipe.evaluation.evaluation import Evaluation
from frpipe.metrics.curve import Curve
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.intervals import upper_bound

CONFIDENCE = 0.95


def threshold_card(
    evaluation: Evaluation, curve: Curve, target: float, created: datetime, confidence: float = CONFIDENCE
) -> ThresholdCard:
    """The most lenient threshold at which the rate, FMR or FPIR, is at most the target with this confidence.

    curve: of the evaluation's trials, exact.  The bound is the one-sided one of Clopper and Pearson, for
    independent trials: trials that share people carry less.
    Raises ScoresError: even no error at all would not show it, or equal scores leave no such threshold. There
    is no extrapolation: the tail beyond the last score is not known.
    """
    trials, name = round(curve.nonmated_trials), _rate(evaluation)
    errors = _allowed(trials, target, confidence, name)
    place = int(np.searchsorted(curve.nonmated, errors, "right")) - 1
    if not np.isfinite(curve.threshold[place]):
        raise ScoresError(
            f"no threshold for {name} {target:g}: too many non-mated trials have the highest score",
            "look for photos of one person under two names: jobs/dedup.py finds them",
        )
    found = int(curve.nonmated[place])
    return ThresholdCard(
        kind="similarity",
        value=float(np.clip(curve.threshold[place], -1, 1)),
        target=Target(rate=name, value=target),  # type: ignore[arg-type]
        trials=trials,
        source=f"{evaluation.name}: {name} <= {target:g} with {confidence:.0%} confidence, by {found:,} "
        f"errors in {trials:,} trials taken as independent{_searched(evaluation)}",
        created=created,
        **_use(evaluation),
    )


def _allowed(trials: int, target: float, confidence: float, name: str) -> int:
    """The largest number of errors whose upper bound is at most the target."""
    counts = np.arange(int(target * trials) + 1)
    below = np.flatnonzero(upper_bound(counts, trials, confidence) <= target) if trials else counts[:0]
    if not len(below):
        need = int(np.ceil(np.log(1 - confidence) / np.log1p(-target)))
        raise ScoresError(
            f"no threshold for {name} {target:g}: {trials:,} non-mated trials, {need:,} are needed for "
            f"{confidence:.0%} confidence",
            "aim at a higher rate, or evaluate more non-mated trials; it is not extrapolated",
        )
    return int(below[-1])


def _rate(evaluation: Evaluation) -> str:
    return "FMR" if evaluation.task == "verification" else "FPIR"


def _searched(evaluation: Evaluation) -> str:
    """The gallery and its version, by the content; empty where none was searched."""
    facts = evaluation.provenance
    if evaluation.task != "identification" or "gallery_version" not in facts:
        return ""
    commit = f", commit {facts['gallery_commit']}" if facts.get("gallery_commit") else ""
    return f"; gallery {facts['gallery_id']}, version {facts['gallery_version']}{commit}"


def _use(evaluation: Evaluation) -> dict[str, Any]:
    subjects = evaluation.counts["gallery"] if evaluation.task == "identification" else None
    hashes = {name: str(evaluation.provenance[name]) for name in ("embedder_hash", "preprocessing_hash")}
    return {**hashes, "purpose": evaluation.task, "gallery_subjects": subjects}

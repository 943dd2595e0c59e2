"""Calibration cards from comparisons whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import numpy as np

from frpipe.core.calibration import CalibrationCard, CalibrationMap
from frpipe.core.counted import counted
from frpipe.metrics.calibration import Isotonic, Logistic, fit_isotonic, fit_logistic
from frpipe.metrics.cross_fit import LEAST
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.scores import Scores

Method = Literal["logistic", "isotonic"]


def calibration_card(
    scores: Scores,
    method: Method,
    *,
    hashes: Mapping[str, str | None],
    source: str,
    created: datetime,
    costs: tuple[float, float] | None = None,
) -> CalibrationCard:
    """Fit a map on all completed comparisons, as a map from similarities.

    hashes: of embedder, detector and preprocessing.  source: on what data, in words.  costs: cross-fitted
    Cllr, and min Cllr; None: not computed.
    Raises ScoresError: fewer than ten comparisons of a kind, the scores are no cosines, or mated ones are
    less alike than others.
    """
    done = scores.completed()
    fewest = min(len(done.mated), len(done.nonmated))
    if fewest < LEAST:
        raise ScoresError(
            f"no calibration: {counted(fewest, 'comparisons')} of a kind, {LEAST} are needed",
            "compare more pairs of both kinds",
        )
    return CalibrationCard(
        map=_line(fit_logistic(done), done) if method == "logistic" else _steps(fit_isotonic(done), done),
        mated=len(done.mated),
        nonmated=len(done.nonmated),
        source=source,
        created=created,
        cllr=costs[0] if costs else None,
        min_cllr=costs[1] if costs else None,
        **hashes,  # type: ignore[arg-type]
    )


def _line(found: Logistic, scores: Scores) -> CalibrationMap:
    _check_cosines(np.concatenate([scores.mated, scores.nonmated]), scores)
    slope, offset = found.slope, found.offset
    if scores.kind == "distance":
        # A distance is 1 - similarity.
        slope, offset = -slope, offset + slope
    if slope < 0:
        raise ScoresError(
            "mated comparisons are less alike than others: there is no calibration to keep",
            "see that labels and scores are not the wrong way round",
        )
    return CalibrationMap(method="logistic", slope=slope, offset=offset)


def _steps(found: Isotonic, scores: Scores) -> CalibrationMap:
    knots, kept = np.unique(_check_cosines(found.score, scores), return_index=True)
    return CalibrationMap(
        method="isotonic",
        similarities=tuple(knots.tolist()),
        ratios=tuple(np.maximum.accumulate(found.ratio[kept]).tolist()),
    )


def _check_cosines(oriented: np.ndarray[Any, np.dtype[np.float64]], scores: Scores) -> Any:
    """Check that scores, oriented so that larger is more alike, are cosine similarities."""
    similarity = oriented if scores.kind == "similarity" else 1 + oriented
    rounding = 1e-6
    if len(similarity) and (similarity.min() < -1 - rounding or similarity.max() > 1 + rounding):
        raise ScoresError(
            "the scores are no cosine similarities or distances: jobs could not apply their calibration",
            "a calibration card is of scores that frpipe gives",
        )
    return similarity

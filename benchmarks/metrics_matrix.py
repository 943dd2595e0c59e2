"""Time the report of a matrix of scores, and its bootstrap beside that of the same comparisons as a list."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from frpipe.evaluation.scored import Operating
from frpipe.evaluation.scored_matrix import scored_matrix
from frpipe.metrics.bootstrap import curve_replicates, replicates_of
from frpipe.metrics.curve import Curve
from frpipe.metrics.score_matrix import ScoreMatrix
from frpipe.metrics.scores import Scores

PEOPLE = 3_000
# Of the list, which takes long; a replicate costs what any other does.
_REPLICATES = 8


def made_up(people: int = PEOPLE, seed: int = 0) -> ScoreMatrix:
    """People who differ, nine in ten of whom are enrolled."""
    rng = np.random.default_rng(seed)
    own = rng.normal(0, 0.3, people)
    score = own[:, None] + own[None, :] + rng.normal(0, 1, (people, people))
    score[np.diag_indices(people)] += 4
    gallery = [f"person-{number:06d}" for number in range(people)]
    strangers = people // 10
    return ScoreMatrix([*gallery[strangers:], *(f"x{number}" for number in range(strangers))], gallery, score)


def matrix() -> dict[str, Any]:
    """CPU seconds of a whole report, and of a replicate; ratio: of the list's to ours."""
    found = made_up()
    report = _cpu(lambda: scored_matrix(found, Operating()))
    ours = _cpu(lambda: found.replicates([Curve.auc])) / replicates_of(found.score.size)
    a, b = np.divmod(np.arange(found.score.size), PEOPLE)
    probe = np.where(
        np.arange(PEOPLE) < PEOPLE - PEOPLE // 10, np.arange(PEOPLE) + PEOPLE // 10, -1 - np.arange(PEOPLE)
    )
    first, mated = probe[a], probe[a] == b
    scores = Scores(found.score.ravel()[mated], found.score.ravel()[~mated])
    persons = first[mated], (first[~mated], b[~mated])

    def listed(replicates: int) -> float:
        return _cpu(lambda: curve_replicates(scores, *persons, [Curve.auc], replicates=replicates))

    # Sorting and numbering are once, and are taken off.
    theirs = (listed(1 + _REPLICATES) - listed(1)) / _REPLICATES
    return {
        "cells": found.score.size,
        "report_cpu_s": round(report, 2),
        "replicate_cpu_s": {"matrix": round(ours, 4), "list": round(theirs, 4)},
        "ratio": round(theirs / ours, 1),
    }


def _cpu(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun

"""The first rows of a search, while nothing is known: all scores are looked at, and a floor is found."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from frpipe.matching.blas import Blas
from frpipe.matching.kernel import Floats, Hits, Indices, floor_of
from frpipe.matching.tile_filter import reaching

_ROWS, _ROWS_PER_K = 4096, 4
# The k-th best of so many groups of rows stands for that of the rows: a tenth more rows reach it, and it is
# found sooner.
_GROUPS_PER_K = 4
_NEVER = np.float32(-np.inf)


def opening_rows(k: int) -> int:
    """Rows that are looked at."""
    return max(_ROWS, _ROWS_PER_K * k)


def opened(
    probes: Floats, vectors: Floats, persons: Indices | None, k: int, kernel: Blas
) -> tuple[Hits, Floats, Floats]:
    """What may matter of some rows, a similarity that k persons reach with each probe, and the error.

    probes: (m, dim).  vectors: (n, dim).  persons: (n,) a number for each row's; None: no two are of one.
    There are at least k persons. The floor is minus infinity where fewer of them are finite.
    """
    scores = kernel.scores(probes, vectors)
    # A row that is not finite has no finite product with any probe.
    scores[~np.isfinite(scores[:, 0])] = _NEVER
    best = _best_of_groups(scores, persons, k)
    error = kernel.error(probes, vectors)
    floor = floor_of(np.partition(best.T, -k, axis=1)[:, -k], error)
    return reaching(scores, floor - error), floor, error


def _best_of_groups(scores: Floats, persons: Indices | None, k: int) -> Floats:
    """(groups, m): the best of each group of rows; no person is in two."""
    starts = np.arange(len(scores))
    if persons is not None:
        if np.any(np.diff(persons) < 0):
            order = np.argsort(persons, kind="stable")
            scores, persons = scores[order], persons[order]
        starts = np.flatnonzero(np.diff(persons, prepend=-1))
    edges = [*starts[:: max(1, len(starts) // (_GROUPS_PER_K * k))].tolist(), len(scores)]
    best = np.empty((len(edges) - 1, scores.shape[1]), np.float32)
    for group, (start, stop) in enumerate(pairwise(edges)):
        np.maximum.reduce(scores[start:stop], axis=0, out=best[group])
    return best

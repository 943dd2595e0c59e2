"""The first rows of a search, while nothing is known: all scores are looked at, and a floor is found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from frpipe.matching.blas import Blas
from frpipe.matching.kernel import Floats, Hits, Indices

_ROWS, _ROWS_PER_K = 2048, 4
_NEVER = np.float32(-np.inf)


def opening_rows(k: int) -> int:
    """Rows that are looked at."""
    return max(_ROWS, _ROWS_PER_K * k)


def opened(
    probes: Floats, vectors: Floats, persons: Indices | None, k: int, kernel: Blas
) -> tuple[Hits, Floats, Floats]:
    """What may matter of some rows, the k-th best person's least similarity of each probe, and the error.

    probes: (m, dim).  vectors: (n, dim).  persons: (n,) a number for each row's; None: no two are of one.
    Where there are fewer than k persons, all rows may matter and the floor is minus infinity.
    """
    scores = kernel.scores(probes, vectors)
    scores[~np.isfinite(scores)] = _NEVER
    best = scores if persons is None else _persons_best(scores, persons)
    error = kernel.error(probes, vectors)
    if best.shape[1] < k:
        floor = np.full(len(probes), _NEVER, np.float32)
    else:
        # Similarities end at 1: beyond it all are level, and ids decide.
        floor = np.minimum(np.partition(best, -k, axis=1)[:, -k], 1) - error
    return Hits.above(scores, floor - error), floor, error


def _persons_best(scores: Floats, persons: Indices) -> Floats:
    """(m, people) from (m, rows)."""
    order = np.argsort(persons, kind="stable")
    starts: NDArray[np.intp] = np.flatnonzero(np.diff(persons[order], prepend=-1))
    best: Floats = np.maximum.reduceat(scores[:, order], starts, axis=1)
    return best

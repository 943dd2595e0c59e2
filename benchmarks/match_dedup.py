"""All pairs of a gallery in memory above a threshold, against the products that half of the matrix needs."""

from __future__ import annotations

import time
from typing import Any

from match_data import DIM, probes_of, unit_vectors
from match_search import PROBES, sgemm
from threadpoolctl import threadpool_limits

from frpipe.matching.pairs import pairs_within

_THRESHOLD = 0.4
_TURNS = 4


def dedup(rows: int, threads: int) -> dict[str, Any]:
    """`sgemm / ours` of seconds for n (n - 1) / 2 products; sgemm's rate is taken before and after."""
    vectors = unit_vectors(rows)
    # Some duplicates, so that there is something to find.
    vectors[-100:] = probes_of(vectors, 200)[::2]
    before = _sgemm_s(vectors)
    begin = time.perf_counter()
    with threadpool_limits(1):
        found = sum(len(pairs.a) for pairs in pairs_within(vectors, _THRESHOLD, threads=threads))
    seconds = time.perf_counter() - begin
    each = (before + _sgemm_s(vectors)) / 2 / (PROBES * min(rows, 65_536))
    products = rows * (rows - 1) / 2
    return {
        "pairs_found": found,
        "seconds": round(seconds, 2),
        "gflop_s": round(products * 2 * DIM / seconds / 1e9, 1),
        "to_sgemm": round(each * products / seconds, 3),
    }


def _sgemm_s(vectors: Any) -> float:
    """Seconds for the probes against a block, the best of some turns."""
    best = float("inf")
    for _ in range(_TURNS):
        begin = time.perf_counter()
        sgemm(vectors[:65_536], vectors[:PROBES])
        best = min(best, time.perf_counter() - begin)
    return best

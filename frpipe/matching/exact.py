"""Exact inner products of pairs of vectors, in float64."""

from __future__ import annotations

import numpy as np

from frpipe.matching.kernel import Doubles, Floats, Indices

# A megabyte of numbers at a time: it stays in a core's own cache.
_PAIRS = 256


def inner_products(a: Floats | Doubles, rows_a: Indices, b: Floats, rows_b: Indices) -> Doubles:
    """Inner products of pairs, (c,) float64: `a[rows_a[i]] . b[rows_b[i]]`.

    a, b: (n, dim) vectors; a of float64 spares its conversion.  rows_a, rows_b: (c,) row numbers.

    Every pair is summed in the same order, so that equal vectors score equal wherever they lie.
    """
    result = np.empty(len(rows_a))
    plain, left, right = (np.empty((_PAIRS, a.shape[1]), kind) for kind in (np.float32, float, float))
    for start in range(0, len(rows_a), _PAIRS):
        some = slice(start, start + _PAIRS)
        count = len(rows_a[some])
        for wide, vectors, rows in ((left, a, rows_a[some]), (right, b, rows_b[some])):
            taken = wide if vectors.dtype == wide.dtype else plain
            np.take(vectors, rows, axis=0, out=taken[:count], mode="clip")
            if taken is plain:
                wide[:count] = plain[:count]
        with np.errstate(invalid="ignore", over="ignore"):
            np.vecdot(left[:count], right[:count], out=result[some])
    return result

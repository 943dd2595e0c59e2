"""The distinct values of arrays, and sets of them, are those of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from frpipe.core.distinct import are_among, distinct, merged, without


@pytest.mark.parametrize("values", [[], [3], [2, 2], [5, 1, 5, 1, 1], [2**64 - 1, 0, 2**63, 0]], ids=str)
def test_each_value_is_there_once_in_order(values: list[int]) -> None:
    found = distinct(np.array(values, np.uint64))
    assert found.dtype == np.uint64
    assert found.tolist() == sorted(set(values))


SETS = [[], [3], [1, 3, 5, 9], [0, 2**63, 2**64 - 1], [2**64 - 1], list(range(2, 200, 3))]


@pytest.mark.parametrize("kind", [np.uint64, np.int64, np.str_])
@pytest.mark.parametrize("mine", SETS, ids=str)
@pytest.mark.parametrize("others", SETS, ids=str)
def test_sets_are_those_of_numpy(kind: type, mine: list[int], others: list[int]) -> None:
    a, b = (np.array(values, np.uint64).astype(kind) for values in (mine, others))
    a, b = np.sort(a), np.sort(b)
    twice = np.concatenate([b, b])
    for found, theirs in (
        (merged(twice, a), np.union1d(twice, a)),
        (without(a, b), np.setdiff1d(a, b)),
        (without(a, twice), np.setdiff1d(a, twice)),
        (are_among(twice, a), np.isin(twice, a)),
        (are_among(a, np.sort(twice)), np.isin(a, twice)),
    ):
        assert found.dtype == theirs.dtype
        assert found.tolist() == theirs.tolist()

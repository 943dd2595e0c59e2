"""The distinct values of an array."""

from __future__ import annotations

import numpy as np
import pytest

from frpipe.core.distinct import distinct


@pytest.mark.parametrize("values", [[], [3], [2, 2], [5, 1, 5, 1, 1], [2**64 - 1, 0, 2**63, 0]], ids=str)
def test_each_value_is_there_once_in_order(values: list[int]) -> None:
    found = distinct(np.array(values, np.uint64))
    assert found.dtype == np.uint64
    assert found.tolist() == sorted(set(values))

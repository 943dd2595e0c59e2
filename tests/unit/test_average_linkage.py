"""Many groups split in step are split as SciPy splits each of them, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage

from frpipe.matching.average_linkage import LARGEST, cut, padded
from frpipe.matching.clusters import Links, grouped

LIMIT = 0.6


@pytest.mark.parametrize("tied", [False, True])
def test_each_group_is_split_as_scipy_does(tied: bool) -> None:
    rng = np.random.default_rng(3)
    nodes = rng.integers(1, 14, 300)
    distance = rng.choice([0.1, 0.4, 0.5, 0.8], (300, 16, 16)) if tied else rng.random((300, 16, 16))
    distance = np.triu(distance, 1)
    distance += distance.transpose(0, 2, 1)
    labels = cut(distance.copy(), nodes, LIMIT)
    for matrix, size, own in zip(distance, nodes.tolist(), labels, strict=True):
        assert _sets(own[:size]) == _sets(_by_scipy(matrix[:size, :size]))


def _by_scipy(matrix: np.ndarray) -> np.ndarray:
    if len(matrix) == 1:
        return np.ones(1, int)
    return fcluster(linkage(matrix[np.triu_indices(len(matrix), 1)], "average"), LIMIT, "distance")


def _sets(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


@pytest.mark.parametrize("size", [3, LARGEST, LARGEST + 1])
def test_small_components_and_large_ones_are_split_alike(size: int) -> None:
    """Two halves that are alike within, and joined by one link."""
    half = size // 2
    inside = [(a, b) for b in range(size) for a in range(b) if (a < half) == (b < half)]
    a, b = np.array([*inside, (0, size - 1)]).T
    similarity = np.array([*[0.8] * len(inside), 0.45])
    found = grouped(size, Links.best_of(a, b, similarity), 0.4)
    assert len(set(found.component.tolist())) == 1
    assert _sets(found.cluster) == {frozenset(range(half)), frozenset(range(half, size))}


def test_groups_of_one_size_share_arrays() -> None:
    assert padded(np.array([1, 2, 3, 4, 5, 33, 64])).tolist() == [1, 2, 4, 4, 8, 64, 64]

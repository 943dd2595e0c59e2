"""Average linkage of many small groups at once, cut at a distance: SciPy's result for each, in step for all.

Nearest-neighbour chains (Murtagh 1983): each group follows its chain of nearest neighbours to two that are
each other's, and joins them. Ties are settled, and means computed, in the order of SciPy: the result is the
same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from frpipe.matching.kernel import Doubles, Indices

# A group of more nodes takes SciPy longer than the call of it does.
LARGEST = 64


def cut(distance: Doubles, nodes: Indices, limit: float) -> Indices:
    """Number the clusters of each group: (g, n), a number for each node that is equal within a cluster.

    distance: (g, n, n), symmetric; it is changed.  nodes: (g,) how many of the n each group has, the first.
    limit: the largest mean distance of two clusters that are joined.
    """
    return _Chains(distance, nodes, limit).labels()


class _Chains:
    """Chains of groups in step: in each turn every group that has a pair to join makes one move."""

    def __init__(self, distance: Doubles, nodes: Indices, limit: float) -> None:
        groups, most = distance.shape[:2]
        self._distance, self._limit = distance, limit
        self._distance[:, np.arange(most), np.arange(most)] = np.inf
        there = np.arange(most) < nodes[:, None]
        self._size = there.astype(np.int64)
        self._distance[~there] = np.inf
        self._distance.transpose(0, 2, 1)[~there] = np.inf
        self._label = np.tile(np.arange(most), (groups, 1))
        # Whether all that was joined to a node lies within the limit.
        self._near = np.ones((groups, most), bool)
        self._chain = np.zeros((groups, most + 1), np.int64)
        self._length = np.zeros(groups, np.int64)
        self._left = nodes - 1

    def labels(self) -> Indices:
        while True:
            active = np.flatnonzero(self._left > 0)
            if not len(active):
                return self._label
            self._move(active)

    def _move(self, active: Indices) -> None:
        """Lengthen the chains of some groups by the nearest neighbour of its end, or join its last two."""
        begun = active[self._length[active] == 0]
        self._chain[begun, 0] = np.argmax(self._size[begun] > 0, axis=1)
        self._length[begun] = 1
        length = self._length[active]
        end = self._chain[active, length - 1]
        rows = self._distance[active, end]
        nearest = np.argmin(rows, axis=1)
        least = rows[np.arange(len(active)), nearest]
        # The one before is preferred among equals: else a chain might go in circles.
        before = np.where(length > 1, self._chain[active, np.maximum(length - 2, 0)], -1)
        back = (length > 1) & (rows[np.arange(len(active)), before] <= least)
        self._join(active[back], end[back], before[back], least[back])
        on = active[~back]
        self._chain[on, self._length[on]] = nearest[~back]
        self._length[on] += 1

    def _join(self, groups: Indices, end: Indices, before: Indices, distance: Doubles) -> None:
        """Join two nodes of each group, under the larger number."""
        if not len(groups):
            return
        x, y = np.minimum(end, before), np.maximum(end, before)
        self._length[groups] -= 2
        self._left[groups] -= 1
        near = self._near[groups, x] & self._near[groups, y] & (distance <= self._limit)
        self._near[groups, y] = near
        joined, own = groups[near], self._label[groups[near]]
        mine, other = (self._label[joined, each[near]][:, None] for each in (x, y))
        self._label[joined] = np.where(own == mine, other, own)
        one, two = self._size[groups, x][:, None], self._size[groups, y][:, None]
        rows = (one * self._distance[groups, x] + two * self._distance[groups, y]) / (one + two)
        self._distance[groups, y] = rows
        self._distance[groups, :, y] = rows
        self._distance[groups, y, y] = np.inf
        self._distance[groups, x] = np.inf
        self._distance[groups, :, x] = np.inf
        self._size[groups, y] += self._size[groups, x]
        self._size[groups, x] = 0


def padded(sizes: Indices) -> NDArray[np.int64]:
    """The size of the arrays that groups of these sizes are put in: the next power of two."""
    return np.left_shift(1, np.ceil(np.log2(np.maximum(sizes, 1))).astype(np.int64))

"""Cluster people by the pairs that reach a threshold: by single linkage and by average linkage.

A component joins whoever is linked, over any number of others: one wrong link chains two people's photos.
So each component is split by average linkage (Sokal and Michener 1958): two groups are one cluster while the
mean similarity of all pairs across them reaches the threshold. A pair that was not found is below the
threshold, and how far is not known: it counts as half the threshold, between the pairs that just miss it and
strangers, whose mean is near zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from frpipe.matching.average_linkage import LARGEST, cut, padded
from frpipe.matching.kernel import Doubles, Indices

# The distances of a component are held as a whole: 32 MB for so many, and half of it once more.
LARGEST_SPLIT = 2000
# Links that are collected before they are reduced to the best of each two nodes.
_FRESH_LINKS = 1 << 20
# Distances of components that are split at once.
_MOST_NUMBERS = 1 << 22


@dataclass(frozen=True, slots=True)
class Links:
    """Pairs of nodes a[i] < b[i], each once, with the best similarity found between them. (c,) each."""

    a: Indices
    b: Indices
    similarity: Doubles

    @classmethod
    def best_of(cls, a: Indices, b: Indices, similarity: Doubles) -> Links:
        """Reduce pairs in any order, with repeats, to the best of each; sorted by a, then b."""
        nodes = int(max(a.max(initial=-1), b.max(initial=-1))) + 1
        found = BestLinks(nodes)
        found.add(a, b, similarity)
        return found.links()


class BestLinks:
    """Links of pairs that come some at a time, with repeats: 16 bytes for each two nodes that are linked."""

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._pairs = [np.zeros(0, np.int64)]
        self._similarity = [np.zeros(0)]
        self._fresh = 0

    def add(self, a: Indices, b: Indices, similarity: Doubles) -> None:
        """Add pairs of nodes. A pair is kept as one number: the smaller times all nodes, plus the larger."""
        self._pairs.append(np.minimum(a, b) * self._nodes + np.maximum(a, b))
        self._similarity.append(similarity)
        self._fresh += len(a)
        if self._fresh > max(_FRESH_LINKS, len(self._pairs[0])):
            self._reduce()

    def links(self) -> Links:
        """The best link of each two nodes, sorted."""
        self._reduce()
        low, high = np.divmod(self._pairs[0], max(1, self._nodes))
        return Links(low, high, self._similarity[0])

    def _reduce(self) -> None:
        pairs, similarity = np.concatenate(self._pairs), np.concatenate(self._similarity)
        order = np.lexsort((-similarity, pairs))
        order = order[np.diff(pairs[order], prepend=-1) != 0]
        self._pairs, self._similarity, self._fresh = [pairs[order]], [similarity[order]], 0


@dataclass(frozen=True, slots=True)
class Grouping:
    """The components and clusters of n nodes.

    component, cluster: (n,) numbers, 0 up, in the order of their first nodes.  weak: (n,), of a component
    too large to be split, which is one cluster.  mean: (n,), the mean similarity of the links inside the
    node's cluster; NaN where it is alone.
    """

    component: Indices
    cluster: Indices
    weak: NDArray[np.bool_]
    mean: Doubles


def grouped(nodes: int, links: Links, threshold: float, largest_split: int = LARGEST_SPLIT) -> Grouping:
    """Find the components and clusters of nodes 0 to nodes - 1; the order of links does not matter."""
    graph = coo_array((np.ones(len(links.a), np.int8), (links.a, links.b)), shape=(nodes, nodes))
    component = _in_order(connected_components(graph, directed=False)[1])
    sizes = np.bincount(component, minlength=1)
    cluster = component.astype(np.int64) * (largest_split + 1)
    if nodes:
        cluster += _parts(_Components.of(component, sizes, links), threshold, largest_split)
    cluster = _in_order(cluster)
    weak = (sizes > largest_split)[component] if nodes else np.zeros(0, bool)
    return Grouping(component, cluster, weak, _means(cluster, links))


def _in_order(labels: NDArray[np.integer]) -> Indices:
    """Renumber groups in the order in which each comes first."""
    _, first, group = np.unique(labels, return_index=True, return_inverse=True)
    places = np.empty(len(first), np.int64)
    places[np.argsort(first)] = np.arange(len(first))
    return places[group]


@dataclass(frozen=True, slots=True)
class _Components:
    """The components of a graph, with their links.

    nodes: of all components, one after the other.  start, size: (c,) of each among these. order: of the
    links, by component.  first, amount: (c,) of each among these.  a, b: (l,) which node of its component
    each link is of, in that order.  similarity: (l,).
    """

    nodes: Indices
    start: Indices
    size: Indices
    first: Indices
    amount: Indices
    a: Indices
    b: Indices
    similarity: Doubles

    @classmethod
    def of(cls, component: Indices, sizes: Indices, links: Links) -> _Components:
        nodes = np.argsort(component, kind="stable")
        start = np.cumsum(sizes) - sizes
        place = np.empty(len(nodes), np.int64)
        place[nodes] = np.arange(len(nodes)) - np.repeat(start, sizes)
        order = np.argsort(component[links.a], kind="stable")
        amount = np.bincount(component[links.a], minlength=len(sizes))
        a, b = (place[side[order]] for side in (links.a, links.b))
        first = np.cumsum(amount) - amount
        return cls(nodes, start, sizes, first, amount, a, b, links.similarity[order])

    def distances(self, some: Indices, wide: int, unknown: float) -> Doubles:
        """(c, wide, wide) of some components, which have no more nodes."""
        found = np.full((len(some), wide, wide), unknown)
        links = _ranges(self.first[some], self.amount[some])
        which = np.repeat(np.arange(len(some)), self.amount[some])
        a, b, distance = self.a[links], self.b[links], 1 - self.similarity[links]
        found[which, a, b] = distance
        found[which, b, a] = distance
        return found


def _parts(components: _Components, threshold: float, largest_split: int) -> Indices:
    """(n,) the cluster of each node within its component, by average linkage cut at the threshold."""
    parts = np.zeros(len(components.nodes), np.int64)
    limit, unknown = 1 - threshold, 1 - min(threshold, threshold / 2)
    size = components.size
    small = np.flatnonzero((size > 2) & (size <= min(LARGEST, largest_split)))
    wide = padded(size[small])
    for width in np.unique(wide).tolist():
        same = small[wide == width]
        step = max(1, _MOST_NUMBERS // width**2)
        for some in (same[at : at + step] for at in range(0, len(same), step)):
            labels = cut(components.distances(some, width, unknown), size[some], limit)
            there = np.arange(width) < size[some][:, None]
            parts[components.nodes[_ranges(components.start[some], size[some])]] = labels[there]
    for one in np.flatnonzero((size > max(2, LARGEST)) & (size <= largest_split)).tolist():
        distance = components.distances(np.array([one]), int(size[one]), unknown)[0]
        upper = distance[np.triu_indices(int(size[one]), 1)]
        labels = fcluster(linkage(upper, "average"), limit, "distance").astype(np.int64) - 1
        parts[components.nodes[components.start[one] :][: size[one]]] = labels
    return parts


def _ranges(start: Indices, count: Indices) -> Indices:
    """start[i], start[i] + 1, ... count[i] of them, for each i."""
    within = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(start, count) + within


def _means(cluster: Indices, links: Links) -> Doubles:
    inside = cluster[links.a] == cluster[links.b]
    of = cluster[links.a[inside]]
    groups = int(cluster.max(initial=-1)) + 1
    amount = np.bincount(of, minlength=groups)
    total = np.bincount(of, links.similarity[inside], minlength=groups)
    means = np.full(groups, np.nan)
    np.divide(total, amount, out=means, where=amount > 0)
    return np.round(means, 12)[cluster]


def inherited(clusters: Sequence[Sequence[str]], before: Mapping[str, Sequence[str]]) -> list[str | None]:
    """Id of the old cluster with which each new one shares the most members; None: there is none.

    clusters: members of each.  before: id -> members. The largest share chooses first, then the smallest old
    id, then the first cluster; each old id is used once.
    """
    home = {member: old for old, members in before.items() for member in members}
    shared: dict[tuple[int, str], int] = {}
    for number, members in enumerate(clusters):
        for old in (home[member] for member in members if member in home):
            shared[number, old] = shared.get((number, old), 0) + 1
    ids: list[str | None] = [None] * len(clusters)
    used: set[str] = set()
    for (number, old), _ in sorted(shared.items(), key=lambda item: (-item[1], item[0][1], item[0][0])):
        if ids[number] is None and old not in used:
            ids[number] = old
            used.add(old)
    return ids


def fresh_id(prefix: str, digest: str, taken: set[str]) -> str:
    """Make an unused id: `prefix` and the first 12 digits of a digest, or more where that is taken."""
    for digits in count(12):
        name = f"{prefix}{digest[:digits]}" if digits <= len(digest) else f"{prefix}{digest}-{digits}"
        if name not in taken:
            taken.add(name)
            return name
    raise AssertionError("count() has no end")

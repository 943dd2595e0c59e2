"""Cluster people by the pairs that reach a threshold: by single linkage and by average linkage.

A component joins whoever is linked, over any number of others: one wrong link chains two people's photos.
So each component is split by average linkage (Sokal and Michener 1958): two groups are one cluster while the
mean similarity of all pairs across them reaches the threshold. A pair that was not found is below the
threshold, and how far is not known: it counts as half the threshold, between the pairs that just miss it and
strangers, whose mean is near zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from frpipe.matching.kernel import Doubles, Indices

# The distances of a component are held as a whole: 16 MB for so many.
LARGEST_SPLIT = 2000


@dataclass(frozen=True, slots=True)
class Links:
    """Pairs of nodes a[i] < b[i], each once, with the best similarity found between them. (c,) each."""

    a: Indices
    b: Indices
    similarity: Doubles

    @classmethod
    def best_of(cls, a: Indices, b: Indices, similarity: Doubles) -> Links:
        """Reduce pairs in any order, with repeats, to the best of each; sorted by a, then b."""
        low, high = np.minimum(a, b), np.maximum(a, b)
        order = np.lexsort((-similarity, high, low))
        low, high, similarity = low[order], high[order], similarity[order]
        first = np.ones(len(low), bool)
        first[1:] = (np.diff(low) != 0) | (np.diff(high) != 0)
        return cls(low[first], high[first], similarity[first])


@dataclass(frozen=True, slots=True)
class Grouping:
    """component, cluster: (n,) numbers, 0 up, in the order of their first nodes.  weak: (n,), of a component
    too large to be split, which is one cluster.  mean: (n,), the mean similarity of the links inside the
    node's cluster; NaN where it is alone."""

    component: Indices
    cluster: Indices
    weak: NDArray[np.bool_]
    mean: Doubles


def grouped(nodes: int, links: Links, threshold: float, largest_split: int = LARGEST_SPLIT) -> Grouping:
    """The components and clusters of nodes 0 to nodes - 1. The same for the same links in any order."""
    graph = coo_array((np.ones(len(links.a), np.int8), (links.a, links.b)), shape=(nodes, nodes))
    component = _in_order(connected_components(graph, directed=False)[1])
    sizes = np.bincount(component, minlength=1)
    cluster = component.astype(np.int64) * (largest_split + 1)
    for members, inside in _each(component, links, sizes):
        if 2 < len(members) <= largest_split:
            cluster[members] += _split(members, inside, threshold)
    cluster = _in_order(cluster)
    weak = (sizes > largest_split)[component] if nodes else np.zeros(0, bool)
    return Grouping(component, cluster, weak, _means(cluster, links))


def _in_order(labels: NDArray[np.integer]) -> Indices:
    """Renumber groups in the order in which each comes first."""
    _, first, group = np.unique(labels, return_index=True, return_inverse=True)
    places = np.empty(len(first), np.int64)
    places[np.argsort(first)] = np.arange(len(first))
    return places[group]


def _each(component: Indices, links: Links, sizes: Indices) -> Iterator[tuple[Indices, Links]]:
    """The nodes of each component, ascending, and its links."""
    nodes = np.argsort(component, kind="stable")
    order = np.argsort(component[links.a], kind="stable")
    ends = np.cumsum(sizes)
    link_ends = np.cumsum(np.bincount(component[links.a], minlength=len(sizes)))
    for end, size, last, amount in zip(ends, sizes, link_ends, np.diff(link_ends, prepend=0), strict=True):
        some = order[last - amount : last]
        yield nodes[end - size : end], Links(links.a[some], links.b[some], links.similarity[some])


def _split(members: Indices, links: Links, threshold: float) -> Indices:
    """Group number of each member, 0 up, by average linkage cut at the threshold."""
    size = len(members)
    a, b = np.searchsorted(members, links.a), np.searchsorted(members, links.b)
    distance = np.full(size * (size - 1) // 2, 1 - min(threshold, threshold / 2))
    distance[a * (2 * size - a - 1) // 2 + b - a - 1] = 1 - links.similarity
    labels: Indices = fcluster(linkage(distance, "average"), 1 - threshold, "distance").astype(np.int64) - 1
    return labels


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

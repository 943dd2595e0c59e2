"""Clusters: who is linked at all, who on the whole, and names that last from night to night."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpipe.matching import clusters
from frpipe.matching.clusters import BestLinks, Grouping, Links, fresh_id, grouped, inherited

THRESHOLD = 0.4


def _links(*pairs: tuple[int, int, float]) -> Links:
    a, b, similarity = zip(*pairs, strict=True) if pairs else ((), (), ())
    return Links.best_of(np.array(a, np.int64), np.array(b, np.int64), np.array(similarity, float))


def _sets(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def _all_of(nodes: range, similarity: float) -> list[tuple[int, int, float]]:
    return [(a, b, similarity) for a, b in itertools.combinations(nodes, 2)]


def test_a_chain_is_one_component_and_no_cluster() -> None:
    chain = grouped(5, _links(*((n, n + 1, 0.5) for n in range(4))), THRESHOLD)
    assert _sets(chain.component) == {frozenset(range(5))}
    assert all(len(some) <= 2 for some in _sets(chain.cluster))


def test_two_people_joined_by_one_wrong_link_are_two_clusters() -> None:
    pairs = [*_all_of(range(4), 0.7), *_all_of(range(4, 8), 0.7), (3, 4, 0.45)]
    found = grouped(8, _links(*pairs), THRESHOLD)
    assert len(_sets(found.component)) == 1
    assert _sets(found.cluster) == {frozenset(range(4)), frozenset(range(4, 8))}
    assert np.allclose(found.mean, 0.7)


def test_a_person_whose_one_pair_just_misses_stays_whole() -> None:
    pairs = [pair for pair in _all_of(range(4), 0.65) if pair[:2] != (0, 3)]
    found = grouped(4, _links(*pairs), THRESHOLD)
    assert _sets(found.cluster) == {frozenset(range(4))}
    assert np.allclose(found.mean, 0.65)


def test_what_is_split_off_is_alone_and_has_no_mean() -> None:
    found = grouped(3, _links((0, 1, 0.8), (1, 2, 0.41)), THRESHOLD)
    assert _sets(found.cluster) == {frozenset({0, 1}), frozenset({2})}
    assert np.isnan(found.mean[2])
    assert found.mean[0] == found.mean[1] == 0.8


def test_a_component_too_large_to_split_is_weak_and_whole() -> None:
    pairs = [*((n, n + 1, 0.5) for n in range(9)), (10, 11, 0.9)]
    found = grouped(12, _links(*pairs), THRESHOLD, largest_split=9)
    assert _sets(found.cluster) == {frozenset(range(10)), frozenset({10, 11})}
    assert found.weak.tolist() == [True] * 10 + [False] * 2


def test_a_pair_at_the_threshold_is_a_cluster() -> None:
    assert _sets(grouped(2, _links((0, 1, THRESHOLD)), THRESHOLD).cluster) == {frozenset({0, 1})}
    negative = grouped(3, _links(*_all_of(range(3), -0.2)), -0.2)
    assert _sets(negative.cluster) == {frozenset(range(3))}


def test_nobody_is_in_no_cluster() -> None:
    empty = grouped(0, _links(), THRESHOLD)
    assert [len(each) for each in (empty.component, empty.cluster, empty.weak, empty.mean)] == [0] * 4


@settings(max_examples=80, deadline=None)
@given(data=st.data(), nodes=st.integers(2, 20))
def test_the_order_of_pairs_does_not_matter_and_clusters_lie_in_components(
    data: st.DataObject, nodes: int
) -> None:
    pair = st.tuples(st.integers(0, nodes - 1), st.integers(0, nodes - 1), st.sampled_from([0.4, 0.5, 0.9]))
    pairs = data.draw(st.lists(pair.filter(lambda p: p[0] != p[1]), min_size=1, max_size=40))
    one = grouped(nodes, _links(*pairs), THRESHOLD)
    other = grouped(nodes, _links(*((b, a, s) for a, b, s in data.draw(st.permutations(pairs)))), THRESHOLD)
    for name in Grouping.__dataclass_fields__:
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "mean")
    components = _sets(one.component)
    assert all(any(cluster <= whole for whole in components) for cluster in _sets(one.cluster))
    assert _sets(one.component) == _components(nodes, pairs)


def test_links_that_come_some_at_a_time_are_the_best_of_each_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_FRESH_LINKS", 50)
    rng = np.random.default_rng(1)
    a, b, similarity = rng.integers(0, 30, 900), rng.integers(30, 60, 900), rng.random(900)
    found = BestLinks(60)
    for some in np.array_split(np.arange(900), 17):
        found.add(b[some], a[some], similarity[some])
    links, best = found.links(), dict[tuple[int, int], float]()
    for key, score in zip(zip(a.tolist(), b.tolist(), strict=True), similarity.tolist(), strict=True):
        best[key] = max(score, best.get(key, 0.0))
    pairs = list(zip(links.a.tolist(), links.b.tolist(), strict=True))
    assert pairs == sorted(best)
    assert links.similarity.tolist() == [best[pair] for pair in pairs]


def _components(nodes: int, pairs: list[tuple[int, int, float]]) -> set[frozenset[int]]:
    """By painting neighbours until nothing changes."""
    colour = list(range(nodes))
    for _ in range(nodes):
        for a, b, _ in pairs:
            colour[a] = colour[b] = min(colour[a], colour[b])
    return _sets(np.array(colour))


def test_a_cluster_keeps_the_id_of_the_one_it_shares_most_with() -> None:
    before = {"c-1": ["a", "b", "c"], "c-2": ["d", "e"], "c-3": ["x", "y"]}
    # The first two have become one; c has gone to a new face; nobody of c-3 is left.
    assert inherited([["a", "b", "d", "e"], ["c", "n"], ["m", "o"]], before) == ["c-1", None, None]
    assert inherited([["b", "c", "d", "e", "f"], ["a", "n"]], {**before, "c-2": ["d", "e", "f"]}) == [
        "c-2",
        "c-1",
    ]


def test_an_old_id_is_used_once_and_ties_go_to_the_smallest() -> None:
    before = {"c-9": ["a", "b"], "c-1": ["c", "d"]}
    assert inherited([["a", "c"], ["b", "d"]], before) == ["c-1", "c-9"]


@pytest.mark.parametrize(("taken", "digits"), [([], 12), (["c-abcdefabcdef"], 13)])
def test_a_fresh_id_is_one_that_nobody_has(taken: list[str], digits: int) -> None:
    used = set(taken)
    name = fresh_id("c-", "abcdefabcdef0123", used)
    assert name == "c-abcdefabcdef0123"[: digits + 2]
    assert name in used

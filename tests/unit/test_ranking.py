"""A ranking keeps each probe's best persons, ties in the order of ids, however its rows come."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from frpipe.matching.ranking import Ranking

Rows = list[tuple[int, str, float]]
SOME = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from("abcdefé"), st.sampled_from([-0.5, 0.0, 0.25, 0.5, 1.0])),
    max_size=60,
)


def _ranking(rows: Rows) -> Ranking:
    probes, names, values = ([row[place] for row in rows] for place in range(3))
    return Ranking(np.array(probes, np.int64), pa.array(names, pa.string()), np.array(values, float))


def _listed(ranking: Ranking) -> Rows:
    return list(
        zip(ranking.probe.tolist(), ranking.subject_id.to_pylist(), ranking.similarity.tolist(), strict=True)
    )


def _best(rows: Rows, k: int) -> Rows:
    """By sorting everything."""
    best: dict[tuple[int, str], float] = {}
    for probe, name, value in rows:
        best[probe, name] = max(value, best.get((probe, name), value))
    ordered = sorted(best.items(), key=lambda item: (item[0][0], -item[1], item[0][1].encode()))
    found: Rows = []
    for (probe, name), value in ordered:
        if sum(row[0] == probe for row in found) < k:
            found.append((probe, name, value))
    return found


@settings(max_examples=200, deadline=None)
@given(rows=SOME, k=st.integers(1, 8))
def test_top_is_sorting_everything(rows: Rows, k: int) -> None:
    assert _listed(_ranking(rows).top(k)) == _best(rows, k)


@settings(max_examples=100, deadline=None)
@given(rows=SOME, cut=st.integers(0, 60), k=st.integers(1, 5))
def test_the_best_of_shares_is_the_best_of_all(rows: Rows, cut: int, k: int) -> None:
    shares = [_ranking(rows[:cut]).top(k), _ranking(rows[cut:]).top(k)]
    assert _listed(Ranking.joined(shares).top(k)) == _best(rows, k)


@settings(max_examples=100, deadline=None)
@given(rows=SOME, k=st.integers(1, 5))
def test_floors_are_the_kth_best_of_each_probe(rows: Rows, k: int) -> None:
    floors = _ranking(rows).top(k).floors(5, k)
    for probe in range(5):
        persons = _best([row for row in rows if row[0] == probe], k)
        assert floors[probe] == (persons[-1][2] if len(persons) == k else -np.inf)


def test_nobody_is_nobody() -> None:
    assert _listed(Ranking.joined([Ranking.empty(), Ranking.empty()]).top(3)) == []

"""Top-k is what sorting everything would give, however the vectors are cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpipe.matching.int8 import Int8
from frpipe.matching.sieve import Sifted
from frpipe.matching.tiles import Tiles
from frpipe.matching.topk import Match, TopK, top_k


def _unit(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, dim))
    unit: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _brute(probe: np.ndarray, ids: list[str], vectors: np.ndarray, k: int) -> list[tuple[str, float]]:
    scores: dict[str, float] = {}
    exact = (vectors.astype(np.float64) * probe.astype(np.float64)).sum(axis=1)
    for person, value in zip(ids, exact, strict=True):
        scores[person] = max(float(np.clip(value, -1, 1)), scores.get(person, -2))
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:k]


def _same(found: list[Match], expected: list[tuple[str, float]]) -> None:
    assert [match.subject_id for match in found] == [name for name, _ in expected]
    assert np.allclose([m.similarity for m in found], [value for _, value in expected], rtol=0, atol=1e-12)


def _blocks(ids: list[str], vectors: np.ndarray, cuts: list[int]) -> list[tuple[pa.Array, np.ndarray]]:
    edges = [0, *sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]
    return [(pa.array(ids[a:b], pa.string()), vectors[a:b]) for a, b in pairwise(edges)]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 120),
    people=st.integers(1, 40),
    k=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 200), max_size=5),
    block_rows=st.integers(1, 64),
)
def test_it_is_brute_force_in_any_cut(
    seed: int, rows: int, people: int, k: int, cuts: list[int], block_rows: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = _unit(rng, rows, 16)
    vectors[rng.integers(0, rows, rows // 3)] = vectors[0]  # copies: equal scores
    ids = [f"p{n}" for n in rng.integers(0, people, rows)]
    probes = np.concatenate([_unit(rng, 2, 16), vectors[:1]])
    found = top_k(probes, _blocks(ids, vectors, cuts), k, tile=(2, block_rows))
    for probe, matches in zip(probes, found, strict=True):
        _same(matches, _brute(probe, ids, vectors, k))


def test_people_of_one_score_are_in_the_order_of_their_ids() -> None:
    same = np.tile(np.eye(1, 8, dtype=np.float32), (5, 1))
    blocks = [(pa.array([name]), same[:1]) for name in ("d", "b", "e", "a", "c")]
    assert top_k(same[:1], blocks, 3) == [[Match("a", 1.0), Match("b", 1.0), Match("c", 1.0)]]


def test_a_person_counts_once_with_the_best_template() -> None:
    vectors = np.array([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]], np.float32)
    ids = pa.array(["x", "x", "y"])
    found = top_k(np.array([[1.0, 0.0]], np.float32), [(ids, vectors)], 5)[0]
    assert found == [Match("x", 1.0), Match("y", 0.0)]


@pytest.mark.parametrize("cuts", [[], [40], [80]])
def test_people_beyond_minus_one_are_level_with_it(cuts: list[int]) -> None:
    rng = np.random.default_rng(4)
    probe = _unit(rng, 1, 16)
    vectors = (-probe * rng.uniform(0.9995, 1.0005, (90, 1))).astype(np.float32)
    ids = [f"p{n:02}" for n in rng.permutation(90)]
    for k in (30, 60):
        found = top_k(probe, _blocks(ids, vectors, cuts), k)[0]
        _same(found, _brute(probe[0], ids, vectors, k))


def test_an_empty_gallery_has_nobody() -> None:
    assert top_k(np.eye(1, 4, dtype=np.float32), [], 3) == [[]]
    empty = (pa.array([], pa.string()), np.zeros((0, 4), np.float32))
    assert top_k(np.eye(1, 4, dtype=np.float32), [empty], 3) == [[]]


def test_k_below_one_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        top_k(np.eye(1, 4, dtype=np.float32), [], 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("k", "block_rows"), [(1, 7), (3, 64), (50, 16)])
def test_vectors_that_are_not_finite_drop_nobody_else(bad: float, k: int, block_rows: int) -> None:
    rng = np.random.default_rng(3)
    vectors = _unit(rng, 60, 16)
    vectors[::5, 2] = bad
    ids = [f"p{n % 20}" for n in range(60)]
    finite = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    known = [ids[row] for row in finite]
    for probe in _unit(rng, 4, 16):
        found = top_k(probe[None, :], _blocks(ids, vectors, [11, 37]), k, tile=(4, block_rows))[0]
        _same(found, _brute(probe, known, vectors[finite], k))


def test_a_probe_that_is_not_finite_is_an_error() -> None:
    probe = np.full((1, 4), np.nan, np.float32)
    with pytest.raises(ValueError, match="probe"):
        top_k(probe, [], 1)


@pytest.mark.parametrize("templates", [1, 3])
@pytest.mark.parametrize("k", [1, 40, 700])
def test_large_blocks_give_the_same(k: int, templates: int) -> None:
    rng = np.random.default_rng(k)
    vectors = _unit(rng, 7000, 24)
    vectors[5000:5040] = vectors[3]
    vectors[[11, 2050]] = np.nan
    ids = [f"p{n // templates:05d}" for n in range(7000)]
    probes = np.concatenate([_unit(rng, 3, 24), vectors[3:4]])
    finite = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    found = top_k(probes, _blocks(ids, vectors, [6100]), k, threads=2)
    for probe, matches in zip(probes, found, strict=True):
        _same(matches, _brute(probe, [ids[row] for row in finite], vectors[finite], k))


def test_tiles_that_are_kept_of_an_earlier_search_change_no_answer_and_are_not_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(3)
    vectors, kernel, made = _unit(rng, 900, 32), Int8(most_finds=1), []
    lower = kernel.tile

    def tile(rows: np.ndarray) -> Sifted:
        made.append(len(rows))
        return lower(rows)

    monkeypatch.setattr(kernel, "tile", tile)
    tiles, ids = Tiles(kernel, most_bytes=33 * 600), pa.array([f"p{row:03}" for row in range(900)])
    for probes in (vectors[300:320], vectors[400:440]):
        search = TopK(probes, 3, kernel, tiles=tiles, at_least=0.9, tile=(8, 200))
        for first in (0, 450):
            search.add(ids[first : first + 450], vectors[first : first + 450], name=first)
        found = search.result()
        assert found.subject_id.to_pylist() == [
            match.subject_id for (match,) in top_k(probes, [(ids, vectors)], 1)
        ]
    assert made == [200, 200, 50, 200, 200, 50, 200, 200]


@pytest.mark.parametrize("least", [-1, -0.99, 0.0, 0.2, 0.9, 1.0])
def test_only_who_reaches_the_least_similarity_is_a_candidate(least: float) -> None:
    rng = np.random.default_rng(4)
    vectors = _unit(rng, 6000, 16)
    probes = np.concatenate([_unit(rng, 5, 16), vectors[:2]])
    blocks = [(pa.array([f"p{row:04}" for row in range(6000)]), vectors)]
    whole, found = top_k(probes, blocks, 7), top_k(probes, blocks, 7, at_least=least)
    assert found == [[match for match in ranked if match.similarity >= least] for ranked in whole]

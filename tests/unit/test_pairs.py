"""All pairs above a threshold are those of the whole float64 matrix, whatever the tiles."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpipe.matching.blas import Blas
from frpipe.matching.kernel import Hits
from frpipe.matching.pairs import Pairs, pairs_between, pairs_within, tiles_within

TILES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def _unit(rng: np.random.Generator, rows: int, dim: int = 16) -> np.ndarray:
    vectors = rng.normal(size=(rows, dim))
    unit: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _awkward(seed: int, rows: int) -> np.ndarray:
    """Random vectors, some of them copies, one not a number, one infinite."""
    rng = np.random.default_rng(seed)
    vectors = _unit(rng, rows)
    vectors[rng.integers(0, rows, rows // 3)] = vectors[0]
    vectors[rng.integers(0, rows)] *= np.nan
    vectors[rng.integers(0, rows), 3] = np.inf
    return vectors


def _found(pairs: Iterable[Pairs]) -> dict[tuple[int, int], float]:
    listed = [
        ((a, b), s)
        for some in pairs
        for a, b, s in zip(some.a.tolist(), some.b.tolist(), some.similarity.tolist(), strict=True)
    ]
    assert len({key for key, _ in listed}) == len(listed), "a pair came twice"
    return dict(listed)


def _exact(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One pair at a time, in an order of its own."""
    with np.errstate(invalid="ignore", over="ignore"):
        scores: np.ndarray = np.array(
            [[float(np.sum(x * y)) for y in b.astype(float)] for x in a.astype(float)]
        )
    scores[~np.isfinite(scores)] = -9
    return scores


def _check(found: dict[tuple[int, int], float], exact: np.ndarray, threshold: float) -> None:
    sure = {tuple(map(int, pair)) for pair in np.argwhere(exact >= threshold + 1e-12)}
    maybe = {tuple(map(int, pair)) for pair in np.argwhere(exact >= threshold - 1e-12)}
    assert sure <= found.keys() <= maybe
    assert all(abs(value - min(1, exact[pair])) < 1e-12 for pair, value in found.items())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 70),
    threshold=st.sampled_from([-1.0, -0.2, 0.0, 0.3, 0.8, 1.0]),
    tile=TILES,
    threads=st.integers(1, 3),
)
def test_within_is_the_upper_half_of_brute_force(
    seed: int, rows: int, threshold: float, tile: tuple[int, int], threads: int
) -> None:
    vectors = _awkward(seed, rows)
    found = _found(pairs_within(vectors, threshold, tile=tile, threads=threads))
    exact = _exact(vectors, vectors)
    exact[np.tril_indices(rows)] = -9
    _check(found, exact, threshold)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    threshold=st.sampled_from([-1.0, 0.0, 0.4, 0.9]),
    tile=TILES,
)
def test_between_is_all_of_brute_force(
    seed: int, rows: tuple[int, int], threshold: float, tile: tuple[int, int]
) -> None:
    a, b = _awkward(seed, rows[0]), _awkward(seed + 1, rows[1])
    _check(_found(pairs_between(a, b, threshold, tile=tile)), _exact(a, b), threshold)


def test_the_threshold_itself_is_reached_and_not_a_hair_less() -> None:
    rng = np.random.default_rng(1)
    vectors = _unit(rng, 60, 128)
    some = next(iter(pairs_within(vectors, -1)))
    for value in np.sort(some.similarity)[-20:].tolist():
        at = _found(pairs_within(vectors, value))
        above = _found(pairs_within(vectors, float(np.nextafter(value, 2))))
        assert min(at.values()) == value
        assert len(at) == len(above) + 1


def test_a_rough_kernel_gives_the_same_pairs_to_the_last_bit() -> None:
    vectors = _awkward(5, 200)
    assert _found(pairs_within(vectors, 0.4, _Rough(), tile=(16, 64))) == _found(pairs_within(vectors, 0.4))


def test_at_minus_one_every_pair_counts_however_long_its_vectors() -> None:
    vectors = np.array([[1.0005, 0], [-1.0005, 0], [0, 1]], np.float32)
    assert _found(pairs_within(vectors, -1)) == {(0, 1): -1, (0, 2): 0, (1, 2): 0}


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_give_the_same_pairs_in_the_same_order(threads: int) -> None:
    vectors = _awkward(9, 300)
    one, many = (list(pairs_within(vectors, 0.3, tile=(32, 64), threads=n)) for n in (1, threads))
    for part in ("a", "b", "similarity"):
        left, right = (np.concatenate([getattr(p, part) for p in found]) for found in (one, many))
        assert np.array_equal(left, right)


def test_what_goes_wrong_in_a_thread_is_raised() -> None:
    class Broken(Blas):
        def error(self, *_: np.ndarray) -> np.ndarray:
            raise MemoryError

    with pytest.raises(MemoryError):
        list(pairs_within(_awkward(2, 100), 0.3, Broken(), tile=(16, 16), threads=2))


@pytest.mark.parametrize("rows", [0, 1])
def test_where_there_is_one_vector_or_none_there_is_no_pair(rows: int) -> None:
    vectors = np.eye(1, 8, dtype=np.float32)[:rows]
    assert not _found(pairs_within(vectors, -1))
    assert not _found(pairs_between(vectors, vectors[:0], -1))


def test_nine_tenths_of_the_products_of_a_large_gallery_are_of_use() -> None:
    rows = 100_000
    done = sum((t.probes.stop - t.probes.start) * (t.rows.stop - t.rows.start) for t in tiles_within(rows))
    assert rows * (rows - 1) / 2 / done > 0.98


class _Rough(Blas):
    """Scores off by as much as it says, here up, there down."""

    def error(self, probes: np.ndarray, tile: np.ndarray) -> np.ndarray:
        return np.full(len(probes), 0.2, np.float32)

    def hits(self, probes: np.ndarray, tile: np.ndarray, limits: np.ndarray) -> Hits:
        shift = np.float32(0.19) * np.where(np.arange(len(limits)) % 2, 1, -1).astype(np.float32)
        return super().hits(probes, tile, limits - shift)

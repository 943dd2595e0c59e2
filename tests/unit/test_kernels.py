"""Kernels may be rough, but never more than they say; so every one leads to the same answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpipe.core.errors import ConfigError, ProviderMissing
from frpipe.matching.basis import Basis
from frpipe.matching.blas import Blas, reaching
from frpipe.matching.device import Device
from frpipe.matching.int8 import Int8
from frpipe.matching.integers import exact_levels
from frpipe.matching.kernel import Floats, Hits, Kernel
from frpipe.matching.kernels import kernel_of
from frpipe.matching.quantised import Quantised
from frpipe.matching.subspace import Subspace
from frpipe.matching.topk import opened, top_k

DIMS = (1, 3, 16, 128, 512)
KERNELS: dict[str, Callable[[int], Kernel]] = {
    "fp32": lambda _: kernel_of("fp32"),
    "int8": lambda _: kernel_of("int8"),
    "int8 that never falls back": lambda _: Int8(most_finds=1),
    "subspace": lambda dim: kernel_of("subspace", _half(dim)),
    "subspace that never falls back": lambda dim: Subspace(_half(dim), most_finds=1),
    "subspace-int8": lambda dim: kernel_of("subspace-int8", _half(dim)),
    "subspace-int8 that never falls back": lambda dim: Subspace(_half(dim), integers=True, most_finds=1),
    "device on a CPU": lambda _: Device("cpu"),
    "device on a CPU, two candidates": lambda _: Device("cpu", candidates=2),
}
made = cache(lambda name, dim: KERNELS[name](dim))
every_kernel = pytest.mark.parametrize("name", KERNELS)


def _half(dim: int) -> Basis:
    """A basis of half of the dimensions, in any direction."""
    square = np.random.default_rng(dim).normal(size=(dim, dim))
    return Basis.of(np.linalg.qr(square)[0][:, : (dim + 1) // 2])


def _unit(rng: np.random.Generator, rows: int, dim: int) -> Floats:
    vectors = rng.normal(size=(rows, dim))
    unit: Floats = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _near(vectors: Floats, rng: np.random.Generator, step: float) -> Floats:
    """Copies, each component moved by about `step`; shortened, for a cosine above 1 is cut to 1."""
    moved = vectors + step * rng.normal(size=vectors.shape)
    near: Floats = (0.9999 * moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)
    return near


def _plain(rng: np.random.Generator, dim: int) -> Floats:
    return _unit(rng, 90, dim)


def _copies(rng: np.random.Generator, dim: int) -> Floats:
    return _unit(rng, 4, dim)[rng.integers(0, 4, 90)]


def _alike(rng: np.random.Generator, dim: int) -> Floats:
    return np.repeat(_unit(rng, 1, dim), 90, axis=0)


def _a_hair_apart(rng: np.random.Generator, dim: int) -> Floats:
    return _near(_alike(rng, dim), rng, 1e-7)


def _zeros(rng: np.random.Generator, dim: int) -> Floats:
    return _unit(rng, 90, dim) * (np.arange(90) % 3 > 0)[:, None].astype(np.float32)


def _only_zeros(_: np.random.Generator, dim: int) -> Floats:
    return np.zeros((90, dim), np.float32)


def _not_finite(rng: np.random.Generator, dim: int) -> Floats:
    vectors = _unit(rng, 90, dim)
    vectors[::7, 0], vectors[1::7, -1], vectors[2::7] = np.nan, np.inf, -np.inf
    return vectors


def _spike(rng: np.random.Generator, dim: int) -> Floats:
    vectors = _unit(rng, 90, dim)
    vectors[13] = np.eye(1, dim)
    return vectors


def _shorter(rng: np.random.Generator, dim: int) -> Floats:
    vectors = _unit(rng, 90, dim)
    vectors[::2] *= np.float32(0.999)
    return vectors


def _opposite(rng: np.random.Generator, dim: int) -> Floats:
    """One and its opposites, a hair longer or shorter: cosines on both sides of -1 are cut to -1."""
    vectors = -_alike(rng, dim) * rng.uniform(0.9995, 1.0005, (90, 1)).astype(np.float32)
    vectors[0] *= -1
    return vectors


GALLERIES = (
    _plain,
    _copies,
    _alike,
    _a_hair_apart,
    _zeros,
    _only_zeros,
    _not_finite,
    _spike,
    _shorter,
    _opposite,
)
galleries = st.sampled_from(GALLERIES)


def _probes(rng: np.random.Generator, vectors: Floats) -> Floats:
    """Strangers, copies of rows, rows moved by a hair, a spike and nothing at all."""
    known = vectors[np.isfinite(vectors).all(axis=1)][:3]
    dim = vectors.shape[1]
    spike, nothing = np.eye(1, dim, dtype=np.float32), np.zeros((1, dim), np.float32)
    return np.concatenate([_unit(rng, 3, dim), known, _near(known, rng, 1e-7), spike, nothing])


def _exact(probes: Floats, vectors: Floats) -> np.ndarray:
    """Products in float64, minus infinity where a row is not finite."""
    finite = np.isfinite(vectors.sum(axis=1))
    products = probes.astype(np.float64) @ np.where(finite[:, None], vectors, 0).T.astype(np.float64)
    return np.where(finite, products, -np.inf)


def _search(kernel: Kernel, probes: Floats, vectors: Floats, limits: Floats) -> tuple[Hits, Floats]:
    ready, tile = kernel.probes(probes), kernel.tile(vectors)
    error = kernel.error(ready, tile)
    return kernel.hits(ready, tile, limits), error


@every_kernel
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dim=st.sampled_from(DIMS), gallery=galleries, place=st.integers(0, 89))
def test_what_is_above_the_limit_is_hit_and_scores_are_as_near_as_promised(
    name: str, seed: int, dim: int, gallery: Callable[..., Floats], place: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = gallery(rng, dim)
    probes = _probes(rng, vectors)
    exact = _exact(probes, vectors)
    limits = np.sort(exact, axis=1)[:, place].astype(np.float32)  # a score that occurs, or minus infinity
    hits, error = _search(made(name, vectors.shape[1]), probes, vectors, limits)
    pairs = set(zip(hits.probe.tolist(), hits.row.tolist(), strict=True))
    assert len(pairs) == len(hits.probe)
    certain = np.isfinite(exact) & (exact >= limits[:, None].astype(np.float64) + error[:, None])
    assert set(zip(*(part.tolist() for part in np.nonzero(certain)), strict=True)) <= pairs
    truth = exact[hits.probe, hits.row]
    assert np.isfinite(truth).all()
    assert (np.abs(hits.score.astype(np.float64) - truth) <= error[hits.probe]).all()


def _brute(probe: Floats, ids: list[str], vectors: Floats, k: int) -> list[str]:
    """By the float64 product of each pair, summed in one way for all; ties by id."""
    scores: dict[str, float] = {}
    for person, row in zip(ids, vectors.astype(np.float64), strict=True):
        if np.isfinite(row).all():
            value = float(np.clip(np.vecdot(probe.astype(np.float64), row), -1, 1))
            scores[person] = max(value, scores.get(person, -2.0))
    return sorted(scores, key=lambda person: (-scores[person], person))[:k]


@every_kernel
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.sampled_from(DIMS),
    gallery=galleries,
    k=st.sampled_from((1, 2, 5, 200)),
    people=st.sampled_from((3, 30, 1000)),
    cut=st.integers(0, 90),
    tile=st.tuples(st.integers(1, 5), st.integers(1, 60)),
)
def test_the_best_k_are_those_of_brute_force(
    name: str,
    seed: int,
    dim: int,
    gallery: Callable[..., Floats],
    k: int,
    people: int,
    cut: int,
    tile: tuple[int, int],
) -> None:
    rng = np.random.default_rng(seed)
    vectors = gallery(rng, dim)
    probes = _probes(rng, vectors)
    ids = [f"p{number}" for number in rng.integers(0, people, len(vectors))]
    blocks = [(pa.array(ids[part], pa.string()), vectors[part]) for part in (slice(cut), slice(cut, None))]
    found = top_k(probes, blocks, k, made(name, dim), tile=tile)
    expected = [_brute(probe, ids, vectors, k) for probe in probes]
    assert [[match.subject_id for match in matches] for matches in found] == expected


@every_kernel
def test_large_tiles_and_two_threads_find_the_same(name: str) -> None:
    rng = np.random.default_rng(8)
    vectors = np.concatenate([_unit(rng, 3000, 64), _near(_alike(rng, 64), rng, 1e-3)])
    ids = pa.array([f"p{number:04}" for number in range(len(vectors))])
    probes = np.concatenate([_unit(rng, 200, 64), vectors[-40:]])
    expected = top_k(probes, [(ids, vectors)], 3)
    assert top_k(probes, [(ids, vectors)], 3, made(name, 64), threads=2, tile=(64, 700)) == expected


@every_kernel
def test_no_rows_and_no_probes_give_no_hits(name: str) -> None:
    some, none = _unit(np.random.default_rng(1), 5, 16), np.zeros((0, 16), np.float32)
    for probes, vectors in ((some, none), (none, some), (none, none)):
        hits, error = _search(
            made(name, vectors.shape[1]), probes, vectors, np.full(len(probes), -1, np.float32)
        )
        assert len(hits.probe) == 0
        assert error.shape == (len(probes),)


@every_kernel
def test_a_probe_that_is_not_finite_hits_nothing(name: str) -> None:
    vectors = _unit(np.random.default_rng(2), 8, 16)
    probes = vectors[:3].copy()
    probes[1, 4] = np.nan
    hits, _ = _search(made(name, vectors.shape[1]), probes, vectors, np.full(3, -np.inf, np.float32))
    assert sorted(zip(hits.probe.tolist(), hits.row.tolist(), strict=True)) == [
        (probe, row) for probe in (0, 2) for row in range(8)
    ]


@every_kernel
@pytest.mark.parametrize("limit", [-np.inf, -0.5, 0.0])
def test_a_row_that_is_not_finite_is_never_hit(name: str, limit: float) -> None:
    vectors = _unit(np.random.default_rng(3), 8, 16)
    vectors[1], vectors[3, 5], vectors[6, 0] = np.nan, np.inf, -np.inf
    probes = np.concatenate([vectors[:1], np.zeros((1, 16), np.float32)])
    hits, _ = _search(made(name, vectors.shape[1]), probes, vectors, np.full(2, limit, np.float32))
    assert not np.isin(hits.row, [1, 3, 6]).any()
    assert np.array_equal(np.sort(hits.row[hits.probe == 1]), [0, 2, 4, 5, 7])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 200),
    probes=st.integers(0, 9),
    share=st.sampled_from((0.0, 0.001, 0.01, 0.5, 1.0)),
)
def test_a_look_finds_all_that_reach_their_limit(seed: int, rows: int, probes: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(rows, probes)).astype(np.float32)
    scores[rng.random(rows) < 0.05] = np.nan
    scores[rng.random(rows) < 0.05] = np.inf
    scores[rng.random(rows) < 0.05] = -np.inf
    known = np.where(np.isfinite(scores), scores, np.float32(9))
    limits = (
        np.quantile(known, 1 - share, axis=0).astype(np.float32) if rows else np.zeros(probes, np.float32)
    )
    limits[rng.random(probes) < 0.1] = -np.inf
    hits = reaching(scores, limits)
    expected = np.argwhere(np.isfinite(scores) & (scores >= limits))
    assert sorted(zip(hits.row, hits.probe, strict=True)) == [tuple(pair) for pair in expected]
    assert np.array_equal(hits.score, scores[hits.row, hits.probe])


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("rows", [64, 300, 1024])
def test_an_opening_floor_is_reached_by_k_persons(k: int, rows: int) -> None:
    """It is taken from groups of rows, so it is lower than the k-th best, and not by much."""
    rng = np.random.default_rng(k)
    vectors, probes = _unit(rng, rows, 32), _unit(rng, 5, 32)
    vectors[7] = np.nan
    exact = np.sort(_exact(probes, vectors), axis=1)
    hits, floor, error = opened(probes, vectors, None, k, Blas())
    assert (floor <= exact[:, -k]).all()
    assert (floor > exact[:, -min(rows, 2 * k + 8)] - error).all()
    assert np.array_equal(np.bincount(hits.probe), (exact >= floor[:, None]).sum(axis=1))


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("mixed", [False, True])
def test_in_an_opening_a_person_counts_once(k: int, mixed: bool) -> None:
    rng = np.random.default_rng(k)
    vectors, probes = _unit(rng, 300, 32), _unit(rng, 5, 32)
    persons = np.arange(300) // 5
    vectors[:] = vectors[5 * persons]
    if mixed:
        order = rng.permutation(300)
        vectors, persons = vectors[order], persons[order]
    _, floor, error = opened(probes, vectors, persons, k, Blas())
    best = np.sort(_exact(probes, vectors), axis=1)[:, ::5]
    assert (floor <= best[:, -k]).all()
    assert (floor > best[:, -min(60, 2 * k + 8)] - 2 * error).all()


def test_int8_misses_nothing_where_every_rounding_goes_the_same_way() -> None:
    """The bound is reached: the probe's components all lost 0.49 of a step in the direction of the row."""
    kernel = Int8(most_finds=1)
    spike = kernel.probes(np.eye(1, 64, dtype=np.float32))
    steps = np.full((1, 64), 10.49)
    steps[0, 0] = spike.form.columns.max()
    probe = (steps / np.linalg.norm(steps)).astype(np.float32)
    row = np.full((1, 64), 1 / 8, np.float32)
    hits, _ = _search(kernel, probe, row, _exact(probe, row)[0].astype(np.float32) - np.float32(1e-5))
    assert len(hits.probe) == 1


def test_int8_leaves_to_float32_a_tile_where_integers_rule_out_too_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(4)
    vectors = _near(_unit(rng, 1, 128).repeat(500, axis=0), rng, 1e-5)
    limits = np.full(20, 0.9, np.float32)
    plain, error = _search(Blas(), vectors[:20], vectors, limits)
    sifted, _ = _search(Int8(most_finds=1), vectors[:20], vectors, limits)
    asked = []
    product = Blas.hits

    def hits_of(*arguments: Any) -> Hits:
        asked.append(arguments)
        return product(*arguments)

    monkeypatch.setattr(Blas, "hits", hits_of)
    hits, _ = _search(Int8(), vectors[:20], vectors, limits)
    assert asked
    assert len(hits.probe) == len(sifted.probe) == 20 * 500
    assert np.array_equal(hits.score, plain.score)
    assert np.allclose(np.sort(sifted.score), np.sort(plain.score), rtol=0, atol=2 * error.max())


def test_int8_scores_few_pairs_where_the_limit_is_far_above_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers of dimension 512 score 0.044 as a rule; integers are off by at most 0.035."""
    vectors = _unit(np.random.default_rng(5), 1000, 512)
    monkeypatch.setattr(Blas, "hits", lambda *_: pytest.fail("a product of all pairs"))
    hits, _ = _search(Int8(), vectors[:50], vectors, np.full(50, 0.3, np.float32))
    assert np.array_equal(hits.probe[np.argsort(hits.row)], np.arange(50))
    assert np.array_equal(np.sort(hits.row), np.arange(50))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.sampled_from(DIMS),
    gallery=galleries,
    levels=st.sampled_from((64, 127)),
    one_scale=st.booleans(),
)
def test_numbers_miss_what_they_say_and_lengths_are_not_below_the_truth(
    seed: int, dim: int, gallery: Callable[..., Floats], levels: int, one_scale: bool
) -> None:
    vectors = gallery(np.random.default_rng(seed), dim)
    made_whole = Quantised.of(vectors, levels, one_scale=one_scale)
    known = made_whole.finite
    assert np.array_equal(known, np.isfinite(vectors).all(axis=1))
    assert np.abs(made_whole.numbers.astype(int)).max(initial=0) <= levels
    assert not made_whole.numbers[~known].any()
    scale = np.broadcast_to(made_whole.scale, len(vectors))[:, None]
    exact = vectors[known].astype(np.float64)
    miss = np.linalg.norm(exact - (scale * made_whole.numbers)[known], axis=1)
    length = np.linalg.norm(exact, axis=1)
    for promised, true in ((made_whole.miss[known], miss), (made_whole.length[known], length)):
        assert (promised >= true).all()
        assert np.allclose(promised, true, rtol=1e-3, atol=1e-6)


def test_one_row_that_is_not_finite_does_not_coarsen_the_others() -> None:
    vectors = _unit(np.random.default_rng(6), 300, 128)
    spoilt = np.concatenate([vectors, np.full((1, 128), np.inf, np.float32)])
    clean, spoiled = (Quantised.of(rows, 127, one_scale=True) for rows in (vectors, spoilt))
    assert clean.scale == spoiled.scale
    assert np.array_equal(clean.miss, spoiled.miss[:-1])


def _whole(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return (rows.astype(np.int64) - 128) @ columns.astype(np.int64)


def _saturating(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """As x86 without VNNI: pairs of products are added in 16 bits."""
    even = np.pad(rows.astype(np.int64), ((0, 0), (0, rows.shape[1] % 2)))
    below = np.pad(columns.astype(np.int64), ((0, rows.shape[1] % 2), (0, 0)))
    pairs = [
        np.clip(even[:, i : i + 2] @ below[i : i + 2], -(2**15), 2**15 - 1) for i in range(0, len(below), 2)
    ]
    total: np.ndarray = np.sum(pairs, axis=0) - 128 * columns.astype(np.int64).sum(axis=0)
    return total


def test_a_machine_that_saturates_gets_smaller_numbers() -> None:
    assert exact_levels(_whole) == 127
    assert exact_levels(_saturating) == 64


def test_a_machine_that_multiplies_wrongly_is_an_error() -> None:
    with pytest.raises(ConfigError, match="wrong") as raised:
        exact_levels(lambda rows, columns: _whole(rows, columns) + 1)
    assert "fp32" in raised.value.remedy


def test_int8_refuses_vectors_whose_sums_could_wrap() -> None:
    with pytest.raises(ConfigError, match="dimension"):
        Int8().probes(np.zeros((1, 70_000), np.float32))


def test_device_on_a_cpu_searches_again_where_its_candidates_do_not_suffice() -> None:
    vectors = _unit(np.random.default_rng(7), 400, 32)
    limits = np.array([-np.inf, 0.0, 0.9], np.float32)
    hits, _ = _search(Device("cpu", candidates=4), vectors[:3], vectors, limits)
    plain, _ = _search(Blas(), vectors[:3], vectors, limits)
    assert sorted(zip(hits.probe, hits.row, strict=True)) == sorted(zip(plain.probe, plain.row, strict=True))


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this machine has CUDA")
def test_cuda_without_a_gpu_is_an_error_and_not_a_slow_cpu() -> None:
    with pytest.raises(ProviderMissing, match="CUDAExecutionProvider") as raised:
        kernel_of("cuda")
    assert "frpipe[gpu]" in raised.value.remedy


def test_cuda_that_falls_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime-gpu without a driver lists CUDA as available, then runs on the CPU with a warning."""
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this machine has CUDA")
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(ProviderMissing):
        kernel_of("cuda")


@pytest.mark.gpu
def test_device_on_cuda_finds_what_float32_finds() -> None:
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("needs onnxruntime-gpu and a GPU")
    vectors = _unit(np.random.default_rng(9), 5000, 512)
    ids = pa.array([f"p{number}" for number in range(len(vectors))])
    expected = top_k(vectors[:300], [(ids, vectors)], 5)
    assert top_k(vectors[:300], [(ids, vectors)], 5, kernel_of("cuda")) == expected

"""The bound of few dimensions holds for whatever vectors there are, and whatever basis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from frpipe.matching.basis import Basis, Lowered, Spectrum
from frpipe.matching.kernel import Floats
from frpipe.matching.pairs import pairs_within
from frpipe.matching.subspace import Subspace
from frpipe.matching.topk import top_k

Rng = np.random.Generator
TRIALS, ALL_TRIALS = 40, 2000
_DIMS = (2, 3, 8, 33, 64, 130)


def _unit(vectors: np.ndarray) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _plain(rng: Rng, rows: int, basis: Floats) -> Floats:
    return _unit(rng.normal(size=(rows, len(basis))))


def _few_dimensions(rng: Rng, rows: int, basis: Floats) -> Floats:
    """Nothing is left but what rounding leaves."""
    return _unit(rng.normal(size=(rows, basis.shape[1])) @ basis.T)


def _all_in_the_rest(rng: Rng, rows: int, basis: Floats) -> Floats:
    """Rests that are aligned: the bound is reached."""
    one = rng.normal(size=(1, len(basis)))
    one -= (one @ basis) @ basis.T
    return _unit(one * rng.choice([-1, 1], (rows, 1)) + 1e-4 * rng.normal(size=(rows, len(basis))))


def _aligned_rests(rng: Rng, rows: int, basis: Floats) -> Floats:
    """Several low forms, one direction of the rest, of several lengths."""
    rest = rng.normal(size=(1, len(basis)))
    rest -= (rest @ basis) @ basis.T
    low = rng.normal(size=(3, basis.shape[1])) @ basis.T
    return _unit(low[rng.integers(0, 3, rows)] + rng.choice([0.01, 0.3, 2.0], (rows, 1)) * rest)


def _near_ties(rng: Rng, rows: int, basis: Floats) -> Floats:
    one = rng.normal(size=(1, len(basis)))
    return _unit(one / np.linalg.norm(one) + 1e-7 * rng.normal(size=(rows, len(basis))))


def _duplicates(rng: Rng, rows: int, basis: Floats) -> Floats:
    return _plain(rng, 3, basis)[rng.integers(0, 3, rows)]


def _tiny(rng: Rng, rows: int, basis: Floats) -> Floats:
    """Short vectors, some of them denormal, and zeros."""
    lengths = rng.choice([0, 1e-44, 1e-39, 1e-30, 1e-20, 1e-5, 1], (rows, 1))
    return (_plain(rng, rows, basis) * lengths).astype(np.float32)


def _denormal_components(rng: Rng, rows: int, basis: Floats) -> Floats:
    vectors = np.full((rows, len(basis)), 1e-41) * rng.choice([-1, 1], (rows, len(basis)))
    vectors[np.arange(rows), rng.integers(0, len(basis), rows)] = rng.choice([-1, 1], rows)
    return vectors.astype(np.float32)


def _negative(rng: Rng, rows: int, basis: Floats) -> Floats:
    """All similarities of different signs are near minus one."""
    one = rng.normal(size=(1, len(basis)))
    return _unit(
        one * np.where(np.arange(rows) % 2, 1, -1)[:, None] + 0.05 * rng.normal(size=(rows, len(basis)))
    )


def _spikes(rng: Rng, rows: int, basis: Floats) -> Floats:
    return np.eye(len(basis), dtype=np.float32)[rng.integers(0, len(basis), rows)]


def _not_all_finite(rng: Rng, rows: int, basis: Floats) -> Floats:
    vectors = _few_dimensions(rng, rows, basis)
    bad = rng.choice([np.nan, np.inf, -np.inf], rows)
    vectors[:, 0] = np.where(rng.random(rows) < 0.2, bad, vectors[:, 0])
    return vectors


def _mixed(rng: Rng, rows: int, basis: Floats) -> Floats:
    kinds = [_plain, _few_dimensions, _all_in_the_rest, _aligned_rests, _near_ties, _tiny, _negative]
    parts = np.concatenate([kind(rng, rows, basis) for kind in kinds])
    return parts[rng.permutation(len(parts))[:rows]]


GEOMETRIES: tuple[Callable[[Rng, int, Floats], Floats], ...] = (
    _plain,
    _few_dimensions,
    _all_in_the_rest,
    _aligned_rests,
    _near_ties,
    _duplicates,
    _tiny,
    _denormal_components,
    _negative,
    _spikes,
    _not_all_finite,
    _mixed,
)


@dataclass(frozen=True)
class _Trial:
    """Probes, a gallery with ids, and a basis that need not suit them."""

    rng: Rng
    basis: Basis
    probes: Floats
    gallery: Floats
    ids: list[str]
    k: int

    @classmethod
    def of(cls, number: int) -> _Trial:
        rng = np.random.default_rng(number)
        dim = int(rng.choice(_DIMS))
        directions = np.linalg.qr(rng.normal(size=(dim, dim)))[0][:, : rng.integers(1, dim + 1)]
        rows = int(rng.choice([1, 2, 7, 60, 150]))
        gallery = GEOMETRIES[number % len(GEOMETRIES)](rng, rows, directions.astype(np.float32))
        basis = _basis(rng, directions, gallery)
        known = gallery[np.isfinite(gallery).all(axis=1)]
        other = GEOMETRIES[int(rng.integers(len(GEOMETRIES) - 1))](rng, 6, directions.astype(np.float32))
        probes = np.concatenate([known[:4], -known[:2], other[np.isfinite(other).all(axis=1)]])
        ids = [f"p{person}" for person in rng.integers(0, int(rng.choice([3, 40, 9999])), rows)]
        return cls(rng, basis, probes, gallery, ids, int(rng.choice([1, 3, 10, 500])))

    @property
    def kernels(self) -> list[Subspace]:
        return [
            Subspace(self.basis, integers=integers, most_finds=most)
            for integers in (False, True)
            for most in (1, 1 / 32)
        ]

    def exact(self) -> np.ndarray:
        """(n, m) products with 64 bits of mantissa; minus infinity where a row is not finite."""
        finite = np.isfinite(self.gallery).all(axis=1)
        rows = np.where(finite[:, None], self.gallery, 0).astype(np.longdouble)
        return np.where(finite[:, None], rows @ self.probes.T.astype(np.longdouble), -np.inf)


def _basis(rng: Rng, directions: np.ndarray, gallery: Floats) -> Basis:
    """The directions that the vectors were made with, bent and stretched ones, or those of the gallery."""
    how = rng.integers(4)
    if how == 0:
        return Spectrum.of(gallery).leading(directions.shape[1])
    if how == 1:
        directions = directions * rng.uniform(0.9, 1.1, directions.shape[1])
    if how == 2:
        directions = directions + 1e-3 * rng.normal(size=directions.shape)
    return Basis.of(directions)


def _violations(trial: _Trial) -> int:
    """Pairs whose true product is above the bound, or so far below it that the bound is no two-sided one."""
    probes = Lowered.of(trial.probes, trial.basis, precise=True)
    rows = Lowered.of(trial.gallery, trial.basis)
    low = rows.form[:, :-1].astype(np.longdouble) @ probes.form[:, :-1].T.astype(np.longdouble)
    rests = np.outer(rows.form[:, -1].astype(np.longdouble), probes.form[:, -1].astype(np.longdouble))
    slack = 3 * trial.basis.defect * np.outer(rows.low, probes.low)
    slack += np.outer(rows.miss, probes.low) + np.outer(rows.low, probes.miss)
    far = np.abs(trial.exact() - low) > rests + slack
    return int(far[rows.finite].sum())


def _missed(trial: _Trial) -> int:
    """Pairs that reach a limit and that a kernel rules out; limits are scores that occur."""
    exact, missed = trial.exact(), 0
    column = np.sort(exact, axis=0)[
        trial.rng.integers(len(exact), size=len(trial.probes)), np.arange(len(trial.probes))
    ]
    for kernel in trial.kernels:
        ready, tile = kernel.probes(trial.probes), kernel.tile(trial.gallery)
        for limits in (column.astype(float), np.nextafter(column.astype(float), -np.inf)):
            near = kernel.near(ready, tile, limits)
            if near is not None:
                left = np.zeros(exact.shape, bool)
                left.flat[near] = True
                missed += int(((exact >= limits) & np.isfinite(exact) & ~left).sum())
    return missed


def _brute(trial: _Trial, floor: float) -> list[list[tuple[str, float]]]:
    """The best k persons of each probe by a float64 product of each pair; ties by id."""
    found = []
    for probe in trial.probes.astype(float):
        scores: dict[str, float] = {}
        for person, row in zip(trial.ids, trial.gallery.astype(float), strict=True):
            if np.isfinite(row).all():
                scores[person] = max(float(np.clip(np.vecdot(probe, row), -1, 1)), scores.get(person, -2.0))
        ranked = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
        found.append([pair for pair in ranked if pair[1] >= floor][: trial.k])
    return found


def _wrong_answers(trial: _Trial) -> int:
    """Lists of best persons, and of pairs above a threshold, that are not those of brute force bit by bit."""
    blocks = [(pa.array(trial.ids, pa.string()), trial.gallery)]
    expected, wrong = _brute(trial, -2), 0
    scores = [score for ranked in expected for _, score in ranked]
    threshold = scores[int(trial.rng.integers(len(scores)))] if scores else 0.5
    plain = _pairs(trial, threshold, None)
    for kernel in trial.kernels[::2]:
        tile = (int(trial.rng.integers(1, 9)), int(trial.rng.integers(1, 99)))
        for floor, best in ((-1, expected), (threshold, _brute(trial, threshold))):
            found = top_k(trial.probes, blocks, trial.k, kernel, at_least=floor, tile=tile)
            wrong += [[(match.subject_id, match.similarity) for match in each] for each in found] != best
        wrong += _pairs(trial, threshold, kernel) != plain
    return wrong


def _pairs(trial: _Trial, threshold: float, kernel: Subspace | None) -> list[tuple[int, int, float]]:
    vectors = np.concatenate([trial.probes, trial.gallery])
    return sorted(
        pair
        for some in pairs_within(vectors, threshold, kernel)
        for pair in zip(some.a.tolist(), some.b.tolist(), some.similarity.tolist(), strict=True)
    )


def _assert_all_hold(numbers: range) -> None:
    trials = [_Trial.of(number) for number in numbers]
    for count in (_violations, _missed, _wrong_answers):
        assert [trial_number for trial_number, trial in enumerate(trials) if count(trial)] == [], (
            count.__name__
        )


def test_the_bound_holds_and_no_answer_differs_from_brute_force() -> None:
    _assert_all_hold(range(TRIALS))


@pytest.mark.slow
def test_the_bound_holds_and_no_answer_differs_from_brute_force_in_many_trials() -> None:
    _assert_all_hold(range(ALL_TRIALS))

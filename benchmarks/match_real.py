"""Galleries of any size that are like real ones: embeddings of real photos, and people drawn like them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_BLOCK = 16_384


@dataclass(frozen=True)
class Enlarged:
    """gallery: (rows, dim) unit vectors.  probes: (m, dim) of real photos that are not in the gallery."""

    gallery: Floats
    probes: Floats


def enlarged(vectors: Floats, people: list[str], rows: int, probes: int, seed: int = 1) -> Enlarged:
    """Real vectors, enlarged by drawn people. Probes are photos of people of whom others stay in the gallery,
    and of people who are left out of it, half and half where there are enough.

    vectors: (n, dim) of real photos.  people: whose they are. A drawn person is Gaussian of the covariance
    between people's means, and their photo of that within people who have several, both measured on what
    stays in the gallery.
    """
    rng = np.random.default_rng(seed)
    whose = np.array(people)
    left_out = rng.permutation(np.unique(whose))[: len(np.unique(whose)) // 4]
    strangers = rng.permutation(np.flatnonzero(np.isin(whose, left_out)))
    mated = _one_of_several(rng, np.where(np.isin(whose, left_out), "", whose))[: probes // 2]
    stays = np.setdiff1d(np.arange(len(vectors)), np.concatenate([mated, strangers]))
    real, names = vectors[stays].astype(float), whose[stays]
    _, person, counts = np.unique(names, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(sums, person, real)
    means = sums / counts[:, None]
    within = (real - means[person])[counts[person] > 1]
    freedom = len(within) - (counts > 1).sum()
    centre = means.mean(axis=0)
    # A mean of few photos varies by what is within people, too.
    between = np.cov(means.T) - np.mean(1 / counts) * (within.T @ within) / freedom
    roots = _root(between), _root(within.T @ within / freedom)
    gallery = np.empty((rows, vectors.shape[1]), np.float32)
    gallery[: len(real)] = real[:rows]
    for start in range(min(rows, len(real)), rows, _BLOCK):
        count = min(_BLOCK, rows - start)
        drawn = centre + sum(rng.normal(size=(count, root.shape[1])) @ root.T for root in roots)
        gallery[start : start + count] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return Enlarged(gallery[rng.permutation(rows)], vectors[np.concatenate([mated, strangers])[:probes]])


def _one_of_several(rng: np.random.Generator, people: NDArray[np.str_]) -> NDArray[np.int64]:
    """A photo of each person who has others, too."""
    shuffled = rng.permutation(np.flatnonzero(people != ""))
    _, first, counts = np.unique(people[shuffled], return_index=True, return_counts=True)
    found: NDArray[np.int64] = rng.permutation(shuffled[first[counts > 1]])
    return found


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    values, directions = np.linalg.eigh(covariance)
    kept = values > values[-1] * 1e-9
    root: NDArray[np.float64] = directions[:, kept] * np.sqrt(values[kept])
    return root

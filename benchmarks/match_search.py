"""1,000 probes against a gallery in memory: our search, faiss, and the matrix product alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from match_data import Floats, names, probes_of, unit_vectors
from threadpoolctl import threadpool_limits

from frpipe.matching.kernel import Kernel
from frpipe.matching.kernels import kernel_of
from frpipe.matching.ranking import Ranking
from frpipe.matching.topk import TopK

PROBES = 1000
# A shard of a gallery.
_BLOCK = 65_536
_TILE = 8192


def search(rows: int, threads: int, rounds: int) -> dict[str, Any]:
    """Median ratios of seconds for k = 1, 10 and 100, and whether the answers are those of faiss."""
    gallery = unit_vectors(rows)
    faiss.omp_set_num_threads(threads)
    contest = _Contest(gallery, probes_of(gallery, PROBES), names(rows), threads)
    return {"probes": PROBES, "rounds": rounds} | {f"k={k}": contest.run(k, rounds) for k in (1, 10, 100)}


class _Contest:
    """All sides over the same vectors."""

    def __init__(self, gallery: Floats, probes: Floats, ids: pa.StringArray, threads: int) -> None:
        self._gallery, self._probes, self._ids, self._threads = gallery, probes, ids, threads
        self._index = faiss.IndexFlatIP(gallery.shape[1])
        self._index.add(gallery)

    def run(self, k: int, rounds: int) -> dict[str, Any]:
        """Turns of all sides, for one k."""
        sides = self._sides(k)
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        answers: dict[str, Any] = {}
        for _ in range(rounds):
            for name, side in sides.items():
                begin = time.perf_counter()
                answers[name] = side()
                seconds[name].append(time.perf_counter() - begin)
        return {
            "seconds": {name: round(min(values), 3) for name, values in seconds.items()},
            **{
                f"{own}_to_{other}": _ratio(seconds[own], seconds[other])
                for own in ("fp32", "int8")
                for other in ("sgemm", "faiss_knn", "faiss_index")
            },
            "same_as_faiss": {own: _same(answers[own], answers["faiss_knn"][1]) for own in ("fp32", "int8")},
        }

    def _sides(self, k: int) -> dict[str, Callable[[], Any]]:
        gallery, probes, inner = self._gallery, self._probes, faiss.METRIC_INNER_PRODUCT
        fp32, int8 = kernel_of("fp32"), kernel_of("int8")
        return {
            "sgemm": lambda: sgemm(gallery, probes),
            "faiss_knn": lambda: faiss.knn(probes, gallery, k, metric=inner),
            "faiss_index": lambda: self._index.search(probes, k),
            "fp32": lambda: self._ours(k, fp32),
            "int8": lambda: self._ours(k, int8),
        }

    def _ours(self, k: int, kernel: Kernel) -> Ranking:
        """As many tiles at once as there are threads, each with one of BLAS's."""
        with threadpool_limits(1):
            found = TopK(self._probes, k, kernel, threads=self._threads)
            for start in range(0, len(self._gallery), _BLOCK):
                found.add(self._ids[start : start + _BLOCK], self._gallery[start : start + _BLOCK])
            return found.result()


def sgemm(gallery: Floats, probes: Floats) -> None:
    """All products and nothing else."""
    scores = np.empty((len(probes), _TILE), np.float32)
    for start in range(0, len(gallery), _TILE):
        block = gallery[start : start + _TILE]
        room = scores.reshape(-1)[: len(probes) * len(block)].reshape(len(probes), len(block))
        np.matmul(probes, block.T, out=room)


def _ratio(own: list[float], other: list[float]) -> float:
    return round(statistics.median(b / a for a, b in zip(own, other, strict=True)), 3)


def _same(ranking: Ranking, rows: np.ndarray) -> float:
    """Share of the probes for which the set of persons is that of faiss."""
    ours = np.array([int(name[7:]) for name in ranking.subject_id.to_pylist()]).reshape(rows.shape)
    return float(np.mean(np.all(np.sort(ours, axis=1) == np.sort(rows, axis=1), axis=1)))

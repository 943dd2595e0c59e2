"""Counting scores in bins: speed against bare loops, memory, and what binning costs in exactness."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from frpipe.jobs.evaluate.all_pairs.blocks import counted  # noqa: E402
from frpipe.metrics.bounds import Binned  # noqa: E402
from frpipe.metrics.scores import Scores  # noqa: E402
from frpipe.metrics.streaming import BINS, ScoreHistogram  # noqa: E402
from frpipe.metrics.verification import auc_exact, eer, tar_at_fmr  # noqa: E402

Floats = NDArray[np.float32]
# A tile of the all-pairs job.
BLOCK = 1 << 22
# Blocks that are made; then they come again.
_DISTINCT = 8
_HALF = np.float32(BINS // 2)
_WORKERS = 2


def count(scores: int) -> dict[str, Any]:
    """CPU time a score of all sides, which take turns block by block; then two of ours at once.

    increments: only the counting, of places that are ready, by NumPy and by OpenCV: no side of ours can be
    faster than the better of the two.  read: the sum of the scores, which is bound by memory.
    """
    cv2.setNumThreads(1)
    seconds: dict[str, list[float]] = {name: [] for name in _SIDES}
    whole = ScoreHistogram(counter=counted)
    for number, block in zip(range(max(1, scores // BLOCK)), _blocks(), strict=False):
        places = ((block * _HALF).astype(np.int32) + BINS // 2).astype(np.uint16)
        for name, side in _SIDES.items():
            # What is ten times slower takes every eighth turn.
            if name != "np_histogram" or number % 8 == 0:
                begin = time.process_time()
                side(whole, block, places)
                seconds[name].append(time.process_time() - begin)
    each = {name: statistics.median(values) / BLOCK * 1e9 for name, values in seconds.items()}
    return {
        "scores": whole.total,
        "ns_per_score": {name: round(value, 2) for name, value in each.items()},
        "to_np_histogram": round(each["np_histogram"] / each["ours"], 2),
        "to_bincount": round(each["bincount"] / each["ours"], 2),
        "to_increments": round(min(each["increments_cv2"], each["increments_np"]) / each["ours"], 2),
        "two_threads": _together(ThreadPoolExecutor, scores),
        "two_processes": _together(ProcessPoolExecutor, scores),
    }


def _blocks() -> Iterator[Floats]:
    rng = np.random.default_rng(0)
    made = [np.clip(rng.standard_normal(BLOCK, np.float32) * 0.06, -1, 1) for _ in range(_DISTINCT)]
    while True:
        yield from made


def _bincount(_whole: ScoreHistogram, block: Floats, _places: Any) -> None:
    np.bincount((block * _HALF).astype(np.int32) + BINS // 2, minlength=BINS)


_SIDES: dict[str, Callable[[ScoreHistogram, Floats, Any], Any]] = {
    "ours": lambda whole, block, _: whole.add(block),
    "np_histogram": lambda _, block, __: np.histogram(block, bins=BINS, range=(-1, 1)),
    "bincount": _bincount,
    "increments_np": lambda _, __, places: np.bincount(places, minlength=BINS),
    "increments_cv2": lambda _, __, places: cv2.calcHist(
        [places.reshape(1, -1)], [0], None, [BINS], [0, BINS]
    ),
    "read": lambda _, block, __: block.sum(),
}


def _together(executor: Any, scores: int) -> dict[str, float]:
    """Two at once, once they have started; by the clock, and CPU time a score."""
    each = max(1, scores // BLOCK // _WORKERS)
    with executor(_WORKERS) as pool:
        list(pool.map(_stream, [1] * _WORKERS))
        spans = list(pool.map(_stream, [each] * _WORKERS))
    cpu_s = sum(cpu for _, cpu in spans) / _WORKERS
    return {
        "million_per_s": round(sum(each * BLOCK / wall for wall, _ in spans) / 1e6),
        "cpu_ns_per_score": round(cpu_s / (each * BLOCK) * 1e9, 2),
    }


def _stream(blocks: int) -> tuple[float, float]:
    """Seconds, and CPU seconds, to count so many."""
    cv2.setNumThreads(1)
    whole, source = ScoreHistogram(counter=counted), _blocks()
    some = [next(source) for _ in range(_DISTINCT)]
    wall, cpu = time.perf_counter(), time.thread_time()
    for number in range(blocks):
        whole.add(some[number % _DISTINCT])
    return time.perf_counter() - wall, time.thread_time() - cpu


def memory(scores: int) -> dict[str, Any]:
    """MB at the peak of a process that counts a tenth of the scores, all of them, and only imports."""
    counts = {"a_tenth": scores // 10, "all": scores, "one_block": BLOCK}
    return {f"peak_rss_mb_{name}": _peak_of(number) for name, number in counts.items()} | {"scores": scores}


def _peak_of(scores: int) -> int:
    command = [sys.executable, __file__, str(scores)]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def agree(mated: int = 10**5, nonmated: int = 10**7) -> dict[str, Any]:
    """The bounds of binned scores around the exact values of the same: how wide, and whether they hold."""
    rng = np.random.default_rng(1)
    parts = [
        np.clip(rng.normal(mean, spread, size), -1, 1).astype(np.float32)
        for mean, spread, size in ((0.45, 0.15, mated), (0.0, 0.08, nonmated))
    ]
    scores, (same, other) = Scores.of(*parts), (ScoreHistogram(), ScoreHistogram())
    for histogram, part in zip((same, other), parts, strict=True):
        histogram.add(part)
    binned = Binned(same, other)
    targets = (1e-2, 1e-3, 1e-4, 1e-5)
    bounds = [binned.auc(), binned.eer(), *(binned.at_fmr(target).tar for target in targets)]  # type: ignore[union-attr]
    exact = [auc_exact(scores), eer(scores).value]  # type: ignore[union-attr]
    exact += [found.tar.value for found in tar_at_fmr(scores, targets)]  # type: ignore[union-attr]
    names = ["AUC", "EER", *(f"TAR at {target:g}" for target in targets)]
    return {
        name: {
            "exact": value,
            "width": between.high - between.low,
            "holds": between.low <= value <= between.high,
        }
        for name, value, between in zip(names, exact, bounds, strict=True)
    }


def _peak_mb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1e3)


if __name__ == "__main__":
    _stream(int(sys.argv[1]) // BLOCK)
    print(_peak_mb())

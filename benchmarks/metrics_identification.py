"""Time a report of searches for galleries and probes of several sizes, and how it grows."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from frpipe.evaluation.identification import IdentificationQuestion
from frpipe.evaluation.searches import SearchTrials

LISTED = 50
SIZES = ((1_000, 10_000), (3_000, 30_000), (10_000, 100_000), (10_000, 1_000_000))


def searched(probes: int, people: int, listed: int = LISTED, seed: int = 0) -> SearchTrials:
    """Searches of made-up lists: half of the probes are of enrolled people, three in four of them found."""
    rng = np.random.default_rng(seed)
    enrolled = np.array([f"person-{number:09d}" for number in range(people)])
    mated = np.arange(probes) % 2 == 0
    own = rng.permutation(people)[:probes] if people >= probes else rng.integers(0, people, probes)
    others = (own[:, None] + 1 + np.sort(rng.integers(0, people - 1, (probes, listed)), axis=1)) % people
    # Each listed once: neighbours that are equal move apart.
    others = (
        others[:, :1] + np.cumsum(rng.integers(1, max(2, people // listed), (probes, listed)), axis=1)
    ) % people
    others = np.where(others == own[:, None], (others + people // 2) % people, others)
    score = -np.sort(-rng.normal(0.25, 0.05, (probes, listed)), axis=1)
    found = mated & (rng.random(probes) < 0.75)
    others[found, 0], score[found, 0] = own[found], rng.normal(0.6, 0.1, int(found.sum())).clip(0.5, 1)
    truth = np.where(mated, enrolled[own], np.array([f"stranger-{number:09d}" for number in range(probes)]))
    return SearchTrials(
        np.array([f"photo-{number:09d}" for number in range(probes)], object),
        truth.astype(object),
        np.zeros(probes, bool),
        np.repeat(np.arange(probes), listed),
        enrolled[others.ravel()].astype(object),
        score.ravel(),
        enrolled,
        enrolled[:0],
    )


def identification() -> dict[str, Any]:
    """CPU seconds of all numbers and curves of a report at each size, and how they grow.

    exponent: of CPU over probes + people, between the last two sizes.
    """
    rows = []
    for probes, people in SIZES:
        trials = searched(probes, people)
        begun = time.process_time()
        IdentificationQuestion((0.4,), listed=LISTED).answer("x", trials, {})
        seconds = time.process_time() - begun
        rows.append({"probes": probes, "people": people, "cpu_s": round(seconds, 2)})
        print(rows[-1], file=sys.stderr, flush=True)
    first, last = rows[-2:]
    size = [row["probes"] + row["people"] for row in (first, last)]
    exponent = float(np.log(last["cpu_s"] / first["cpu_s"]) / np.log(size[1] / size[0]))
    return {"rows": rows, "exponent": round(exponent, 2)}

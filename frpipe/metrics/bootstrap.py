"""Bootstrap confidence intervals of any number computed from scores that share people.

Comparisons of one person err together, so the people are drawn again, not the comparisons (Bolle, Ratha and
Pankanti 2004, the subsets bootstrap). Someone drawn w times counts w times on either side: a mated comparison
weighs w_i, and a non-mated one of i and j weighs w_i w_j, as there are so many pairs of their copies (Owen
2007, the pigeonhole bootstrap). Two copies of one person are never a non-mated pair. What is peculiar to a
pair and to neither person is drawn three times too variable, so that intervals of non-mated rates are wide
rather than narrow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array

from frpipe.metrics.clustered import Pairing, certain, paired
from frpipe.metrics.curve import Curve, Ordered
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.intervals import LEVEL, Interval
from frpipe.metrics.scores import Doubles, Scores

REPLICATES = 1000
# Scores that are drawn in all: 1,000 replicates up to a million of them, and 200 at the least.
_BUDGET = 1_000_000_000
_FEWEST = 200
_METHOD = "bootstrap over subjects"
# Replicates whose weights are held at once, and how many weights: 32 MB of them.
_BLOCK = 64
_BLOCK_WEIGHTS = 4_000_000
# Each thread holds a block, and some copies of all weights.
_MOST_THREADS = 16


def replicates_of(scores: int) -> int:
    """The number of replicates for so many scores: fewer for more than a million."""
    return int(np.clip(_BUDGET // max(scores, 1), _FEWEST, REPLICATES))


def draws(people: int, replicates: int = REPLICATES, seed: int = 0) -> Iterator[Doubles]:
    """Blocks, (r, people), of bootstrap draws: how often each person is drawn in each replicate.

    The same for the same seed; each block has a generator of its own.
    """
    for start in _starts(people, replicates):
        yield _block(people, replicates, seed, start)


def of_draws(
    people: int, replicates: int, seed: int, work: Callable[[Doubles], Doubles], threads: int | None = None
) -> Doubles:
    """Apply `work` to each block of `draws`: of (r, people) (r, ...), all together (replicates, ...).

    Blocks are worked on by all cores, and the result is the same for any number of them.  threads: None: one
    a core, of those that this process may use.
    """
    starts = _starts(people, replicates)
    cores = len(os.sched_getaffinity(0)) if threads is None else threads

    def one(start: int) -> Doubles:
        return work(_block(people, replicates, seed, start))

    if min(cores, len(starts)) < 2:
        return np.concatenate([one(start) for start in starts])
    with ThreadPoolExecutor(min(cores, len(starts), _MOST_THREADS)) as pool:
        return np.concatenate([*pool.map(one, starts)])


def _starts(people: int, replicates: int) -> range:
    """The first replicate of each block: by the number of people alone, and not by that of cores."""
    return range(0, replicates, min(_BLOCK, max(1, _BLOCK_WEIGHTS // people)))


def _block(people: int, replicates: int, seed: int, start: int) -> Doubles:
    some = min(_starts(people, replicates).step, replicates - start)
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(start,)))
    chosen = generator.integers(0, people, (some, people)) + people * np.arange(some)[:, None]
    counts = np.bincount(chosen.ravel(), minlength=some * people)
    return counts.reshape(some, people).astype(np.float64)


def bootstrap_rate(
    errors: ArrayLike,
    a: ArrayLike,
    b: ArrayLike | None = None,
    *,
    replicates: int = REPLICATES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Interval of the share of (n,) comparisons that are errors; a, b: (n,) ids of the persons on both sides.

    b None: all comparisons are mated, or each is a search and a its probe's person. Where no comparison, or
    every one, is an error, drawing again says nothing: see `certain`.  For a single rate `clustered_rate` is
    nearer its level, and faster.
    """
    wrong, pairing = paired(errors, a, b)
    known = certain(wrong, pairing, level)
    if known:
        return known
    count, amount = _Sums(pairing, wrong.astype(np.float64)), _Sums(pairing, np.ones(len(wrong)))

    def rates(drawn: Doubles) -> Doubles:
        return _ratio(count.of(drawn), amount.of(drawn))

    return percentiles(of_draws(pairing.people, replicates, seed, rates), level)


def bootstrap_curve(
    scores: Scores,
    mated: ArrayLike,
    nonmated: tuple[ArrayLike, ArrayLike],
    metric: Callable[[Curve], float],
    *,
    replicates: int = REPLICATES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Interval of any number that a curve gives, as `Curve.auc`; of completed comparisons.

    mated: (m,) persons of the mated scores.  nonmated: (n,) persons on both sides of the others. A replicate
    in which the metric is NaN, or one kind of comparison is missing, is left out.
    """
    found = curve_replicates(scores, mated, nonmated, [metric], replicates=replicates, seed=seed)
    return percentiles(found[:, 0], level)


def curve_replicates(
    scores: Scores,
    mated: ArrayLike,
    nonmated: tuple[ArrayLike, ArrayLike],
    metrics: Sequence[Callable[[Curve], float]],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    threads: int | None = None,
) -> Doubles:
    """(replicates, metrics) values of a curve's metrics, NaN where a kind of comparison is missing.

    See `bootstrap_curve`.  threads: see `of_draws`.

    The people are numbered in the order of their ids, so two sets of scores of the same comparisons are drawn
    alike under one seed: the difference of their replicates is that of a paired bootstrap.
    """
    same, other = Pairing.of((mated, mated), nonmated)
    if len(same.a) != len(scores.mated) or len(other.a) != len(scores.nonmated):
        raise ScoresError("scores and persons differ in length", "name the persons of each comparison")
    # Weights of scores in their order are read from memory as they lie, and sum up twice as fast.
    orders = np.argsort(-scores.mated), np.argsort(-scores.nonmated)
    scores = replace(scores, mated=scores.mated[orders[0]], nonmated=scores.nonmated[orders[1]])
    same, other = (
        replace(pairing, a=pairing.a[order], b=pairing.b[order])
        for pairing, order in zip((same, other), orders, strict=True)
    )
    ordered = Ordered.of(scores)

    def values(block: Doubles) -> Doubles:
        rows = np.full((len(block), len(metrics)), np.nan)
        for row, drawn in enumerate(block):
            curve = ordered.weighted(same.weights(drawn), other.weights(drawn))
            if curve.mated_trials > 0 and curve.nonmated_trials > 0:
                rows[row] = [metric(curve) for metric in metrics]
        return rows

    return of_draws(same.people, replicates, seed, values, threads)


def percentiles(values: Doubles, level: float = LEVEL) -> Interval:
    """The percentile interval: the middle `level` of replicates (Efron 1979).

    NaN are left out; all NaN: NaN.
    """
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]) if len(known) else (np.nan, np.nan)
    return Interval(float(low), float(high), level, f"{_METHOD}, {len(known)} replicates")


class _Sums:
    """Weighted sums over comparisons, for many draws at once."""

    def __init__(self, pairing: Pairing, values: Doubles) -> None:
        same = pairing.a == pairing.b
        a, b, rest = pairing.a[~same], pairing.b[~same], values[~same]
        self._own = np.bincount(pairing.a[same], values[same], minlength=pairing.people)
        self._across = coo_array((rest, (a, b)), shape=(pairing.people, pairing.people)).tocsr()

    def of(self, drawn: Doubles) -> Doubles:
        """(r,) sums from (r, people) draws."""
        across: NDArray[np.float64] = self._across @ drawn.T
        own: NDArray[np.float64] = drawn @ self._own
        total: NDArray[np.float64] = own + np.einsum("rp,pr->r", drawn, across)
        return total


def _ratio(count: Doubles, amount: Doubles) -> Doubles:
    ratio = np.full(len(count), np.nan)
    np.divide(count, amount, out=ratio, where=amount > 0)
    return ratio

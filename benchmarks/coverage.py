"""How often the bound of threshold cards holds the true rate, in simulated trials that share people.

    python benchmarks/coverage.py                  every world: minutes on one core
    python benchmarks/coverage.py --times 200      a rough look

For each world, errors that the target gives on average, and bound: the share of simulations in which the
upper bound at the true threshold is at least the true rate, which is how often a card's rate is at most its
target. plain: of Clopper and Pearson, all trials taken as independent. width: the bound over the plain one,
median. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from frpipe.metrics.clustered import Pairing
from frpipe.metrics.effective import EffectiveTrials
from frpipe.metrics.intervals import upper_bound

Drawn = Callable[[np.random.Generator], np.ndarray]


class World(NamedTuple):
    """pairing: who is compared.  scores: drawn of new people.  exceed: P(score >= threshold)."""

    name: str
    pairing: Pairing
    scores: Drawn
    exceed: Callable[[float], float]


def worlds() -> Iterator[World]:
    """Scores are normal with variance 1, but for wolves; `share` of it is of the two persons."""
    yield _normal("5,000 pairs of 10,000 people", np.arange(5000), np.arange(5000) + 5000, 0.0)
    for people, share in ((100, 0.0), (100, 0.1), (100, 0.2), (300, 0.1), (300, 0.2)):
        a, b = np.triu_indices(people, 1)
        yield _normal(f"all pairs of {people} people", a, b, share)
    a, b = (np.repeat(side, 4) for side in np.triu_indices(80, 1))
    yield _normal("all pairs of 80 people, 4 each", a, b, 0.1, couple=0.3)
    for left, right in ((10, 600), (50, 300)):
        a, b = np.divmod(np.arange(left * right), right)
        yield _normal(f"{left} people with {right} others", a, b + left, 0.15)
    rng = np.random.default_rng(0)
    a = rng.integers(0, 1000, 4000)
    yield _normal("4,000 pairs of 1,000 people", a, (a + rng.integers(1, 1000, 4000)) % 1000, 0.2)
    for share, shift in ((0.02, 1.5), (0.05, 1.0)):
        yield _wolves(200, share, shift)


def covered(world: World, errors: float, times: int, confidence: float = 0.95) -> dict[str, Any]:
    """Simulate one world at the rate that gives so many errors on average."""
    trials = len(world.pairing.a)
    rate = errors / trials
    threshold = float(brentq(lambda at: world.exceed(at) - rate, -10, 20))
    held, plain, widths, none = [], [], [], []
    for seed in range(times):
        scores = world.scores(np.random.default_rng(seed))
        count = int(np.count_nonzero(scores >= threshold))
        bound = float(EffectiveTrials.of(scores, world.pairing, rate, confidence).upper(count, confidence))
        usual = float(upper_bound(count, trials, confidence))
        held.append(bound >= rate)
        plain.append(usual >= rate)
        widths.append(bound / usual)
        none.append(count == 0)
    return {
        "world": world.name,
        "errors": errors,
        "bound": round(100 * float(np.mean(held)), 1),
        "plain": round(100 * float(np.mean(plain)), 1),
        "width": round(float(np.median(widths)), 2),
        "no_errors": round(100 * float(np.mean(none)), 1),
    }


def _pairing(a: np.ndarray, b: np.ndarray) -> Pairing:
    return Pairing.of((a, b))[0]


def _normal(name: str, a: np.ndarray, b: np.ndarray, share: float, couple: float = 0.0) -> World:
    """couple: share of the variance that comparisons of the same two people have in common."""
    pairing = _pairing(a, b)
    _, same = np.unique(pairing.a * pairing.people + pairing.b, return_inverse=True)

    def scores(rng: np.random.Generator) -> np.ndarray:
        person, pair = rng.normal(size=pairing.people), rng.normal(size=int(same.max()) + 1)
        own = rng.normal(size=len(a))
        both = np.sqrt(share / 2) * (person[pairing.a] + person[pairing.b])
        return np.asarray(both + np.sqrt(couple) * pair[same] + np.sqrt(1 - share - couple) * own)

    more = f", {share:.0%} of the variance theirs" if share else ""
    return World(name + more, pairing, scores, lambda at: float(norm.sf(at)))


def _wolves(people: int, share: float, shift: float) -> World:
    """A share of the people look so much more like everybody."""
    pairing = _pairing(*np.triu_indices(people, 1))

    def scores(rng: np.random.Generator) -> np.ndarray:
        wolf = rng.random(people) < share
        both = wolf[pairing.a].astype(float) + wolf[pairing.b]
        return np.asarray(shift * both + rng.normal(size=len(pairing.a)))

    def exceed(at: float) -> float:
        chances = (1 - share) ** 2, 2 * share * (1 - share), share**2
        return float(sum(chance * norm.sf(at - shift * k) for k, chance in enumerate(chances)))

    return World(f"all pairs of {people} people, {share:.0%} alike to many", pairing, scores, exceed)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=1000, metavar="N", help="simulations (%(default)s)")
    parser.add_argument("--errors", type=float, nargs="+", default=[3, 10, 30, 100], metavar="E")
    options = parser.parse_args()
    rows = []
    for world in worlds():
        for errors in options.errors:
            rows.append(covered(world, errors, options.times))
            print(rows[-1], file=sys.stderr, flush=True)
    print(json.dumps({"bench": "coverage", "times": options.times, "rows": rows}))


if __name__ == "__main__":
    main()

"""Systems that were run on trials: what came of each, and how two of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from frpipe.core.errors import ConfigError
from frpipe.evaluation.compare import differences, judged
from frpipe.evaluation.difference import Difference
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.pairs import Labels, PairTrials
from frpipe.evaluation.sample import Estimate
from frpipe.evaluation.searches import SearchTrials
from frpipe.metrics.curve import Curve

Trials = PairTrials | SearchTrials


@dataclass(frozen=True, slots=True)
class System:
    """evaluation: of all its trials.  curve: exact.  estimates: what is compared with another system.
    features: the enroll output that holds its photos.  digest: of the result that was read."""

    evaluation: Evaluation
    trials: Trials
    curve: Curve
    estimates: Sequence[Estimate]
    features: str
    digest: str


def named(results: Sequence[str], names: Sequence[str]) -> list[str]:
    """A name for each result: those given, else the last part of its URI.

    Raises ConfigError: not one for each, or one twice.
    """
    found = list(names) or [uri.rstrip("/").rsplit("/", 1)[-1] for uri in results]
    if len(found) != len(results) or len(set(found)) != len(found):
        raise ConfigError(
            f"{len(results)} results and the names {', '.join(found)}",
            "give --names, one for each, all different",
        )
    return found


def compared(systems: Sequence[System]) -> list[Difference]:
    """Each system with the first, on the trials that both completed."""
    found: list[Difference] = []
    for first, second in ((systems[0], other) for other in systems[1:]):
        mine, theirs = _shared(first.trials, second.trials)
        found += differences(
            (first.evaluation.name, mine.sample()),
            (second.evaluation.name, theirs.sample()),
            first.estimates,
        )
    return judged(found)


def _shared(first: Trials, second: Trials) -> tuple[Trials, Trials]:
    """The trials that both completed, in one order. Raises ConfigError: there are none."""
    done = [_done(trials) for trials in (first, second)]
    keys = [_keys(trials)[mask] for trials, mask in zip((first, second), done, strict=True)]
    _, mine, theirs = np.intersect1d(*keys, return_indices=True)
    if not len(mine):
        raise ConfigError(
            "the results have no trial in common", "compare results of the same list of pairs, or of probes"
        )
    rows = [np.flatnonzero(mask)[place] for mask, place in zip(done, (mine, theirs), strict=True)]
    return first.some(rows[0]), second.some(rows[1])


def _done(trials: Trials) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if isinstance(trials, PairTrials):
        return trials.completed
    return trials.done_mated | trials.done_strangers


def _keys(trials: Trials) -> Labels:
    if isinstance(trials, PairTrials):
        kinds = np.where(trials.mated, "=", "#")
        return np.array([f"{a}\0{kind}{b}" for a, kind, b in zip(trials.a, kinds, trials.b, strict=True)])
    return trials.image.astype(str)

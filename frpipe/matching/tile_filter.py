"""One look at a tile of scores: which reach the limit of their probe."""

from __future__ import annotations

import numpy as np

from frpipe.matching.kernel import Floats, Hits

# So many rows are laid upon one another, and only where the best of them reaches the limit each is looked at.
_FOLD = 16
# Above this share of scores that reach their limit, by one row in 32, it is quicker to look at each at once.
_MANY, _SAMPLE = 1 / 700, 32


def reaching(scores: Floats, limits: Floats) -> Hits:
    """The pairs of n rows and m probes whose score, (n, m), is finite and reaches the probe's limit, (m,)."""
    sample = scores[: len(scores) // _SAMPLE]
    whole = len(scores) - len(scores) % _FOLD
    if np.count_nonzero(sample >= limits) > _MANY * sample.size:
        whole = 0
    found = Hits.joined([_folded(scores[:whole], limits), _each(scores[whole:], limits).shifted(0, whole)])
    return found.finite()


def _folded(scores: Floats, limits: Floats) -> Hits:
    high, probes = len(scores) // _FOLD, max(1, len(limits))
    layers = scores.reshape(_FOLD, high * len(limits))
    best = np.fmax.reduce(layers, axis=0).reshape(high, len(limits))
    places = np.flatnonzero(best >= limits)
    row, probe = np.divmod(places, probes)
    some = layers[:, places]
    found = np.flatnonzero(some >= limits[probe])
    layer, place = np.divmod(found, max(1, len(places)))
    return Hits(probe[place], row[place] + layer * high, some.reshape(-1)[found])


def _each(scores: Floats, limits: Floats) -> Hits:
    found = np.flatnonzero(scores >= limits)
    row, probe = np.divmod(found, max(1, len(limits)))
    return Hits(probe, row, scores.reshape(-1)[found])

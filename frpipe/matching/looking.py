"""Look at a tile of products for those that reach the limit of their probe."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from frpipe.matching.kernel import Indices

# So many rows are laid upon one another; only where the best of them reaches the limit is each looked at.
_FOLD = 16
# Above this share of products that reach their limit, by one row in 32, to look at each at once is quicker.
_MANY, _SAMPLE = 1 / 700, 32


def reached(products: NDArray[Any], limits: NDArray[Any]) -> Indices:
    """Find the places in a flat (n, m) table of all products that reach the limit of their column, (m,).

    The products may be float32 or int32; one that is not a number reaches nothing.
    """
    whole = len(products) - len(products) % _FOLD
    if _sampled_share(products, limits) > _MANY:
        whole = 0
    rest = np.flatnonzero(products[whole:] >= limits) + whole * len(limits)
    return np.concatenate([_folded(products[:whole], limits), rest])


def few_reached(products: NDArray[Any], limits: NDArray[Any], most: float) -> Indices | None:
    """Find the places as `reached` does; None where they are more than the share `most` of all."""
    if _sampled_share(products, limits) > 2 * most:
        return None
    places = reached(products, limits)
    return None if len(places) > most * products.size else places


def _sampled_share(products: NDArray[Any], limits: NDArray[Any]) -> float:
    sample = products[: len(products) // _SAMPLE]
    return float(np.count_nonzero(sample >= limits)) / max(1, sample.size)


def _folded(products: NDArray[Any], limits: NDArray[Any]) -> Indices:
    high = len(products) // _FOLD
    layers = products.reshape(_FOLD, high * len(limits))
    larger = np.fmax if products.dtype.kind == "f" else np.maximum
    best = larger.reduce(layers, axis=0).reshape(high, len(limits))
    places = np.flatnonzero(best >= limits)
    found = np.flatnonzero(layers[:, places] >= limits[places % max(1, len(limits))])
    layer, place = np.divmod(found, max(1, len(places)))
    cells: Indices = places[place] + layer * layers.shape[1]
    return cells

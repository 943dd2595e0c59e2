"""Distinct values of large arrays, and sets of them.

As NumPy's functions of sets, which since NumPy 2.3 put whole numbers and texts into a hash table before they
sort them: for millions of different numbers that takes up to a hundred times as long. Few values, labels or
groups are as well left to `np.unique`, and so is what asks it for an inverse, an index or counts: it sorts.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


def distinct(values: NDArray[T]) -> NDArray[T]:
    """Sort an array of one dimension, and keep each value once, as `np.unique`."""
    ordered = np.sort(values)
    if len(ordered) < 2:
        return ordered
    found: NDArray[T] = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    return found


def merged(first: NDArray[T], second: NDArray[T]) -> NDArray[T]:
    """Merge two arrays, each value once and sorted, as `np.union1d`."""
    return distinct(np.concatenate([first, second]))


def without(values: NDArray[T], others: NDArray[Any]) -> NDArray[T]:
    """Leave out values that are among the others, as `np.setdiff1d`.

    values: sorted, each once.
    """
    found: NDArray[T] = np.setdiff1d(values, others, assume_unique=True)
    return found


def are_among(values: NDArray[Any], ordered: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each value is one of some sorted ones: (n,), as `np.isin`."""
    if not len(ordered):
        return np.zeros(len(values), np.bool_)
    places = np.searchsorted(ordered, values)
    found: NDArray[np.bool_] = ordered[np.minimum(places, len(ordered) - 1)] == values
    return found

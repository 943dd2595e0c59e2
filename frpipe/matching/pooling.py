"""Pool vectors of photos into templates: each medium first, then all media of a template."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
# Below this length a sum of unit vectors has no direction worth the name.
_NO_DIRECTION = 1e-6


def media_means(
    vectors: NDArray[np.floating[Any]], template: Indices, medium: Indices, templates: int
) -> NDArray[np.float32]:
    """(templates, dim) unit vectors of templates; zeros where one has no photo, or no direction.

    vectors: (n, dim) of unit length.  template: (n,) numbers below `templates`.  medium: (n,) any numbers;
    photos of one template and one medium, as the frames of a video, are averaged first, and the mean made a
    unit vector, so that a medium of many frames counts as much as a photo. Then the media are averaged.
    """
    if not len(vectors):
        return np.zeros((templates, vectors.shape[1]), np.float32)
    keys, own = np.unique(np.stack([template, medium], axis=1), axis=0, return_inverse=True)
    media = _means(np.asarray(vectors, np.float64), own.ravel(), len(keys))
    found: NDArray[np.float32] = _means(media, keys[:, 0], templates).astype(np.float32)
    return found


def _means(vectors: NDArray[np.float64], group: Indices, groups: int) -> NDArray[np.float64]:
    """Directions of the means, as unit vectors."""
    order = np.argsort(group, kind="stable")
    present, starts = np.unique(group[order], return_index=True)
    sums = np.zeros((groups, vectors.shape[1]))
    sums[present] = np.add.reduceat(vectors[order], starts)
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    found: NDArray[np.float64] = np.zeros_like(sums)
    np.divide(sums, length, out=found, where=length > _NO_DIRECTION)
    return found

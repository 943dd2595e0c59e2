"""Pairs and the faces that they name, to decisions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.threshold import Threshold
from frpipe.jobs.verify.named_faces import NamedFaces
from frpipe.jobs.verify.schema import STATUSES, pair_schema
from frpipe.matching.exact import inner_products


def compared(
    block: pa.Table, a: NDArray[np.int64], b: NDArray[np.int64], faces: NamedFaces, threshold: Threshold
) -> pa.Table:
    """Some pairs of a list with what was found, as `pair_schema` says.

    a, b: (n,) numbers of their names in `faces`.
    """
    here_a, here_b = faces.present(a), faces.present(b)
    both = here_a & here_b
    similarity = np.zeros(len(a))
    similarity[both] = np.clip(inner_products(faces.vectors, a[both], faces.vectors, b[both]), -1, 1)
    columns = [
        *block.columns,
        pa.array(similarity, mask=~both),
        pa.array(1 - similarity, mask=~both),
        pa.array(np.full(len(a), threshold.similarity)),
        pa.array(similarity >= threshold.similarity, mask=~both),
        pa.array(STATUSES).take(pa.array(~here_a + 2 * ~here_b)),
        faces.reasons(a),
        faces.reasons(b),
    ]
    return pa.table(columns, schema=pair_schema(block.schema))

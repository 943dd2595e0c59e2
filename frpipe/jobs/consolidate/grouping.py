"""Bring all rows of each person together, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from frpipe.gallery.external_sort import ExternalSort
from frpipe.gallery.schema import EMBEDDING, vector_array

_BUCKET_ROWS = 32_768


def grouped(tables: Iterable[pa.Table], dim: int, bucket_rows: int = _BUCKET_ROWS) -> Iterator[pa.Table]:
    """Tables of about `bucket_rows` rows in each of which every person stands with all their rows.

    tables: templates tables, in any order. Their rows lie in unnamed temporary files meanwhile, in clear.
    """
    with ExternalSort(dim, "<f4", bucket_rows) as spill:
        spill.take(tables)
        for number in range(spill.buckets):
            bucket = spill.bucket(number)
            rows = bucket.texts.num_rows
            if rows:
                vectors = vector_array(bucket.vectors(np.arange(rows)))
                yield bucket.texts.append_column(EMBEDDING, vectors)

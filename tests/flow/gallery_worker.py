"""A process that changes a gallery and may be killed: `python gallery_worker.py URI enroll|compact ROWS`.

It says "ready" when all that is left to do is the change itself, so that a kill meets the change.
"""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array

DIM = 128


def templates(rows: int, seed: int) -> pa.Table:
    """The same rows for the same arguments: new people, and new vectors of some old ones."""
    vectors = np.random.default_rng(seed).standard_normal((rows, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    subjects = [f"p{number:06d}" for number in range(seed * 100, seed * 100 + rows)]
    return pa.table(
        {"subject_id": subjects, "face_id": subjects, "embedding": vector_array(vectors), "Name": subjects}
    )


def change(gallery: Gallery, action: str, rows: int) -> None:
    """What the process does after "ready"."""
    if action == "enroll":
        lifecycle.enroll(gallery, [templates(rows, seed=2)], "replace")
    else:
        lifecycle.compact(gallery)


if __name__ == "__main__":
    uri, action, rows = sys.argv[1:]
    opened = Gallery.open(uri)
    templates(10, seed=1)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    change(opened, action, int(rows))

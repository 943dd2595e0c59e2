"""Peak memory of a search that streams a gallery from disk, by the gallery's size."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from match_data import DIM, unit_vectors

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array
from frpipe.gallery.search_view import SearchView
from frpipe.gallery.spec import GallerySpec
from frpipe.matching.topk import TopK

PROBES, K = 4096, 100
_BLOCK = 16_384
HASH = "0" * 64


def memory(rows: int) -> dict[str, Any]:
    """MB at the peak of a process that only searches, and of one that only imports the same."""
    with tempfile.TemporaryDirectory(prefix="frpipe-bench-") as folder:
        build(folder, rows)
        searched, idle = _child(folder), _child("")
    return {
        "gallery_mb": round(rows * DIM * 4 / 1e6),
        "probes": PROBES,
        "k": K,
        "peak_rss_mb": searched,
        "imports_rss_mb": idle,
    }


def build(folder: str, rows: int) -> Gallery:
    """A gallery of one template a person."""
    gallery = Gallery.create(folder, GallerySpec(DIM, HASH, HASH, HASH))
    lifecycle.enroll(gallery, _tables(rows))
    return gallery


def _tables(rows: int) -> Iterator[pa.Table]:
    for start in range(0, rows, _BLOCK):
        count = min(_BLOCK, rows - start)
        ids = [f"person-{row:08d}" for row in range(start, start + count)]
        vectors = vector_array(unit_vectors(count, seed=start + 1))
        yield pa.table({"subject_id": ids, "face_id": ids, "embedding": vectors})


def _child(folder: str) -> int:
    """In a process of its own, so that its peak is its own."""
    done = subprocess.run([sys.executable, __file__, folder], stdout=subprocess.PIPE, check=True)
    return int(done.stdout)


def _peak_mb() -> int:
    """Of this process since it began; what getrusage says may be of the one that it was forked from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1e3)


def _search(folder: str) -> None:
    found = TopK(unit_vectors(PROBES, seed=7), K)
    for subject_ids, vectors in SearchView(Gallery.open(folder).snapshot(), {}).blocks():
        found.add(subject_ids, vectors)
    found.result()


if __name__ == "__main__":
    if sys.argv[1]:
        _search(sys.argv[1])
    print(_peak_mb())

"""Memory of an export to HDF5 and of `frpipe gallery outliers`, by this code and by an earlier checkout.

    python benchmarks/gallery_memory.py [--people 10000 40000] [--calls export] [--before CHECKOUT]

Galleries of so many people, one template of 512 numbers each, 8,192 in a shard. This code must do within
`--bound-mb` of data (RLIMIT_DATA) on top of what the process has after its imports, or it ends with an error.
`peak_mb` is memory that belongs to the process alone (RssAnon and VmSwap, every 2 ms), on top of the same:
pages of mapped files are given back when others need them. On a busy machine a short peak may be missed.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from machine import machine

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.labels import examine
from frpipe.gallery.schema import vector_array
from frpipe.gallery.spec import GallerySpec
from frpipe.jobs.gallery_files import export

_DIM, _SHARD_ROWS = 512, 8192
_CALLS = ("export", "outliers")
_COLUMNS = ["subject_id", "face_id", "image_uri"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, nargs="+", default=[10_000, 40_000])
    parser.add_argument("--calls", nargs="+", choices=_CALLS, default=_CALLS)
    parser.add_argument("--bound-mb", type=int, default=96)
    parser.add_argument("--before", type=Path, help="a checkout of earlier code to compare with, unbounded")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--child", nargs=3, metavar=("CALL", "GALLERY", "MB"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        call, uri, bound = args.child
        print(json.dumps(_measured(call, uri, int(bound))))
        return 0
    found: dict[str, Any] = {"bench": "gallery_memory", "machine": machine(), "bound_mb": args.bound_mb}
    found["vectors_mb"] = {people: round(4 * _DIM * people / 1e6) for people in args.people}
    sides: dict[str, Path | None] = {"after": None} | ({"before": args.before} if args.before else {})
    for people in args.people:
        with tempfile.TemporaryDirectory(prefix="frpipe-bench-", dir=args.folder) as folder:
            uri = f"{folder}/gallery"
            lifecycle.enroll(Gallery.create(uri, _spec()), _tables(people))
            for side, code in sides.items():
                for call in args.calls:
                    told = _child(call, uri, 0 if code else args.bound_mb, code)
                    found.setdefault(side, {}).setdefault(call, {})[people] = told
                    print(f"{people:>9,} people, {side:<7} {call:<9} {told}", flush=True)
    print(json.dumps(found))
    return 0


def _child(call: str, uri: str, bound: int, code: Path | None) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", call, uri, str(bound)]
    threads = {"OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    environment = os.environ | threads | ({"PYTHONPATH": str(code)} if code else {})
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measured(call: str, uri: str, bound: int) -> dict[str, Any]:
    """Peak megabytes on top of the process after its imports, and CPU seconds. bound: megabytes; 0: none."""
    with tempfile.TemporaryDirectory(prefix="frpipe-bench-", dir=Path(uri).parent) as folder:
        warm = f"{folder}/warm"
        lifecycle.enroll(Gallery.create(warm, _spec()), _tables(50))
        _called(call, warm, folder)
        if bound:
            limit = (_status("VmData") << 10) + bound * 10**6
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        start, begin = _own_kb(), time.process_time()
        with _Peak() as peak:
            _called(call, uri, folder)
        grown = (peak.kb - start) / 1e3
        return {"peak_mb": round(grown), "cpu_s": round(time.process_time() - begin, 1)}


def _called(call: str, uri: str, folder: str) -> None:
    gallery = Gallery.open(uri)
    if call == "export":
        export(gallery, f"{folder}/export.hdf", "lecture")
        Path(f"{folder}/export.hdf").unlink()
    else:
        snapshot = gallery.snapshot()
        examine(lambda: snapshot.tables(_COLUMNS, vectors=True), _DIM, 0.4, force=True)


class _Peak:
    """Greatest memory of the process alone while its context is open, in kilobytes."""

    def __init__(self) -> None:
        self.kb = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.002):
            self.kb = max(self.kb, _own_kb())


def _own_kb() -> int:
    """Memory of this process alone, also what is swapped out."""
    return _status("RssAnon") + _status("VmSwap")


def _status(name: str) -> int:
    """Kilobytes that the kernel tells of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _tables(people: int) -> Iterator[pa.Table]:
    random = np.random.default_rng(people)
    for start in range(0, people, 4096):
        names = [f"person-{one:07d}" for one in range(start, min(start + 4096, people))]
        vectors = random.standard_normal((len(names), _DIM), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield pa.table(
            {
                "subject_id": names,
                "face_id": [f"{who}.jpg#0" for who in names],
                "image_uri": [f"/photos/{who}.jpg" for who in names],
                "embedding": vector_array(vectors),
                "Name": [f"Name {who}" for who in names],
            }
        )


def _spec() -> GallerySpec:
    return GallerySpec(_DIM, "0" * 64, "0" * 64, "0" * 64, rows_per_shard=_SHARD_ROWS)


if __name__ == "__main__":
    sys.exit(main())

"""Bytes that a job fetches of a gallery in an object store, with the cache of a node and without.

    python benchmarks/node_cache.py --store s3://bucket/prefix

Makes a gallery below the prefix, and finds its duplicates with 1, 2 and 4 worker processes of this machine.
Bytes are those of answers that the server has sent for shards, read-ahead included, counted by a proxy in
front of it (AWS_ENDPOINT_URL names the server) as multiples of the gallery. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import s3fs

from frpipe.core.config import ExecutorChoice
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array
from frpipe.gallery.spec import GallerySpec
from frpipe.jobs.dedup.job import Dedup, DedupExecution
from frpipe.jobs.node_cache import NodeCache
from frpipe.runtime.allocation import Node
from frpipe.runtime.executor import Executor
from frpipe.runtime.local import LocalExecutor
from frpipe.runtime.runtime import Runtime

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from proxy import proxied

_WORKERS = (1, 2, 4)


@dataclass(frozen=True)
class Processes(Runtime):
    """Worker processes of this machine, however many CPUs it has."""

    choice: ExecutorChoice = "local"
    cpus: int = 1

    @contextmanager
    def open(self, *, small: bool) -> Iterator[Executor]:
        yield LocalExecutor(self.nodes(small=small))

    def nodes(self, *, small: bool) -> list[Node]:
        return [Node(self.cpus)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", required=True, metavar="URI")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--rows", type=int, default=2000, help="of a shard")
    parser.add_argument("--dim", type=int, default=128)
    options = parser.parse_args()
    gallery = _made(options)
    size = sum(ref.bytes for ref in gallery.snapshot().version.shards)
    found = {}
    with tempfile.TemporaryDirectory() as place, _counted() as proxy:
        for cache_mb in (0, size * 5 // 8 >> 20, 32_768):
            for workers in _WORKERS:
                proxy.sent.clear()
                execution = DedupExecution(None, "fp32", options.rows, cache=NodeCache(cache_mb, place))
                runtime, out = Processes(cpus=workers), f"{place}/{cache_mb}-{workers}"
                Dedup(out, gallery=gallery.uri, threshold=0.9, execution=execution, runtime=runtime).run()
                ratio = sum(count for path, count in proxy.sent.items() if "/shards/" in path) / size
                found[f"{cache_mb} MB, {workers} workers"] = round(ratio, 2)
                print(f"cache {cache_mb:>6,} MB  {workers} workers  {ratio:6.2f} x the gallery", flush=True)
    print(json.dumps({"gallery_mb": round(size / 1e6, 1), "fetched": found}))


def _made(options: argparse.Namespace) -> Gallery:
    gallery = Gallery.create(
        f"{options.store}/gallery-{os.getpid()}",
        GallerySpec(options.dim, "e" * 64, "p" * 64, "d" * 64, rows_per_shard=options.rows),
    )
    count = options.shards * options.rows
    vectors = np.random.default_rng(0).standard_normal((count, options.dim), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"p{number:07d}" for number in range(count)]
    rows = {"subject_id": ids, "face_id": ids, "embedding": vector_array(vectors)}
    lifecycle.enroll(gallery, [pa.table(rows)])
    return gallery


@contextmanager
def _counted() -> Iterator[Any]:
    """Have this process, and those that it forks, go through a proxy that counts what the server sends."""
    with proxied(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint
        s3fs.S3FileSystem.clear_instance_cache()
        yield proxy


if __name__ == "__main__":
    main()

"""Run the dedup job, in this process or as a user does, and read what it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cluster import Cluster
from enrollment import ROOT

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array
from frpipe.gallery.spec import GallerySpec
from frpipe.jobs.dedup.job import Dedup, DedupExecution
from frpipe.runtime.runtime import Runtime
from frpipe.testing.executors import InThisProcess

DIM = 32
THRESHOLD = 0.8
KEYS = ["subject_a", "face_a", "subject_b", "face_b"]


def unit_vectors(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, DIM), dtype=np.float32)
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def templates_of(names: list[str], vectors: np.ndarray) -> pa.Table:
    rng = np.random.default_rng(len(names))
    columns = {
        "subject_id": names,
        "face_id": [f"{name}#0" for name in names],
        "image_uri": [f"/nowhere/{n}.jpg" for n in range(len(names))],
        "quality": pa.array(rng.random(len(names)).round(1), pa.float32()),
        "embedding": vector_array(vectors),
    }
    return pa.table(columns)


def people_of(first: int, count: int, seed: int) -> pa.Table:
    """People of whom each is much like one of twenty in three, and a stranger otherwise."""
    rng = np.random.default_rng(seed)
    noise = 0.07 * rng.standard_normal((count, DIM), dtype=np.float32)
    near = unit_vectors(20, 0)[rng.integers(0, 20, count)] + noise
    vectors = np.where(rng.random((count, 1)) < 0.3, near, unit_vectors(count, seed)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return templates_of([f"p{number:04d}" for number in range(first, first + count)], vectors)


def make_gallery(uri: Path, tables: list[pa.Table]) -> Gallery:
    spec = GallerySpec(DIM, "e" * 64, "p" * 64, "d" * 64, rows_per_shard=25)
    gallery = Gallery.create(str(uri), spec)
    for table in tables:
        lifecycle.enroll(gallery, [table], "append")
    return gallery


def dedup_job(cluster: Cluster, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "jobs/dedup.py", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "RAY_ADDRESS": cluster.address},
    )


def command_words(gallery: object, output: Path) -> list[object]:
    return ["--gallery", gallery, "--output", output, "--threshold", THRESHOLD, "--block-rows", 25]


def dedup(
    output: Path,
    gallery: object,
    threshold: float = THRESHOLD,
    cluster: Cluster | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """The report of the job; without a cluster, of all its work in this process."""
    runtime = Runtime(cluster.address) if cluster else InThisProcess()
    settings |= {"execution": DedupExecution(block_rows=25), "runtime": runtime}
    return Dedup(str(output), gallery=str(gallery), threshold=threshold, **settings).run().as_dict()


def read_pairs(result: Path) -> pa.Table:
    return pq.read_table(result / "pairs").sort_by([(name, "ascending") for name in KEYS]).combine_chunks()


def read_clusters(result: Path) -> pa.Table:
    return pq.read_table(result / "clusters.parquet").combine_chunks().replace_schema_metadata(None)


def members_of(clusters: pa.Table) -> dict[str, set[str]]:
    members: dict[str, set[str]] = {}
    for row in clusters.to_pylist():
        members.setdefault(row["cluster_id"], set()).add(row["subject_id"])
    return members


def partition_of(clusters: pa.Table) -> set[frozenset[str]]:
    return {frozenset(some) for some in members_of(clusters).values()}

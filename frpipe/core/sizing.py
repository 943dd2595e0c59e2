"""Memory, object store and disk of a cluster, from the number of photos.

`python benchmarks/sizing.py --record` measures again what the constants are made of;
`tests/unit/test_sizing.py` holds the formulas to what it wrote.
"""

from __future__ import annotations

from dataclasses import dataclass

_FLOAT = 4
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Constants:
    """Sizes in bytes of one unit of each thing that takes memory.

    services:            processes of an idle head, its object store aside
    enroll_base:         driver of enroll, without a row
    enroll_photo:        for each row of its manifest
    consolidate_base:    consolidate, without a row
    consolidate_photo:   for each photo that the run speaks of
    bucket_rows:         rows that are sorted at once, as many as a shard has
    bucket_vectors:      copies of their vectors at the peak
    spill_row:           texts of a template put aside
    worker_cpu:          a CPU's share of enroll: docs/benchmarks.md
    alone:               a photo that is tried alone (resources.row_memory_mb)
    face:                a face on its way from pool to pool
    logs:                Ray's logs of a day
    """

    services: int = 1_030_000_000
    enroll_base: int = 228_000_000
    enroll_photo: int = 270
    consolidate_base: int = 220_000_000
    consolidate_photo: int = 50
    bucket_rows: int = 65_536
    bucket_vectors: float = 4.5
    spill_row: int = 120
    worker_cpu: int = 1_300_000_000
    alone: int = 4 * _GIB
    face: int = 37_000
    logs: int = 2 * _GIB


CONSTANTS = Constants()
# Of what is computed: others' photos have longer names, and allocators keep some back.
_HEADROOM = 1.25
_HEAD_STORE, _LEAST_WORKER_STORE = 1_000_000_000, 2_000_000_000
# Two parts for each actor: one that it works on, and one that waits.
_PARTS = 2


@dataclass(frozen=True, slots=True)
class ClusterSize:
    """Sizes of the pods, in bytes.  *_object_store: part of its memory.  spill: part of the head's /tmp."""

    head_memory: int
    head_object_store: int
    head_tmp: int
    enroll_driver: int
    consolidate_driver: int
    spill: int
    worker_memory: int
    worker_object_store: int
    worker_tmp: int


def enroll_bytes(photos: int, constants: Constants = CONSTANTS) -> int:
    """Peak memory of the driver of enroll, in bytes."""
    return constants.enroll_base + constants.enroll_photo * photos


def consolidate_bytes(photos: int, templates: int, dim: int, constants: Constants = CONSTANTS) -> int:
    """Peak memory of consolidate, in bytes."""
    bucket = min(templates, constants.bucket_rows)
    vectors = constants.bucket_vectors * bucket * dim * _FLOAT
    return round(constants.consolidate_base + constants.consolidate_photo * photos + vectors)


def spill_bytes(templates: int, dim: int, constants: Constants = CONSTANTS) -> int:
    """Bytes that consolidate puts aside in TMPDIR until its commit."""
    return templates * (constants.spill_row + dim * _FLOAT)


def cluster_size(
    photos: int,
    *,
    faces: float = 1.0,
    dim: int = 512,
    cpus: int = 15,
    actors: int = 1,
    part_rows: int = 1024,
    constants: Constants = CONSTANTS,
) -> ClusterSize:
    """Size the pods of a cluster for manifests of this many photos.

    faces: of a photo, in the mean.  cpus, actors: of a worker pod.
    """
    templates = max(1, round(photos * faces))
    enroll = enroll_bytes(photos, constants)
    consolidate = consolidate_bytes(photos, templates, dim, constants)
    spill = spill_bytes(templates, dim, constants)
    store = max(_LEAST_WORKER_STORE, round(_PARTS * actors * part_rows * faces * constants.face))
    return ClusterSize(
        head_memory=round(_HEADROOM * (constants.services + max(enroll, consolidate))) + _HEAD_STORE,
        head_object_store=_HEAD_STORE,
        head_tmp=round(_HEADROOM * spill) + constants.logs + _HEAD_STORE,
        enroll_driver=enroll,
        consolidate_driver=consolidate,
        spill=spill,
        worker_memory=cpus * constants.worker_cpu + constants.alone + store,
        worker_object_store=store,
        worker_tmp=constants.logs + 2 * store,
    )

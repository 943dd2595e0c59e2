"""Memory, object store and disk of a cluster, from the number of photos.

Memory is that of a process at its peak, by what it holds: of each photo, of each template, and of the rows
that it sorts or writes at once. `python benchmarks/sizing.py --record` measures it, and
`tests/unit/test_sizing.py` holds the formulas to sizes that no constant was taken from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

_FLOAT, _DOUBLE = 4, 8
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Constants:
    """Sizes in bytes of one unit of each thing that takes memory.

    services:        processes of an idle head, its object store aside
    process:         consolidate, without a row
    forked:          what a forked worker writes of the pages that it shares with its job
    enroll_process:  driver of enroll, without a row
    enroll_photo:    for each row of its manifest
    photo:           hashes of a photo's id and place, and again while they are sorted
    template:        hash and place in its shard
    texts:           of a template: ids, address, times
    spill_row:       the same in a temporary file
    part_row:        of a row of an enroll output, its vector aside
    reader:          a thread that reads parts
    examined:        scores of new faces against other people's, and what is left of them
    worker_cpu:      a CPU's share of enroll: docs/benchmarks.md
    alone:           a photo that is tried alone (resources.row_memory_mb)
    face:            a face on its way from pool to pool
    logs:            Ray's logs of a day
    """

    services: int = 1_030_000_000
    process: int = 205_000_000
    forked: int = 15_000_000
    enroll_process: int = 228_000_000
    enroll_photo: int = 270
    photo: int = 24
    template: int = 24
    texts: int = 125
    spill_row: int = 120
    part_row: int = 700
    reader: int = 12_000_000
    examined: int = 84_000_000
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
# Parts that consolidate reads ahead, and times that it holds one: as a file, as a table, and what is chosen.
_AHEAD, _FORMS_OF_PART = 4, 2.5
# Rows that are reduced by person at once, and copies of their vectors that a mean takes: in float64, twice.
_GROUPED_ROWS, _MEAN = 32_768, 4
# As `frpipe.gallery.likeness`: beyond so many operations new faces are compared with nobody else.
_MOST_OPERATIONS = 2 * 10**12
# New faces that are compared at once.
_COMPARED = 2048
# Copies of a shard while it is sent: its image, and what it is encrypted to, twice for a moment.
_IMAGES: dict[str, int] = {"memory": 1, "encrypted": 3}
# As `frpipe.gallery.shard_writer`: shards that are sent, or wait for it, at once.
_SENT = 3

Reduced = Literal["no", "chosen", "mean"]
Image = Literal["file", "memory", "encrypted"]


@dataclass(frozen=True, slots=True)
class GalleryLoad:
    """Templates of a run that go into a gallery at once, and how.

    faces: that are read; None: as many as templates.  part_faces: of the largest part.  shard_rows: of the
    gallery.  stored: bytes of a number there.  reduced: whether a person's faces become fewer templates: one
    of them, or a mean.  examined: whether new faces are compared with others (`Likeness`).  image: where a
    shard is made: in a file of this machine, or in memory, for a store or to be encrypted.  there: templates
    of the gallery.
    """

    photos: int
    templates: int
    dim: int
    faces: int | None = None
    part_faces: int = 1024
    shard_rows: int = 65_536
    stored: int = _FLOAT
    reduced: Reduced = "no"
    examined: bool = True
    image: Image = "file"
    there: int = 0

    @property
    def read(self) -> int:
        """The number of faces that are read."""
        return self.templates if self.faces is None else self.faces

    @property
    def bucket(self) -> int:
        """Templates that are sorted and written at once."""
        return min(self.templates, self.shard_rows)


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
    return constants.enroll_process + constants.enroll_photo * photos


def consolidate_bytes(load: GalleryLoad, constants: Constants = CONSTANTS) -> int:
    """Peak memory of consolidate, in bytes: of the step that takes most."""
    held = constants.photo * load.photos + constants.template * load.templates
    base = constants.process + reading_bytes(load.read, load.part_faces, load.dim, constants) + held
    given, stored = load.bucket * load.dim * _FLOAT, load.bucket * load.dim * load.stored
    texts, kept = load.bucket * constants.texts, _examined(load)
    # A bucket that was put aside at once is copied twice when it is taken from its file.
    twice = 1 + min(1.0, load.shard_rows / max(1, load.templates))
    sent = _images(load) * (stored + texts)
    steps = [
        2 * (constants.photo * load.photos + constants.template * load.templates),
        _reduction(load, constants) + 3 * texts,
        stored + 2 * texts + twice * stored + kept,
        stored + 2 * texts + sent + kept,
    ]
    if load.examined:
        steps.append(stored + texts + 2 * given + max(0, kept - given))
    if kept and kept >= load.templates * load.dim * _FLOAT:
        # All of them fit: they are put together, and compared.
        share = min(1.0, load.templates / _COMPARED)
        steps.append(stored + texts + 2 * kept + share * constants.examined)
    return round(base + max(steps))


def reading_bytes(faces: int, part_faces: int, dim: int, constants: Constants = CONSTANTS) -> int:
    """Memory of parts of an enroll output: those that threads read ahead, and the one in use."""
    parts = math.ceil(faces / max(1, part_faces))
    part = min(faces, part_faces) * (dim * _FLOAT + constants.part_row)
    threads = min(_AHEAD, parts) * constants.reader
    return round(threads + min(_AHEAD + 1, parts) * _FORMS_OF_PART * part)


def _reduction(load: GalleryLoad, constants: Constants) -> float:
    """Templates that wait to be put aside, and what it takes to make them of a person's faces together."""
    waiting = load.bucket * load.dim * _FLOAT
    if load.reduced == "no":
        return waiting
    rows = min(load.read, _GROUPED_ROWS)
    vectors = rows * load.dim * _FLOAT
    # Mapped from their file, taken from it, and in the order of people; before them, templates of others.
    made = 3 * vectors + 3 * rows * constants.texts + (_MEAN * vectors if load.reduced == "mean" else 0)
    return made + waiting * (1 - rows / max(1, load.read))


def _images(load: GalleryLoad) -> int:
    """Copies of a shard that are in memory: of the one that is sent, and images of those that wait for it."""
    waiting = min(_SENT, math.ceil(load.templates / load.shard_rows)) - 1
    return 0 if load.image == "file" else _IMAGES[load.image] + max(0, waiting)


def _examined(load: GalleryLoad) -> float:
    """New faces that are kept to be compared with everybody, as long as they are not too many for that."""
    most = max(1, load.templates + load.there)
    rows = min(load.templates, _MOST_OPERATIONS / (2 * load.dim * most))
    return rows * load.dim * _FLOAT if load.examined else 0.0


def spill_bytes(load: GalleryLoad, constants: Constants = CONSTANTS) -> int:
    """Bytes that consolidate puts aside in TMPDIR until its commit."""
    own = load.templates * (constants.spill_row + load.dim * load.stored)
    if load.reduced == "no":
        return own
    # Faces are put aside by person first, until all but the last templates are.
    last = load.templates % load.shard_rows if load.templates > load.shard_rows else load.templates
    first = load.read * (constants.spill_row + load.dim * _FLOAT)
    return max(own, first + own - own * last // max(1, load.templates))


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
    """Size the pods of a cluster for manifests of this many photos, and a gallery in an object store.

    faces: of a photo, in the mean.  cpus, actors: of a worker pod.
    """
    templates = max(1, round(photos * faces))
    enroll = enroll_bytes(photos, constants)
    part_faces = max(1, round(part_rows * faces))
    load = GalleryLoad(photos, templates, dim, part_faces=part_faces, image="memory")
    consolidate = consolidate_bytes(load, constants)
    spill = spill_bytes(load, constants)
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

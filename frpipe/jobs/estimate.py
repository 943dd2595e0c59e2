"""Estimate, for its dry run, what a job will take: measured here, on a little of the work."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from frpipe.core.counted import counted
from frpipe.core.errors import FrpipeError
from frpipe.core.pulse import clock
from frpipe.io.output import run
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.matching.choice import Choice
from frpipe.runtime.allocation import Pool
from frpipe.runtime.executor import Maker, Step
from frpipe.runtime.local import LocalExecutor

_BLOCK = 2048
_SAMPLE_BYTES, _SAMPLE_PHOTOS, _PATIENCE_S = 256, 4, 60.0
WORKER_MB = 250.0
"""Memory of a process before it holds any data: the interpreter and its libraries."""
# Of a forked worker, which shares all other pages with the job: what it writes of them.
_FORKED_MB = 15.0
# Of the job's own process, with the sample on which it chooses a kernel.
_JOB_MB = 285.0
# An exact search does more than multiply: it finds what may matter, and computes that once more in float64.
_SHARE_OF_PRODUCTS = 0.85
# A job also plans, starts workers and publishes. The start of Ray comes on top (docs/benchmarks.md).
_BESIDE_S = 0.5
_TURNS = 3


SCALES = (1, 8, 64)
"""Numbers of workers that an estimate is made for, whatever there are."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The estimate for a number of workers, each with a CPU, on one node.

    memory_mb: of them all and of the job's own process, pages that they share counted once.
    """

    workers: int
    seconds: float | None
    memory_mb: float
    read_bytes: int

    def text(self) -> str:
        """The estimate for people."""
        took = "time not known here" if self.seconds is None else f"about {clock(self.seconds)}"
        return (
            f"{counted(self.workers, 'workers')}: {took}, {self.memory_mb / 1000:,.1f} GB of memory, "
            f"{self.read_bytes / 1e6:,.1f} MB read"
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimate of a job. None: not known here.

    seconds: with all workers at work.  memory_mb: of one worker, beside what it shares with others.
    read_bytes: from the storage, by all.
    basis: what the time was measured on.  scales: with other numbers of workers, if they were on one node.
    """

    seconds: float | None = None
    memory_mb: float | None = None
    read_bytes: int | None = None
    basis: str = ""
    scales: tuple[Scale, ...] = ()

    def lines(self) -> list[str]:
        """The estimate for people."""
        return [self.line(), *(f"           {scale.text()}" for scale in self.scales)]

    def line(self) -> str:
        """The estimate for people, in a line of a dry run."""
        took = "time not known here" if self.seconds is None else f"about {clock(self.seconds)}"
        memory = (
            "" if self.memory_mb is None else f", {self.memory_mb / 1000:,.1f} GB of memory for each worker"
        )
        read = "" if self.read_bytes is None else f", {self.read_bytes / 1e6:,.1f} MB read"
        return f"estimate   {took}{memory}{read}{f' ({self.basis})' if self.basis else ''}"

    def as_dict(self) -> dict[str, Any]:
        """The estimate for programs."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Comparing:
    """A job that compares vectors of `dim` numbers.

    By the number of workers: tickets, that can be done at once, of about one size; held_mb, memory of a
    worker beside its libraries; read, bytes; driver_s, of what the driver does alone; mapped_mb, of files
    that all map, where they lie on one node.

    forked: whether workers are forked from this process, and share its pages.
    """

    pairs: int
    dim: int
    tickets: Callable[[int], int]
    held_mb: Callable[[int], float]
    read: Callable[[int], int]
    driver_s: Callable[[int], float] = lambda _: 0.0
    mapped_mb: Callable[[int], float] = lambda _: 0.0
    forked: bool = False

    def estimate(self, workers: int, kernel: Choice) -> Estimate:
        """Estimate the work.

        kernel: its trial, if there was one; else only the speed of float32 is measured.
        """
        if kernel.ns is not None:
            return self.at(workers, kernel.ns, "measured on a sample")
        if kernel.name == "fp32":
            return self.at(workers, product_ns(self.dim), "measured on one product of matrices")
        return self.at(workers, None, "")

    def at(self, workers: int, ns: float | None, basis: str) -> Estimate:
        """Estimate the work by a measured time. ns: of a comparison, by one worker."""
        scales = tuple(self.scale(some, ns) for some in SCALES)
        own = self.scale(max(1, workers), ns)
        return Estimate(own.seconds, self._worker_mb(max(1, workers)), own.read_bytes, basis, scales)

    def _worker_mb(self, workers: int) -> float:
        return (_FORKED_MB if self.forked else WORKER_MB) + self.held_mb(workers)

    def scale(self, workers: int, ns: float | None) -> Scale:
        """Estimate the work of so many workers on one node. ns: as of `at`."""
        tickets = max(1, self.tickets(workers))
        # The last of them are at work while others have nothing to do.
        turns = math.ceil(tickets / workers) / tickets
        beside = _BESIDE_S + self.driver_s(workers)
        seconds = None if ns is None else beside + self.pairs * ns / 1e9 * turns
        at_work = min(workers, tickets)
        memory = _JOB_MB + at_work * self._worker_mb(workers) + self.mapped_mb(at_work)
        return Scale(workers, seconds, memory, self.read(at_work))


def enrolling(locations: Sequence[str], rows: int, workers: int, make: Maker, memory_mb: float) -> Estimate:
    """Estimate a job that enrolls photos.

    locations: some of them, whose size stands for all.  make: makes what takes a table of `photos`, and
    returns one of `seconds`; it is tried on a few, where they lie on this machine.
    """
    paths = [Path(uris.split(each)[1]) for each in locations if uris.is_local(each)]
    local, memory_mb = [path for path in paths if path.is_file()], WORKER_MB + memory_mb
    if not local:
        return Estimate(memory_mb=memory_mb)
    some = local[:: max(1, len(local) // _SAMPLE_BYTES)]
    read = int(rows * sum(path.stat().st_size for path in some) / len(some))
    few = [str(path) for path in local[:: max(1, len(local) // _SAMPLE_PHOTOS)][:_SAMPLE_PHOTOS]]
    step = Step("estimate", Pool("estimate", 1, 1.0, 0.0, "cpu"), make)
    try:
        # In a process of its own: a photo may kill it.
        (found,) = LocalExecutor().stream([{"photos": few}], [step], stall_timeout_s=_PATIENCE_S)
    except FrpipeError:
        return Estimate(memory_mb=memory_mb, read_bytes=read)
    seconds = found["seconds"] * rows / max(1, workers)
    return Estimate(seconds, memory_mb, read, f"measured on {counted(len(few), 'photos')}")


def bytes_below(out: Folder, sub: str) -> int:
    """Count the bytes of the files of a finished run below a folder."""
    return sum(file.bytes for file in run.file_list(out) if file.name.startswith(f"{sub}/"))


def product_ns(dim: int) -> float:
    """Measure the nanoseconds of a comparison in float32, by one worker: on one product of matrices."""
    return 1e9 / (_products_per_s(dim) * _SHARE_OF_PRODUCTS)


def _products_per_s(dim: int) -> float:
    """Measure how many inner products one CPU computes in a second, whatever else the machine does."""
    block, least = np.random.default_rng(0).standard_normal((_BLOCK, dim), np.float32), float("inf")
    with threadpool_limits(1):
        for _ in range(_TURNS):
            start = time.thread_time()
            _ = block @ block.T
            least = min(least, time.thread_time() - start)
    return _BLOCK * _BLOCK / max(least, 1e-9)

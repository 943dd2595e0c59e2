"""Room for a consolidation: how much disk a pass may take, and how many passes are at work at once."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from frpipe.gallery.external_sort import SPARE_BYTES
from frpipe.runtime.allocation import Node, Pool, allocate_one
from frpipe.runtime.executor import Executor

# Of the disk of temporary files, where nothing else is said.
_SHARE = 0.8
MOST_WORKERS = 8
"""Passes at once, where nothing else is said: each of them reads all parts, and a store answers them all."""
_LEAST = 2


@dataclass(frozen=True, slots=True)
class PassPlan:
    """The passes of a consolidation.

    workers: passes at once; 1: in the process of the job.  scratch_bytes: that a pass puts aside at most, as
    far as can be told before.  limit_bytes: of all passes on one machine together.  memory_bytes: of a worker
    about.
    """

    passes: int
    workers: int
    scratch_bytes: int
    limit_bytes: int
    memory_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The plan for programs."""
        return asdict(self)

    def line(self) -> str:
        """The line for people."""
        how = f", {self.workers} at once" if self.workers > 1 else ", one after the other"
        limit = f"at most {_gb(self.limit_bytes)} on a machine"
        if self.scratch_bytes > self.limit_bytes:
            limit = f"more than the limit, {_gb(self.limit_bytes)}: a shard, or a person, is not cut"
        return (
            f"{self.passes:,}{f'{how}, each' if self.passes > 1 else ','} with up to "
            f"{_gb(self.scratch_bytes)} of temporary files ({limit}) "
            f"and about {_gb(self.memory_bytes)} of memory"
        )


def default_limit() -> int:
    """Four fifths of what is free on the disk of temporary files, less where a sort must leave more free."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return max(0, min(int(_SHARE * free), free - SPARE_BYTES))


@dataclass(slots=True)
class Room:
    """Room for passes. limit: bytes of temporary files on one machine.  executor: None: this process.

    pass_bytes: what a pass may put aside, where so many are at work on a machine at once.  forked: whether
    workers share the pages of this process.
    """

    limit: int
    workers: int = 1
    pass_bytes: int = 0
    executor: Executor | None = None
    pool: Pool | None = None
    forked: bool = False

    @classmethod
    def alone(cls, limit: int) -> Room:
        """Room for one pass after the other."""
        return cls(limit, 1, limit)

    @classmethod
    def spread(cls, limit: int, most: int, nodes: Sequence[Node], executor: Executor | None) -> Room | None:
        """Room on the machines of an executor; None: they hold one worker or none.

        most: of them; no more than the machines have CPUs for, as the gallery is the same with fewer.
        """
        count = min(sum(math.floor(node.cpus) for node in nodes), most)
        if count < _LEAST:
            return None
        pool = allocate_one("consolidate", count, nodes)
        return cls(limit, count, limit // _most_on_one(count, nodes), executor, pool)


def _most_on_one(workers: int, nodes: Sequence[Node]) -> int:
    """How many of so many workers one machine has, where they are dealt evenly and each machine has room."""
    most, room = 0, [math.floor(node.cpus) for node in nodes]
    while most < workers and sum(min(most, each) for each in room) < workers:
        most += 1
    return most


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 50_000_000 else f"{size / 1e6:,.1f} MB"

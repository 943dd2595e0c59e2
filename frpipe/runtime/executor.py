"""Executors: where the units of a job are worked on, on a Ray cluster or on this machine alone.

A job hands over tickets, one for each unit, and the steps that each ticket passes; it gets the rows that come
out, in the order in which they are done. The rows do not depend on the executor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from frpipe.runtime.allocation import Node, Pool
from frpipe.runtime.host import Host

Work = Callable[[pa.Table], pa.Table]
"""The work on a table of one row: a ticket, or what the step before made of it."""
Maker = Callable[[Host], Work]
"""Makes a worker's `Work` in the process where it will run; can be pickled."""
Look = Callable[[], Mapping[int, Mapping[str, int]]]
"""Returns what workers have in hand: counts by status, for each part."""
Watch = Callable[[Look], None]
Read = Callable[[], bytes]

STALL_TIMEOUT_S = 7200.0


@dataclass(frozen=True, slots=True)
class Step:
    """A pool of equal workers. name: of the pool, in messages and on Ray's dashboard."""

    name: str
    pool: Pool
    make: Maker


class Executor(ABC):
    """A place where units are worked on."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def nodes(self) -> Sequence[Node]:
        """The machines, and what each offers."""

    @abstractmethod
    def stream(
        self,
        tickets: Sequence[Mapping[str, Any]],
        steps: Sequence[Step],
        *,
        stall_timeout_s: float | None = STALL_TIMEOUT_S,
        watch: Watch | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Have each ticket pass all steps; yield the rows of the last, in the order in which they are done.

        A worker that dies is replaced, and its ticket is done again. To close the iterator ends the workers.

        stall_timeout_s: None waits for ever.  watch: is given what to call, meanwhile and in any thread, to
        see what the workers have in hand.
        Raises the FrpipeError of a worker; ClusterError where there is no progress for `stall_timeout_s`.
        """

    def everywhere(self, call: Callable[[], None]) -> None:
        """Call something in this process and in one of each node, such as to tidy up: it need not happen.

        It can be pickled. Here alone, where workers are of this process.
        """
        call()

    @abstractmethod
    def share(self, read: Read) -> Read:
        """Share bytes: a function that gives workers, wherever they are, what `read` gives here.

        Can be pickled.
        """

"""An executor for tests: the steps of a job one after the other in this very process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from frpipe.runtime.allocation import Node
from frpipe.runtime.executor import STALL_TIMEOUT_S, Executor, Read, Step, Watch
from frpipe.runtime.host import ALONE
from frpipe.runtime.runtime import Runtime


class SameProcess(Executor):
    """An executor of two CPUs, of which one works: what is patched here, workers see."""

    name: ClassVar[str] = "same process"

    @property
    def nodes(self) -> Sequence[Node]:
        return [Node(2.0)]

    def stream(
        self,
        tickets: Sequence[Mapping[str, Any]],
        steps: Sequence[Step],
        *,
        stall_timeout_s: float | None = STALL_TIMEOUT_S,
        watch: Watch | None = None,
    ) -> Iterator[dict[str, Any]]:
        works = [step.make(ALONE) for step in steps]
        for ticket in tickets:
            table = pa.Table.from_pylist([dict(ticket)])
            for work in works:
                table = work(table)
            yield from table.to_pylist()

    def share(self, read: Read) -> Read:
        return read


@dataclass(frozen=True)
class InThisProcess(Runtime):
    """A runtime whose jobs stay in this process, whatever their size."""

    @contextmanager
    def open(self, *, small: bool) -> Iterator[Executor]:
        yield SameProcess()

    def nodes(self, *, small: bool) -> Sequence[Node]:
        return SameProcess().nodes

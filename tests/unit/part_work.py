"""Parts of an enroll output that a test publishes itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from frpipe.io.output.plan import ManifestPlan
from frpipe.io.storage.folder import Folder
from frpipe.jobs.enroll.audit import PartWork
from frpipe.runtime.executor import Executor


@dataclass
class PartsOf(PartWork):
    """publish: does some parts; returns how many rows they hold."""

    plan: ManifestPlan
    publish: Callable[[Sequence[int]], int]
    stall_timeout_s: float | None = None

    @property
    def cut(self) -> ManifestPlan:
        return self.plan

    def do(self, out: Folder, parts: Sequence[int], executor: Executor) -> int:
        return self.publish(parts)

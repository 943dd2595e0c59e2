"""Choose an executor, open it, and end what was started here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from frpipe.core.config import ExecutorChoice
from frpipe.core.errors import ConfigError
from frpipe.runtime.allocation import Node
from frpipe.runtime.executor import Executor
from frpipe.runtime.local import LocalExecutor

if TYPE_CHECKING:
    from frpipe.runtime.ray_executor import RayExecutor

LOCAL_PHOTOS = 200
"""Up to so many photos `auto` works without Ray."""
LOCAL_COMPARISONS = 2_000_000_000
"""Up to so many pairs of vectors `auto` compares without Ray."""


def _silent(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Runtime:
    """The choice of an executor for the units of jobs.

    address: of a Ray cluster; None takes RAY_ADDRESS, and without it a private Ray where one is needed.
    choice: `auto` works without Ray where there is little to do and no cluster is named.
    opened: told the nodes of each executor that is opened.
    """

    address: str | None = None
    choice: ExecutorChoice = "auto"
    say: Callable[[str], None] = _silent
    opened: Callable[[Sequence[Node]], None] = field(default=lambda _: None)
    _kept: list[ExitStack] = field(default_factory=list)

    def choosing(self, choice: ExecutorChoice) -> Self:
        """Make another choice where it was left open."""
        return self if self.choice != "auto" else replace(self, choice=choice)

    def is_local(self, *, small: bool) -> bool:
        """Whether Ray is not needed. small: whether there is little to do."""
        if self.choice == "auto":
            return small and not self._has_cluster()
        if self.choice == "local" and self.address not in (None, "", "local"):
            raise ConfigError(
                f"the cluster at {self.address} is named, and the executor is local",
                "leave --address out, or take --executor ray",
            )
        return self.choice == "local"

    @contextmanager
    def open(self, *, small: bool) -> Iterator[Executor]:
        """Open an executor for so much work.

        Raises PlanError where no cluster answers, ClusterError where it fails meanwhile.
        """
        if self.is_local(small=small):
            executor: Executor = LocalExecutor()
            self.opened(executor.nodes)
            yield executor
        elif self._kept:
            yield self._kept[-1].enter_context(self._ray())
        else:
            with self._ray() as found:
                yield found

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep a Ray that is opened meanwhile until the end: for jobs that follow each other."""
        if self._kept:
            yield
            return
        with ExitStack() as stack:
            self._kept.append(stack)
            try:
                yield
            finally:
                self._kept.pop()

    def nodes(self, *, small: bool) -> Sequence[Node]:
        """The machines that `open` would offer. Nothing is started; a cluster that is named is asked."""
        if self.is_local(small=small) or not self._has_cluster():
            return LocalExecutor().nodes
        with self._ray() as found:
            return found.nodes

    def described(self, *, small: bool) -> str:
        """Describe for people which executor is chosen, and why."""
        if self.choice != "auto":
            return f"{self.choice}, as asked for"
        if self.is_local(small=small):
            return "local: little to do, and no cluster is named"
        return "ray: a cluster is named" if self._has_cluster() else "ray: a private one, on this machine"

    def _has_cluster(self) -> bool:
        """Whether a Ray is named, or joined already."""
        ray = sys.modules.get("ray")
        joined = ray is not None and bool(getattr(ray, "is_initialized", bool)())
        named = self.address or os.environ.get("RAY_ADDRESS")
        return joined or in_submitted_job() or named not in (None, "", "local")

    @contextmanager
    def _ray(self) -> Iterator[RayExecutor]:
        from frpipe.runtime.ray_executor import RayExecutor  # noqa: PLC0415 - Ray takes seconds
        from frpipe.runtime.session import cluster  # noqa: PLC0415

        with cluster(self.address, self.say) as nodes:
            self.opened(nodes)
            yield RayExecutor(nodes)


def in_submitted_job() -> bool:
    """Whether this process is the driver of `ray job submit`, which runs it in a folder of its own."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ

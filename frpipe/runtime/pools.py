"""Pools of Ray actors: tables of one row in, tables of one row out. See ADR 1 for why of one row."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray.data
from ray.data.exceptions import ExecutionTimeoutError

from frpipe.core.errors import ClusterError
from frpipe.runtime.allocation import Pool
from frpipe.runtime.failure import EXPECTED, FAILURE, failure, revive

_IN_FLIGHT_PER_ACTOR = 2
# How Ray's report of a stall names an operator: `- MapBatches(Embed): 2 active task(s), 0 finished, ...`.
_STALLED = re.compile(r"- MapBatches\((\w+)\): (\d+) active task\(s\), (\d+) finished")

Work = Callable[[pa.Table], pa.Table]


class Worker:
    """A worker in an actor. An error of ours becomes a row: Ray would hand the driver its text alone.

    A subclass says how it is made, and its name is what Ray's dashboard shows.
    """

    def __init__(self, *arguments: Any) -> None:
        self._failure: pa.Table | None = None
        try:
            self._work = self.make(*arguments)
        except EXPECTED as error:
            self._failure = failure(error)

    def make(self, *arguments: Any) -> Work:
        """What is done with each table."""
        raise NotImplementedError

    def __call__(self, table: pa.Table) -> pa.Table:
        if FAILURE in table.column_names:
            return table
        if self._failure is not None:
            return self._failure
        try:
            return self._work(table)
        except EXPECTED as error:
            return failure(error)


def flow_of(tickets: Sequence[dict[str, Any]], stall_timeout_s: float | None = 7200.0) -> Any:
    """A dataset of one block a ticket.

    stall_timeout_s: where nothing moves for so long, `rows_of` raises ClusterError; None waits for ever.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = 0
    context.execution_no_progress_timeout_s = stall_timeout_s or -1
    return ray.data.from_items(list(tickets), override_num_blocks=len(tickets))


def through(flow: Any, worker: type[Worker], pool: Pool, most: int, *arguments: Any) -> Any:
    """The dataset behind a pool, which has no more than `most` actors; each is made with the arguments."""
    pool = replace(pool, workers=min(pool.workers, most))
    return flow.map_batches(
        worker,
        batch_size=1,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(
            size=pool.workers, max_tasks_in_flight_per_actor=_IN_FLIGHT_PER_ACTOR
        ),
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus or None,
        fn_constructor_args=arguments,
    )


def rows_of(flow: Any) -> Iterator[dict[str, Any]]:
    """What comes out, in the order that it is done.

    Raises the errors of the workers, and ClusterError where nothing moves for too long.
    """
    # Closed at once, however it is left: else Ray complains on standard error when it is shut down.
    with closing(_rows(flow)) as rows:
        for row in rows:
            if FAILURE in row:
                raise revive(row[FAILURE])
            yield row


def _rows(flow: Any) -> Generator[dict[str, Any], None, None]:
    try:
        yield from flow.iter_rows()
    except ExecutionTimeoutError as error:
        raise _stalled(str(error)) from None


def _stalled(report: str) -> ClusterError:
    """Who waits for what, from Ray's own report of the stall.

    Of the pools, in the order of the work, the last that is at work holds up the others; if none is, the
    first that has done nothing yet.
    """
    timeout_s = ray.data.DataContext.get_current().execution_no_progress_timeout_s
    pools = [(name, int(active), int(finished)) for name, active, finished in _STALLED.findall(report)]
    at_work = [(name, active) for name, active, _ in pools if active]
    if at_work:
        name, active = at_work[-1]
        why = f"the workers of {name} do not finish what they have in hand ({active})"
        remedy = "see that the storage of photos and output answers from every node"
    else:
        name = next((name for name, _, finished in pools if not finished), "a pool")
        free, whole = (kind().get("CPU", 0) for kind in (ray.available_resources, ray.cluster_resources))
        why = f"no worker of {name} is ready, and {free:g} of the cluster's {whole:g} CPUs are free"
        remedy = "see who holds the CPUs, and that every node can load the models"
    return ClusterError(
        f"nothing got on for {timeout_s:g} s: {why}",
        f"{remedy}; the same command goes on from here (enroll waits longer with run.stall_timeout_s)",
    )

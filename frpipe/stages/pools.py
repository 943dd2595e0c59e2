"""Pools of Ray actors: tables of one row in, tables of one row out. See ADR 1 for why of one row."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray.data

from frpipe.stages.allocation import Pool
from frpipe.stages.failure import EXPECTED, FAILURE, failure, revive

_IN_FLIGHT_PER_ACTOR = 2

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


def flow_of(tickets: Sequence[dict[str, Any]]) -> Any:
    """A dataset of one block a ticket."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = 0
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
    """What comes out, in the order that it is done. Raises the errors of the workers."""
    # Closed at once, however it is left: else Ray complains on standard error when it is shut down.
    with closing(_rows(flow)) as rows:
        for row in rows:
            if FAILURE in row:
                raise revive(row[FAILURE])
            yield row


def _rows(flow: Any) -> Generator[dict[str, Any], None, None]:
    yield from flow.iter_rows()

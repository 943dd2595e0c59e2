"""The executor on Ray: each step is a pool of actors, and a ticket is a table of one row (ADR 1)."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any, ClassVar

import pyarrow as pa
import ray
import ray.data
from ray.data.exceptions import ExecutionTimeoutError
from ray.experimental import internal_kv
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from frpipe.core.errors import ClusterError
from frpipe.runtime.allocation import Node
from frpipe.runtime.executor import STALL_TIMEOUT_S, Executor, Read, Step, Watch, Work
from frpipe.runtime.failure import EXPECTED, FAILURE, failure, revive
from frpipe.runtime.host import Host

_IN_FLIGHT_PER_ACTOR = 2
# A node that has not answered for so long is left to itself.
_EVERYWHERE_S = 30.0
# How Ray's report of a stall names an operator: `- MapBatches(Embed): 2 active task(s), 0 finished, ...`.
_STALLED = re.compile(r"- MapBatches\((\w+)\): (\d+) active task\(s\), (\d+) finished")
# Errors that the store raises where the cluster does not answer.
_LOST = (ray.exceptions.RayError, RuntimeError, AssertionError, ValueError)

Counts = Mapping[str, int]


class RayExecutor(Executor):
    """The cluster that this process has joined."""

    name: ClassVar[str] = "ray"

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes

    @property
    def nodes(self) -> Sequence[Node]:
        return self._nodes

    def stream(
        self,
        tickets: Sequence[Mapping[str, Any]],
        steps: Sequence[Step],
        *,
        stall_timeout_s: float | None = STALL_TIMEOUT_S,
        watch: Watch | None = None,
    ) -> Iterator[dict[str, Any]]:
        in_hand = None
        if watch is not None:
            in_hand = InHand()
            watch(in_hand.read)
        flow = _flow_of(tickets, stall_timeout_s)
        for step in steps:
            flow = _through(flow, step, len(tickets), in_hand)
        return _rows_of(flow) if in_hand is None else _forgetting(_rows_of(flow), in_hand)

    def everywhere(self, call: Callable[[], None]) -> None:
        call()
        try:
            # On this node too: its workers have the environment of Ray, whose TMPDIR may be another.
            tasks = [_called_on(node).remote(call) for node in _living_nodes()]
            ray.wait(tasks, num_returns=len(tasks), timeout=_EVERYWHERE_S) if tasks else None
        except _LOST:
            return

    def share(self, read: Read) -> Read:
        return partial(_fetched, [ray.put(read())])


class InHand:
    """Reports of the parts that workers have in hand, in the key-value store of the joined cluster.

    Nothing else depends on it: what is late or lost is missing from a line of progress for a while. An actor
    that kept it would cost a process.
    """

    def __init__(self) -> None:
        self._space = f"frpipe-{uuid.uuid4().hex}".encode()

    def report(self, part: int, counts: Counts) -> None:
        """Say how far a part is."""
        with suppress(*_LOST):
            internal_kv._internal_kv_put(b"%d" % part, json.dumps(dict(counts)), namespace=self._space)

    def read(self) -> dict[int, Counts]:
        """The last report of each part; nothing where there is no answer."""
        try:
            parts = internal_kv._internal_kv_list(b"", namespace=self._space)
            found = {part: internal_kv._internal_kv_get(part, namespace=self._space) for part in parts}
        except _LOST:
            return {}
        return {int(part): json.loads(counts) for part, counts in found.items() if counts}

    def forget(self, part: int) -> None:
        """Drop a part that is done."""
        with suppress(*_LOST):
            internal_kv._internal_kv_del(b"%d" % part, namespace=self._space)

    def clear(self) -> None:
        """Drop all."""
        with suppress(*_LOST):
            internal_kv._internal_kv_del(b"", del_by_prefix=True, namespace=self._space)


class Worker:
    """A worker in an actor. An error of ours becomes a row: Ray would hand the driver its text alone."""

    def __init__(self, make: Callable[[Host], Work], in_hand: InHand | None) -> None:
        self._failure: pa.Table | None = None
        try:
            self._work = make(_host(in_hand))
        except EXPECTED as error:
            self._failure = failure(error)

    def __call__(self, table: pa.Table) -> pa.Table:
        if FAILURE in table.column_names:
            return table
        if self._failure is not None:
            return self._failure
        try:
            return self._work(table)
        except EXPECTED as error:
            return failure(error)


def _fetched(reference: list[Any]) -> bytes:
    """Fetch bytes. reference: in a list, so that Ray hands on the reference and not the bytes."""
    data: bytes = ray.get(reference[0])
    return data


def _host(in_hand: InHand | None) -> Host:
    node = ray.get_runtime_context().get_node_id()
    return Host(node, _living_nodes, in_hand.report) if in_hand else Host(node, _living_nodes)


def _living_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _called_on(node: str) -> Any:
    """A task on a node, beside whatever else works there."""
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=where)(_called)


def _called(call: Callable[[], None]) -> None:
    call()


def _flow_of(tickets: Sequence[Mapping[str, Any]], stall_timeout_s: float | None) -> Any:
    """Make a dataset of one block a ticket."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = 0
    context.execution_no_progress_timeout_s = stall_timeout_s or -1
    return ray.data.from_items([dict(each) for each in tickets], override_num_blocks=len(tickets))


def _through(flow: Any, step: Step, most: int, in_hand: InHand | None) -> Any:
    """Put a step behind a dataset, with no more than `most` actors."""
    # Ray names the operator by the class.
    named = type("".join(word.title() for word in re.split(r"\W+", step.name)), (Worker,), {})
    return flow.map_batches(
        named,
        batch_size=1,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(
            size=min(step.pool.workers, most), max_tasks_in_flight_per_actor=_IN_FLIGHT_PER_ACTOR
        ),
        num_cpus=step.pool.num_cpus,
        num_gpus=step.pool.num_gpus or None,
        fn_constructor_args=(step.make, in_hand),
    )


def _forgetting(rows: Iterator[dict[str, Any]], in_hand: InHand) -> Iterator[dict[str, Any]]:
    """Pass rows on, and forget the reports of parts that are done."""
    try:
        for row in rows:
            in_hand.forget(row["part"])
            yield row
    finally:
        in_hand.clear()


def _rows_of(flow: Any) -> Iterator[dict[str, Any]]:
    # Closed at once, however it is left: else Ray complains on standard error when it is shut down.
    with closing(_rows(flow)) as rows:
        for row in rows:
            if FAILURE in row:
                raise revive(row[FAILURE])
            yield row


def _rows(flow: Any) -> Generator[dict[str, Any], None, None]:
    try:
        # Without a batch ahead: a row would wait for the one behind it, and its unit may take long.
        for rows in flow.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from rows.to_pylist()
    except ExecutionTimeoutError as error:
        raise _stalled(str(error)) from None


def _stalled(report: str) -> ClusterError:
    """Tell from Ray's own report of a stall who waits for what.

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
        f"no progress for {timeout_s:g} s: {why}",
        f"{remedy}; the same command goes on from here (enroll waits longer with run.stall_timeout_s)",
    )

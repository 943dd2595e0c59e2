"""The only file that knows Ray: parts in, receipts out, through actor pools."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import pyarrow as pa
import ray
import ray.data

from frpipe.core.errors import ClusterError, ModelMismatch, ModelMissing, PlanError
from frpipe.models.card import Card
from frpipe.models.registry import Registry
from frpipe.stages import workers
from frpipe.stages.allocation import Node, Pool, Pools
from frpipe.stages.failure import EXPECTED, FAILURE, failure, revive
from frpipe.stages.spec import RunSpec

_IN_FLIGHT_PER_ACTOR = 2
_KNOCK_TIMEOUT_S = 10.0

# By role; in a list, so that Ray hands on the reference and not the bytes.
Weights = dict[Literal["detector", "embedder"], list[Any]]


@contextmanager
def cluster(address: str | None = None, say: Callable[[str], None] = print) -> Iterator[list[Node]]:
    """Join the cluster at `address` or RAY_ADDRESS, else start a private one on this machine; its nodes.

    Says so if others hold much of it, since Ray waits for them without a word. It is left at the end, and a
    private one ends, unless this process had joined one before.
    Raises PlanError where no cluster answers, ClusterError where it fails meanwhile.
    """
    joined_before = ray.is_initialized()
    if not joined_before:
        _init(address or os.environ.get("RAY_ADDRESS") or None)
    try:
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        nodes = [Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0)) for resources in alive]
        _say_if_busy(nodes, say)
        yield nodes
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"the cluster failed: {type(error).__name__}", "run the same command again; it goes on from here"
        ) from error
    finally:
        if not joined_before:
            ray.shutdown()


def in_submitted_job() -> bool:
    """Whether this process is the driver of `ray job submit`, which runs it in a folder of its own."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def stream(spec: RunSpec, parts: Sequence[int], pools: Pools) -> Iterator[dict[str, int]]:
    """Do some parts; yields a receipt for each as it is published, in the order that they finish."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = 0
    flow = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
    weights: Weights = {
        card.role: [ray.put(Registry.default().find(card).read_bytes())] for card in spec.models
    }
    for pool in pools:
        flow = _through(flow, _ACTORS[pool.name], _at_most(pool, len(parts)), (spec, weights))
    for receipt in flow.iter_rows():
        if FAILURE in receipt:
            raise revive(receipt[FAILURE])
        yield receipt


class _Actor:
    """A worker in an actor. An error of ours becomes a row: Ray would hand the driver its text alone."""

    worker: Callable[[RunSpec], Callable[[pa.Table], pa.Table]]
    roles: tuple[str, ...]

    def __init__(self, spec: RunSpec, weights: Weights) -> None:
        self._failure: pa.Table | None = None
        try:
            for card in spec.models:
                if card.role in self.roles:
                    _bring(card, weights[card.role])
            self._worker = self.worker(spec)
        except EXPECTED as error:
            self._failure = failure(error)

    def __call__(self, table: pa.Table) -> pa.Table:
        if self._failure is not None:
            return self._failure
        return _attempt(self._worker, table)


# Named so that Ray's dashboard reads well.
class Enroll(_Actor):
    """The actor of the pool that does everything."""

    worker = workers.Enroll
    roles = ("detector", "embedder")


class Locate(_Actor):
    """The locate pool's actor."""

    worker = workers.Locate
    roles = ("detector",)


class Embed(_Actor):
    """The embed pool's actor."""

    worker = workers.Embed
    roles = ("embedder",)


class Publish(_Actor):
    """The publish pool's actor. A task would do, but Ray ends idle task processes and starts new ones for the
    next part, at seconds of imports each."""

    worker = workers.Publish
    roles = ()


_ACTORS = {"enroll": Enroll, "locate": Locate, "embed": Embed, "publish": Publish}


def _attempt(work: Callable[[pa.Table], pa.Table], table: pa.Table) -> pa.Table:
    if FAILURE in table.column_names:
        return table
    try:
        return work(table)
    except EXPECTED as error:
        return failure(error)


def _through(source: Any, actor: type[_Actor], pool: Pool, arguments: tuple[RunSpec, Weights]) -> Any:
    return source.map_batches(
        actor,
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


def _at_most(pool: Pool, workers: int) -> Pool:
    return replace(pool, workers=min(pool.workers, workers))


def _bring(card: Card, weights: list[Any]) -> None:
    """Make sure that a model's weights lie on this node; the driver's copy is taken if they do not."""
    registry = Registry.default()
    try:
        registry.find(card)
    except (ModelMissing, ModelMismatch):
        registry.admit(card, ray.get(weights[0]))
        registry.find(card)


def _init(address: str | None) -> None:
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        ray.init(address="local", include_dashboard=False, **quiet)
        return
    try:
        _knock(address)
        ray.init(address=address, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise PlanError(
            f"no Ray cluster answers at {address} ({type(error).__name__})",
            "check RAY_ADDRESS or --address, and the token if the cluster wants one",
        ) from None


def _say_if_busy(nodes: Sequence[Node], say: Callable[[str], None]) -> None:
    free = ray.available_resources().get("CPU", 0.0)
    total = sum(node.cpus for node in nodes)
    if free < total - 0.5:
        say(f"{total - free:g} of the cluster's {total:g} CPUs are held by others: this job may have to wait")


def _knock(address: str) -> None:
    """Ray itself waits for minutes where nobody listens."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), _KNOCK_TIMEOUT_S).close()

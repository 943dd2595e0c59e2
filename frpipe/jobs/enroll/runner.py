"""Enroll on Ray: parts in, receipts out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import cv2
import ray

from frpipe.core.errors import ModelMismatch, ModelMissing
from frpipe.models.card import Card
from frpipe.models.registry import Registry
from frpipe.runtime.allocation import Pools
from frpipe.runtime.host import Host
from frpipe.runtime.in_hand import InHand
from frpipe.runtime.pools import Work, Worker, flow_of, rows_of, through
from frpipe.stages import workers
from frpipe.stages.run_spec import RunSpec

Look = Callable[[], Mapping[int, Mapping[str, int]]]
"""Photos in hand, by part and status."""

# By the card's name; in a list, so that Ray hands on the reference and not the bytes.
Weights = dict[str, list[Any]]


def stream(
    spec: RunSpec, parts: Sequence[int], pools: Pools, watch: Callable[[Look], None]
) -> Iterator[dict[str, int]]:
    """Do some parts; yields a receipt for each as it is published, in the order that they finish.

    watch: given what to call, meanwhile and in any thread, to see how far each part is.
    Raises the errors of the workers, and ClusterError where no part gets on for `run.stall_timeout_s`.
    """
    weights: Weights = {
        card.name: [ray.put(Registry.default().find(card).read_bytes())] for card in spec.models
    }
    in_hand = InHand()
    watch(in_hand.read)
    flow = flow_of([{"part": part} for part in parts], spec.config.run.stall_timeout_s)
    for pool in pools:
        flow = through(flow, _WORKERS[pool.name], pool, len(parts), spec, weights, in_hand)
    return rows_of(flow)


class _Worker(Worker):
    worker: Callable[[RunSpec, Host], Work]
    pool: Literal["enroll", "locate", "embed", "publish"]

    def make(self, spec: RunSpec, weights: Weights, in_hand: InHand) -> Work:
        # What OpenCV does is spread over photos, not threads: these would take the CPUs of other workers.
        cv2.setNumThreads(1)
        for card in spec.models_of(self.pool):
            _bring(card, weights[card.name])
        return self.worker(spec, _host(in_hand))


class Enroll(_Worker):
    """The worker of the pool that does everything."""

    worker = workers.Enroll
    pool = "enroll"


class Locate(_Worker):
    """The locate pool's worker."""

    worker = workers.Locate
    pool = "locate"


class Embed(_Worker):
    """The embed pool's worker."""

    worker = workers.Embed
    pool = "embed"


class Publish(_Worker):
    """The publish pool's worker.

    A task would do, but Ray ends idle task processes and starts new ones for the next part, at seconds each.
    """

    worker = workers.Publish
    pool = "publish"


_WORKERS = {"enroll": Enroll, "locate": Locate, "embed": Embed, "publish": Publish}


def _host(in_hand: InHand) -> Host:
    return Host(ray.get_runtime_context().get_node_id(), _living_nodes, in_hand.report)


def _living_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _bring(card: Card, weights: list[Any]) -> None:
    """Make sure that a model's weights lie on this node; the driver's copy is taken if they do not."""
    registry = Registry.default()
    try:
        registry.find(card)
    except (ModelMissing, ModelMismatch):
        registry.admit(card, ray.get(weights[0]))
        registry.find(card)

"""Enroll on Ray: parts in, receipts out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray

from frpipe.core.errors import ModelMismatch, ModelMissing
from frpipe.models.card import Card
from frpipe.models.registry import Registry
from frpipe.stages import workers
from frpipe.stages.allocation import Pools
from frpipe.stages.pools import Work, Worker, flow_of, rows_of, through
from frpipe.stages.spec import RunSpec

# By the card's name; in a list, so that Ray hands on the reference and not the bytes.
Weights = dict[str, list[Any]]


def stream(spec: RunSpec, parts: Sequence[int], pools: Pools) -> Iterator[dict[str, int]]:
    """Do some parts; yields a receipt for each as it is published, in the order that they finish.

    Raises the errors of the workers, and ClusterError where no part gets on for `run.stall_timeout_s`.
    """
    weights: Weights = {
        card.name: [ray.put(Registry.default().find(card).read_bytes())] for card in spec.models
    }
    flow = flow_of([{"part": part} for part in parts], spec.config.run.stall_timeout_s)
    for pool in pools:
        flow = through(flow, _WORKERS[pool.name], pool, len(parts), spec, weights)
    return rows_of(flow)


class _Worker(Worker):
    worker: Callable[[RunSpec], Work]
    roles: tuple[str, ...]

    def make(self, spec: RunSpec, weights: Weights) -> Work:
        for card in spec.models:
            if card.role in self.roles:
                _bring(card, weights[card.name])
        return self.worker(spec)


class Enroll(_Worker):
    """The worker of the pool that does everything."""

    worker = workers.Enroll
    roles = ("detector", "embedder")


class Locate(_Worker):
    """The locate pool's worker."""

    worker = workers.Locate
    roles = ("detector",)


class Embed(_Worker):
    """The embed pool's worker."""

    worker = workers.Embed
    roles = ("embedder",)


class Publish(_Worker):
    """The publish pool's worker.

    A task would do, but Ray ends idle task processes and starts new ones for the next part, at seconds each.
    """

    worker = workers.Publish
    roles = ()


_WORKERS = {"enroll": Enroll, "locate": Locate, "embed": Embed, "publish": Publish}


def _bring(card: Card, weights: list[Any]) -> None:
    """Make sure that a model's weights lie on this node; the driver's copy is taken if they do not."""
    registry = Registry.default()
    try:
        registry.find(card)
    except (ModelMissing, ModelMismatch):
        registry.admit(card, ray.get(weights[0]))
        registry.find(card)

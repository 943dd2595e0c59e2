"""Run the steps of enroll on an executor: parts in, receipts out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2

from frpipe.core.errors import ModelMismatch, ModelMissing
from frpipe.models.card import Card
from frpipe.models.registry import Registry
from frpipe.runtime.allocation import Pools
from frpipe.runtime.executor import Executor, Read, Step, Watch, Work
from frpipe.runtime.host import Host
from frpipe.stages import workers
from frpipe.stages.run_spec import RunSpec


def stream(
    spec: RunSpec, parts: Sequence[int], pools: Pools, executor: Executor, watch: Watch
) -> Iterator[dict[str, Any]]:
    """Do some parts; yield a receipt for each as it is published, in the order that they finish.

    watch: given what to call, meanwhile and in any thread, to see how far each part is.
    Raises the errors of the workers, and ClusterError where no part makes progress for `run.stall_timeout_s`.
    """
    weights = {card.name: executor.share(partial(_weights, card)) for card in spec.models}
    steps = [Step(pool.name, pool, _Maker(pool.name, spec, weights)) for pool in pools]
    tickets = [{"part": part} for part in parts]
    return executor.stream(tickets, steps, stall_timeout_s=spec.config.run.stall_timeout_s, watch=watch)


_WORKERS: dict[str, Callable[[RunSpec, Host], Work]] = {
    "enroll": workers.Enroll,
    "locate": workers.Locate,
    "embed": workers.Embed,
    # A task would do, but Ray ends idle task processes and starts new ones for the next, at seconds each.
    "publish": workers.Publish,
}


@dataclass(frozen=True, slots=True)
class _Maker:
    """Make a worker of a pool on its node. weights: by the card's name."""

    pool: str
    spec: RunSpec
    weights: dict[str, Read]

    def __call__(self, host: Host) -> Work:
        # What OpenCV does is spread over photos, not threads: these would take the CPUs of other workers.
        cv2.setNumThreads(1)
        for card in self.spec.models_of(self.pool):
            _bring(card, self.weights[card.name])
        return _WORKERS[self.pool](self.spec, host)


def _weights(card: Card) -> bytes:
    return Registry.default().find(card).read_bytes()


def _bring(card: Card, weights: Read) -> None:
    """Make sure that a model's weights lie on this node; the driver's copy is taken if they do not."""
    registry = Registry.default()
    try:
        registry.find(card)
    except (ModelMissing, ModelMismatch):
        registry.admit(card, weights())
        registry.find(card)

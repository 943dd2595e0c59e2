"""Allocate the pools of a run: how many workers a cluster gives each, and that all fit on it.

Ray waits for ever, without a word, for an actor that fits nowhere. So the placement is worked out before
anything starts, and refused with its arithmetic. Ray places by rules of its own; actors of equal size, as
`auto` makes them, fit either way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from frpipe.core.config import PoolConfig, ResourcesConfig
from frpipe.core.errors import PlanError

_PUBLISH_CPUS = 0.1
# A part is published in a fraction of the time that it takes to embed.
_EMBEDDERS_PER_PUBLISHER = 8
# Left on each node by `auto`: a place for a publisher, and its share of those that a large node needs.
_SPARE_CPUS, _SPARE_SHARE = 0.1, 0.02


@dataclass(frozen=True, slots=True)
class Node:
    """The CPUs and GPUs that one machine of the cluster offers."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool of equal actors."""

    name: str
    workers: int
    num_cpus: float
    num_gpus: float
    device: str

    def __str__(self) -> str:
        gpus = f" + {self.num_gpus:g} GPU" if self.num_gpus else ""
        return f"{self.name}: {self.workers} x ({self.num_cpus:g} CPU{gpus}) on {self.device}"


Pools = tuple[Pool, ...]


def allocate(resources: ResourcesConfig, nodes: Sequence[Node]) -> Pools:
    """Resolve `auto` and place the actors; the pools in the order of the work.

    They are `locate`, `embed` and `publish`, or `enroll` alone, whose workers do all three (ADR 9).
    Raises PlanError where they do not fit.
    """
    wanted = {"locate": resources.locate, "embed": resources.embed}
    if any(pool.num_gpus for pool in wanted.values()) and not any(node.gpus for node in nodes):
        raise PlanError(
            "the configuration asks for GPUs, and there is none here",
            "run where there is one, or leave out num_gpus (configs/gpu.yaml sets it)",
        )
    if all(_is_left_to_us(pool) for pool in wanted.values()):
        wanted = {"enroll": PoolConfig()}
    workers = {name: _workers(pool, resources, nodes) for name, pool in wanted.items()}
    share = _share(wanted, workers, nodes)
    pools = [_pool(name, workers[name], pool, share) for name, pool in wanted.items()]
    if "embed" in wanted:
        publishers = math.ceil(workers["embed"] / _EMBEDDERS_PER_PUBLISHER)
        pools.append(Pool("publish", publishers, _PUBLISH_CPUS, 0, "cpu"))
    _place(pools, nodes)
    return tuple(pools)


def most_workers(pools: Pools) -> int:
    """The number of workers of the largest pool, over which a run's photos are shared out."""
    return max(pool.workers for pool in pools)


def allocate_one(name: str, workers: int | None, nodes: Sequence[Node], *, gpu: bool = False) -> Pool:
    """One pool of actors with a CPU each, and a GPU each if so asked. Raises PlanError where they do not fit.

    workers: None takes as many as the cluster holds.
    """
    per_node = [math.floor(node.gpus if gpu else node.cpus) for node in nodes]
    pool = Pool(name, workers or max(1, sum(per_node)), 1.0, float(gpu), "cuda" if gpu else "cpu")
    _place([pool], nodes)
    return pool


def _is_left_to_us(pool: PoolConfig) -> bool:
    return (pool.workers, pool.num_cpus, pool.num_gpus) == ("auto", "auto", 0)


def _share(wanted: dict[str, PoolConfig], workers: dict[str, int], nodes: Sequence[Node]) -> float:
    """CPUs for each actor of the pools that leave it to us: what others leave, evenly, rounded down.

    Where every pool holds GPUs they stand on the nodes that have some, as many as those hold.
    """
    if all(pool.num_gpus and pool.num_cpus == "auto" for pool in wanted.values()):
        actors_per_gpu = sum(workers.values()) / max(1, sum(node.gpus for node in nodes))
        shares = [_left_on(node) / (node.gpus * actors_per_gpu) for node in nodes if node.gpus]
        return math.floor(100 * min(shares, default=0)) / 100
    left = sum(map(_left_on, nodes))
    sharing = 0
    for name, pool in wanted.items():
        if pool.num_cpus == "auto":
            sharing += workers[name]
        else:
            left -= workers[name] * pool.num_cpus
    return math.floor(100 * max(0.0, left) / max(1, sharing)) / 100


def _left_on(node: Node) -> float:
    return node.cpus * (1 - _SPARE_SHARE) - _SPARE_CPUS


def _workers(pool: PoolConfig, resources: ResourcesConfig, nodes: Sequence[Node]) -> int:
    if pool.workers != "auto":
        return pool.workers
    if pool.num_gpus > 0:
        wanted = sum(p.num_gpus for p in (resources.locate, resources.embed) if p.workers == "auto")
        return max(1, math.floor(sum(node.gpus for node in nodes) / wanted))
    return max(1, math.floor(sum(node.cpus for node in nodes)))


def _pool(name: str, workers: int, pool: PoolConfig, share: float) -> Pool:
    num_cpus = share if pool.num_cpus == "auto" else pool.num_cpus
    return Pool(name, workers, num_cpus, pool.num_gpus, pool.resolved_device)


def _place(pools: Sequence[Pool], nodes: Sequence[Node]) -> None:
    """Place the actors by first fit, the pool with the larger actors first."""
    free = [[node.cpus, node.gpus] for node in nodes]
    for pool in sorted(pools, key=lambda p: (-p.num_gpus, -p.num_cpus)):
        if pool.num_cpus <= 0:
            raise _refuse(pools, nodes, "no CPU is left for a pool whose num_cpus is auto")
        for _ in range(pool.workers):
            home = next(
                (f for f in free if f[0] >= pool.num_cpus - 1e-9 and f[1] >= pool.num_gpus - 1e-9), None
            )
            if home is None:
                raise _refuse(pools, nodes, f"an actor of {pool.name} fits on no node")
            home[0] -= pool.num_cpus
            home[1] -= pool.num_gpus


def _refuse(pools: Sequence[Pool], nodes: Sequence[Node], why: str) -> PlanError:
    cpus, gpus = (sum(p.workers * getattr(p, kind) for p in pools) for kind in ("num_cpus", "num_gpus"))
    have = ", ".join(f"{n.cpus:g} CPU" + (f" + {n.gpus:g} GPU" if n.gpus else "") for n in nodes)
    return PlanError(
        f"this would hang: {why}. {'; '.join(map(str, pools))}; "
        f"together {cpus:g} CPU + {gpus:g} GPU; the cluster has {have or 'no node'}",
        "ask for fewer workers or CPUs, or leave them at auto",
    )

"""The placement of the pools: what fits, and what would hang."""

from __future__ import annotations

from pathlib import Path

import pytest

from frpipe.core.config import ResourcesConfig, load_config
from frpipe.core.errors import PlanError
from frpipe.runtime.allocation import Node, Pool, Pools, allocate

CONFIGS = Path(__file__).parents[2] / "configs"


def _settings(**pools: dict[str, object]) -> ResourcesConfig:
    return ResourcesConfig.model_validate(pools)


def _cpus(pools: Pools) -> float:
    return sum(pool.workers * pool.num_cpus for pool in pools)


def _named(pools: Pools) -> dict[str, Pool]:
    return {pool.name: pool for pool in pools}


_CLUSTERS = [
    [Node(1)],
    [Node(2)],
    [Node(8)],
    [Node(64)],
    [Node(2), Node(2)],
    [Node(3), Node(16)],
    [Node(96)] * 4,
    [Node(2)] * 40,
    [Node(7), Node(33), Node(1)],
]


@pytest.mark.parametrize("nodes", _CLUSTERS)
def test_a_cluster_of_cpus_gets_one_worker_per_cpu_that_does_everything(nodes: list[Node]) -> None:
    pools = allocate(_settings(), nodes)
    assert [pool.name for pool in pools] == ["enroll"]
    assert pools[0].workers == sum(node.cpus for node in nodes)
    assert _cpus(pools) <= pools[0].workers


@pytest.mark.parametrize("nodes", _CLUSTERS)
def test_pools_set_apart_fit_and_leave_room_to_publish(nodes: list[Node]) -> None:
    total = int(sum(node.cpus for node in nodes))
    pools = _named(allocate(_settings(locate={"workers": total}), nodes))
    assert list(pools) == ["locate", "embed", "publish"]
    assert pools["embed"].workers == total
    assert _cpus(tuple(pools.values())) <= total


def test_actors_that_hold_every_cpu_are_refused_with_the_arithmetic() -> None:
    with pytest.raises(PlanError) as caught:
        allocate(
            _settings(locate={"workers": 1, "num_cpus": 1}, embed={"workers": 1, "num_cpus": 1}), [Node(2)]
        )
    assert "2 CPU" in caught.value.message
    assert "publish" in caught.value.message


def test_an_actor_larger_than_any_node_is_refused_though_the_sum_would_fit() -> None:
    with pytest.raises(PlanError, match="fits on no node"):
        allocate(
            _settings(locate={"workers": 1, "num_cpus": 3}, embed={"workers": 1, "num_cpus": 0.5}),
            [Node(2), Node(2)],
        )


def test_a_gpu_that_is_not_there_is_refused() -> None:
    for resources in (_settings(embed={"num_gpus": 1}), load_config(CONFIGS / "gpu.yaml").resources):
        with pytest.raises(PlanError, match="asks for GPUs, and there is none"):
            allocate(resources, [Node(8)])


def test_two_pools_share_the_gpus_of_a_cluster() -> None:
    half = {"num_gpus": 0.5}
    pools = _named(allocate(_settings(locate=half, embed=half), [Node(16, 1), Node(16, 1)]))
    assert pools["locate"].workers == pools["embed"].workers == 2
    assert pools["embed"].device == "cuda"


def test_a_fixed_pool_beside_an_auto_one() -> None:
    pools = allocate(_settings(embed={"workers": 2, "num_cpus": 2}), [Node(8)])
    assert _named(pools)["locate"].workers == 8
    assert _cpus(pools) <= 8


@pytest.mark.parametrize(
    ("nodes", "gpus"),
    [
        ([Node(4, 1)], 1),
        ([Node(16, 1)], 1),
        ([Node(64, 8)], 8),
        ([Node(16, 1)] * 4, 4),
        ([Node(8), Node(16, 2), Node(48, 4)], 6),
    ],
)
def test_the_configuration_for_gpus_plans_on_one_node_and_on_many(nodes: list[Node], gpus: int) -> None:
    """A head without a GPU, and nodes of several sizes, included."""
    resources = load_config(CONFIGS / "gpu.yaml").resources
    pools = _named(allocate(resources, nodes))
    assert pools["locate"].workers == pools["embed"].workers == gpus
    assert {pools["locate"].device, pools["embed"].device} == {"cuda"}


def test_the_configuration_for_gpus_makes_the_vectors_of_the_cpu() -> None:
    assert load_config(CONFIGS / "gpu.yaml").recipe() == load_config(CONFIGS / "local.yaml").recipe()

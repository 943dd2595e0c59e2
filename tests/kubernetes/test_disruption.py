"""What a drain of a node may take, asked of a real API server. The node and its pods are written by tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from control_plane import ControlPlane, Object
from k8s_overlays import pod_templates

pytestmark = pytest.mark.slow
_PODS = "/api/v1/namespaces/frpipe/pods"
_LABELS = {
    "enroll head": {"ray.io/node-type": "head"},
    "enroll workers": {"ray.io/node-type": "worker"},
    "nightly": {"app.kubernetes.io/component": "launcher"},
}
Pod = Callable[..., str]


@pytest.fixture
def pod(plane: ControlPlane) -> Iterator[Pod]:
    """Make a pod of a template of ours that runs, as the API server sees it."""
    made = []
    templates = dict(pod_templates("local"))

    def make(kind: str, *, ready: bool = True) -> str:
        name = f"drained-{kind.replace(' ', '-')}"
        body: Object = {
            "metadata": {"name": name, "labels": _LABELS[kind]},
            "spec": {**templates[kind]["spec"], "nodeName": "drained"},
        }
        said = plane.ask(_PODS, {"apiVersion": "v1", "kind": "Pod", **body})
        assert said["kind"] == "Pod", said["message"]
        made.append(name)
        conditions = [{"type": "Ready", "status": str(ready)}]
        status: dict[str, Any] = {"phase": "Running", "conditions": conditions}
        plane.ask(f"{_PODS}/{name}/status", {"status": status}, method="PATCH")
        return name

    yield make
    for name in made:
        plane.ask(f"{_PODS}/{name}", {"gracePeriodSeconds": 0}, method="DELETE")


def _evict(plane: ControlPlane, name: str) -> Object:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    return plane.ask(f"{_PODS}/{name}/eviction", body)


@pytest.mark.parametrize(("kind", "budget"), [("enroll head", "head"), ("nightly", "launcher")])
def test_a_drain_waits_for_heads_and_launchers(kind: str, budget: str, plane: ControlPlane, pod: Pod) -> None:
    name = pod(kind)

    def counted() -> bool:
        status = plane.get("pdb", budget)["status"]
        return bool(status["currentHealthy"] == status["expectedPods"] == 1)

    plane.until(counted, f"the budget {budget} to count its pod")
    said = _evict(plane, name)
    assert said["code"] == 429, said
    assert "disruption budget" in said["message"]


def test_a_drain_takes_workers_and_heads_that_do_not_start(plane: ControlPlane, pod: Pod) -> None:
    for name in (pod("enroll workers"), pod("enroll head", ready=False)):
        said = plane.until(lambda each=name: _success(_evict(plane, each)), f"{name} to be evicted", 30)
        assert said


def _success(status: Object) -> bool:
    return bool(status.get("status") == "Success")

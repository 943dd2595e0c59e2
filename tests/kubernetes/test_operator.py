"""What KubeRay's operator makes of RayJobs, where its program is there. No node runs the pods it makes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from control_plane import ControlPlane, Object
from k8s_overlays import of_kind
from launchers import Launcher

pytestmark = pytest.mark.slow
Launch = Callable[..., Launcher]
_RAY = "--selector=ray.io/is-ray-node=yes"


@pytest.fixture(scope="module")
def operator(
    plane: ControlPlane, programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """The control plane with the operator at work."""
    program = programs / "kuberay-operator"
    if not program.exists():
        pytest.skip("kuberay-operator is not in FRPIPE_KUBERNETES")
    with (tmp_path_factory.mktemp("operator") / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "--metrics-addr=0", "--health-probe-bind-address=0", "--enable-leader-election=false"],
            env={**os.environ, "KUBECONFIG": str(plane.kubeconfig)}, stdout=log, stderr=log,
        )  # fmt: skip
    yield plane
    # It has put a finalizer on each, which it alone takes away.
    plane.kubectl("-n", "frpipe", "delete", "rayjobs", "--all")
    process.terminate()
    process.wait(30)


@pytest.fixture
def model(operator: ControlPlane) -> Iterator[Callable[..., None]]:
    """Change the model `enroll` for a test."""
    kept = operator.get("rayjob", "enroll")["spec"]

    def change(**spec: Any) -> None:
        patch = json.dumps({"spec": spec})
        operator.kubectl("-n", "frpipe", "patch", "rayjob", "enroll", "--type=merge", "-p", patch)

    yield change
    change(**kept)


def _pods(plane: ControlPlane, run: str) -> list[Object]:
    """Pods of the cluster of a run."""
    found: list[Object] = plane.get("pods", "", _RAY)["items"]
    return [pod for pod in found if pod["metadata"]["labels"]["ray.io/cluster"].startswith(f"{run}-1")]


def _sets_running(plane: ControlPlane, pod: Object) -> None:
    """What a node writes of a pod that is ready."""
    containers = [
        {"name": each["name"], "image": each["image"], "imageID": "", "ready": True, "started": True,
         "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
        for each in pod["spec"]["containers"]
    ]  # fmt: skip
    address = {"podIP": "192.0.2.9", "podIPs": [{"ip": "192.0.2.9"}], "hostIP": "192.0.2.8"}
    conditions = [{"type": each, "status": "True"} for each in ("Initialized", "ContainersReady", "Ready")]
    status = {"phase": "Running", "conditions": conditions, "containerStatuses": containers, **address}
    path = f"/api/v1/namespaces/frpipe/pods/{pod['metadata']['name']}/status"
    said = plane.ask(path, {"status": status}, method="PATCH")
    assert said["kind"] == "Pod", said["message"]


def test_models_stay_suspended_and_make_nothing(operator: ControlPlane) -> None:
    def states() -> set[str]:
        jobs = operator.get("rayjobs")["items"]
        return {str(job.get("status", {}).get("jobDeploymentStatus")) for job in jobs}

    operator.until(lambda: states() == {"Suspended"}, "all models to be suspended")
    # As the page says of removing them.
    assert all(job["metadata"]["finalizers"] for job in operator.get("rayjobs")["items"])
    assert operator.get("rayclusters")["items"] == []
    assert operator.get("pods", "", _RAY)["items"] == []


def test_its_pods_are_admitted_as_we_say(operator: ControlPlane, launch: Launch) -> None:
    launcher = launch()
    operator.until(lambda: len(_pods(operator, launcher.run)) == 2, "a head and a worker")
    pods = {pod["metadata"]["labels"]["ray.io/node-type"]: pod for pod in _pods(operator, launcher.run)}
    for kind, pod in pods.items():
        spec = pod["spec"]
        assert spec["serviceAccountName"] == "frpipe-worker"
        assert spec["automountServiceAccountToken"] is False
        assert spec["priorityClassName"] == f"frpipe-{kind}"
        # Those that it adds are as confined as ours.
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert container["image"] == "frpipe:dev"
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
        names = {variable["name"] for variable in spec["containers"][0]["env"]}
        assert {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} <= names, names
    spread = pods["worker"]["spec"]["topologySpreadConstraints"][0]
    cluster = pods["worker"]["metadata"]["labels"]["ray.io/cluster"]
    chosen = spread["labelSelector"]
    assert spread.get("matchLabelKeys") == ["ray.io/cluster"] or cluster in json.dumps(chosen)


def test_the_submitter_is_admitted_and_named_as_the_page_says(operator: ControlPlane, launch: Launch) -> None:
    launcher = launch("--", "--manifest", "s3://photos/a b.csv")
    operator.until(lambda: len(_pods(operator, launcher.run)) == 2, "a head and a worker")
    for pod in _pods(operator, launcher.run):
        _sets_running(operator, pod)
    selector = f"--selector=job-name={launcher.run}-1"
    operator.until(lambda: operator.get("pods", "", selector)["items"], "the submitter's pod")
    (pod,) = operator.get("pods", "", selector)["items"]
    (container,) = pod["spec"]["containers"]
    assert "'s3://photos/a b.csv'" in json.dumps(container), container
    assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == "submitter"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_wait_for_nodes_that_is_too_long_is_told(
    operator: ControlPlane, launch: Launch, model: Callable[..., None]
) -> None:
    model(preRunningDeadlineSeconds=1)
    launcher = launch("--attempts", "1")
    assert launcher.ends() == 11
    assert "PreRunningDeadlineExceeded" in launcher.said


def test_a_job_that_it_does_not_take_is_told(
    operator: ControlPlane, launch: Launch, model: Callable[..., None]
) -> None:
    model(ttlSecondsAfterFinished=-1)
    launcher = launch()
    assert launcher.ends() == 2
    assert "TTLSecondsAfterFinished" in launcher.said


def test_a_job_that_is_deleted_takes_its_cluster_with_it(operator: ControlPlane, launch: Launch) -> None:
    launcher = launch()
    operator.until(lambda: _pods(operator, launcher.run), "its head")
    operator.kubectl("-n", "frpipe", "delete", "rayjob", f"{launcher.run}-1")
    assert launcher.ends() == 130

    def clusters() -> list[str]:
        names = [each["metadata"]["name"] for each in operator.get("rayclusters")["items"]]
        return [name for name in names if name.startswith(f"{launcher.run}-1")]

    operator.until(lambda: not clusters(), "its cluster to go")


def test_every_model_makes_a_cluster(operator: ControlPlane, launch: Launch) -> None:
    for name in of_kind("local", "RayJob"):
        launcher = launch(job=name, run=f"all-{name}")
        operator.until(lambda each=launcher.run: _pods(operator, each), f"the head of {name}")


def test_a_quota_may_count_all_that_pods_take(operator: ControlPlane, launch: Launch) -> None:
    counted = [
        f"{when}.{what}" for when in ("requests", "limits") for what in ("memory", "ephemeral-storage")
    ]
    hard = ",".join([*(f"{name}=10Ti" for name in counted), "requests.cpu=1000", "limits.cpu=1000"])
    operator.kubectl("-n", "frpipe", "create", "quota", "counted", f"--hard={hard}")
    try:
        used = lambda: operator.get("resourcequota", "counted").get("status", {}).get("used")  # noqa: E731
        operator.until(used, "the quota to count")
        launcher = launch()
        operator.until(lambda: len(_pods(operator, launcher.run)) == 2, "a head and a worker")
    finally:
        operator.kubectl("-n", "frpipe", "delete", "quota", "counted")

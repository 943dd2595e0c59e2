"""The CronJob of the nights under real controllers. Pods' ends are written by the tests, as a node would."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from control_plane import ControlPlane, Object
from k8s_overlays import ROOT

pytestmark = pytest.mark.slow
_JOB = "batch.kubernetes.io/job-name"


@pytest.fixture
def night(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """A night that is started by hand, as the page says; its name."""
    name = f"by-hand-{abs(hash(request.node.name)) % 10**6}"
    page = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    command = "kubectl -n frpipe create job --from=cronjob/nightly night-by-hand"
    assert command in page
    plane.kubectl(*command.replace("night-by-hand", name).split()[1:])
    yield name
    plane.kubectl("-n", "frpipe", "delete", "job", name, "--ignore-not-found")


def _pods(plane: ControlPlane, job: str) -> list[Object]:
    found: list[Object] = plane.get("pods", "", f"--selector={_JOB}={job}")["items"]
    return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))


def _next_pod(plane: ControlPlane, job: str, number: int = 1) -> Object:
    """The last of so many pods of a Job, which was not there before."""

    def found() -> list[Object]:
        pods = _pods(plane, job)
        return pods if len(pods) >= number else []

    pod: Object = plane.until(found, f"pod {number} of {job}")[-1]
    return pod


def _end(plane: ControlPlane, pod: Object, code: int, *, disrupted: bool = False) -> None:
    """What a node writes of a pod that has ended."""
    ended = {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}
    status: dict[str, Any] = {
        "phase": "Succeeded" if code == 0 else "Failed",
        "containerStatuses": [
            {
                "name": "launcher", "image": "frpipe:dev", "imageID": "", "ready": False, "restartCount": 0,
                "state": {"terminated": ended},
            }
        ],
    }  # fmt: skip
    if disrupted:
        status["conditions"] = [
            {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        ]
    path = f"/api/v1/namespaces/frpipe/pods/{pod['metadata']['name']}/status"
    said = plane.ask(path, {"status": status}, method="PATCH")
    assert said["kind"] == "Pod", said["message"]


def _condition(plane: ControlPlane, job: str) -> Object:
    def found() -> Object | None:
        for each in plane.get("job", job).get("status", {}).get("conditions", []):
            if each["type"] in {"Complete", "Failed"} and each["status"] == "True":
                kept: Object = each
                return kept
        return None

    condition: Object = plane.until(found, f"the end of {job}")
    return condition


def test_a_night_by_hand_has_the_name_and_owner_of_its_run(plane: ControlPlane, night: str) -> None:
    pod = _next_pod(plane, night)
    job = plane.get("job", night)
    labels = pod["metadata"]["labels"]
    fields = {
        each["name"]: each["valueFrom"]["fieldRef"]["fieldPath"]
        for each in pod["spec"]["containers"][0]["env"]
        if "valueFrom" in each
    }
    assert fields["RUN"] == f"metadata.labels['{_JOB}']"
    assert labels[_JOB] == night
    assert fields["OWNER_UID"] == "metadata.labels['batch.kubernetes.io/controller-uid']"
    assert labels["batch.kubernetes.io/controller-uid"] == job["metadata"]["uid"]
    # Beside what is ours, the token of the account.
    mounts = {mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    assert mounts == {"/etc/frpipe-launcher", "/var/run/secrets/kubernetes.io/serviceaccount"}
    _end(plane, pod, 0)
    assert _condition(plane, night)["type"] == "Complete"


@pytest.mark.parametrize("code", [1, 2, 7, 11, 16, 124, 130])
def test_an_end_that_the_launcher_chose_ends_the_night(code: int, plane: ControlPlane, night: str) -> None:
    _end(plane, _next_pod(plane, night), code)
    condition = _condition(plane, night)
    assert (condition["type"], condition["reason"]) == ("Failed", "PodFailurePolicy")
    assert f"exit code {code}" in condition["message"]
    assert len(_pods(plane, night)) == 1


@pytest.mark.parametrize("code", [69, 137, 143])
def test_a_launcher_that_was_ended_is_followed_by_another(code: int, plane: ControlPlane, night: str) -> None:
    _end(plane, _next_pod(plane, night), code)
    _end(plane, _next_pod(plane, night, 2), 0)
    assert _condition(plane, night)["type"] == "Complete"


def test_an_eviction_costs_no_try(plane: ControlPlane, night: str) -> None:
    _end(plane, _next_pod(plane, night), 143, disrupted=True)
    _next_pod(plane, night, 2)
    assert plane.get("job", night)["status"].get("failed", 0) == 0


def test_each_minute_starts_a_night_and_none_beside_another(plane: ControlPlane) -> None:
    assert plane.get("cronjob", "nightly")["spec"]["concurrencyPolicy"] == "Forbid"
    _patch(plane, suspend=False, schedule="* * * * *")
    try:
        name = plane.until(lambda: _of_schedule(plane), "a night on schedule", 150)[0]
        pod = _next_pod(plane, name)
        assert plane.get("cronjob", "nightly")["status"]["active"][0]["name"] == name
        said = lambda: _events(plane, "JobAlreadyActive")  # noqa: E731
        plane.until(said, "the next minute, in which nothing starts", 150)
        assert _of_schedule(plane) == [name]
        # The run of the launcher is named after it, and is to hold a number of attempts.
        assert len(f"{name}-1") <= 47
        _end(plane, pod, 0)
        assert _condition(plane, name)["type"] == "Complete"
        last: Callable[[], Any] = lambda: plane.get("cronjob", "nightly")["status"].get("lastSuccessfulTime")  # noqa: E731
        plane.until(last, "the CronJob to have seen it")
    finally:
        _patch(plane, suspend=True, schedule="0 1 * * *")
        plane.kubectl("-n", "frpipe", "delete", "jobs", "--all")


def _of_schedule(plane: ControlPlane) -> list[str]:
    jobs = plane.get("jobs")["items"]
    return [
        job["metadata"]["name"]
        for job in jobs
        if "batch.kubernetes.io/cronjob-scheduled-timestamp" in job["metadata"].get("annotations", {})
    ]


def _events(plane: ControlPlane, reason: str) -> list[Object]:
    found: list[Object] = plane.get("events", "", f"--field-selector=reason={reason}")["items"]
    return found


def _patch(plane: ControlPlane, **spec: Any) -> None:
    patch = json.dumps({"spec": spec})
    plane.kubectl("-n", "frpipe", "patch", "cronjob", "nightly", "-p", patch)

"""What a real API server makes of the manifests: nothing refused, nothing warned of, nothing changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from control_plane import ControlPlane, Object
from k8s_overlays import OVERLAYS, ROOT, built, of_kind, pod_templates

pytestmark = pytest.mark.slow
_PROMETHEUS = "monitoring.coreos.com/v1"


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, empty_plane: ControlPlane) -> str:
    name: str = request.param
    if any(each["apiVersion"] == _PROMETHEUS for each in built(name)):
        known = empty_plane.kubectl("get", "crd", "--output=name")
        if "podmonitors" not in known or "prometheusrules" not in known:
            pytest.skip("the definitions of the Prometheus operator are not in FRPIPE_KUBERNETES/definitions")
    return name


def _apply(plane: ControlPlane, overlay: str, *options: str) -> None:
    """As the page says, but for the overlay that a test puts together."""
    given = yaml.safe_dump_all(built(overlay))
    done = plane.call("apply", *options, "--validate=strict", "--filename=-", given=given)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def _stored(plane: ControlPlane, overlay: str) -> list[Object]:
    found: list[Object] = json.loads(
        plane.kubectl("get", "--filename=-", "--output=json", given=yaml.safe_dump_all(built(overlay)))
    )["items"]
    return found


def _versions(objects: list[Object]) -> list[str]:
    """Those of the specifications: statuses are the controllers'."""
    return [
        str(each["metadata"].get("generation") or each["metadata"]["resourceVersion"]) for each in objects
    ]


def test_an_overlay_is_applied_to_an_empty_cluster_as_the_page_says(empty_plane: ControlPlane) -> None:
    page = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    assert "kubectl apply -k k8s/overlays/cpu" in page
    if empty_plane.call("get", "namespace", "frpipe").returncode == 0:
        pytest.skip("other tests came first, which apply on the server")
    done = empty_plane.call("apply", "--kustomize", str(ROOT / "k8s/overlays/cpu"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    stored = _versions(_stored(empty_plane, "cpu"))
    again = empty_plane.kubectl("apply", "--kustomize", str(ROOT / "k8s/overlays/cpu"))
    # It says so of disruption budgets each time, and changes nothing.
    changed = {line.partition("/")[0] for line in again.splitlines() if not line.endswith(" unchanged")}
    assert changed <= {"poddisruptionbudget.policy"}
    assert _versions(_stored(empty_plane, "cpu")) == stored
    # What follows is applied on the server.
    empty_plane.kubectl("delete", "--kustomize", str(ROOT / "k8s/overlays/cpu"))


def test_an_overlay_is_taken_as_it_is(overlay: str, empty_plane: ControlPlane) -> None:
    _apply(empty_plane, overlay, "--server-side")
    stored = _stored(empty_plane, overlay)
    assert len(stored) == len(built(overlay))
    for sent, kept in zip(built(overlay), stored, strict=True):
        lost = list(_differences(sent, kept, ()))
        assert not lost, f"{sent['kind']} {sent['metadata']['name']}: {lost}"
    _apply(empty_plane, overlay, "--server-side")
    assert _versions(_stored(empty_plane, overlay)) == _versions(stored)


def _differences(sent: Any, kept: Any, place: tuple[object, ...]) -> Iterator[object]:
    """Where the server holds something else than what it was sent; what it adds is its own."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        for name, value in sent.items():
            yield from _differences(value, kept.get(name), (*place, name))
    elif isinstance(sent, list) and isinstance(kept, list) and len(sent) == len(kept):
        for number, (one, other) in enumerate(zip(sent, kept, strict=True)):
            yield from _differences(one, other, (*place, number))
    # An empty list or map may be left out.
    elif sent != kept and (sent or kept):
        yield place, sent, kept


def test_every_pod_is_admitted(overlay: str, empty_plane: ControlPlane) -> None:
    _apply(empty_plane, overlay, "--server-side")
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template.get("metadata", {}), "name": f"pod-{number}", "namespace": "frpipe"},
            "spec": template["spec"],
        }
        for number, (_, template) in enumerate(pod_templates(overlay))
    ]
    done = empty_plane.call(
        "create", "--dry-run=server", "--validate=strict", "--filename=-", "--output=yaml",
        given=yaml.safe_dump_all(pods),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    classes = of_kind(overlay, "PriorityClass")
    for pod in yaml.safe_load_all(done.stdout):
        assert pod["spec"]["priority"] == classes[pod["spec"]["priorityClassName"]]["value"]
        assert pod["spec"]["preemptionPolicy"] == "Never"
        assert pod["spec"]["imagePullSecrets"] == [{"name": "frpipe-registry"}]
        # Requests are limits, as the page says; the launcher alone waits more than it works.
        waits = pod["spec"]["serviceAccountName"] == "frpipe-launcher"
        assert pod["status"]["qosClass"] == ("Burstable" if waits else "Guaranteed")


def test_a_pod_outside_of_the_profile_is_refused(empty_plane: ControlPlane) -> None:
    _apply(empty_plane, "cpu", "--server-side")
    (_, template), *_ = pod_templates("cpu")
    spec = {**template["spec"], "securityContext": {}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root", "namespace": "frpipe"},
        "spec": spec,
    }
    said = empty_plane.ask("/api/v1/namespaces/frpipe/pods?dryRun=All", pod)
    assert said["code"] == 403
    assert "restricted" in said["message"]


def test_secrets_are_made_as_the_page_says(empty_plane: ControlPlane, tmp_path: Path) -> None:
    page = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    (tmp_path / "storage.env").write_text("AWS_ACCESS_KEY_ID=one\nAWS_SECRET_ACCESS_KEY=two\n")
    (tmp_path / "key").write_bytes(b"\0" * 32)
    (tmp_path / "registry.json").write_text('{"auths": {}}')
    _apply(empty_plane, "cpu", "--server-side")
    commands = [
        line.split()
        for line in page.splitlines()
        if line.strip().startswith("kubectl -n frpipe create secret")
    ]
    assert len(commands) == 3
    for _, *words in commands:
        placed = [
            word.replace("=", f"={tmp_path}/", 1) if word.startswith("--from-env") else word for word in words
        ]
        placed = [
            f"{word.rpartition('=')[0]}={tmp_path}/{word.rpartition('=')[2]}"
            if word.startswith("--from-file")
            else word
            for word in placed
        ]
        empty_plane.kubectl(*placed, "--dry-run=server")


def test_with_a_quota_every_pod_says_what_it_takes(empty_plane: ControlPlane) -> None:
    _apply(empty_plane, "cpu+logs", "--server-side")
    names = [
        f"{when}.{what}" for when in ("requests", "limits") for what in ("cpu", "memory", "ephemeral-storage")
    ]
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "all", "namespace": "frpipe"},
        "spec": {"hard": {name: "10000" if "cpu" in name else "100Ti" for name in names}},
    }
    empty_plane.kubectl("apply", "--filename=-", given=yaml.safe_dump(quota))
    try:
        empty_plane.until(
            lambda: empty_plane.get("resourcequota", "all").get("status", {}).get("used"), "the quota"
        )
        for number, (_, template) in enumerate(pod_templates("cpu+logs")):
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"pod-{number}"},
                "spec": template["spec"],
            }
            said = empty_plane.ask("/api/v1/namespaces/frpipe/pods?dryRun=All", pod)
            assert said["kind"] == "Pod", said["message"]
    finally:
        empty_plane.kubectl("--namespace=frpipe", "delete", "resourcequota", "all")

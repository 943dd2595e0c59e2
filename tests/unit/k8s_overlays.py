"""The Kubernetes overlays as `kubectl kustomize` builds them, for the tests that look at them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ("cpu", "gpu", "spot", "local", "cpu+logs+alerts")
Object = dict[str, Any]

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@cache
def built(overlay: str) -> tuple[Object, ...]:
    """Every object of an overlay; `cpu+logs` is `cpu` with the component `logs`."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on this machine: it builds the overlays")
    name, *components = overlay.split("+")
    folder = ROOT / "k8s/overlays" / name
    with tempfile.TemporaryDirectory() as made:
        if components:
            paths = [folder, *(ROOT / "k8s/components" / each for each in components)]
            overlaid, *added = (os.path.relpath(path, Path(made).resolve()) for path in paths)
            content = {"resources": [overlaid], "components": added}
            (Path(made) / "kustomization.yaml").write_text(yaml.safe_dump(content))
            folder = Path(made)
        command = ["kubectl", "kustomize", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, kind: str) -> dict[str, Object]:
    """Its objects of one kind, by name."""
    return {each["metadata"]["name"]: each for each in built(overlay) if each["kind"] == kind}


def workers_of(job: Object) -> list[Object]:
    """The worker groups of a RayJob."""
    groups: list[Object] = job["spec"]["rayClusterSpec"].get("workerGroupSpecs", [])
    return groups


def pod_templates(overlay: str) -> Iterator[tuple[str, Object]]:
    """Every pod template with a name for messages."""
    for name, job in of_kind(overlay, "RayJob").items():
        yield f"{name} submitter", job["spec"]["submitterPodTemplate"]
        yield f"{name} head", job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
        yield from ((f"{name} {group['groupName']}", group["template"]) for group in workers_of(job))
    for name, cron in of_kind(overlay, "CronJob").items():
        yield name, cron["spec"]["jobTemplate"]["spec"]["template"]


def quantity(text: str) -> float:
    """`7`, `500m`, `24Gi` as a number."""
    if text[-2:] in _UNITS:
        return float(text[:-2]) * _UNITS[text[-2:]]
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)

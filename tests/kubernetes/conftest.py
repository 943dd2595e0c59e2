"""One control plane for all tests of this folder, with definitions of KubeRay and the Prometheus operator."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from control_plane import PROGRAMS, ControlPlane
from launchers import Launcher

ROOT = Path(__file__).resolve().parents[2]
_SHARED = Path(os.environ.get("FRPIPE_SHARED", ROOT.parent / "shared"))
_runs = (f"run-{number}" for number in itertools.count(1))
Launch = Callable[..., Launcher]
_NEEDED = "a control plane is needed: docs/kubernetes.md says what FRPIPE_KUBERNETES has to hold"


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of programs of Kubernetes."""
    folder = Path(os.environ.get("FRPIPE_KUBERNETES", "/nonexistent"))
    missing = [name for name in PROGRAMS if not os.access(folder / name, os.X_OK)]
    if missing:
        pytest.skip(f"{_NEEDED} (not there: {', '.join(missing)})")
    return folder


@pytest.fixture(scope="session")
def definitions(programs: Path) -> list[Path]:
    """Custom resource definitions: beside the programs, and KubeRay's also in ../shared."""
    found = {path.name: path for path in (_SHARED / "k8s").glob("ray.io_*.yaml")}
    found.update({path.name: path for path in (programs / "definitions").glob("*.yaml")})
    if not any(name.startswith("ray.io_rayjobs") for name in found):
        pytest.skip("KubeRay's definitions are not there: ray.io_*.yaml in FRPIPE_KUBERNETES/definitions")
    return sorted(found.values())


@pytest.fixture(scope="session")
def empty_plane(
    programs: Path, definitions: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """A control plane that knows all kinds, and has nothing of ours."""
    plane = ControlPlane(programs, tmp_path_factory.mktemp("control-plane"))
    try:
        plane.start()
        for path in definitions:
            # They are large: on a busy machine the server gives up on its own.
            apply = ("apply", "--server-side", f"--filename={path}")
            plane.until(lambda words=apply: plane.call(*words).returncode == 0, f"{path.name} to be taken")
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=300s")
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="session")
def plane(empty_plane: ControlPlane) -> ControlPlane:
    """The control plane with the overlay `local`, whose image has a name."""
    empty_plane.kubectl("apply", "--server-side", "--kustomize", str(ROOT / "k8s/overlays/local"))
    empty_plane.until(
        lambda: "default" in empty_plane.kubectl("-n", "frpipe", "get", "serviceaccounts", "-o", "name"),
        "the accounts of the namespace",
    )
    return empty_plane


@pytest.fixture
def account(plane: ControlPlane, tmp_path: Path) -> Path:
    """The folder that a pod of the launcher has: a token, and the certificate of the server."""
    (tmp_path / "ca.crt").write_bytes(plane.certificate.read_bytes())
    (tmp_path / "token").write_text(plane.kubectl("-n", "frpipe", "create", "token", "frpipe-launcher"))
    return tmp_path


@pytest.fixture
def launch(plane: ControlPlane, account: Path) -> Iterator[Launch]:
    """Start a launcher; what it started is cleared away."""
    begun: list[Launcher] = []

    def start(*words: str, job: str = "enroll", run: str = "", **more: str) -> Launcher:
        launcher = Launcher(plane, account, job, run or next(_runs), *words, **more)
        begun.append(launcher)
        return launcher

    yield start
    for launcher in begun:
        launcher.process.kill()
        launcher.process.wait()
    plane.kubectl("-n", "frpipe", "delete", "rayjobs", "--selector=frpipe/job")

"""The launcher as a process against a control plane, and the status of RayJobs that KubeRay would write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from control_plane import ControlPlane, Object

_SCRIPT = Path(__file__).resolve().parents[2] / "k8s/base/launch.py"
_JOBS = "/apis/ray.io/v1/namespaces/frpipe/rayjobs"
# The launcher, with another folder of its account than that of a pod.
_CALL = """
import importlib.util, pathlib, signal, sys
script, folder = sys.argv[1:3]
found = importlib.util.spec_from_file_location("launch", script)
launch = importlib.util.module_from_spec(found)
found.loader.exec_module(launch)
launch._ACCOUNT = pathlib.Path(folder)
for each in (signal.SIGINT, signal.SIGTERM):
    signal.signal(each, launch._stop)
sys.exit(launch.main(sys.argv[3:]))
"""


class Launcher:
    """A launcher as it runs in its pod, and what it says."""

    def __init__(
        self, plane: ControlPlane, folder: Path, job: str, run: str, *words: str, **more: str
    ) -> None:
        self.plane, self.run = plane, run
        self._folder = folder
        command = [
            sys.executable, "-c", _CALL, str(_SCRIPT), str(folder),
            job, "--api", plane.server, "--run", run, "--pause-s", "0.2", *words,
        ]  # fmt: skip
        self._out = folder / f"{run}.out"
        with self._out.open("ab") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=out, env={**os.environ, "NAMESPACE": "frpipe", **more}
            )

    @property
    def said(self) -> str:
        return self._out.read_text()

    def job(self, attempt: int = 1) -> Object:
        """A RayJob of its, once it is there."""
        path = f"{_JOBS}/{self.run}-{attempt}"

        def found() -> Object | None:
            assert self.process.poll() is None, self.said
            there = self.plane.ask(path)
            return there if there["kind"] == "RayJob" else None

        job: Object = self.plane.until(found, f"{self.run}-{attempt}; said so far: {self.said}")
        return job

    def play(self, status: Object, attempt: int = 1) -> None:
        """Write what KubeRay would write of an attempt."""
        self.job(attempt)
        path = f"{_JOBS}/{self.run}-{attempt}/status"
        said = self.plane.ask(path, {"status": status}, method="PATCH")
        assert said["kind"] == "RayJob", said["message"]

    def ends(self) -> int:
        """Its exit code."""
        return self.process.wait(300)

"""A Ray cluster of several nodes on this machine: a head without CPUs, workers of one CPU that may die."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluster import Cluster, free_ports
from ray.util.state import list_nodes

_START_S = 180
_RAY = str(Path(sys.executable).parent / "ray")
_OBJECT_STORE_BYTES = 200 << 20
# A busy machine may take longer than the 30 s that Ray gives a node to start.
_STARTS = 3
# A node that is killed says nothing: Ray asks it every so often, and by default gives it 15 s.
_SOON = {"RAY_health_check_period_ms": "500", "RAY_health_check_timeout_ms": "4000"}


@dataclass
class Nodes:
    """A running cluster."""

    folder: Path
    environment: dict[str, str]
    address: str = ""
    dashboard: str = ""
    head: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def submit(self, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
        """`ray job submit`, to its end."""
        return Cluster(self.address, self.head, self.dashboard).submit(folder, *words)

    def add(self) -> None:
        """Start a worker node and wait for it: Ray mixes up nodes of one machine that start together."""
        expected = self.alive() + 1
        for _ in range(_STARTS):
            port = free_ports(1)[0]
            # As on a machine of its own: of nodes that share a folder each unpacks the submitted code, over
            # what the driver is about to read.
            own = tempfile.mkdtemp(dir=self.folder)
            options = ("--num-cpus=1", f"--runtime-env-agent-port={port}", f"--temp-dir={own}")
            self._start(f"--address={self.address}", *options)
            if self._counted(expected):
                return
            _end(self.processes.pop())
        self._give_up()

    def mend(self, count: int) -> None:
        """Start as many worker nodes as are missing."""
        for each in self.processes[1:]:
            if not _has_raylet(each.pid):
                _end(each)
                self.processes.remove(each)
        self.wait(len(self.processes))
        while len(self.processes) <= count:
            self.add()

    def alive(self) -> int:
        """Nodes that Ray counts, the head too."""
        return sum(node.state == "ALIVE" for node in list_nodes(address=self.dashboard, timeout=30))

    def wait(self, nodes: int) -> None:
        """Until exactly so many nodes are alive."""
        if not self._counted(nodes):
            self._give_up()

    def start_head(self) -> None:
        port, dashboard, client = free_ports(3)
        options = ("--head", "--num-cpus=0", f"--port={port}", f"--dashboard-port={dashboard}")
        self._start(*options, f"--ray-client-server-port={client}", f"--temp-dir={self.folder}")
        self.address, self.dashboard = f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"
        self.head = self.processes[0].pid
        self.wait(1)

    def _counted(self, nodes: int) -> bool:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self.processes[-1].poll() is None:
            with contextlib.suppress(Exception):
                if self.alive() == nodes:
                    return True
            time.sleep(0.2)
        return False

    def _give_up(self) -> None:
        logs = "\n".join(log.read_text()[-1500:] for log in self.folder.glob("*.log"))
        raise RuntimeError(f"a node did not start:\n{logs}")

    def _start(self, *options: str) -> None:
        agent_http, agent_grpc, metrics = free_ports(3)
        command = [_RAY, "start", "--block", "--node-ip-address=127.0.0.1", "--disable-usage-stats", *options]
        command += [f"--dashboard-agent-listen-port={agent_http}", f"--metrics-export-port={metrics}"]
        command += [
            f"--dashboard-agent-grpc-port={agent_grpc}",
            f"--object-store-memory={_OBJECT_STORE_BYTES}",
        ]
        with (self.folder / f"{len(self.processes)}.log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    command, stdout=log, stderr=log, env=self.environment, start_new_session=True
                )
            )


@contextlib.contextmanager
def ray_nodes(count: int, faults: Path, paths: Sequence[Path]) -> Iterator[Nodes]:
    """A cluster of a head and `count` workers, whose processes read their faults from `faults`."""
    folder = Path(tempfile.mkdtemp(prefix="fr", dir="/tmp"))
    environment = {
        **os.environ,
        **_SOON,
        "RAY_AUTH_MODE": "disabled",
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "FRPIPE_FAULTS": str(faults),
    }
    nodes = Nodes(folder, environment)
    try:
        nodes.start_head()
        for _ in range(count):
            nodes.add()
        yield nodes
    finally:
        for each in reversed(nodes.processes):
            _end(each)
        shutil.rmtree(folder, ignore_errors=True)


def _has_raylet(pid: int) -> bool:
    """Whether a child of `ray start --block` is a raylet that lives."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    with contextlib.suppress(OSError):
        for child in children.read_text().split():
            stat = Path(f"/proc/{child}/stat").read_text()
            if "(raylet)" in stat and stat.rsplit(")", 1)[1].split()[0] != "Z":
                return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)

"""A real Ray cluster for tests: on its own ports and folder, ended by its own process group."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_START_S, _TRIES = 120, 3


@dataclass(frozen=True)
class Cluster:
    """Where it answers."""

    address: str
    pid: int
    job_server: str = ""

    def actor_pids(self, name: str) -> list[int]:
        """Processes of this cluster that run actors of a map operator."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                title = (folder / "cmdline").read_bytes()
                if (
                    title.startswith(b"ray::")
                    and f"({name})".encode() in title
                    and self._owns(int(folder.name))
                ):
                    found.append(int(folder.name))
        return found

    def submit(self, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
        """`ray job submit` of a command in a folder, to its end."""
        excludes = json.dumps({"excludes": [".venv", ".git", "out", "tests", "docs"]})
        where = ("--address", self.job_server, "--working-dir", ".", "--runtime-env-json", excludes)
        command = ["ray", "job", "submit", *where, "--", *map(str, words)]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)

    def _owns(self, pid: int) -> bool:
        while pid > 1 and pid != self.pid:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        return pid == self.pid


@contextlib.contextmanager
def ray_cluster(
    cpus: int = 2, environment: Mapping[str, str] | None = None, *, job_server: bool = False
) -> Iterator[Cluster]:
    """Start a head node, wait until it answers, and end it at the end.

    environment: what its workers have beside that of this process.  job_server: whether jobs can be
    submitted: its dashboard takes fifteen seconds of a core to start, and then two fifths of it.
    """
    folder = Path(tempfile.mkdtemp(prefix="fr", dir="/tmp"))
    heads: list[subprocess.Popen[bytes]] = []
    try:
        yield _started(cpus, folder, heads, environment or {}, job_server=job_server)
    finally:
        for head in heads:
            _end(head)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def joined_node(cluster: Cluster, cpus: int, environment: Mapping[str, str]) -> Iterator[None]:
    """Add a second node to a cluster, wait until it is there, and end it at the end.

    environment: as of `ray_cluster`.
    """
    agent_http, agent_grpc, metrics = free_ports(3)
    command = [
        str(Path(sys.executable).parent / "ray"),
        "start",
        "--block",
        f"--address={cluster.address}",
        f"--num-cpus={cpus}",
        "--node-ip-address=127.0.0.1",
        f"--dashboard-agent-listen-port={agent_http}",
        f"--dashboard-agent-grpc-port={agent_grpc}",
        f"--metrics-export-port={metrics}",
        # Those of the head are taken from the lowest port up.
        "--min-worker-port=30000",
        "--max-worker-port=32000",
        "--object-store-memory=100000000",
        "--disable-usage-stats",
    ]
    with tempfile.TemporaryFile() as log:
        node = subprocess.Popen(
            command, stdout=log, stderr=log, env=_environment(environment), start_new_session=True
        )
        try:
            if not _are_alive(cluster.address, 2):
                log.seek(0)
                raise RuntimeError(f"the node did not join:\n{log.read().decode(errors='replace')[-3000:]}")
            yield
        finally:
            _end(node)


_NODES = """
import sys, time, ray
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(0.5)
"""


def _are_alive(address: str, count: int) -> bool:
    """Wait until so many nodes are alive. On a busy machine Ray may refuse the first who ask."""
    command = [sys.executable, "-c", _NODES, address, str(count)]
    for _ in range(_TRIES):
        with contextlib.suppress(subprocess.TimeoutExpired):
            if not subprocess.run(command, capture_output=True, timeout=2 * _START_S, check=False).returncode:
                return True
    return False


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    # Modules of this folder can be named as decode plugins on the workers.
    return {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(Path(__file__).parent), **more}


def _started(
    cpus: int,
    folder: Path,
    heads: list[subprocess.Popen[bytes]],
    environment: Mapping[str, str],
    *,
    job_server: bool,
) -> Cluster:
    """A cluster; again on other ports where another process has taken one in the meantime."""
    log = folder / "head.log"
    while True:
        port, dashboard, client, agent_http, agent_grpc, metrics = free_ports(6)
        command = [
            str(Path(sys.executable).parent / "ray"),
            "start",
            "--head",
            "--block",
            f"--num-cpus={cpus}",
            "--node-ip-address=127.0.0.1",
            f"--port={port}",
            f"--include-dashboard={str(job_server).lower()}",
            f"--dashboard-port={dashboard}",
            f"--ray-client-server-port={client}",
            f"--dashboard-agent-listen-port={agent_http}",
            f"--dashboard-agent-grpc-port={agent_grpc}",
            f"--metrics-export-port={metrics}",
            f"--temp-dir={folder}",
            "--disable-usage-stats",
        ]
        with log.open("ab") as out:
            head = subprocess.Popen(
                command, stdout=out, stderr=out, env=_environment(environment), start_new_session=True
            )
        heads.append(head)
        address = f"127.0.0.1:{port}"
        if job_server and _answers(head, (port, dashboard)) and _has_joined(head, dashboard):
            return Cluster(address, head.pid, f"http://127.0.0.1:{dashboard}")
        if not job_server and _answers(head, (port,)) and _are_alive(address, 1):
            return Cluster(address, head.pid)
        _end(head)
        if len(heads) == _TRIES:
            raise RuntimeError(f"Ray did not start:\n{log.read_text()[-3000:]}")


def free_ports(count: int) -> list[int]:
    """Ports that are free now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _answers(head: subprocess.Popen[bytes], ports: tuple[int, ...]) -> bool:
    """Whether all ports of a head node answer before it ends."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and head.poll() is None:
        try:
            for port in ports:
                socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return True
    return False


def _has_joined(head: subprocess.Popen[bytes], dashboard: int) -> bool:
    """Whether the node is known to its own head before it ends: until then nobody can join the cluster."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and head.poll() is None:
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{dashboard}/api/v0/nodes"
            with urllib.request.urlopen(url, timeout=10) as answer:
                if b"ALIVE" in answer.read():
                    return True
        time.sleep(0.2)
    return False


def _end(head: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(3)
            return

"""What a process without the token sees of another's Ray: its ports, and what they answer."""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import pkgutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import ray.core.generated as protocols

_LISTENS = "0A"
# Services that Ray keeps in no Python module.
_OTHERS = (
    "/ray.rpc.ObjectManagerService/Push",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.ObjectManagerService/FreeObjects",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
PATHS = (
    "/",
    "/metrics",
    "/nodes",
    "/get_runtime_envs_info",
    "/get_or_create_runtime_env",
    "/api/version",
    "/api/jobs/",
    "/api/job_agent/jobs/",
    "/api/healthz",
    "/api/local_raylet_healthz",
)


@dataclass(frozen=True)
class Port:
    """A port that a process listens at. program: the last part of its program's name."""

    program: str
    host: str
    number: int

    @property
    def on_loopback(self) -> bool:
        address = ipaddress.ip_address(self.host)
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback

    def speaks_http(self) -> bool:
        """Whether it answers in HTTP/1; else in gRPC."""
        with socket.create_connection(("127.0.0.1", self.number), timeout=20) as connection:
            connection.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            return connection.recv(5) == b"HTTP/"

    def answers(self, methods: list[str]) -> dict[str, str]:
        """The status with which each method answers an empty request without a token."""
        found = {}
        with grpc.insecure_channel(self._target) as channel:
            for method in methods:
                try:
                    channel.unary_unary(method)(b"", timeout=20)
                    found[method] = "OK"
                except grpc.RpcError as error:
                    found[method] = error.code().name
        return found

    @property
    def _target(self) -> str:
        return f"127.0.0.1:{self.number}"

    def status(self, verb: str, path: str) -> int:
        """Of a request over HTTP without a token."""
        data = b"" if verb == "POST" else None
        request = urllib.request.Request(f"http://{self._target}{path}", data, method=verb)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code


def ray_methods() -> list[str]:
    """Every method of Ray's gRPC services."""
    found = set(_OTHERS)
    for module in pkgutil.iter_modules(protocols.__path__):
        if module.name.endswith("_pb2"):
            services = importlib.import_module(
                f"{protocols.__name__}.{module.name}"
            ).DESCRIPTOR.services_by_name
            for service in services.values():
                found |= {f"/{service.full_name}/{method.name}" for method in service.methods}
    return sorted(found)


def ports(pid: int) -> list[Port]:
    """All ports that a process, and those that it started, listen at."""
    listening = dict(_listening())
    return [
        Port(_program(each), *listening[inode])
        for each in family(pid)
        for inode in _sockets(each)
        if inode in listening
    ]


def family(pid: int) -> list[int]:
    """A process and all that came from it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def _listening() -> Iterator[tuple[str, tuple[str, int]]]:
    """Inode of each listening socket, its address and port."""
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == _LISTENS:
                host, _, port = words[1].partition(":")
                yield words[9], (_host(host), int(port, 16))


def _host(text: str) -> str:
    """Four bytes at a time, each four in the machine's order."""
    raw = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8))
    return str(ipaddress.ip_address(raw))


def _sockets(pid: int) -> Iterator[str]:
    for handle in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            target = str(handle.readlink())
            if target.startswith("socket:["):
                yield target[8:-1]


def _program(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").split()
    return next((Path(word).name for word in words if word.startswith("ray::")), "") or next(
        (Path(word).name for word in words if word.endswith((".py", "gcs_server", "raylet"))), words[0]
    )

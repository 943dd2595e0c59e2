"""A control plane of Kubernetes on this machine: etcd, the API server and the controllers, and no node.

The programs lie in the folder that FRPIPE_KUBERNETES names; nothing is downloaded. What a node and KubeRay's
operator would do, tests do by writing statuses.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

Object = dict[str, Any]

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
# The controllers that our objects meet. That of lost pods is not among them: no node is there.
CONTROLLERS = (
    "cronjob-controller",
    "job-controller",
    "ttl-after-finished-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
    "disruption-controller",
    "resourcequota-controller",
)
_START_S = 300.0


class ControlPlane:
    """Processes on loopback, with ports and a folder of their own."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._etcd, self._peer, self._port, self._controllers = _free_ports(4)
        self._admin = secrets.token_hex(16)
        self.server = f"https://127.0.0.1:{self._port}"
        # Made by the API server when it first starts.
        self.certificate = folder / "certificates/apiserver.crt"
        self.kubeconfig = folder / "kubeconfig"

    def start(self) -> None:
        """All of it; returns when it takes requests."""
        self._write_keys()
        etcd = f"http://127.0.0.1:{self._etcd}"
        peer = f"http://127.0.0.1:{self._peer}"
        self._begin("etcd", [
            f"--data-dir={self._folder / 'etcd'}", "--unsafe-no-fsync", "--name=one",
            f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=one={peer}",
        ])  # fmt: skip
        self.start_api_server()
        self._write_kubeconfig()
        self._begin("kube-controller-manager", [
            f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1",
            f"--secure-port={self._controllers}", f"--controllers={','.join(CONTROLLERS)}",
            f"--service-account-private-key-file={self._folder / 'accounts.key'}",
            f"--root-ca-file={self.certificate}",
        ])  # fmt: skip

    def start_api_server(self) -> None:
        """Also after `stop_api_server`: with what etcd holds."""
        keys = self._folder / "accounts.key"
        self._begin("kube-apiserver", [
            f"--etcd-servers=http://127.0.0.1:{self._etcd}", f"--cert-dir={self.certificate.parent}",
            "--bind-address=127.0.0.1", f"--secure-port={self._port}",
            # Of a block for documentation: nobody is to find this server.
            "--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=RBAC",
            # Not on by default, but on platforms that look closer at owners.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            f"--token-auth-file={self._folder / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys}", f"--service-account-signing-key-file={keys}",
        ])  # fmt: skip
        self.until(self._is_ready, "the API server to be ready", _START_S)

    def stop_api_server(self) -> None:
        self._end("kube-apiserver")

    def stop(self) -> None:
        for name in reversed(list(self._running)):
            self._end(name)

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """What the command prints; its errors are ours."""
        done = self.call(*words, given=given)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def call(self, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """A kubectl that may fail, as an administrator of the cluster."""
        program = str(self._programs / "kubectl")
        return subprocess.run(
            [program, f"--kubeconfig={self.kubeconfig}", *words],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HOME": str(self._folder), "KUBECTL_KUBERC": "false"},
        )

    def ask(self, path: str, body: Object | None = None, *, method: str | None = None) -> Object:
        """A request to the API, as an administrator; a refusal is returned as the Status that it is."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        request = urllib.request.Request(
            self.server + path,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self._admin}", "Content-Type": kind},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=60, context=self._trust()) as reply:
                found: Object = json.load(reply)
        except urllib.error.HTTPError as error:
            found = json.load(error)
        return found

    def get(self, kind: str, name: str = "", *options: str) -> Object:
        """An object of the namespace of the project, or a list of them."""
        words = ["get", kind, *([name] if name else []), *options, "--namespace=frpipe", "--output=json"]
        found: Object = json.loads(self.kubectl(*words))
        return found

    def until(self, holds: Callable[[], Any], what: str, seconds: float = 300.0) -> Any:
        """The first true answer."""
        end = time.monotonic() + seconds
        while not (found := holds()):
            assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
            for name, process in self._running.items():
                assert process.poll() is None, f"{name} has ended: {self._log(name).read_text()[-2000:]}"
            time.sleep(0.2)
        return found

    def _is_ready(self) -> bool:
        with suppress(OSError):
            request = urllib.request.Request(
                f"{self.server}/readyz", headers={"Authorization": f"Bearer {self._admin}"}
            )
            with urllib.request.urlopen(request, timeout=10, context=self._trust()) as reply:
                return bool(reply.status == 200)
        return False

    def _trust(self) -> Any:
        import ssl

        return ssl.create_default_context(cafile=self.certificate)

    def _begin(self, name: str, options: Sequence[str]) -> None:
        with self._log(name).open("ab") as log:
            program = [str(self._programs / name), *options]
            self._running[name] = subprocess.Popen(program, stdout=log, stderr=log, cwd=self._folder)

    def _end(self, name: str) -> None:
        process = self._running.pop(name)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _write_keys(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        plain = serialization.NoEncryption()
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain
        )
        (self._folder / "accounts.key").write_bytes(text)
        (self._folder / "tokens.csv").write_text(f'{self._admin},admin,admin,"system:masters"\n')

    def _write_kubeconfig(self) -> None:
        context = {"cluster": "here", "user": "admin"}
        cluster = {"server": self.server, "certificate-authority": str(self.certificate)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self._admin}}],
            "contexts": [{"name": "here", "context": context}],
            "current-context": "here",
        }
        self.kubeconfig.write_text(json.dumps(config))


def _free_ports(number: int) -> list[int]:
    taken = [socket.socket() for _ in range(number)]
    for each in taken:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports

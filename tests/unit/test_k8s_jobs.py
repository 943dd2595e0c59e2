"""What the RayJobs run exists, and the launcher starts, awaits and repeats them as their exit codes ask."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.client import IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from k8s_overlays import ROOT, of_kind

from frpipe.core.errors import EXIT_UNEXPECTED, ClusterError, FrpipeError, StorageError

# What a RayJob says of itself, one after the other. None: it is there no more.
Statuses = list[dict[str, Any] | None]


def _module(path: Path) -> Any:
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


LAUNCH = _module(ROOT / "k8s/base/launch.py")
DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
RUNNING = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}


def _failed(code: int) -> dict[str, Any]:
    message = f"Job entrypoint command failed with exit code {code}, last available logs:\nexit code 99"
    return {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "message": message}


# commands


def _commands() -> Iterator[tuple[str, list[str]]]:
    """Of the manifests, and of the documentation with what the launcher adds to them."""
    entrypoints = {n: j["spec"]["entrypoint"].split() for n, j in of_kind("cpu", "RayJob").items()}
    yield from entrypoints.items()
    page = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8").replace("\\\n", " ")
    for job, words in re.findall(r"launch\.py (\w+) .*? -- (.*)", page):
        yield job, entrypoints[job] + shlex.split(words)


def test_commands_name_jobs_and_options_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    commands = list(_commands())
    assert len(commands) > len(of_kind("cpu", "RayJob"))
    for job, (python, script, *words) in commands:
        assert python == "python"
        assert script == f"/app/jobs/{job}.py"
        with pytest.raises(SystemExit):
            _module(ROOT / "jobs" / f"{job}.py").main(["--help"])
        offered = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        assert {word for word in words if word.startswith("--")} <= offered, job


def test_configuration_files_of_commands_are_mounted() -> None:
    configs = of_kind("cpu", "ConfigMap")
    data = next(c["data"] for name, c in configs.items() if name.startswith("frpipe-config-"))
    for job, words in _commands():
        for path in (word for word in words if word.startswith("/etc/frpipe/")):
            assert Path(path).name in data, job


# the launcher


def _said(reason: str, name: str, message: str = "") -> dict[str, Any]:
    details = {"name": name, "group": "ray.io", "kind": "rayjobs"}
    return {"kind": "Status", "reason": reason, "details": details, "message": message}


class Cluster:
    """An API server with one suspended RayJob; each job that is made passes through a list of statuses."""

    def __init__(self, plans: list[Statuses]) -> None:
        self.plans = plans
        self.jobs: dict[str, dict[str, Any]] = {"enroll": of_kind("local", "RayJob")["enroll"]}
        self.states: dict[str, Statuses] = {}
        self.made: list[str] = []
        # Answers that come before others.
        self.refusals: list[tuple[int, Any]] = []

    def make(self, job: dict[str, Any]) -> bool:
        name = job["metadata"]["name"]
        if name in self.jobs:
            return False
        self.jobs[name], self.states[name] = job, list(self.plans[len(self.made)])
        self.made.append(name)
        return True

    def look(self, name: str) -> dict[str, Any] | None:
        job = self.jobs.get(name)
        states = self.states.get(name)
        if job is None or not states:
            return job
        status = states.pop(0) if len(states) > 1 else states[0]
        return None if status is None else {**job, "status": status}


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[Cluster, str]]]:
    servers = []

    def start(*plans: Statuses) -> tuple[Cluster, str]:
        cluster = Cluster(list(plans))

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                found = cluster.look(name)
                self._answer(*((200, found) if found else (404, _said("NotFound", name))))

            def do_POST(self) -> None:
                job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = job["metadata"]["name"]
                self._answer(*((201, job) if cluster.make(job) else (409, _said("AlreadyExists", name))))

            def _answer(self, code: int, body: Any) -> None:
                if cluster.refusals:
                    code, body = cluster.refusals.pop(0)
                self.send_response(code)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return cluster, f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_an_image_that_is_not_set_starts_nothing(
    serve: Callable[..., tuple[Cluster, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster, api = serve([DONE])
    cluster.jobs["enroll"] = of_kind("cpu+logs", "RayJob")["enroll"]
    assert _launch(api) == LAUNCH.USAGE
    assert "no digest is set for the image example/frpipe:" in capsys.readouterr().err
    # That of the component is another one, with a name of its own.
    model = json.dumps(cluster.jobs["enroll"])
    cluster.jobs["enroll"] = json.loads(model.replace("SET-THE-DIGEST-OF-THE-IMAGE", "0" * 64))
    assert _launch(api) == LAUNCH.USAGE
    assert "no digest is set for the image fluent/fluent-bit:" in capsys.readouterr().err
    assert not cluster.made


def _launch(api: str, *words: str) -> int:
    code: int = LAUNCH.main(["enroll", "--api", api, "--run", "night", "--pause-s", "0", *words])
    return code


def test_a_job_is_copied_started_and_awaited(serve: Any) -> None:
    cluster, api = serve([{}, RUNNING, DONE])
    assert _launch(api, "--", "--manifest", "s3://photos/a b.csv") == 0
    assert cluster.made == ["night-1"]
    model, job = cluster.jobs["enroll"], cluster.jobs["night-1"]
    assert model["spec"]["suspend"] is True
    assert job["spec"]["suspend"] is False
    assert job["spec"]["entrypoint"] == f"{model['spec']['entrypoint']} --manifest 's3://photos/a b.csv'"
    assert job["spec"]["rayClusterSpec"] == model["spec"]["rayClusterSpec"]


def test_it_is_owned_by_the_job_that_started_it(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWNER_UID", "some-uid")
    cluster, api = serve([DONE])
    assert _launch(api) == 0
    (owner,) = cluster.jobs["night-1"]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Job", "night", "some-uid")


@pytest.mark.parametrize("code", [EXIT_UNEXPECTED, StorageError.exit_code, ClusterError.exit_code])
def test_what_may_mend_is_tried_again_under_a_new_name(code: int, serve: Any) -> None:
    cluster, api = serve([_failed(code)], [RUNNING, DONE])
    assert _launch(api) == 0
    assert cluster.made == ["night-1", "night-2"]


def test_it_gives_up_with_the_code_of_the_last_try(serve: Any) -> None:
    cluster, api = serve([_failed(7)], [_failed(11)], [DONE])
    assert _launch(api, "--attempts", "2") == 11
    assert cluster.made == ["night-1", "night-2"]


def test_every_other_code_of_ours_ends_it_at_once(serve: Any) -> None:
    ours = {each.exit_code for each in _family(FrpipeError)} | {128 + signal.SIGINT, 12}
    assert {EXIT_UNEXPECTED, StorageError.exit_code, ClusterError.exit_code} == LAUNCH.RETRIED
    for code in ours - LAUNCH.RETRIED:
        cluster, api = serve([_failed(code)], [DONE])
        assert _launch(api) == code
        assert cluster.made == ["night-1"]


def test_a_lost_cluster_is_tried_again_and_a_deadline_is_not(serve: Any) -> None:
    lost = {"jobDeploymentStatus": "Failed", "reason": "SubmissionFailed", "message": "gone"}
    late = {"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}
    cluster, api = serve([lost], [late], [DONE])
    assert _launch(api) == LAUNCH.OUT_OF_TIME
    assert cluster.made == ["night-1", "night-2"]


def test_a_launcher_that_was_ended_goes_on_with_what_is_there(serve: Any) -> None:
    cluster, api = serve([RUNNING, _failed(11)], [DONE])
    cluster.make(LAUNCH.copy_of(cluster.jobs["enroll"], "night-1", [], None))
    # Overlays may be applied anew meanwhile.
    cluster.jobs["enroll"]["spec"]["entrypoint"] = (
        "python /app/jobs/enroll.py --config /etc/frpipe/other.yaml"
    )
    assert _launch(api) == 0
    assert cluster.made == ["night-1", "night-2"]


@pytest.mark.parametrize(("job", "words"), [("identify", []), ("enroll", ["--output", "s3://b"])])
def test_a_run_of_another_command_is_not_taken_for_this_one(
    job: str, words: list[str], serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster, api = serve([DONE])
    cluster.jobs["identify"] = of_kind("local", "RayJob")["identify"]
    cluster.make(LAUNCH.copy_of(cluster.jobs[job], "night-1", words, None))
    assert _launch(api, "--", "--output", "s3://a") == LAUNCH.USAGE
    assert "another command" in capsys.readouterr().err
    assert cluster.made == ["night-1"]


def test_a_job_that_somebody_deletes_or_stops_is_not_started_again(
    serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for plan in ([RUNNING, None], [RUNNING, {"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}]):
        cluster, api = serve(plan)
        assert _launch(api) == LAUNCH.STOPPED
        assert cluster.made == ["night-1"]
    assert "it was deleted" in capsys.readouterr().out


def test_a_job_that_kuberay_does_not_take_ends_with_what_it_says(
    serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "The RayJob spec is invalid: headGroupSpec should have at least one container"
    invalid = {"jobDeploymentStatus": "ValidationFailed", "reason": "ValidationFailed", "message": said}
    cluster, api = serve([invalid])
    assert _launch(api) == LAUNCH.USAGE
    assert cluster.made == ["night-1"]
    assert said in capsys.readouterr().out


def test_a_server_that_starts_anew_is_waited_for(serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cluster, api = serve([RUNNING, DONE])
    model = cluster.look("enroll")
    # As it starts: it takes no requests, and knows neither rules nor kinds.
    wait = [
        (503, None),
        (403, _said("Forbidden", "")),
        (404, "404 page not found"),
        (404, _said("NotFound", "")),
    ]
    cluster.refusals = [(200, model), *wait, (404, _said("NotFound", "night-1")), *wait[:1]]
    assert _launch(api) == 0
    assert cluster.made == ["night-1"]
    assert "503" in capsys.readouterr().err


def test_a_server_that_does_not_come_back_is_given_up(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LAUNCH, "PATIENCE", 2)
    cluster, api = serve([RUNNING, DONE])
    cluster.refusals = [(200, cluster.look("enroll")), *[(401, _said("Unauthorized", ""))] * 3]
    assert _launch(api) == LAUNCH.UNAVAILABLE
    assert not cluster.refusals


def test_a_refusal_is_said_with_its_reason(serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    reasons = {403: 'cannot create resource "rayjobs"', 422: "spec.entrypoint: Invalid value"}
    for code, reason in reasons.items():
        cluster, api = serve([DONE])
        here = [(200, cluster.look("enroll")), (404, _said("NotFound", "night-1"))]
        cluster.refusals = [*here, (code, _said("Refused", "night-1", reason))]
        assert _launch(api) == LAUNCH.UNAVAILABLE
        assert f"{code} to POST: {reason}" in capsys.readouterr().err


def test_a_cluster_without_kuberay_is_told_from_one_without_our_jobs(
    serve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster, api = serve()
    cluster.refusals = [(404, "404 page not found")]
    assert _launch(api) == LAUNCH.UNAVAILABLE
    assert "KubeRay" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_launcher_and_not_its_job(number: signal.Signals, serve: Any) -> None:
    cluster, api = serve([RUNNING])
    words = ["enroll", "--api", api, "--run", "night", "--pause-s", "60"]
    command = [sys.executable, str(ROOT / "k8s/base/launch.py"), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout
        assert launcher.stderr
        assert launcher.stdout.readline() == "night-1: under way\n"
        launcher.send_signal(number)
        said = launcher.stderr.read()
    assert launcher.returncode == 128 + number
    assert said.count("\n") == 1
    assert "the same command" in said
    assert cluster.made == ["night-1"]


def test_an_answer_that_breaks_off_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise IncompleteRead(b"")

    monkeypatch.setattr(LAUNCH.urllib.request, "urlopen", broken)
    assert _launch("http://127.0.0.1:9") == LAUNCH.UNAVAILABLE


def test_what_cannot_be_is_said_in_a_line(serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _, api = serve()
    assert LAUNCH.main(["dinner", "--api", api, "--run", "night"]) == LAUNCH.USAGE
    for name in ("n" * 46, "Staff_1", "1-night", "night-"):
        assert LAUNCH.main(["enroll", "--api", api, "--run", name]) == LAUNCH.USAGE
    assert _launch("http://127.0.0.1:9") == LAUNCH.UNAVAILABLE
    assert LAUNCH.main(["enroll", "--run", "night"]) == LAUNCH.USAGE
    said = capsys.readouterr().err
    assert "kubectl proxy" in said
    assert "no RayJob dinner" in said
    assert "does not answer" in said
    assert "Traceback" not in said


def test_the_cron_job_starts_a_launcher_again_only_where_the_launcher_was_at_fault() -> None:
    spec = of_kind("cpu", "CronJob")["nightly"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["startingDeadlineSeconds"] > 0
    job = spec["jobTemplate"]["spec"]
    rule = next(r["onExitCodes"] for r in job["podFailurePolicy"]["rules"] if "onExitCodes" in r)
    assert rule["operator"] == "NotIn"
    ours = {each.exit_code for each in _family(FrpipeError)} | {128 + signal.SIGINT, LAUNCH.OUT_OF_TIME}
    assert not ours & set(rule["values"])
    assert LAUNCH.UNAVAILABLE in rule["values"]
    night = of_kind("cpu", "RayJob")["nightly"]["spec"]["activeDeadlineSeconds"]
    assert job["activeDeadlineSeconds"] > night
    minute, hour, *_ = map(str, spec["schedule"].split())
    ends_s = (
        int(hour) * 3600 + int(minute) * 60 + spec["startingDeadlineSeconds"] + job["activeDeadlineSeconds"]
    )
    assert spec["timeZone"] == "Etc/UTC"
    assert ends_s < 24 * 3600, "a night tried again after midnight would be another night"


def _family(kind: type[FrpipeError]) -> Iterator[type[FrpipeError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)

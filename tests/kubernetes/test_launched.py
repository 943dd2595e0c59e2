"""The launcher against a real API server, with the token and the rights of its account.

KubeRay's operator is played: a test writes the statuses of RayJobs.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from control_plane import ControlPlane, Object
from launchers import Launcher

pytestmark = pytest.mark.slow
Launch = Callable[..., Launcher]
RUNNING = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}


def _failed(code: int) -> Object:
    message = f"Job entrypoint command failed with exit code {code}, last available logs:\nexit code 99"
    return {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed", "message": message}


def test_a_job_is_copied_and_awaited(launch: Launch, plane: ControlPlane) -> None:
    launcher = launch("--", "--manifest", "s3://photos/a b.csv")
    job, model = launcher.job(), plane.get("rayjob", "enroll")
    assert job["spec"] == {
        **model["spec"],
        "suspend": False,
        "entrypoint": f"{model['spec']['entrypoint']} --manifest 's3://photos/a b.csv'",
    }
    for status in (RUNNING, DONE):
        launcher.play(status)
    assert launcher.ends() == 0
    assert "Error" not in launcher.said


@pytest.mark.parametrize("code", [2, 3, 4, 5, 6, 8, 9, 10, 12, 13, 14, 15, 16, 17, 130, 143])
def test_other_codes_end_it_at_once(code: int, launch: Launch, plane: ControlPlane) -> None:
    launcher = launch()
    launcher.play(_failed(code))
    assert launcher.ends() == code
    assert plane.ask(f"/apis/ray.io/v1/namespaces/frpipe/rayjobs/{launcher.run}-2")["code"] == 404


@pytest.mark.parametrize("code", [1, 7, 11])
def test_what_may_mend_is_tried_three_times(code: int, launch: Launch) -> None:
    launcher = launch()
    for attempt in (1, 2, 3):
        launcher.play(_failed(code), attempt)
    assert launcher.ends() == code
    assert launcher.said.count(f"exit code {code}") == 3


def test_what_kuberay_says_of_an_end_is_said(launch: Launch) -> None:
    launcher = launch()
    late = {"reason": "PreRunningDeadlineExceeded", "message": "no nodes within 1800 s"}
    launcher.play({"jobDeploymentStatus": "Failed", **late})
    launcher.play({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded", "message": "too long"}, 2)
    assert launcher.ends() == 124
    assert "exit code 11: PreRunningDeadlineExceeded, no nodes" in launcher.said
    assert "exit code 124: DeadlineExceeded, too long" in launcher.said


def test_a_job_that_kuberay_does_not_take_ends_it(launch: Launch) -> None:
    launcher = launch()
    status = {"jobDeploymentStatus": "ValidationFailed", "reason": "ValidationFailed", "message": "no head"}
    launcher.play(status)
    assert launcher.ends() == 2
    assert "no head" in launcher.said


def test_a_job_that_is_deleted_is_not_started_again(launch: Launch, plane: ControlPlane) -> None:
    launcher = launch()
    launcher.play(RUNNING)
    plane.kubectl("-n", "frpipe", "delete", "rayjob", f"{launcher.run}-1")
    assert launcher.ends() == 130
    assert "it was deleted" in launcher.said


def test_a_model_that_changes_meanwhile_is_the_next_attempt_s(launch: Launch, plane: ControlPlane) -> None:
    launcher = launch()
    launcher.play(RUNNING)
    patch = '{"spec":{"entrypoint":"python /app/jobs/enroll.py --config /etc/frpipe/other.yaml"}}'
    model = plane.get("rayjob", "enroll")["spec"]["entrypoint"]
    plane.kubectl("-n", "frpipe", "patch", "rayjob", "enroll", "--type=merge", "-p", patch)
    try:
        launcher.process.send_signal(signal.SIGTERM)
        assert launcher.ends() == 143
        again = launch(run=launcher.run)
        again.play(_failed(7))
        # A launcher reads the model once, when it starts.
        assert "other.yaml" in again.job(2)["spec"]["entrypoint"]
        assert "other.yaml" not in again.job(1)["spec"]["entrypoint"]
        again.play(DONE, 2)
        assert again.ends() == 0
    finally:
        back = f'{{"spec":{{"entrypoint":"{model}"}}}}'
        plane.kubectl("-n", "frpipe", "patch", "rayjob", "enroll", "--type=merge", "-p", back)


def test_an_api_server_that_is_started_anew_is_waited_for(launch: Launch, plane: ControlPlane) -> None:
    # Twenty times as long, and it gives up.
    launcher = launch("--pause-s", "10")
    launcher.play(RUNNING)
    plane.stop_api_server()
    try:
        plane.until(lambda: "asked again" in launcher.said, "the launcher to notice")
    finally:
        plane.start_api_server()
    launcher.play(_failed(11))
    launcher.play(DONE, 2)
    assert launcher.ends() == 0


def test_a_token_that_no_longer_holds_is_read_anew(
    launch: Launch, plane: ControlPlane, account: Path
) -> None:
    plane.kubectl("-n", "frpipe", "create", "secret", "generic", "bound")
    bound = ("--bound-object-kind=Secret", "--bound-object-name=bound", "--duration=10m")
    create = ("-n", "frpipe", "create", "token", "frpipe-launcher")
    (account / "token").write_text(plane.kubectl(*create, *bound))
    launcher = launch()
    launcher.play(RUNNING)
    plane.kubectl("-n", "frpipe", "delete", "secret", "bound")
    plane.until(lambda: "401" in launcher.said, "the token to be refused")
    (account / "token").write_text(plane.kubectl(*create))
    launcher.play(DONE)
    assert launcher.ends() == 0


def test_of_two_launchers_of_one_run_each_waits_for_the_same_job(launch: Launch) -> None:
    run = "twice"
    both = [launch("--", "--output", "s3://a", run=run) for _ in range(2)]
    both[0].play(_failed(7))
    for each in both:
        each.job(2)
    both[0].play(DONE, 2)
    assert [each.ends() for each in both] == [0, 0]
    other = launch("--", "--output", "s3://b", run=run)
    assert other.ends() == 2
    assert "another command" in other.said


def test_it_is_cleared_away_with_the_job_of_its_launcher(launch: Launch, plane: ControlPlane) -> None:
    plane.kubectl("-n", "frpipe", "create", "job", "--from=cronjob/nightly", "owner")
    launcher = launch(run="owner", OWNER_UID=plane.get("job", "owner")["metadata"]["uid"])
    launcher.play(DONE)
    assert launcher.ends() == 0
    plane.kubectl("-n", "frpipe", "delete", "job", "owner")
    path = "/apis/ray.io/v1/namespaces/frpipe/rayjobs/owner-1"
    plane.until(lambda: plane.ask(path)["kind"] == "Status", "the RayJob to go")


def test_rights_that_do_not_suffice_are_said(launch: Launch, plane: ControlPlane, account: Path) -> None:
    (account / "token").write_text(plane.kubectl("-n", "frpipe", "create", "token", "frpipe-worker"))
    launcher = launch()
    assert launcher.ends() == 69
    assert "403 to GET" in launcher.said
    assert "frpipe-worker" in launcher.said
    assert "Traceback" not in launcher.said


def test_a_namespace_or_a_job_that_is_not_there_is_said(launch: Launch) -> None:
    launcher = launch(job="dinner")
    assert launcher.ends() == 2
    assert "no RayJob dinner" in launcher.said


def test_accounts_may_do_what_they_need(plane: ControlPlane) -> None:
    for account, verbs in {"frpipe-launcher": {"create", "get"}, "frpipe-worker": set()}.items():
        user = f"--as=system:serviceaccount:frpipe:{account}"
        may = plane.kubectl("auth", "can-i", "--list", "--no-headers", "--namespace=frpipe", user)
        # Everybody who has a name may ask who he is, and which kinds there are.
        rules = [line for line in may.splitlines() if not line.startswith(("selfsubject", " "))]
        assert len(rules) == bool(verbs), may
        for verb in ("create", "get", "list", "watch", "update", "patch", "delete"):
            done = plane.call("auth", "can-i", verb, "rayjobs.ray.io", "--namespace=frpipe", user)
            assert (done.stdout.strip() == "yes") is (verb in verbs), (account, verb)
        for other in ("default", "kube-system"):
            done = plane.call("auth", "can-i", "get", "rayjobs.ray.io", f"--namespace={other}", user)
            assert done.stdout.strip() == "no"

"""Run one of the suspended RayJobs of a namespace to its end; the exit code is the job's own.

    python launch.py nightly
    python launch.py enroll --api http://127.0.0.1:8001 --run staff-1 -- --manifest s3://... --output s3://...

The second form is for a person with `kubectl proxy`. Words after `--` are added to the job's command. A job
that ended with an exit code that another try may mend is started again. The same command takes up what is
there, so this program may be stopped and started at any time. Beside the codes of the job: 69 the API server
does not answer or refuses, 124 out of time, 130 the job was stopped or deleted, 2 what is asked cannot be.
Standard library only.
"""

from __future__ import annotations

import argparse
import copy
import http.client
import json
import os
import re
import shlex
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

# A bug or Ray gave up, the storage failed, the cluster was lost: see docs/cluster.md.
RETRIED = frozenset({1, 7, 11})
LOST, OUT_OF_TIME, STOPPED, UNAVAILABLE, USAGE = 11, 124, 130, 69, 2
# KubeRay derives other names from a RayJob's, and refuses longer ones.
LONGEST_NAME = 47
# What overlays have in place of the image's digest until it is set.
NO_DIGEST = "SET-THE-DIGEST"
# The words that were added to the command of a RayJob.
WORDS = "frpipe/words"
# How often in a row a server that has answered before may fail.
PATIENCE = 20
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

Object = dict[str, Any]


class Unavailable(Exception):
    """The API server does not answer, or refuses."""


class Refused(Unavailable):
    """The API server refuses, and would again."""


class Impossible(Exception):
    """What was asked for cannot be."""


class Api:
    """The RayJobs of one namespace. server: URL; https needs the pod's service account."""

    def __init__(self, server: str, namespace: str, pause_s: float) -> None:
        self._jobs = f"{server.rstrip('/')}/apis/ray.io/v1/namespaces/{namespace}/rayjobs"
        self._pause_s = pause_s
        self._answered = False
        try:
            trust = ssl.create_default_context(cafile=_ACCOUNT / "ca.crt") if server[:5] == "https" else None
        except OSError:
            raise Impossible(
                "no service account is here: outside of a pod, --api is a `kubectl proxy`"
            ) from None
        self._trust = trust

    def get(self, name: str) -> Object | None:
        """A RayJob, or None where there is none of this name."""
        return self._patiently(f"{self._jobs}/{name}", None)

    def create(self, job: Object) -> bool:
        """Make one; False where one of this name is there already, which is left as it is."""
        return self._patiently(self._jobs, json.dumps(job).encode()) is not None

    def _patiently(self, url: str, body: bytes | None) -> Object | None:
        """Ask until there is an answer; a server that has never answered is asked once."""
        for left in range(PATIENCE if self._answered else 0, -1, -1):
            try:
                found = self._call(url, body)
            except Unavailable as error:
                if not left or isinstance(error, Refused):
                    raise
                if left == PATIENCE:
                    print(f"{error}; it is asked again", file=sys.stderr, flush=True)
                time.sleep(self._pause_s)
            else:
                self._answered = True
                return found
        raise AssertionError

    def _call(self, url: str, body: bytes | None) -> Object | None:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            if self._trust:
                # Read each time: the token is renewed.
                request.add_header("Authorization", f"Bearer {(_ACCOUNT / 'token').read_text().strip()}")
            with urllib.request.urlopen(request, timeout=30, context=self._trust) as reply:
                found: Object = json.load(reply)
                return found
        except urllib.error.HTTPError as error:
            said = _said(error)
            # Of the object itself: while a server starts, it may not know the kind, or the namespace.
            if said.get("reason") == ("AlreadyExists" if body else "NotFound") and _is_named(said):
                return None
            text = f"the API server says {error.code} to {request.get_method()}: {_first_line(said)}"
            raise (Refused if body and error.code in {400, 403, 404, 422} else Unavailable)(text) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            # An answer that breaks off is no OSError.
            raise Unavailable(f"the API server does not answer: {type(error).__name__}") from None


def _said(error: urllib.error.HTTPError) -> Object:
    """The Status that an API server gives as a reason."""
    try:
        found = json.load(error)
    except (OSError, http.client.HTTPException, ValueError):
        found = None
    return (
        found
        if isinstance(found, dict)
        else {"message": "is KubeRay installed?"}
        if error.code == 404
        else {}
    )


def _is_named(status: Object) -> bool:
    details = status.get("details") or {}
    return details.get("kind") == "rayjobs" and bool(details.get("name"))


def _first_line(status: Object) -> str:
    """What a Status of the API server, or that of a RayJob, says, in a line."""
    return next(iter((status.get("message") or "").splitlines()), "no reason is given")[:500]


def copy_of(model: Object, name: str, words: list[str], owner: Object | None) -> Object:
    """A RayJob that runs, from a suspended one. words: added to its command."""
    spec = copy.deepcopy(model["spec"])
    spec["suspend"] = False
    added = shlex.join(words)
    spec["entrypoint"] = f"{spec['entrypoint']} {added}".strip()
    labels = {**model["metadata"].get("labels", {}), "frpipe/job": model["metadata"]["name"]}
    metadata = {"name": name, "labels": labels, "annotations": {WORDS: added}}
    if owner:
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": spec}


def does_the_same(there: Object, wanted: Object) -> bool:
    """Whether a RayJob was made of the model of this name, as it was then, with the same words."""
    labels, asked = (each["metadata"].get("labels", {}) for each in (there, wanted))
    words = there["metadata"].get("annotations", {}).get(WORDS)
    same = wanted["metadata"]["annotations"][WORDS] == words
    return labels.get("frpipe/job") == asked["frpipe/job"] and same


def exit_code(job: Object) -> int | None:
    """How a RayJob ended: the exit code of its driver where that is known. None: it has not ended."""
    status = job.get("status", {})
    if status.get("jobDeploymentStatus") == "ValidationFailed":
        return USAGE
    if status.get("jobDeploymentStatus") not in {"Complete", "Failed"}:
        return None
    if status.get("jobStatus") == "SUCCEEDED":
        return 0
    if status.get("jobStatus") == "STOPPED":
        return STOPPED
    said = re.search(r"failed with exit code (\d+)", status.get("message") or "")
    if said:
        return int(said.group(1))
    return OUT_OF_TIME if status.get("reason") == "DeadlineExceeded" else LOST


def run(api: Api, name: str, attempts: int, start: Callable[[str], Object], pause_s: float) -> int:
    """Start the job that `start` makes of a name, and again while that may help; its last exit code."""
    code = LOST
    for attempt in range(1, attempts + 1):
        each = f"{name}-{attempt}"
        take_up(api, start(each))
        print(f"{each}: under way", flush=True)
        job = wait(api, each, pause_s)
        code = STOPPED if job is None else exit_code(job) or 0
        print(f"{each}: exit code {code}{_why(job, code)}", flush=True)
        if code not in RETRIED:
            break
    return code


def take_up(api: Api, job: Object) -> None:
    """Make a RayJob, unless it is there; one that does something else is left alone."""
    name = job["metadata"]["name"]
    there = api.get(name)
    if there is None and not api.create(job):
        there = api.get(name)
    if there is not None and not does_the_same(there, job):
        raise Impossible(f"there is a RayJob {name} of another command: choose another --run, or delete it")


def wait(api: Api, name: str, pause_s: float) -> Object | None:
    """A RayJob, once it has ended. None: it is there no more."""
    while True:
        job = api.get(name)
        if job is None or exit_code(job) is not None:
            return job
        time.sleep(pause_s)


def _why(job: Object | None, code: int) -> str:
    """What KubeRay says of an end that is not the job's own."""
    if job is None:
        return ": it was deleted"
    status = job["status"]
    if code not in {LOST, OUT_OF_TIME, USAGE} or not status.get("reason") or status["reason"] == "AppFailed":
        return ""
    return f": {status['reason']}, {_first_line(status)}"


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    cut = given.index("--") if "--" in given else len(given)
    options, words = _parser().parse_args(given[:cut]), given[cut + 1 :]
    if len(options.run) + len("-1") > LONGEST_NAME or not _NAME.fullmatch(options.run):
        most = LONGEST_NAME - len("-1")
        return _refuse(f"--run is of a-z, 0-9 and '-', begins with a letter, has at most {most}", USAGE)
    try:
        api = Api(options.api, options.namespace, options.pause_s)
        model = api.get(options.job)
        if model is None:
            return _refuse(f"there is no RayJob {options.job} to copy: apply an overlay first", USAGE)
        unset = re.search(rf'"([^"@]*)@sha256:{NO_DIGEST}', json.dumps(model["spec"]))
        if unset:
            text = f"no digest is set for the image {unset.group(1)}: write it under `images` of your overlay"
            return _refuse(f"{text}, and apply it", USAGE)
        owner = _owner(options.run, os.environ.get("OWNER_UID"))
        start = partial(copy_of, model, words=words, owner=owner)
        return run(api, options.run, options.attempts, start, options.pause_s)
    except Impossible as error:
        return _refuse(str(error), USAGE)
    except Unavailable as error:
        return _refuse(str(error), UNAVAILABLE)


def _owner(run_name: str, uid: str | None) -> Object | None:
    """The Job that this program runs in: when it is cleared away, so are its RayJobs."""
    return {"apiVersion": "batch/v1", "kind": "Job", "name": run_name, "uid": uid} if uid else None


def _refuse(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("job", help="name of the suspended RayJob")
    run_name = os.environ.get("RUN")
    add("--run", default=run_name, required=not run_name, metavar="NAME", help="of what is started")
    add("--attempts", type=int, choices=range(1, 10), default=3, metavar="N", help="default: %(default)s")
    add("--api", default="https://kubernetes.default.svc", metavar="URL", help="default: %(default)s")
    add("--namespace", default=os.environ.get("NAMESPACE", "frpipe"), help="default: %(default)s")
    add("--pause-s", type=float, default=20.0, metavar="S", help="between two looks (default: %(default)s)")
    return parser


def _stop(number: int, _: object) -> None:
    """End at once: the first process of a container is not ended by SIGTERM without a handler."""
    name = signal.Signals(number).name
    text = f"stopped by {name}: a job that was started goes on, and the same command waits for it\n"
    os.write(sys.stderr.fileno(), text.encode())
    os._exit(128 + number)


if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _stop)
    sys.exit(main())

"""Run one of the suspended RayJobs of a namespace to its end; the exit code is the job's own.

    python launch.py nightly
    python launch.py enroll --api http://127.0.0.1:8001 --run staff-1 -- --manifest s3://... --output s3://...

The second form is for a person with `kubectl proxy`. Words after `--` are added to the job's command. A job
that ended with an exit code that another try may mend is started again. The same --run takes up what is
there, so this program may be stopped and started at any time. Beside the codes of the job: 69 the API server
does not answer or refuses, 124 out of time, 2 what was asked for cannot be. Standard library only.
"""

from __future__ import annotations

import argparse
import copy
import http.client
import json
import os
import re
import shlex
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
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

Object = dict[str, Any]


class Unavailable(Exception):
    """The API server does not answer, or refuses."""


class Api:
    """The RayJobs of one namespace. server: URL; https needs the pod's service account."""

    def __init__(self, server: str, namespace: str) -> None:
        self._jobs = f"{server.rstrip('/')}/apis/ray.io/v1/namespaces/{namespace}/rayjobs"
        self._trust = (
            ssl.create_default_context(cafile=_ACCOUNT / "ca.crt") if server[:5] == "https" else None
        )

    def get(self, name: str) -> Object | None:
        """A RayJob, or None where there is none of this name."""
        return self._call(f"{self._jobs}/{name}", None)

    def create(self, job: Object) -> None:
        """Make one; one that is there already is left as it is."""
        self._call(self._jobs, json.dumps(job).encode())

    def _call(self, url: str, body: bytes | None) -> Object | None:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        if self._trust:
            # Read each time: the token is renewed.
            request.add_header("Authorization", f"Bearer {(_ACCOUNT / 'token').read_text()}")
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._trust) as reply:
                found: Object = json.load(reply)
                return found
        except urllib.error.HTTPError as error:
            if error.code == (409 if body else 404):
                return None
            raise Unavailable(f"the API server says {error.code} to {request.get_method()}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            # An answer that breaks off is no OSError.
            raise Unavailable(f"the API server does not answer: {type(error).__name__}") from None


def copy_of(model: Object, name: str, words: list[str], owner: Object | None) -> Object:
    """A RayJob that runs, from a suspended one. words: added to its command."""
    spec = copy.deepcopy(model["spec"])
    spec["suspend"] = False
    spec["entrypoint"] = " ".join([spec["entrypoint"], *map(shlex.quote, words)])
    labels = {**model["metadata"].get("labels", {}), "frpipe/job": model["metadata"]["name"]}
    metadata = {"name": name, "labels": labels, **({"ownerReferences": [owner]} if owner else {})}
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": spec}


def exit_code(job: Object) -> int | None:
    """How a RayJob ended: the exit code of its driver where that is known. None: it has not ended."""
    status = job.get("status", {})
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
        if api.get(each) is None:
            api.create(start(each))
        print(f"{each}: under way", flush=True)
        code = wait(api, each, pause_s)
        print(f"{each}: exit code {code}", flush=True)
        if code not in RETRIED:
            break
    return code


def wait(api: Api, name: str, pause_s: float, patience: int = 20) -> int:
    """Until a RayJob has ended; its exit code. patience: how often in a row the API may fail meanwhile."""
    failures = 0
    while True:
        try:
            job = api.get(name)
        except Unavailable:
            failures += 1
            if failures > patience:
                raise
        else:
            failures = 0
            code = exit_code(job) if job else LOST
            if code is not None:
                return code
        time.sleep(pause_s)


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    cut = given.index("--") if "--" in given else len(given)
    options, words = _parser().parse_args(given[:cut]), given[cut + 1 :]
    if len(options.run) + len("-1") > LONGEST_NAME or not _NAME.fullmatch(options.run):
        most = LONGEST_NAME - len("-1")
        return _refuse(f"--run is of a-z, 0-9 and '-', begins with a letter, has at most {most}", USAGE)
    api = Api(options.api, options.namespace)
    try:
        model = api.get(options.job)
        if model is None:
            return _refuse(f"there is no RayJob {options.job} to copy: apply an overlay first", USAGE)
        if NO_DIGEST in json.dumps(model["spec"]):
            return _refuse("the overlay names no image: set its digest under `images`, and apply it", USAGE)
        owner = _owner(options.run, os.environ.get("OWNER_UID"))
        start = partial(copy_of, model, words=words, owner=owner)
        return run(api, options.run, options.attempts, start, options.pause_s)
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


if __name__ == "__main__":
    sys.exit(main())

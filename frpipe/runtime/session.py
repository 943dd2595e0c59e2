"""Join a Ray cluster, or start a private one."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from frpipe.core.errors import ClusterError, PlanError
from frpipe.runtime.allocation import Node
from frpipe.runtime.private_ray import private_ray, starting
from frpipe.runtime.stop import held

_KNOCK_TIMEOUT_S = 10.0
_JOB_SERVER = ("http://", "https://")
_VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")


@contextmanager
def cluster(address: str | None = None, say: Callable[[str], None] = print) -> Iterator[list[Node]]:
    """Join the cluster at `address` or RAY_ADDRESS, or else start a private one here; its nodes.

    A private one has the CPUs that this process may use, and takes nobody else in.
    Says so if others hold much of it, since Ray waits for them without a word. It is left at the end, and a
    private one ends, unless this process had joined one before.
    Raises PlanError where no cluster answers, ClusterError where it fails meanwhile.
    """
    with contextlib.nullcontext() if ray.is_initialized() else _entered(address, say):
        try:
            alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            nodes = [Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0)) for resources in alive]
            _say_if_busy(nodes, say)
            yield nodes
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            raise ClusterError(
                f"the cluster failed: {type(error).__name__}",
                "run the same command again; it goes on from here",
            ) from error


@contextmanager
def _entered(address: str | None, say: Callable[[str], None]) -> Iterator[None]:
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Else Ray asks in vain for Prometheus on this machine, and says so.
    os.environ.setdefault("RAY_DATA_USAGE_DISABLED", "1")
    with private_ray(say, **quiet) if address == "local" else _joined(address, quiet):
        yield


@contextmanager
def _joined(address: str, quiet: dict[str, Any]) -> Iterator[None]:
    try:
        with starting():
            _join(address, quiet)
        yield
    finally:
        with held():
            ray.shutdown()


def _join(address: str, quiet: dict[str, Any]) -> None:
    if address.startswith(_JOB_SERVER):
        raise PlanError(
            f"{address} is where a cluster takes jobs in, not where it is joined",
            f"ray job submit --address {address} ... -- python jobs/..., or HOST:PORT of the head (6379)",
        )
    try:
        _knock(address)
        ray.init(address=address, **quiet)
    except Exception as error:
        raise _explained(error, address) from error


def _explained(error: Exception, address: str) -> PlanError:
    """Explain why a cluster was not joined."""
    texts = [f"{type(each).__name__} {each}" for each in _causes(error)]
    if any("AuthenticationError" in text or "InvalidAuthToken" in text for text in texts):
        return PlanError(
            f"the Ray cluster at {address} does not take this process's token, or it has none",
            "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH as that cluster has them",
        )
    versions = [_VERSIONS.findall(text) for text in texts if "ersion mismatch" in text]
    if versions and len(versions[0]) == 2:
        (its_ray, its_python), (our_ray, our_python) = versions[0]
        return PlanError(
            f"the cluster at {address} has Ray {its_ray} and Python {its_python}, "
            f"this process has Ray {our_ray} and Python {our_python}",
            "use the same versions on both sides (constraints.txt), or submit the job with `ray job submit`",
        )
    return PlanError(
        f"no Ray cluster answers at {address} ({_in_short(error)})",
        "check RAY_ADDRESS or --address: HOST:PORT of the head node, or `local` for a private Ray",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _in_short(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, TimeoutError):
        return f"nothing for {_KNOCK_TIMEOUT_S:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _say_if_busy(nodes: Sequence[Node], say: Callable[[str], None]) -> None:
    free = ray.available_resources().get("CPU", 0.0)
    total = sum(node.cpus for node in nodes)
    if free < total - 0.5:
        say(f"{total - free:g} of the cluster's {total:g} CPUs are held by others: this job may have to wait")


def _knock(address: str) -> None:
    """Check that Ray listens: Ray itself waits for minutes where nobody does, or somebody else."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdecimal()):
        return
    with socket.create_connection((host.strip("[]"), int(port)), _KNOCK_TIMEOUT_S) as connection:
        connection.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
        with contextlib.suppress(OSError):
            if connection.recv(5) == b"HTTP/":
                raise _NotRay("a web server does; the dashboard, or where jobs are submitted?")


class _NotRay(ValueError):
    """The error where something other than Ray answers."""

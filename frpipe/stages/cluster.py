"""Join a Ray cluster, or start a private one."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from frpipe.core.errors import ClusterError, PlanError
from frpipe.stages.allocation import Node
from frpipe.stages.cpus import usable_cpus

_KNOCK_TIMEOUT_S = 10.0


@contextmanager
def cluster(address: str | None = None, say: Callable[[str], None] = print) -> Iterator[list[Node]]:
    """Join the cluster at `address` or RAY_ADDRESS, else start a private one on this machine; its nodes.

    A private one has the CPUs that this process may use.
    Says so if others hold much of it, since Ray waits for them without a word. It is left at the end, and a
    private one ends, unless this process had joined one before.
    Raises PlanError where no cluster answers, ClusterError where it fails meanwhile.
    """
    joined_before = ray.is_initialized()
    if not joined_before:
        _init(address or os.environ.get("RAY_ADDRESS") or None)
    try:
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        nodes = [Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0)) for resources in alive]
        _say_if_busy(nodes, say)
        yield nodes
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"the cluster failed: {type(error).__name__}", "run the same command again; it goes on from here"
        ) from error
    finally:
        if not joined_before:
            ray.shutdown()


def in_submitted_job() -> bool:
    """Whether this process is the driver of `ray job submit`, which runs it in a folder of its own."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def _init(address: str | None) -> None:
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        ray.init(address="local", num_cpus=usable_cpus(), include_dashboard=False, **quiet)
        return
    try:
        _knock(address)
        ray.init(address=address, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise PlanError(
            f"no Ray cluster answers at {address} ({type(error).__name__})",
            "check RAY_ADDRESS or --address, and the token if the cluster wants one",
        ) from None


def _say_if_busy(nodes: Sequence[Node], say: Callable[[str], None]) -> None:
    free = ray.available_resources().get("CPU", 0.0)
    total = sum(node.cpus for node in nodes)
    if free < total - 0.5:
        say(f"{total - free:g} of the cluster's {total:g} CPUs are held by others: this job may have to wait")


def _knock(address: str) -> None:
    """Ray itself waits for minutes where nobody listens."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), _KNOCK_TIMEOUT_S).close()

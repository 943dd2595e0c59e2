"""A Ray of this process alone: on loopback, with a token, in a folder that nobody else may enter."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray import _raylet
from ray._private import ray_constants
from ray._private.node import Node

from frpipe.core.errors import ClusterError, PlanError, StorageError
from frpipe.runtime.cpus import usable_cpus
from frpipe.runtime.ray_folder import RayFolder, ray_folder

_FILES_LEAST = 256
_FILES_PER_CPU = 8
_TOKEN_SETTINGS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_K8S_TOKEN_AUTH")


@contextlib.contextmanager
def private_ray(**settings: Any) -> Iterator[None]:
    """Start Ray on this machine with the CPUs that this process may use, and end it. settings: of ray.init.

    Its token is new, and known to this process and those that it starts. Whatever RAY_AUTH_MODE and
    RAY_AUTH_TOKEN say is of the user's own cluster; they are set aside, and put back at the end.
    With FRPIPE_TRACEBACK=1 Ray's logs stay where they are.
    Raises PlanError where the machine does not allow it, StorageError where its disk is full,
    ClusterError where Ray does not start.
    """
    cpus = usable_cpus()
    _refuse_few_files(_FILES_LEAST + _FILES_PER_CPU * cpus)
    keep = os.environ.get("FRPIPE_TRACEBACK") == "1"
    with ray_folder(keep) as folder, _own_token(folder.token_file):
        try:
            _start(folder, num_cpus=cpus, **settings)
            yield
        finally:
            ray.shutdown(wait_for_processes=True)


def _start(folder: RayFolder, **settings: Any) -> None:
    try:
        with _own_files_only(), _on_loopback(), _few_processes():
            ray.init(
                address="local",
                include_dashboard=False,
                _temp_dir=str(folder.sessions),
                object_spilling_directory=str(folder.objects),
                **settings,
            )
    except Exception as error:
        raise _explained(error, folder) from error


def _explained(error: Exception, folder: RayFolder) -> PlanError | StorageError | ClusterError:
    """What kept Ray from starting, as an error of ours. It raises bare exceptions of many types."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EMFILE:
        return _too_few_files()
    if number in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"the disk is full: Ray cannot write in {folder.private.parent}",
            "make room there, or set RAY_TMPDIR to a folder elsewhere, with a short name",
        )
    first_line = (str(error).strip().splitlines() or [""])[0][:200]
    return ClusterError(
        f"Ray did not start on this machine ({type(error).__name__}: {first_line})",
        "run the same command again when the machine is less busy; "
        f"with FRPIPE_TRACEBACK=1 Ray's logs stay in {folder.sessions}",
    )


def _refuse_few_files(needed: int) -> None:
    """Ray itself raises the soft limit to the hard one, and ends in its own words where that is too low."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise _too_few_files()


def _too_few_files() -> PlanError:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return PlanError(
        f"this process may open {hard} files at once, too few for Ray",
        "raise the limit: ulimit -n 4096, or more where there are hundreds of CPUs",
    )


@contextlib.contextmanager
def _own_token(path: Path) -> Iterator[None]:
    """Have Ray in this process, and in those that it starts, use the token of a file."""
    before = {name: os.environ.pop(name, None) for name in _TOKEN_SETTINGS}
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
    try:
        _read_token_settings()
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        _read_token_settings()


def _read_token_settings() -> None:
    """Ray reads them when it is imported, and keeps the token that it used last."""
    _raylet.Config.initialize("")  # type: ignore[attr-defined]
    _raylet.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Have Ray take 127.0.0.1 for this node, where all its processes then listen.

    It is what Ray does on machines that cannot be part of a cluster (RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER, read
    when it is imported); `_node_ip_address` does not take a loopback address.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def _few_processes() -> Iterator[None]:
    """Have Ray leave out what a job of one node has no use for, at three CPU seconds.

    These are the process that adds nodes, the one that prints what workers write, and the server of the
    dashboard, which runs even where there is none. There is no public setting.
    """

    def none(*_: Any, **__: Any) -> None:
        """Start nothing."""

    def no_server(node: Node, **_: Any) -> None:
        node._webui_url = None

    left_out = {"start_monitor": none, "start_log_monitor": none, "start_api_server": no_server}
    before = {name: getattr(Node, name) for name in left_out}
    for name, instead in left_out.items():
        setattr(Node, name, instead)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(Node, name, method)


@contextlib.contextmanager
def _own_files_only() -> Iterator[None]:
    """Have the processes that are started here make files that only their user may read."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)

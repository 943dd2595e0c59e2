"""A Ray of this process alone: on loopback, with a token, in a folder that nobody else may enter."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray import _raylet
from ray._private import ray_constants, services, utils
from ray._private.node import Node

from frpipe.core.errors import ClusterError, PlanError, StorageError
from frpipe.runtime.cpus import usable_cpus
from frpipe.runtime.ray_folder import RayFolder, ray_folder
from frpipe.runtime.stop import at_worst, held, own_handlers

Say = Callable[[str], None]
_FILES_LEAST = 256
_FILES_PER_CPU = 8
# Lines of native code that say nothing: of its own settings, and where it was when a signal came.
_CHATTER = re.compile(
    rb"logging\.cc:\d+: (Set ray log level|\*\*\* SIGTERM|PC: @| +@ 0x)|^(\*\*\* SIGTERM|PC: @| +@ )"
)
_TOKEN_SETTINGS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_K8S_TOKEN_AUTH")


@contextlib.contextmanager
def private_ray(say: Say, **settings: Any) -> Iterator[None]:
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
        if folder.spilled != folder.private:
            asked, taken = folder.spilled.parent, folder.private.parent
            say(f"Ray's own files go to {taken}: the name of {asked} is too long")
        heads: list[int] = []
        with at_worst(lambda: _end_at_once(heads, folder)):
            try:
                with _in_sessions_of_their_own(heads):
                    _start(folder, num_cpus=cpus, **settings)
                yield
            finally:
                with held():
                    ray.shutdown(wait_for_processes=True)
                    _kill(_members(heads))


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Let Ray start or be joined without noise, and without a change of what signals do.

    An interrupt in the middle leaves it in a state in which it crashes when it is shut down; and it would end
    this process at SIGTERM with an exit code that says something else here, or with a dump.
    """
    no_handler = _instead(utils, set_sigterm_handler=_none)
    with held(), own_handlers(), no_handler, _without_chatter(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Hold back what Ray's native code writes to standard error; then write it, but for known chatter."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            for line in said:
                if not _CHATTER.search(line):
                    os.write(2, line)


@contextlib.contextmanager
def _in_sessions_of_their_own(heads: list[int]) -> Iterator[None]:
    """Keep what a terminal sends to all processes of a job from Ray's. heads: gets their ids."""

    class Head(services.ConsolePopen):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options, start_new_session=True)
            heads.append(self.pid)

    with _instead(services, ConsolePopen=Head):
        yield


@contextlib.contextmanager
def _instead(owner: Any, **values: Any) -> Iterator[None]:
    """Exchange attributes of a module or class for a while."""
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def _end_at_once(heads: Collection[int], folder: RayFolder) -> None:
    """Kill what Ray has started, and what that has, and remove the folder."""
    _kill([*heads, *_members(heads)])
    for path in (folder.private, folder.spilled):
        shutil.rmtree(path, ignore_errors=True)


def _kill(processes: Iterable[int]) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _members(sessions: Collection[int]) -> Iterator[int]:
    """The processes of some sessions, where the system lists them."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(path.name)) in sessions:
                yield int(path.name)


def _start(folder: RayFolder, **settings: Any) -> None:
    try:
        with _own_files_only(), _on_loopback(), _few_processes(), starting():
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
    """Explain, as an error of ours, what kept Ray from starting. It raises bare exceptions of many types."""
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
    """Refuse a low hard limit of open files: Ray raises the soft one to it, or fails in its own words."""
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
    """Have Ray read its token settings anew: it does so on import, and keeps the token that it used last."""
    _raylet.Config.initialize("")  # type: ignore[attr-defined]
    _raylet.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Have Ray take 127.0.0.1 for this node, where all its processes then listen.

    It is what Ray does on machines that cannot be part of a cluster (RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER, read
    when it is imported); `_node_ip_address` does not take a loopback address.
    """
    with _instead(ray_constants, ENABLE_RAY_CLUSTER=False):
        yield


@contextlib.contextmanager
def _few_processes() -> Iterator[None]:
    """Have Ray leave out what a job of one node has no use for, at three CPU seconds.

    These are the process that adds nodes, the one that prints what workers write, and the server of the
    dashboard, which runs even where there is none. There is no public setting.
    """

    def no_server(node: Node, **_: Any) -> None:
        node._webui_url = None

    with _instead(Node, start_monitor=_none, start_log_monitor=_none, start_api_server=no_server):
        yield


def _none(*_: Any, **__: Any) -> None:
    """Do nothing."""


@contextlib.contextmanager
def _own_files_only() -> Iterator[None]:
    """Have the processes that are started here make files that only their user may read."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)

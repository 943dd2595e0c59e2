"""What a command costs with all its descendants: wall and CPU seconds, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

ROOT = Path(__file__).resolve().parents[1]
# Listing the processes of a machine costs milliseconds. What a descendant does after its last sample is
# lost; the command itself is counted to its end.
_SAMPLE_S = 0.25
_POLL_S = 0.02
_PSS_SAMPLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Usage:
    """One run of a command.

    rss_mb: peak over time of the sum of resident sizes, which counts memory that processes share once for
    each. pss_mb: the same with shared memory divided among its holders.
    """

    wall_s: float
    cpu_s: float
    rss_mb: float
    pss_mb: float


def measure(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
    pss_every_s: float = _PSS_SAMPLE_S,
) -> Usage:
    """Run a command, in a folder, to its end. SystemExit with the end of its output if it fails.

    pss_every_s: how often memory is looked at; it takes a millisecond or more of a process each time.
    """
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        child = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        tree = _Tree(child.pid, pss_every_s)
        while not _ended(child.pid):
            tree.sample()
            time.sleep(_POLL_S)
        wall_s = time.perf_counter() - started
        tree.look_at_root()
        if child.wait() != 0:
            sys.exit(f"{' '.join(command)} failed:\n{_end_of(output)}")
    return Usage(wall_s, tree.cpu_s, tree.rss / 2**20, tree.pss / 2**20)


class _Tree:
    """A process and its descendants, as last seen. Each counts its own time, never that of its children."""

    def __init__(self, pid: int, pss_every_s: float) -> None:
        self._pss_every_s = pss_every_s
        self._root = psutil.Process(pid)
        self._seen: dict[tuple[int, float], float] = {}
        self._due = self._pss_due = 0.0
        self.rss = 0
        self.pss = 0

    @property
    def cpu_s(self) -> float:
        return sum(self._seen.values())

    def sample(self) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + min(_SAMPLE_S, self._pss_every_s)
        processes = (self._root, *self._root.children(recursive=True))
        self.rss = max(self.rss, sum(self._look(process) for process in processes))
        if now >= self._pss_due:
            self._pss_due = now + self._pss_every_s
            self.pss = max(self.pss, sum(_pss(process) for process in processes))

    def look_at_root(self) -> None:
        """The kernel keeps the times of an ended process until it has been waited for."""
        self._look(self._root)

    def _look(self, process: psutil.Process) -> int:
        try:
            times = process.cpu_times()
            self._seen[process.pid, process.create_time()] = times.user + times.system
            return int(process.memory_info().rss)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return 0


def _ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def _end_of(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")[-3000:]

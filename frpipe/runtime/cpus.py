"""Count the CPUs that this process may use, which are often fewer than the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_V2, _V1 = "sys/fs/cgroup", ("sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/cpu")


def usable_cpus(root: Path = Path("/")) -> int:
    """The CPUs of the process's affinity, or fewer where a control group grants less time; 1 at least.

    root: of the file system that says what control groups grant.
    """
    granted = min(_quotas(root), default=math.inf)
    return max(1, math.ceil(min(len(os.sched_getaffinity(0)), granted)))


def _quotas(root: Path) -> Iterator[float]:
    """CPUs that our control groups, and those around them, each grant; what cannot be read limits nothing."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            for folder in _around(root / _V2, group):
                yield from _quota(*_read(folder / "cpu.max").split()[:2])
        elif "cpu" in controllers.split(","):
            for folder in (folder for mount in _V1 for folder in _around(root / mount, group)):
                names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                yield from _quota(*(_read(folder / name).strip() for name in names))


def _around(mount: Path, group: str) -> Iterator[Path]:
    """The folder of a control group and those above it, up to the mount.

    A container often sees its own group as the mount itself, under the name that it has outside.
    """
    inside = PurePosixPath(group.lstrip("/"))
    for each in (inside, *inside.parents):
        yield mount / each


def _quota(quota: str = "", period: str = "") -> Iterator[float]:
    """Read a quota; `max` and -1 stand for no limit."""
    if quota.isdecimal() and period.isdecimal() and int(period) > 0:
        yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

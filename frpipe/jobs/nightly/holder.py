"""Who holds the lease of a folder of nights."""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease.

    born: when the process began, in ticks of its machine, since process ids are used again.  machine: kernel
    and process namespace, in which an id names one process; empty: unknown.  since, beat: UTC.  expires_s: as
    the holder's configuration says; 0: of a version that did not tell.
    """

    night: str
    token: str
    host: str
    pid: int
    born: str
    machine: str
    since: str
    beat: str
    released: bool = False
    expires_s: float = 0.0

    @classmethod
    def me(cls, night: str, expires_s: float = 0.0) -> Holder:
        """This process."""
        pid, since, token = os.getpid(), now(), uuid.uuid4().hex
        host, machine = socket.gethostname(), _machine()
        return cls(night, token, host, pid, _born(pid), machine, since, since, expires_s=expires_s)

    @property
    def known_dead(self) -> bool:
        """Whether it was a process of this machine that is there no more."""
        return bool(self.machine) and self.machine == _machine() and _born(self.pid) != self.born

    def __str__(self) -> str:
        return f"the night of {self.night}, since {self.since} on {self.host}, process {self.pid}"

    def encoded(self) -> bytes:
        """As it is stored."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()


def now() -> str:
    """The time, UTC, fine enough to tell one heartbeat from the next."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _machine() -> str:
    """Of a kernel and a process namespace, in which a process id names one process; empty: cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When a process was started, in ticks since the start of the machine; empty: it is not there."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else rest[18]
